# Copyright (c) MONAI Consortium
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""The three published equations: their limits, their numbers, and how far they are from the exact ones."""

import math

import pytest
import torch
from torch import Tensor

from scripts.signal import paper_flair, paper_mprage, paper_spin_echo

from .protocols import CSF, FLAIR, GM, TISSUES, WM, each_tissue, signal


def relax(mz: float, time: float, t1: float) -> float:
    """Longitudinal magnetisation after free relaxation towards 1, by small steps of the Bloch equation."""
    steps = 20000
    for _ in range(steps):
        mz += (1 - mz) * time / steps / t1
    return mz


def errors(paper: str, exact: str, **settings: float) -> list[float]:
    """Error of a published equation in WM, GM, CSF and fat [% of the size of the exact signal]."""
    pairs: list[tuple[Tensor, Tensor]] = [(signal(paper, x, **settings), signal(exact, x, **settings)) for x in TISSUES]
    return [float(100 * (published - true) / true.abs()) for published, true in pairs]


@pytest.mark.parametrize(
    "equation, fields, limit",
    [
        (paper_mprage, {"tr": 1e4, "ti": 1.0}, 1 - 2 * math.exp(-1.0 / 0.83)),
        (paper_mprage, {"tr": 1e4, "ti": 0.0}, -1.0),
        (paper_mprage, {"tr": 1e4, "ti": 5e3}, 1.0),
        (paper_spin_echo, {"tr": 1e4, "te": 0.09}, math.exp(-0.09 / 0.08)),
        (paper_spin_echo, {"tr": 2.0, "te": 0.0}, 1 - math.exp(-2.0 / 0.83)),
        (paper_spin_echo, {"tr": 0.0, "te": 0.0}, 0.0),
        (paper_flair, {"tr": 1e4, "ti": 2.5, "te": 0.0}, 1 - 2 * math.exp(-2.5 / 0.83)),
        (paper_flair, {"tr": 9.0, "ti": 2.5, "te": 10.0}, 0.0),
    ],
)
def test_limits(equation, fields, limit):
    fields = {name: torch.tensor(value) for name, value in fields.items()}
    assert float(equation(torch.tensor(0.7), torch.tensor(0.83), torch.tensor(0.08), **fields)) == pytest.approx(
        0.7 * limit, abs=1e-6
    )


@pytest.mark.parametrize("tissue", [WM, GM, CSF])
@pytest.mark.parametrize("name", ["paper_mprage", "paper_flair"])
def test_long_tr_nulls_at_t1_ln_2(name, tissue):
    null = tissue[1] * math.log(2)
    assert abs(float(signal(name, tissue, te=0.0, tr=1e4, ti=null))) < 1e-9
    assert signal(name, tissue, te=0.0, tr=1e4, ti=0.9 * null) < 0 < signal(name, tissue, te=0.0, tr=1e4, ti=1.1 * null)


@pytest.mark.parametrize("tissue", [WM, GM, CSF])
def test_mprage_nulls_earlier_at_finite_tr(tissue):
    null = tissue[1] * math.log(2 / (1 + math.exp(-2.4 / tissue[1])))
    assert abs(float(signal("paper_mprage", tissue, tr=2.4, ti=null))) < 1e-9


@each_tissue
def test_bloch_simulation(tissue):
    pd, t1, t2 = tissue
    mz = 0.0
    for _ in range(12):
        mz = relax(-mz, 2.4, t1)
    assert float(signal("paper_mprage", tissue)) == pytest.approx(pd * relax(-mz, 1.0, t1), abs=1e-3)
    # An ideal 90 degree pulse leaves nothing; with TE << TR recovery starts there.
    saturated = pd * relax(0.0, 2.0, t1) * math.exp(-0.09 / t2)
    assert float(signal("paper_spin_echo", tissue, te=0.09, tr=2.0)) == pytest.approx(saturated, abs=1e-3)
    inverted = pd * relax(-relax(0.0, 6.5, t1), 2.5, t1) * math.exp(-0.091 / t2)
    assert float(signal("paper_flair", tissue, **FLAIR)) == pytest.approx(inverted, abs=1e-3)


def test_mprage_starts_each_shot_at_minus_its_end():
    assert signal("paper_mprage", GM, tr=2.4, ti=0.0) == pytest.approx(-signal("paper_mprage", GM, tr=2.4, ti=2.4))


def test_mprage_contrasts_of_the_published_form():
    wm, gm, csf, fat = (float(signal("paper_mprage", tissue)) for tissue in TISSUES)
    assert (gm / wm, csf / wm, fat / wm) == (
        pytest.approx(0.516, abs=5e-4),
        pytest.approx(-0.027, abs=5e-4),
        pytest.approx(2.58, abs=5e-3),
    )
    assert (wm - gm) / (wm + gm) == pytest.approx(0.319, abs=5e-4)


@pytest.mark.parametrize("ti, crossing", [(1.0, 3.53), (0.5, 0.77), (0.25, 0.36)])
def test_mprage_zero_crossing(ti, crossing):
    short, long = (signal("paper_mprage", (1.0, crossing + side, 0.1), tr=2.4, ti=ti) for side in (-0.01, 0.01))
    assert short > 0 > long


def test_spin_echo_at_the_nominal_te_of_space_hides_white_matter():
    wm, gm, csf = (float(signal("paper_spin_echo", tissue, te=0.455, tr=3.2)) for tissue in (WM, GM, CSF))
    assert (wm / csf, gm / csf) == (pytest.approx(0.0056, abs=5e-5), pytest.approx(0.0285, abs=5e-5))


def test_flair_suppresses_csf():
    wm, csf = (float(signal("paper_flair", tissue, **FLAIR)) for tissue in (WM, CSF))
    assert csf == pytest.approx(0.0049, abs=5e-5) and abs(csf) < 0.05 * wm


@pytest.mark.parametrize(
    "te, tr, percent",
    [(0.015, 0.5, (2.2, 2.5, 2.9, 1.5)), (0.1, 2.0, (1.2, 2.2, 4.1, 0.1)), (0.09, 4.0, (0.1, 0.4, 1.4, 0.0))],
)
def test_spin_echo_is_too_bright_unless_te_is_short(te, tr, percent):
    found = errors("paper_spin_echo", "spin_echo", te=te, tr=tr, flip_angle=90.0)
    assert found == pytest.approx(percent, abs=0.06)


@pytest.mark.parametrize(
    "te, tr, ti, percent",
    [
        (0.091, 9.0, 2.5, (0.0, 0.0, -34, 0.0)),
        (0.394, 5.0, 1.8, (-0.2, -1.4, -113, 0.0)),
        (0.02, 2.0, 0.5, (-74, -2.3, -2.0, 0.0)),
    ],
)
def test_flair_is_wrong_where_a_tissue_is_nearly_null(te, tr, ti, percent):
    found = errors("paper_flair", "inversion_recovery", te=te, tr=tr, ti=ti)
    assert found == pytest.approx(percent, rel=0.01, abs=0.06)


def test_flair_is_further_from_a_train_than_from_a_single_echo():
    single, train = (float(signal(f"inversion_recovery{kind}", CSF, **FLAIR)) for kind in ("", "_turbo_spin_echo"))
    assert (single, train) == (pytest.approx(0.0074, abs=5e-5), pytest.approx(0.0094, abs=5e-5))

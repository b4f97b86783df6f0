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

import inspect
import math

import pytest
import torch
from torch import Tensor

from scripts.signal import SEQUENCES, paper_flair, paper_mprage, paper_spin_echo

NAMES = list(SEQUENCES)
LONG = {"te": 0.09, "tr": 9.0, "ti": 2.5}
WM, GM, CSF, FAT = (0.70, 0.83, 0.080), (0.82, 1.33, 0.110), (1.0, 4.3, 2.0), (0.90, 0.37, 0.133)
OASIS_T1W = {"tr": 2.4, "ti": 1.0}


def signal(name: str, tissue: tuple[float, float, float], **fields: float) -> Tensor:
    """Signal of one tissue in float64; fields that the sequence does not know are left out."""
    known = {key: torch.tensor(fields[key], dtype=torch.float64) for key in SEQUENCES[name].fields}
    return SEQUENCES[name].signal(*torch.tensor(tissue, dtype=torch.float64), **known)


def relax(mz: float, time: float, t1: float) -> float:
    """Longitudinal magnetisation after free relaxation towards 1, by small steps of the Bloch equation."""
    steps = 20000
    for _ in range(steps):
        mz += (1 - mz) * time / steps / t1
    return mz


@pytest.mark.parametrize("name", NAMES)
def test_table_lists_what_the_equation_needs(name):
    parameters = inspect.signature(SEQUENCES[name].signal).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ["pd", "t1", "t2"]
    assert tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY) == SEQUENCES[name].fields


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


@pytest.mark.parametrize("tissue", [WM, GM, CSF, FAT])
def test_bloch_simulation(tissue):
    pd, t1, t2 = tissue
    mz = 0.0
    for _ in range(12):
        mz = relax(-mz, 2.4, t1)
    assert float(signal("paper_mprage", tissue, **OASIS_T1W)) == pytest.approx(pd * relax(-mz, 1.0, t1), abs=1e-3)
    # An ideal 90 degree pulse leaves nothing; with TE << TR recovery starts there.
    saturated = pd * relax(0.0, 2.0, t1) * math.exp(-0.09 / t2)
    assert float(signal("paper_spin_echo", tissue, te=0.09, tr=2.0)) == pytest.approx(saturated, abs=1e-3)
    inverted = pd * relax(-relax(0.0, 6.5, t1), 2.5, t1) * math.exp(-0.09 / t2)
    assert float(signal("paper_flair", tissue, **LONG)) == pytest.approx(inverted, abs=1e-3)


def test_mprage_starts_each_shot_at_minus_its_end():
    assert signal("paper_mprage", GM, tr=2.4, ti=0.0) == pytest.approx(-signal("paper_mprage", GM, tr=2.4, ti=2.4))


def test_mprage_contrasts_of_the_published_form():
    wm, gm, csf, fat = (float(signal("paper_mprage", tissue, **OASIS_T1W)) for tissue in (WM, GM, CSF, FAT))
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
    wm, csf = (float(signal("paper_flair", tissue, te=0.091, tr=9.0, ti=2.5)) for tissue in (WM, CSF))
    assert csf == pytest.approx(0.0049, abs=5e-5) and abs(csf) < 0.05 * wm


@pytest.mark.parametrize("name", NAMES)
def test_signal_is_linear_in_pd(name):
    assert signal(name, (1.4, 0.9, 0.09), **LONG) == pytest.approx(2 * float(signal(name, (0.7, 0.9, 0.09), **LONG)))


@pytest.mark.parametrize("name", NAMES)
def test_signal_does_not_depend_on_the_unit_of_time(name):
    milliseconds = {key: 1000 * value for key, value in LONG.items()}
    assert signal(name, (0.7, 900.0, 90.0), **milliseconds) == pytest.approx(signal(name, (0.7, 0.9, 0.09), **LONG))


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    sequence = SEQUENCES[name]
    inputs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([0.7, 1.0], [0.83, 4.3], [0.08, 2.0])]
    inputs += [torch.tensor(LONG[key], dtype=torch.float64, requires_grad=True) for key in sequence.fields]
    torch.autograd.gradcheck(lambda *x: sequence.signal(*x[:3], **dict(zip(sequence.fields, x[3:]))), inputs)


@pytest.mark.parametrize("name", NAMES)
def test_protocols_broadcast_over_maps(name):
    sequence, protocols = SEQUENCES[name], torch.tensor([0.9, 1.0, 1.1, 1.2])
    maps = torch.rand(3, 2, 5) + 0.1
    fields = {key: LONG[key] * protocols for key in sequence.fields}
    together = sequence.signal(*maps, **{key: value.view(4, 1, 1) for key, value in fields.items()})
    apart = [sequence.signal(*maps, **{key: value[i] for key, value in fields.items()}) for i in range(4)]
    assert together.shape == (4, 2, 5) and together.dtype == torch.float32
    torch.testing.assert_close(together, torch.stack(apart))

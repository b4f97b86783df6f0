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

"""Random tissue: around the literature in the narrow population, in any order in the wide one, physical in both."""

import numpy as np
import pytest
import torch

from scripts.randomness import rng
from scripts.simulate import CLASSES
from scripts.simulate.anatomy import BRAIN, INDEX
from scripts.simulate.population import UPPER, draw_tissue
from scripts.tissue import tissue_values

SUBJECTS = 300
MATTER = {"WM": "white matter", "GM": "cortex", "CSF": "CSF"}


def draw(wide: float, **options) -> torch.Tensor:
    """PD, T1, T2 of all classes of many subjects ``(S, C, 3)``."""
    return torch.stack([draw_tissue(rng(0, i), wide, **options).values for i in range(SUBJECTS)])


@pytest.fixture(scope="module")
def narrow() -> torch.Tensor:
    return draw(0.0, field_strengths=(3.0,))


@pytest.fixture(scope="module")
def wide() -> torch.Tensor:
    return draw(1.0)


@pytest.mark.parametrize("population", ["narrow", "wide"])
def test_values_are_physical(population, request):
    pd, t1, t2 = request.getfixturevalue(population).unbind(-1)
    silent = [INDEX["air"], INDEX["bone"]]
    assert not pd[:, silent].any() and not t1[:, silent].any() and not t2[:, silent].any()
    others = [number for number in range(len(CLASSES)) if number not in silent]
    assert (t2 <= t1).all() and pd[:, others].min() > 0.1 and t2[:, others].min() >= 0.004
    assert all(x.max() <= upper for x, upper in zip((pd, t1, t2), UPPER))


@pytest.mark.parametrize("field_strength", [1.5, 3.0])
def test_the_narrow_population_has_the_medians_of_the_literature(field_strength):
    values = draw(0.0, field_strengths=(field_strength,))
    for tissue, name in MATTER.items():
        medians = values[:, INDEX[name]].median(0).values
        np.testing.assert_allclose(medians, tissue_values(tissue, field_strength)[:3], rtol=0.06)


def test_the_order_of_tissues_holds_in_the_narrow_population_and_not_in_the_wide(narrow, wide):
    for quantity in (1, 2):
        ordered = [
            (values[:, INDEX["white matter"], quantity] < values[:, INDEX["cortex"], quantity]).float().mean()
            for values in (narrow, wide)
        ]
        assert ordered[0] > 0.97 and 0.6 < ordered[1] < 0.97


def test_proton_density_follows_t1(narrow, wide):
    for values, least in ((narrow, 0.5), (wide, 0.6)):
        pd, t1, t2 = values[:, INDEX["white matter"]].log().T
        assert torch.corrcoef(torch.stack([pd, t1]))[0, 1] > least
        assert abs(torch.corrcoef(torch.stack([pd, t2]))[0, 1]) < 0.2


def test_the_wide_population_is_wide_in_every_tissue_of_the_brain(narrow, wide):
    spread = [values[:, BRAIN].log().std(0) for values in (narrow, wide)]
    ratio = dict(zip([name for name, brain in zip(CLASSES, BRAIN.tolist()) if brain], spread[1] / spread[0]))
    assert ratio["white matter"][1] > 2 and ratio["CSF"][1] > 2


def test_a_subject_of_the_wide_population_deviates_as_a_whole_too(wide):
    t1 = wide[:, :, 1].log()
    both = torch.stack([t1[:, INDEX["white matter"]], t1[:, INDEX["cerebellar cortex"]]])
    assert 0.2 < torch.corrcoef(both)[0, 1] < 0.8


def test_field_strengths_and_populations_are_mixed():
    tissues = [draw_tissue(rng(1, i), 0.5) for i in range(60)]
    assert {tissue.field_strength for tissue in tissues} == {1.5, 3.0}
    assert all(0.45 <= tissue.t2_star_ratio <= 0.85 for tissue in tissues)


def test_texture_is_smooth_variation_inside_a_tissue():
    tissue = draw_tissue(rng(0))
    classes = torch.full((4000,), INDEX["white matter"])
    plain = tissue.maps(classes, torch.zeros(2, 4000))
    assert torch.equal(plain, tissue.values[classes].T)
    varied = tissue.maps(classes, torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)))
    sd = (varied / plain).log().std(1)
    torch.testing.assert_close(sd, torch.tensor([0.01, 0.03, 0.03]), rtol=0.1, atol=0)
    assert not tissue.maps(torch.tensor([INDEX["air"], INDEX["bone"]]), torch.ones(2, 2)).any()

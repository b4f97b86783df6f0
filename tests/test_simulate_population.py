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
from scripts.simulate.population import FIELD_STRENGTHS, POPULATION, UPPER, draw_tissue
from scripts.tissue import tissue_values

SUBJECTS = 400
MATTER = {"WM": "white matter", "GM": "cortex", "CSF": "CSF"}


def draw(wide: float, **options) -> torch.Tensor:
    """PD, T1, T2 of all classes of many subjects ``(S, C, 3)``."""
    return torch.stack([draw_tissue(rng(0, i), wide, **options).values for i in range(SUBJECTS)])


@pytest.fixture(scope="module")
def narrow() -> torch.Tensor:
    return draw(0.0, field_strengths=(3.0,))


@pytest.fixture(scope="module")
def wide() -> torch.Tensor:
    return draw(1.0, field_strengths=(3.0,))


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


def test_half_the_variety_is_half_the_deviation_of_the_brain_alone(narrow):
    half = draw(0.0, field_strengths=(3.0,), variety=0.5)
    median = torch.tensor(tissue_values("WM", 3.0)[1])
    white = INDEX["white matter"]
    torch.testing.assert_close((half[:, white, 1] / median).log(), (narrow[:, white, 1] / median).log() / 2)
    assert torch.equal(half[:, INDEX["scalp"]], narrow[:, INDEX["scalp"]])


def test_the_order_of_tissues_holds_in_the_narrow_population_and_not_in_the_wide(narrow, wide):
    ordered = [
        (values[:, INDEX["white matter"]] < values[:, INDEX["cortex"]]).float().mean(0) for values in (narrow, wide)
    ]
    assert ordered[0][1:].min() > 0.97 and 0.9 < ordered[1][2] < 0.99 and 0.95 < ordered[1][1]


def test_proton_density_follows_t1(narrow, wide):
    for values, least in ((narrow, 0.5), (wide, 0.6)):
        pd, t1, t2 = values[:, INDEX["white matter"]].log().T
        assert torch.corrcoef(torch.stack([pd, t1]))[0, 1] > least
        assert abs(torch.corrcoef(torch.stack([pd, t2]))[0, 1]) < 0.2


def test_the_wide_population_is_wide_in_every_tissue_of_the_brain(narrow, wide):
    spread = [values[:, BRAIN].log().std(0) for values in (narrow, wide)]
    ratio = dict(zip([name for name, brain in zip(CLASSES, BRAIN.tolist()) if brain], spread[1] / spread[0]))
    assert ratio["white matter"][1] > 1.7 and ratio["CSF"][1] > 2


def test_the_wide_population_spans_what_is_measured_at_3_tesla(wide):
    for name, quantity, low, high in (
        ("white matter", 2, (0.045, 0.058), (0.087, 0.105)),
        ("cortex", 2, (0.056, 0.068), (0.108, 0.13)),
        ("white matter", 1, (0.55, 0.75), (0.95, 1.2)),
        ("cortex", 1, (0.9, 1.15), (1.55, 1.9)),
    ):
        first, last = wide[:, INDEX[name], quantity].quantile(torch.tensor([0.05, 0.95])).tolist()
        assert low[0] < first < low[1] and high[0] < last < high[1], (name, quantity, first, last)


@pytest.mark.parametrize("quantity", [1, 2])
def test_a_subject_of_the_wide_population_deviates_as_a_whole(wide, quantity):
    matter = torch.stack([wide[:, INDEX[name], quantity] for name in ("white matter", "cortex")])
    assert 0.7 < torch.corrcoef(matter.log())[0, 1] < 0.95


DISEASED = [INDEX[name] for name in CLASSES if CLASSES[name].region == "lesion"]
CORE = INDEX["lesion"]


@pytest.mark.parametrize("field_strength", FIELD_STRENGTHS)
@pytest.mark.parametrize("population", [0.0, 1.0])
def test_diseased_tissue_is_never_fluid(field_strength, population):
    random = torch.Generator().manual_seed(0)
    classes = torch.tensor(DISEASED).repeat(100)
    for index in range(100):
        tissue = draw_tissue(rng(2, index), population, (field_strength,))
        pd, t1, t2 = tissue.maps(classes, torch.randn(2, len(classes), generator=random).clamp(-3, 3))
        assert t1.max() < 3 and t2.max() < 0.35 and (t2 <= t1).all() and pd.min() > 0.4


def test_lesions_at_3_tesla_have_more_water_than_white_matter_and_rims_are_milder(narrow):
    pd, t1, t2 = narrow[:, CORE].T
    assert 0.85 <= pd.min() and pd.max() <= 0.95 and 1.2 <= t1.min() and t1.max() <= 2
    assert 0.12 <= t2.min() and t2.max() <= 0.25 and len(narrow[:, CORE].unique(dim=0)) == SUBJECTS
    rim, hole, white = (narrow[:, INDEX[name]] for name in ("lesion rim", "black hole", "white matter"))
    assert ((white < rim) & (rim <= narrow[:, CORE]))[:, 1:].all() and (hole >= narrow[:, CORE]).all()
    has_rim, has_hole = ((other != narrow[:, CORE]).any(1).float().mean() for other in (rim, hole))
    assert 0.4 < has_rim < 0.6 and 0.3 < has_hole < 0.5 and 2.2 < hole[:, 1].max() <= 2.6


def test_a_mass_is_anything_between_white_matter_and_necrosis(narrow):
    t1, t2 = narrow[:, INDEX["mass"], 1:].T
    assert t1.min() < 1.1 and t1.max() > 2.3 and t2.min() < 0.08 and t2.max() > 0.24
    assert torch.corrcoef(torch.stack([t1.log(), t2.log()]))[0, 1] > 0.6


def test_tissue_shortens_its_t2_and_lengthens_its_t1_with_the_field():
    medians = {field: draw(0.0, field_strengths=(field,)).median(0).values for field in FIELD_STRENGTHS}
    for name in ("white matter", "cortex", "thalamus", "lesion", "muscle"):
        t1 = [medians[field][INDEX[name], 1] for field in FIELD_STRENGTHS]
        assert t1 == sorted(t1) and medians[7.0][INDEX[name], 2] < medians[3.0][INDEX[name], 2], name
    assert medians[7.0][INDEX["white matter"]][1:].tolist() == pytest.approx([1.13, 0.047], rel=0.05)
    assert set(POPULATION) <= set(CLASSES)


def test_field_strengths_and_populations_are_mixed():
    tissues = [draw_tissue(rng(0, i), 0.5) for i in range(SUBJECTS)]
    for field, chance in FIELD_STRENGTHS.items():
        assert abs(np.mean([tissue.field_strength == field for tissue in tissues]) - chance) < 0.07
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

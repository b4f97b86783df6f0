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

"""Volumes of heads: partial volume, what is passed over, what a scanner adds to them."""

import numpy as np
import pytest
import torch

from scripts.acquisition import check
from scripts.errors import UserError
from scripts.randomness import rng
from scripts.render import SignalModel
from scripts.simulate import REGIONS, Heads
from scripts.simulate import head as heads
from scripts.simulate import simulate_head, volume
from scripts.simulate.anatomy import INDEX, MIXED, crop_head
from scripts.simulate.contrasts import Hidden, draw_contrasts, draw_hidden, render_points
from scripts.simulate.population import draw_tissue
from scripts.simulate.shape import draw_shape
from scripts.simulate.volume import clean_volume, uniform_classes

from .test_simulate_slices import ball_heads, still

WHITE, CSF = INDEX["white matter"], INDEX["CSF"]


@pytest.fixture(scope="module")
def balls(tmp_path_factory) -> Heads:
    return Heads(ball_heads(tmp_path_factory), lesions=1.0)


def halves():
    """White matter beside fluid: the border is the plane x = 0 of a head that is not deformed."""
    classes = np.zeros((40, 40, 60), np.uint8)
    classes[5:20, 5:35, 5:55], classes[20:35, 5:35, 5:55] = WHITE, CSF
    anatomy = crop_head(classes, np.eye(4), "halves")
    return anatomy._replace(centre=(18.5, 18.5, anatomy.centre[2]))


def test_a_voxel_of_two_tissues_has_their_mean_signal():
    tissue = draw_tissue(rng(0))
    rows = torch.stack([a.to_row() for a in draw_contrasts(rng(1), [{"MPRAGE": 1}, {"TSE": 1}, {"FLAIR": 1}], 3.0)])
    hidden = Hidden(torch.ones(9, 6, 6), 1.0, [1.0] * 3, [0.0] * 3)
    # Centres of voxels from -4 to 4 mm: the border runs through the middle of the fifth.
    made = clean_volume(still(halves()), tissue, hidden, rows, (-4.0, -2.5, -2.5), 1.0)
    pure = tissue.values[[WHITE, CSF]].T
    t2_star = tissue.t2_star_ratio * pure[2]
    signals = SignalModel(signed=True)(pure[None], rows[None], t2_star=t2_star[None])[0]
    line, maps = made.signal[:, :, 3, 3], made.maps[:, :, 3, 3]
    torch.testing.assert_close(line[:, :4], signals[:, :1].expand(-1, 4))
    torch.testing.assert_close(line[:, 5:], signals[:, 1:].expand(-1, 4))
    torch.testing.assert_close(line[:, 4], signals.mean(1))
    pd, rates = pure[0], pure[0] / pure[1:]
    torch.testing.assert_close(maps[:, 4], torch.stack([pd.mean(), *(pd.mean() / rates.mean(1))]))
    assert made.labels[:, 3, 3].tolist() == [REGIONS.index("WM")] * 4 + [made.labels[4, 3, 3]] + [1] * 4


def test_passing_over_the_inside_of_tissues_changes_little(balls, monkeypatch):
    shape, tissue = draw_shape(rng(0), balls.anatomies[0], 1.0, 1.0), draw_tissue(rng(1))
    acquisitions = draw_contrasts(rng(2), [{"TSE": 1}, {"IR": 1}], 3.0)
    rows = torch.stack([acquisition.to_row() for acquisition in acquisitions])
    hidden = draw_hidden(rng(3), (30, 32, 20), acquisitions)
    fast = clean_volume(shape, tissue, hidden, rows, (-29, -31, -19), 2.0)
    monkeypatch.setattr(volume, "uniform_classes", lambda classes, _: torch.full_like(classes, MIXED))
    slow = clean_volume(shape, tissue, hidden, rows, (-29, -31, -19), 2.0)
    assert (fast.labels != slow.labels).float().mean() < 1e-3 and (fast.brain != slow.brain).float().mean() < 1e-3
    for a, b in ((fast.signal, slow.signal), (fast.maps, slow.maps)):
        error = (a - b).flatten(1).abs() / b.flatten(1).abs().amax(1, keepdim=True)
        assert error.median() < 1e-3 and error.quantile(0.999) < 0.03


def test_the_inside_of_a_class_is_found():
    classes = torch.zeros(9, 9, 9, dtype=torch.uint8)
    classes[2:7, 2:7, 2:7] = 5
    inside = uniform_classes(classes, 1)
    assert (inside == 5).sum() == 27 and inside[4, 4, 4] == 5 and inside[2, 4, 4] == MIXED and inside[0, 0, 0] == 0
    assert (uniform_classes(classes, 2) == 5).sum() == 1


def test_slabs_do_not_show(balls, monkeypatch):
    made = simulate_head(balls, 0, 0, 4)
    monkeypatch.setattr(volume, "SLAB", 5)
    again = simulate_head(balls, 0, 0, 4)
    assert torch.equal(made["labels"], again["labels"])
    torch.testing.assert_close(made["maps"], again["maps"])


def test_fat_may_be_suppressed(balls):
    maps, classes = torch.tensor([[0.8, 0.8], [0.3, 0.3], [0.05, 0.05]]), torch.tensor([WHITE, INDEX["scalp"]])
    rows = draw_contrasts(rng(0), [{"SE": 1}], 3.0)[0].to_row()[None]
    tissue = draw_tissue(rng(0))
    hidden = Hidden(torch.ones(1), 1.0, [0.25], [0.0])
    white, fat = render_points(maps, classes, torch.ones(2), tissue, hidden, rows)[0]
    assert fat / white == pytest.approx(0.25)
    fats = [draw_hidden(rng(0, i), (4, 4), draw_contrasts(rng(0), [{"SE": 1}] * 6, 3.0)).fat for i in range(100)]
    assert 0.25 < np.mean(np.array(fats) < 1) < 0.35


def test_magnetisation_transfer_darkens_multislice_scans_by_the_macromolecules_of_a_tissue():
    names = ("white matter", "cortex", "lesion", "CSF", "ventricle", "scalp", "vessel")
    classes = torch.tensor([INDEX[name] for name in names])
    maps = torch.tensor([0.8, 1.0, 0.1])[:, None].expand(3, len(names))
    rows = draw_contrasts(rng(0), [{"TSE": 1}], 3.0)[0].to_row()[None]
    plain, darker = (
        render_points(
            maps, classes, torch.ones(len(names)), draw_tissue(rng(0)), Hidden(torch.ones(1), 1.0, [1.0], [m]), rows
        )[0]
        for m in (0.0, 0.2)
    )
    loss = dict(zip(names, (1 - darker / plain).tolist()))
    assert loss["white matter"] == pytest.approx(0.2) and loss["cortex"] == pytest.approx(0.15)
    assert 0 < loss["lesion"] < loss["cortex"] and max(loss[name] for name in names[3:]) == 0


def test_magnetisation_transfer_is_drawn_for_two_dimensional_multislice_sequences_alone():
    families = ("SE", "TSE", "PDw", "STIR", "FLAIR", "SPACE", "SPACE-FLAIR", "MPRAGE", "SPGR", "bSSFP")
    acquisitions = draw_contrasts(rng(0), [{name: 1} for name in families], 7.0)
    drawn = np.array([draw_hidden(rng(0, i), (4, 4), acquisitions).transfer for i in range(200)])
    assert not drawn[:, 5:].any() and 0.4 < np.mean(drawn[:, :5] > 0) < 0.6 and 0.18 < drawn.max() <= 0.2


def test_stripped_heads_have_a_brain_alone(balls):
    whole = simulate_head(balls, 0, 0, 2)
    brain = simulate_head(heads.replace(balls, skull=False), 0, 0, 2)
    inside = brain["labels"] > 0
    assert set(brain["labels"].unique().tolist()) < set(whole["labels"].unique().tolist())
    assert torch.equal(brain["labels"][inside], whole["labels"][inside])
    assert torch.equal(brain["maps"][:, inside], whole["maps"][:, inside]) and not brain["maps"][:, ~inside].any()
    skin = whole["labels"] == REGIONS.index("soft tissue")
    assert brain["contrasts"]["T2w"][skin].float().mean() < 0.3 * whole["contrasts"]["T2w"][skin].float().mean()
    assert brain["acquisitions"] == whole["acquisitions"]


@pytest.mark.parametrize("option", ["moved", "thick", "coarse"])
def test_what_a_scanner_does_reaches_the_images_alone(balls, option):
    plain, changed = (simulate_head(heads.replace(balls, **{option: p}), 3, 1, 2) for p in (0.0, 1.0))
    assert torch.equal(plain["maps"], changed["maps"]) and plain["acquisitions"] == changed["acquisitions"]
    for name, image in plain["contrasts"].items():
        image, other = (one[plain["labels"] > 0].float() for one in (image, changed["contrasts"][name]))
        assert 0.5 < torch.corrcoef(torch.stack([image, other]))[0, 1] < 0.9999


def test_any_families_and_sidecars_that_are_a_little_off(balls):
    contrasts = {"T1w": "SPGR", "acq-space_T2w": "SPACE", "PDw": "PDw", "acq-ir_T1w": "IR"}
    options = heads.replace(balls, contrasts=contrasts, field_strengths=(1.5, 3.0))
    fields = set()
    for index in range(8):
        made, off = (simulate_head(heads.replace(options, misstated=m), 0, index, 8) for m in (False, True))
        assert list(made["contrasts"]) == list(contrasts)
        fields.add(made["acquisitions"]["PDw"].field_strength)
        for name, acquisition in off["acquisitions"].items():
            played = made["acquisitions"][name]
            check(acquisition, name)
            assert acquisition.te != played.te and abs(acquisition.te / played.te - 1) < 0.15
            assert acquisition.tr == pytest.approx(played.tr, rel=0.1) and acquisition.sequence == played.sequence
            assert acquisition.provenance == played.provenance
    assert fields == {1.5, 3.0}


def test_an_unknown_family_is_refused(balls):
    with pytest.raises(UserError, match="contrast T1w: found 'MPRAG'"):
        simulate_head(heads.replace(balls, contrasts={"T1w": "MPRAG"}), 0, 0, 8)


def test_scans_may_consist_of_thick_slices_while_the_truth_does_not(balls):
    thin, thick = (simulate_head(heads.replace(balls, slice_thickness=edge), 3, 0, 4) for edge in (None, 16))
    assert torch.equal(thin["maps"], thick["maps"]) and np.array_equal(thin["affine"], thick["affine"])
    assert np.array_equal(thin["affine"], thin["scan_affine"]) and thick["acquisitions"] == thin["acquisitions"]
    # A slice is the mean of four thin ones, and its centre that of theirs.
    image = thick["contrasts"]["T2w"].float()
    mean = thin["contrasts"]["T2w"].float().unflatten(-1, (-1, 4)).mean(-1)
    first = np.linalg.solve(thin["affine"], thick["scan_affine"] @ [0, 0, 0, 1])
    assert image.shape == mean.shape and thick["scan_affine"][2, 2] == 16 and first[:3].tolist() == [0, 0, 1.5]
    bright = mean > 0.3 * mean.max()
    assert (image - mean)[bright].abs().median() < 0.05 * mean[bright].median()


@pytest.mark.parametrize("thickness", [0, 0.5, 21, "3", True])
def test_no_slice_is_thinner_than_a_voxel_or_as_thick_as_a_head(thickness):
    with pytest.raises(UserError, match="slice_thickness: found .*; use a number from 1 to 20"):
        heads.Heads(slice_thickness=thickness)

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

"""Lesions and masses: where they are, how large they may be, and what masks have to do with it."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.randomness import rng
from scripts.simulate import (
    Heads,
    LabelMaps,
    LesionMasks,
    Scanner,
    SimulatedSlices,
    Simulator,
    Slices,
    lesions,
    simulate_head,
)
from scripts.simulate.anatomy import INDEX
from scripts.simulate.embedded import embedded_head
from scripts.simulate.lesions import NOWHERE, Lesions, read_mask
from scripts.simulate.shape import DISEASE, Shape, draw_shape
from scripts.tissue import CLASSES, REGIONS

from .test_simulate_slices import ball_heads, grid

DISEASED = torch.tensor([INDEX[name] for name in CLASSES if CLASSES[name].region == "lesion"])
FOCAL = torch.tensor([INDEX[name] for name in ("lesion", "lesion rim", "black hole")])
WHITE = torch.tensor([INDEX[name] for name in lesions.WHITE])


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> LabelMaps:
    return ball_heads(tmp_path_factory)


def write_mask(path: Path, centre: tuple = (-24, -20, 26), radius: float = 6.0, turned: bool = False) -> Path:
    """A ball of lesion on a grid of 2 mm in MNI space; ``turned`` stores the same with another orientation."""
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = (-90, -126, -72)
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in (91, 109, 91)], indexing="ij"), -1)
    mask = np.linalg.norm(voxels * 2 + affine[:3, 3] - np.array(centre), axis=-1) < radius
    image = nib.Nifti1Image(mask.astype(np.uint8), affine)
    if turned:
        image = image.as_reoriented(np.array([[1, -1], [0, -1], [2, 1]]))
    nib.save(image, path)
    return path


@pytest.fixture
def masks(tmp_path, monkeypatch) -> LesionMasks:
    monkeypatch.setattr(lesions, "FROM_MASK", 1.0)
    write_mask(tmp_path / "a.nii.gz")
    return LesionMasks(tmp_path)


def healthy(shape: Shape) -> Shape:
    """The same head without any disease."""
    fields = shape.fields.clone()
    fields[DISEASE] = NOWHERE
    return shape._replace(fields=fields, lesions=Lesions())


def of(classes: torch.Tensor, among: torch.Tensor) -> torch.Tensor:
    return torch.isin(classes, among)


def test_lesions_are_in_white_matter_alone(heads):
    found = 0
    for seed in range(8):
        shape = draw_shape(rng(seed), heads[0], lesions=1.0)
        (before, _), (classes, _) = (one.classes(grid()) for one in (healthy(shape), shape))
        lesion = of(classes, DISEASED)
        assert of(before[lesion], WHITE).all() and not of(classes, DISEASED[3:]).any()
        assert torch.equal(classes[~lesion], before[~lesion]) and not of(before, DISEASED).any()
        found += int(lesion.sum())
    assert found > 100


def test_without_a_chance_of_disease_there_is_none(heads):
    shape = draw_shape(rng(0), heads[0])
    assert not of(shape.classes(grid())[0], DISEASED).any()


def test_lesions_without_masks_are_scattered_or_confluent_around_ventricles(monkeypatch):
    anatomy, points = embedded_head(), grid(4.0, 90.0)
    share = {}
    for confluent in (0.0, 1.0):
        monkeypatch.setattr(lesions, "IS_CONFLUENT", confluent)
        millilitres, near = [], []
        for seed in range(6):
            shape = draw_shape(rng(seed), anatomy, lesions=1.0)
            before, classes = healthy(shape).classes(points)[0], shape.classes(points)[0]
            lesion = of(classes, FOCAL)
            millilitres.append(0.064 * int(lesion.sum()))
            fluid = points[before == INDEX["ventricle"]]
            if lesion.any() and len(fluid):
                near.append((torch.cdist(points[lesion], fluid).amin(1) < 12).float().mean().item())
        share[confluent] = np.median(millilitres), max(millilitres)
        assert np.mean(near) > 0.5
    assert share[1.0][0] > share[0.0][0] and 15 < share[1.0][1] < 200


def test_the_middle_of_a_lesion_lies_inside_its_rim(heads):
    shape = draw_shape(rng(1), heads[0])
    depth = torch.linspace(-2, 4, 61)
    classes = torch.full((61,), INDEX["white matter"])
    fields = torch.stack([depth, depth * 0, depth * 0 + NOWHERE])
    marked, margin = shape.lesions._replace(rim=1.5).mark(classes, torch.zeros(61, 3), fields)
    assert torch.equal(marked == INDEX["lesion"], depth > 1.5)
    assert torch.equal(marked == INDEX["lesion rim"], (depth > 0) & (depth <= 1.5))
    torch.testing.assert_close(margin, torch.minimum(depth.abs(), (depth - 1.5).abs()))
    holes = shape.lesions._replace(rim=1.5).mark(classes, torch.zeros(61, 3), fields + torch.tensor([[0], [1], [0]]))[0]
    assert torch.equal(holes == INDEX["black hole"], depth > 1.5)


def test_a_mask_has_its_depth_wherever_and_however_it_is_stored(tmp_path):
    plain, turned = (write_mask(tmp_path / f"{t}.nii", turned=t) for t in (False, True))
    points = np.array([(-24, -20, 26), (-24, -20, 30), (-24, -13, 26), (60, 40, 0)])
    depths = []
    for path in (plain, turned):
        mask = read_mask(path)
        inside = Lesions(mask=mask.depth, to_mask=torch.from_numpy(mask.affine[:3]).float())
        depths.append(inside._depth(torch.from_numpy(points).float()))
    torch.testing.assert_close(*depths)
    assert depths[0][0] == pytest.approx(5, abs=1) and 0 < depths[0][1] < depths[0][0]
    assert depths[0][2] == pytest.approx(-1, abs=1) and depths[0][3] == -lesions.FARTHEST_MM


def test_lesions_of_a_mask_lie_where_they_lay_and_in_white_matter(masks):
    anatomy, points = embedded_head(), grid(2.0, 80.0)
    volumes = []
    for seed in range(4):
        shape = draw_shape(rng(seed), anatomy, lesions=1.0, lesion_masks=masks)
        before, classes = healthy(shape).classes(points)[0], shape.classes(points)[0]
        lesion = of(classes, FOCAL)
        assert of(before[lesion], WHITE).all() and lesion.any()
        volumes.append(0.008 * int(lesion.sum()))
        at = shape.locate(points[lesion])[0].mean(0).double().numpy()
        place = nib.affines.apply_affine(anatomy.affine, at) * [np.sign(at[0] - anatomy.centre[0]) * -1, 1, 1]
        assert np.abs(place - (-24, -20, 26)).max() < 15
    assert 0.1 < min(volumes) and max(volumes) < 2.5, "a ball of 6 mm has 0.9 ml"


def test_a_head_with_a_mask_is_a_function_of_the_seed(masks, heads):
    first, again, other = (
        draw_shape(rng(seed), heads[0], lesions=1.0, masses=1.0, lesion_masks=masks) for seed in (3, 3, 4)
    )
    assert torch.equal(first.fields, again.fields) and torch.equal(first.lesions.to_mask, again.lesions.to_mask)
    assert not torch.equal(first.lesions.to_mask, other.lesions.to_mask)


def test_masks_alone_do_not_make_a_head_ill(masks, heads):
    assert draw_shape(rng(0), heads[0], lesions=0.0, lesion_masks=masks).lesions.mask is None


@pytest.mark.parametrize("crosses", [0.0, 1.0])
def test_a_mass_is_one_smooth_blob_with_oedema_around(monkeypatch, crosses):
    monkeypatch.setattr(lesions, "CROSSES", crosses)
    anatomy, points = embedded_head(), grid(4.0, 90.0)
    radii, fluid = [], False
    for seed in range(6):
        shape = draw_shape(rng(seed), anatomy, masses=1.0)
        before, classes = healthy(shape).classes(points)[0], shape.classes(points)[0]
        mass = of(classes, DISEASED)
        assert not of(classes, FOCAL).any()
        inside = [name for name in CLASSES if (before[mass] == INDEX[name]).any()]
        assert set(inside) <= set(lesions.WHITE + lesions.GREY * bool(crosses))
        fluid |= "cortex" in inside
        if mass.any():
            radii.append((points[mass] - points[mass].mean(0)).norm(dim=1).max().item())
    assert max(radii) > 12 and max(radii) < 60 and fluid == bool(crosses)


def test_slices_and_studies_know_their_masks(masks, heads, tmp_path):
    plain, ill = (
        SimulatedSlices(Slices(heads, lesion_masks=files), Scanner(), tmp_path, 1) for files in (LesionMasks(), masks)
    )
    assert plain.folder != ill.folder
    root = Simulator(tmp_path / "study", 1, resolution=8, heads=Heads(heads, lesions=1.0, lesion_masks=masks)).run()
    assert '"LesionMasks": [\n                "a.nii.gz"\n' in (root / "dataset_description.json").read_text()


def test_all_disease_has_one_region(heads):
    head = simulate_head(Heads(heads, lesions=1.0, masses=1.0), 1, 0, 2)
    lesion = head["labels"] == REGIONS.index("lesion")
    assert lesion.any() and head["maps"][1, lesion].max() < 3 and head["maps"][2, lesion].max() < 0.5


def test_unusable_masks_are_refused(tmp_path, heads):
    with pytest.raises(UserError, match="no such folder"):
        LesionMasks(tmp_path / "absent").names
    with pytest.raises(UserError, match="no masks"):
        LesionMasks(tmp_path).names
    faint = np.zeros((4, 4, 4), np.float32)
    faint[2, 2, 2] = 0.3
    nib.save(nib.Nifti1Image(faint, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UserError, match="no lesion"):
        read_mask(tmp_path / "a.nii")
    assert LesionMasks().names == []


def test_real_masks_lie_in_white_matter_around_ventricles(shared, monkeypatch):
    monkeypatch.setattr(lesions, "FROM_MASK", 1.0)
    masks, maps = LesionMasks(shared / "data" / "lesions"), LabelMaps(shared / "data" / "label_maps")
    points, near, millilitres = grid(3.0, 80.0), [], []
    for seed in range(3):
        shape = draw_shape(rng(seed), maps[seed], lesions=1.0, lesion_masks=masks)
        before, classes = healthy(shape).classes(points)[0], shape.classes(points)[0]
        # Some label maps have lesions of their own.
        lesion = of(classes, FOCAL) & ~of(before, FOCAL)
        assert of(before[lesion], WHITE).all()
        distance = torch.cdist(points[lesion], points[before == INDEX["ventricle"]]).amin(1)
        near.append((distance < 15).float().mean().item())
        millilitres.append(0.027 * int(lesion.sum()))
    # Few and small ones may lie anywhere.
    assert np.average(near, weights=millilitres) > 0.5 and max(millilitres) > 3

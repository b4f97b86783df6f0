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

"""Clean slices: what they are a function of, what a voxel averages, and that shapes stay whole."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.randomness import rng
from scripts.render import SignalModel
from scripts.simulate import REGIONS, LabelMaps, Slices
from scripts.simulate import fields as random_fields
from scripts.simulate import slices
from scripts.simulate.anatomy import INDEX
from scripts.simulate.contrasts import Hidden
from scripts.simulate.lesions import Lesions
from scripts.simulate.shape import WILD, Shape, draw_shape

AIR, CSF, GM, WM, BONE = (REGIONS.index(name) for name in ("air", "CSF", "GM", "WM", "bone"))
LABELS = {"ventricle": 4, "white": 2, "cortex": 3, "csf": 24, "bone": 515, "scalp": 511}


def ball(radius: float = 20.0) -> np.ndarray:
    """FreeSurfer numbers of a head of concentric balls in 56 voxels of 1 mm: ventricle, white matter, ..., scalp."""
    r = np.linalg.norm(np.stack(np.meshgrid(*[np.arange(56) - 27.5] * 3, indexing="ij")), axis=0) * 20 / radius
    layers = [(5, "ventricle"), (12, "white"), (16, "cortex"), (18, "csf"), (21, "bone"), (24, "scalp")]
    labels = np.zeros(r.shape, np.int16)
    for limit, name in reversed(layers):
        labels[r < limit] = LABELS[name]
    return labels


def write_ball(path: Path, labels: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(ball() if labels is None else labels, np.eye(4) if affine is None else affine), path)
    return path


def ball_heads(tmp_path_factory: pytest.TempPathFactory, heads: int = 1) -> LabelMaps:
    """A folder of ball heads, the later the smaller."""
    folder = tmp_path_factory.mktemp("balls")
    for number in range(heads):
        write_ball(folder / f"head_{number}.nii.gz", ball(20 - number))
    return LabelMaps(folder)


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> LabelMaps:
    return ball_heads(tmp_path_factory, 2)


@pytest.fixture(scope="module")
def many(heads) -> Slices:
    return Slices(heads, size=(52, 60), per_head=2, positions=(-6.0, 6.0), lesions=1.0, thick=0.5)


def grid(step: float = 1.0, half: float = 26.0) -> torch.Tensor:
    """Points ``(N, 3)`` of a cube around the centre of the cerebrum, and how many there are along its edge."""
    axis = torch.arange(-half, half + step / 2, step)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)


def still(anatomy) -> Shape:
    """The label map as it is."""
    return Shape(anatomy, torch.zeros(9, 4, 4, 4), torch.eye(3), Lesions())


def test_a_slice_is_a_function_of_seed_and_index(many, heads):
    first = {index: many[index] for index in (3, 0)}
    again = replace(many)
    for index in (0, 3, 1):
        made = again[index]
        assert index == 1 or all(torch.equal(made[key], first[index][key]) for key in made)
    other = replace(many, seed=1)[0]
    assert not torch.equal(other["signal"], first[0]["signal"])


def test_a_slice_has_what_it_says(many):
    one = many[1]
    assert one["maps"].shape == (3, 52, 60) and one["signal"].shape == (6, 52, 60) and len(one["acquisition"]) == 6
    air = (one["labels"] == AIR) | (one["labels"] == BONE)
    pd, t1, t2 = one["maps"]
    assert 0.1 < (one["labels"] == AIR).float().mean() < 0.9 and (one["labels"] == WM).any()
    assert pd[~air].min() > 0 and (t2 <= t1).all() and (pd <= 1).all() and one["signal"].isfinite().all()
    assert torch.equal(one["maps"] == 0, (pd == 0).expand(3, -1, -1))
    solid = one["brain"] & (pd > 0)
    assert solid.sum() > 0.95 * one["brain"].sum() and not one["brain"][one["labels"] == AIR].any()


def test_slices_of_one_head_share_its_tissue(many):
    (shape_a, tissue_a), (_, tissue_b) = many.head(0), many.head(1)
    assert torch.equal(many.head(0)[1].values, tissue_a.values) and not torch.equal(tissue_a.values, tissue_b.values)
    assert torch.equal(many.head(0)[0].fields, shape_a.fields)


def test_without_what_is_hidden_a_slice_is_the_signal_of_its_maps(heads, monkeypatch):
    neutral = Hidden(torch.ones(1), 1.0, [1.0] * 6, [0.0] * 6)
    monkeypatch.setattr(slices, "draw_hidden", lambda *_: neutral)
    many = Slices(heads, size=(52, 60), positions=(0.0, 0.0), thick=0.0)
    one, (_, tissue) = many[0], many.head(0)
    t2_star = tissue.t2_star_ratio * one["maps"][2]
    rendered = SignalModel(signed=True)(one["maps"][None], one["acquisition"][None], t2_star=t2_star[None])[0]
    same = torch.nn.functional.unfold((one["labels"] == WM)[None, None].float(), 3, padding=1)[0].all(0).view(52, 60)
    assert same.sum() > 50
    error = (rendered - one["signal"])[:, same].abs().amax(1)
    assert (error < 0.01 * one["signal"].abs().amax((1, 2))).all()


def test_thickness_reaches_some_contrasts_and_no_map(heads, monkeypatch):
    many, whole = Slices(heads, size=(52, 60), positions=(9.0, 9.0), thick=1.0, oblique=0.0), slices.plane
    thick = many[0]
    monkeypatch.setattr(slices, "plane", lambda size, across, *where: whole(size, 0 * across, *where))
    thin = many[0]
    changed = (thick["signal"] - thin["signal"]).abs().amax((1, 2)) > 1e-3
    assert torch.equal(thick["maps"], thin["maps"]) and 0 < changed.sum() < 6


def test_a_plane_is_where_it_says():
    points = slices.plane((3, 2), np.array([0.0, 2.0]), np.zeros(3), (10.0, 20.0, 30.0)).view(2, 6, 4, 3)
    assert torch.equal(points[0, 0, 0], torch.tensor([8.75, 19.25, 30.0]))
    assert torch.equal(points[1, -1, -1], torch.tensor([11.25, 20.75, 32.0]))
    turned = slices.plane((3, 2), np.zeros(1), np.array([90.0, 0, 0]), (0.0, 0.0, 0.0))
    assert turned[:, 1].abs().max() < 1e-6 < turned[:, 2].abs().min()


def test_no_deformation_gives_the_label_map(heads):
    anatomy = heads[0]
    voxels = torch.stack(torch.meshgrid(*map(torch.arange, anatomy.classes.shape), indexing="ij"), -1).view(-1, 3)
    classes, texture = still(anatomy).classes(voxels.float() - torch.tensor(anatomy.centre))
    assert torch.equal(classes.view(anatomy.classes.shape), anatomy.classes.long()) and not texture.any()
    outside, _ = still(anatomy).classes(torch.tensor([[-99.0, 0, 0], [0, 60, 0], [0, 0, 1e4]]))
    assert (outside == INDEX["air"]).all()


def test_shapes_do_not_fold(heads):
    flips = set()
    for seed in range(8):
        at, _ = (random := draw_shape(rng(seed), heads[0])).locate(grid(2.0))
        jacobian = torch.stack(torch.gradient(at.view(27, 27, 27, 3), spacing=2.0, dim=(0, 1, 2)), -1)
        determinant = torch.linalg.det(jacobian) * random.turn.det().sign()
        assert determinant.min() > 0.1 and determinant.max() < 5
        flips.add(float(random.turn.det().sign()))
        moved = at - (grid(2.0) @ random.turn.T + torch.tensor(heads[0].centre))
        assert 0.5 < moved.norm(dim=1).max() < 20
    assert flips == {-1, 1}


def volumes(heads: LabelMaps, option: str, value: float) -> torch.Tensor:
    """Points of each class in a random head with one option of the shape fixed."""
    classes, _ = draw_shape(rng(5), heads[0], variety=WILD._replace(**{option: (value, value)})).classes(grid())
    return classes.bincount(minlength=len(INDEX))


def test_ventricles_and_sulci_grow_on_their_own(heads):
    ventricle, csf, cortex = INDEX["ventricle"], INDEX["CSF"], INDEX["cortex"]
    slim, wide = (volumes(heads, "ventricle", mm) for mm in WILD.ventricle)
    assert wide[ventricle] > 1.3 * slim[ventricle] > 0
    assert abs(wide[csf] / slim[csf] - 1) < 0.15
    narrow, open_ = (volumes(heads, "sulci", weight) for weight in WILD.sulci)
    assert open_[csf] > 1.15 * narrow[csf] and open_[cortex] < narrow[cortex]


def test_fields_are_smooth_with_unit_variance():
    field = torch.cat([random_fields.smooth_field(rng(0, i), (24, 20, 22), sigma=1.5, channels=2) for i in range(4)])
    assert abs(field.mean()) < 0.2 and 0.8 < field.std() < 1.2
    assert torch.diff(field, dim=1).std() < 0.6 * field.std()

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

"""Slices for the generator: functions of their address, kept on disk, mirrored; heads between two others."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.randomness import rng
from scripts.simulate import LabelMaps
from scripts.simulate.anatomy import INDEX, Anatomy
from scripts.simulate.between import Between, find_velocity, square_root
from scripts.simulate.labelled import CachedSlices, LabelledSlices, without_specks
from scripts.simulate.shape import CONTROL_MM, _ventricles, control_grid, draw_shape, integrate
from scripts.tissue import FRACTIONS
from scripts.tissue.fractions import count_fractions, measure_areas

from .test_simulate_slices import ball_heads


@pytest.fixture(scope="module")
def slices() -> LabelledSlices:
    return LabelledSlices(per_head=3, size=(88, 112), lesions=1.0)


def wider(anatomy: Anatomy, by: float) -> Anatomy:
    """The head with wider ventricles."""
    shape = draw_shape(rng(3), anatomy)._replace(turn=torch.eye(3))
    fields = torch.zeros_like(shape.fields)
    outward, _ = _ventricles(anatomy, tuple(shape.fields.shape[1:]))
    fields[:3] = integrate(by * outward)
    voxels = torch.stack(torch.meshgrid(*map(torch.arange, anatomy.classes.shape), indexing="ij"), -1).view(-1, 3)
    classes, _ = shape._replace(fields=fields).classes(voxels - torch.tensor(anatomy.centre))
    return anatomy._replace(classes=classes.view(anatomy.classes.shape).to(torch.uint8))


def test_a_slice_is_a_function_of_seed_and_index(slices):
    first = {index: slices[index] for index in (4, 0)}
    again = replace(slices)
    for index in (0, 1, 4):
        made = again[index]
        assert index == 1 or all(torch.equal(made[key], first[index][key]) for key in made)
    assert not torch.equal(replace(slices, seed=1)[0]["numbers"], first[0]["numbers"])


def test_slices_of_a_head_are_spread_over_the_positions(slices):
    lowest, highest = slices.positions
    edges = np.linspace(lowest, highest, 4)
    for index in range(6):
        assert edges[index % 3] <= float(slices[index]["position"]) <= edges[index % 3 + 1]


def test_a_slice_shows_a_head_with_air_around(slices):
    numbers = slices[1]["numbers"]
    assert numbers.shape == (176, 224) and numbers.dtype == torch.uint8
    whole = replace(slices, size=(176, 224))[1]["numbers"]
    assert {FRACTIONS[number] for number in whole.unique()} >= {"air", "cortex", "white matter", "bone", "scalp"}
    assert not whole[0].any() and not whole[-1].any()


def test_the_cache_gives_the_same_and_makes_nothing_twice(slices, tmp_path, monkeypatch):
    cached = CachedSlices(slices, tmp_path, 4)
    first = [cached[index] for index in range(4)]
    assert len(list(cached.folder.glob("*.npz"))) == 2
    for index in range(4):
        assert torch.equal(first[index]["numbers"], slices[index]["numbers"]) and first[index]["index"] == index
    monkeypatch.setattr(LabelledSlices, "__getitem__", lambda *_: pytest.fail("made again"))
    again = CachedSlices(slices, tmp_path, 4)
    assert all(torch.equal(again[index]["numbers"], first[index]["numbers"]) for index in range(4))


def test_a_damaged_file_is_made_anew(slices, tmp_path):
    cached = CachedSlices(slices, tmp_path, 3)
    first = cached[0]["numbers"]
    path = cached.folder / "00000.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert torch.equal(cached[0]["numbers"], first)


def test_other_slices_have_a_folder_of_their_own(slices, tmp_path):
    folders = {CachedSlices(one, tmp_path, 3).folder for one in (slices, replace(slices, seed=1))}
    folders.add(CachedSlices(replace(slices, between=Between()), tmp_path, 3).folder)
    assert len(folders) == 3 and CachedSlices(slices, tmp_path, 5).folder in folders


@pytest.mark.parametrize("length", [0, -1, 2.5, True])
def test_an_impossible_length_is_refused(slices, tmp_path, length):
    with pytest.raises(UserError, match="slices: found"):
        CachedSlices(slices, tmp_path, length)


def test_a_label_map_that_cannot_be_levelled_is_named(tmp_path_factory):
    with pytest.raises(UserError, match="head_0.nii.gz: found only cortex and white matter of the structures"):
        LabelledSlices(ball_heads(tmp_path_factory))[0]


def test_what_lies_apart_from_the_head_is_left_out():
    numbers = torch.zeros(20, 20, dtype=torch.uint8)
    numbers[4:15, 4:15] = 3
    with_speck = numbers.clone()
    with_speck[18, 2] = 7
    assert torch.equal(without_specks(with_speck), numbers) and torch.equal(without_specks(numbers), numbers)


def test_fractions_sum_to_one_and_areas_add_up(slices):
    fractions = count_fractions(torch.stack([slices[index]["numbers"] for index in (0, 1)]))
    torch.testing.assert_close(fractions.sum(1), torch.ones(2, 88, 112))
    areas = measure_areas(fractions)
    assert (areas["brain"] > areas["ventricle"] + areas["lesions"]).all() and (areas["brain"] <= 88 * 112 / 100).all()
    torch.testing.assert_close(areas["lesions"], fractions[:, FRACTIONS.index("lesion")].sum((1, 2)) / 100)


def test_a_square_root_is_half_of_the_way():
    field = torch.stack([torch.sin(torch.linspace(0, 3, 20))[:, None, None].expand(20, 16, 12) * a for a in (2, -1, 1)])
    root = square_root(field)
    assert (integrate(square_root(root) * 4 * CONTROL_MM) / CONTROL_MM - field).abs().max() < 0.1
    assert (root - field / 2).abs().max() < 0.6


def test_the_velocity_moves_one_head_to_the_other():
    head = LabelMaps()[0]
    other = wider(head, 5.0)
    velocity = find_velocity(head, other)
    volumes = []
    for share in (0.0, 0.5, 1.0):
        shape = draw_shape(rng(0), head)
        fields = torch.zeros_like(shape.fields)
        fields[:3] = integrate(share * velocity)
        voxels = torch.stack(torch.meshgrid(*map(torch.arange, head.classes.shape), indexing="ij"), -1).view(-1, 3)
        near = (voxels - torch.tensor(head.centre)).abs().amax(1) < 40
        moved = shape._replace(fields=fields, turn=torch.eye(3)).classes(voxels[near] - torch.tensor(head.centre))[0]
        volumes.append(int((moved == INDEX["ventricle"]).sum()))
    aim = int((other.classes == INDEX["ventricle"]).sum())
    start, half, end = volumes
    assert start < half < end < aim and end - start > 0.3 * (aim - start), (volumes, aim)


def test_velocities_are_kept(tmp_path, monkeypatch):
    head, calls = LabelMaps()[0], []
    monkeypatch.setattr(
        "scripts.simulate.between.find_velocity", lambda a, b: calls.append(1) or torch.ones(3, *control_grid(head))
    )
    kept = [Between(tmp_path).velocity(head, head) for _ in range(2)]
    assert torch.equal(*kept) and len(calls) == 1
    next(tmp_path.glob("*.pt")).write_bytes(b"damaged")
    assert torch.equal(Between(tmp_path).velocity(head, head), kept[0]) and len(calls) == 2

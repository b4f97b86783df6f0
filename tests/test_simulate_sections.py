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

"""Whole simulated heads: functions of their address, coarse and fine of one head, kept on disk, learned from."""

from dataclasses import replace

import pytest
import torch

from scripts.errors import UserError
from scripts.simulate import HeadCache, LabelledHeads, LabelledSlices
from scripts.simulate.sections import POINTS, count_cells
from scripts.tissue import FRACTIONS
from scripts.tissue.fractions import VOLUMES, count_fractions, measure_volumes
from scripts.train.data import HeadSections, HeadVolumes, Population, latents

K = len(FRACTIONS)


@pytest.fixture(scope="module")
def heads() -> LabelledHeads:
    return LabelledHeads(LabelledSlices(lesions=1.0), distances=(2, 4))


@pytest.fixture(scope="module")
def head(heads) -> dict:
    return heads[0]


def test_a_head_is_a_function_of_seed_and_number(heads, head):
    small = replace(heads, cells=(8, 8, 4), distances=(4,))
    one, again, other = small[0], replace(small)[0], replace(small, slices=replace(small.slices, seed=1))[0]
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["counts"], other["counts"])


def test_coarse_and_fine_are_of_one_head(heads, head):
    assert (head["counts"].int().sum(0) == POINTS**3).all()
    fractions = head["counts"] / POINTS**3
    assert {"air", "cortex", "white matter", "bone", "lesion"} <= {
        name for name, share in zip(FRACTIONS, fractions) if share.any()
    }
    assert head["numbers"].shape == (5, 352, 448) and heads.offsets == [-4, -2, 0, 2, 4]
    torch.testing.assert_close(head["position"].diff(), torch.tensor([2.0, 2.0, 2.0, 2.0]))
    # A cell is 8 mm high: the mean of the slices within one is about that of the cell.
    fine = count_fractions(head["numbers"]).mean(0)
    at = (head["position"][2] - heads.centre) / 8 + (heads.cells[2] - 1) / 2
    coarse = fractions[..., int(at.round().clamp(0, heads.cells[2] - 1))]
    for name in ("air", "white matter"):
        number = FRACTIONS.index(name)
        blocks = torch.nn.functional.avg_pool2d(fine[number][None], 8)[0]
        assert torch.corrcoef(torch.stack([blocks.flatten(), coarse[number, 1:-1].flatten()]))[0, 1] > 0.85


def test_points_are_counted_by_cell():
    numbers = torch.zeros(8, 4, 4, dtype=torch.uint8)
    numbers[4:, :2] = 3
    counts = count_cells(numbers)
    assert counts.shape == (K, 2, 1, 1) and counts[0].flatten().tolist() == [64, 32] and counts[3].flatten()[1] == 32


def test_volumes_add_up():
    fractions = torch.rand(2, K, 4, 4, 4).softmax(1)
    volumes = measure_volumes(fractions, 0.512)
    torch.testing.assert_close(volumes["head"], (1 - fractions[:, 0]).sum((1, 2, 3)) * 0.512)
    assert {*volumes} == {*VOLUMES} and (volumes["brain"] > volumes["grey"] + volumes["white"]).all()


def test_heads_are_kept_and_damaged_files_made_anew(tmp_path):
    calls = []

    def make(number: int) -> dict:
        calls.append(number)
        return {"x": torch.full((2,), number)}

    caches = [HeadCache(tmp_path / "heads", ["x"], make) for _ in range(2)]
    assert all(cache[3]["x"].tolist() == [3, 3] for cache in caches) and calls == [3]
    path = tmp_path / "heads" / "00003.npz"
    path.write_bytes(path.read_bytes()[:50])
    assert HeadCache(tmp_path / "heads", ["x"], make)[3]["x"].tolist() == [3, 3] and calls == [3, 3]


def population(folder, length=2, of: str = "heads") -> Population:
    return Population(None, None, (0, None), (0, None), length, 1, str(folder), 0, of=of)


def test_a_volume_and_its_mirror_image_have_the_same_volumes(tmp_path, head, monkeypatch):
    monkeypatch.setattr(LabelledHeads, "__getitem__", lambda self, number: head)
    data = population(tmp_path).train
    one, mirrored = data[0], data[1]
    assert isinstance(data, HeadVolumes) and len(data) == 4
    assert torch.equal(one["fractions"].flip(1), mirrored["fractions"])
    assert all(one[name] == mirrored[name] for name in VOLUMES) and 500 < one["brain"] < 2500


class Pooled:
    """Stands for an encoder: means of blocks of 8 voxels, or of 2 cells."""

    device = "cpu"

    def __init__(self, edge: int) -> None:
        self.edge = edge

    def load(self) -> "Pooled":
        return self

    def encode(self, fractions: torch.Tensor) -> torch.Tensor:
        pool = getattr(torch.nn.functional, f"avg_pool{fractions.ndim - 2}d")
        return pool(fractions, self.edge)


def test_sections_are_slices_alone_or_between_two(tmp_path, head, monkeypatch):
    monkeypatch.setattr(LabelledHeads, "__getitem__", lambda self, number: head)
    data = population(tmp_path, of="sections").train
    # The heads of the population have slices as far as 16 mm away.
    data.slices = replace(data.slices, distances=(2, 4))
    assert isinstance(data, HeadSections) and data.triples[5:] == [(1, 0, 2), (2, 1, 3), (3, 2, 4), (2, 0, 4)]
    made = latents(data, Pooled(8), False, coarse=Pooled(2))
    assert len(made) == 2 * 2 * 9
    alone, between, mirrored = made[0], made[2 * 6], made[2 * 6 + 1]
    assert torch.isinf(alone["distance"]).all() and between["distance"].tolist() == [2.0, 2.0]
    assert between["position"] == head["position"][2]
    torch.testing.assert_close(between["below"], made[2]["mean"])
    torch.testing.assert_close(between["mean"].flip(1), mirrored["mean"])
    torch.testing.assert_close(between["coarse"].flip(1), mirrored["coarse"])


@pytest.mark.parametrize("length", [0, 1.5, True])
def test_an_impossible_number_of_heads_is_refused(tmp_path, length):
    with pytest.raises(UserError, match="slices: found"):
        population(tmp_path, length=length).train


def test_samples_of_another_kind_are_refused(tmp_path):
    with pytest.raises(UserError, match="of: found 'brains'; use one of slices, heads, sections"):
        population(tmp_path, of="brains")

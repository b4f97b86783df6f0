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

"""Whole random heads: where tissue is, what it is like, and what they are a function of."""

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.simulate import REGIONS, Heads, simulate_head

COARSE = 4
CSF, GM, WM = 1, 2, 3


@pytest.fixture(scope="module")
def head():
    return simulate_head(Heads(), 0, 0, resolution=2)


def median(image: torch.Tensor, head: dict, label: int) -> float:
    return image[head["labels"] == label].float().median().item()


def test_air_and_bone_have_no_tissue(head):
    air, bone = head["labels"] == 0, head["labels"] == REGIONS.index("bone")
    inner = torch.nn.functional.avg_pool3d((air | bone)[None].float(), 3, 1, 1)[0] == 1
    assert 0.3 < air.float().mean() < 0.9 and bone.sum() > 10000 and inner.sum() > 0.8 * air.sum()
    assert (head["maps"][0, inner] > 0).float().mean() < 0.01, "more than thin layers"
    assert head["maps"][:, ~(air | bone)].min() > 0
    assert all(image[air].float().median() > 0 for image in head["contrasts"].values()), "no noise floor"


def test_maps_are_physical(head):
    pd, t1, t2 = head["maps"]
    assert head["maps"].isfinite().all()
    assert (t2 <= t1).all() and pd.max() <= 1 and t1.max() <= 5 and t2.max() <= 2.5
    for quantity in head["maps"]:
        assert median(quantity, head, WM) < median(quantity, head, GM) < median(quantity, head, CSF)
    assert 0.6 < median(t1, head, WM) < 1.1 and 0.055 < median(t2, head, WM) < 0.11
    assert 1.1 < median(t1, head, GM) < 1.9 and 0.07 < median(t2, head, GM) < 0.15


def test_contrasts_order_the_tissues(head):
    t1w, t2w, flair = (head["contrasts"][suffix] for suffix in ("T1w", "T2w", "FLAIR"))
    assert median(t1w, head, WM) > median(t1w, head, GM) > median(t1w, head, CSF)
    assert median(t2w, head, CSF) > median(t2w, head, GM) > median(t2w, head, WM)
    free_water = (head["maps"][2] > 1.2) & (head["labels"] == CSF)
    assert free_water.sum() > 500
    assert flair[free_water].float().median() < 0.5 * median(flair, head, WM)
    assert all(200 < image.max() <= torch.iinfo(torch.int16).max for image in head["contrasts"].values())


def test_a_head_lies_in_the_field_of_view(head):
    size = torch.tensor(head["maps"].shape[1:])
    assert tuple(size * 2) == (200, 240, 176) and nib.aff2axcodes(head["affine"]) == tuple("RAS")
    tissue = (head["labels"] > 0).nonzero()
    # Air in front, behind, above and at both sides; the neck goes on below.
    assert (tissue.amin(0)[:2] > 0).all() and (tissue.amax(0) < size - 1).all() and tissue[:, 2].min() == 0
    cerebrum = head["affine"][:3, :3] @ ((head["labels"] == WM).nonzero().double().mean(0).numpy())
    assert np.abs(cerebrum + head["affine"][:3, 3]).max() < 15


def test_subjects_differ_in_shape_values_and_acquisition(head):
    other = simulate_head(Heads(), 0, 1, resolution=2)
    both = (head["labels"] == WM) & (other["labels"] == WM)
    either = (head["labels"] == WM) | (other["labels"] == WM)
    assert 0.25 < both.sum() / either.sum() < 0.9
    for quantity, alike in zip(head["maps"][1:], other["maps"][1:]):
        assert abs(median(quantity, head, WM) / median(alike, other, WM) - 1) > 1e-3
    assert all(head["acquisitions"][suffix] != other["acquisitions"][suffix] for suffix in ("T1w", "T2w"))


def test_head_is_a_function_of_seed_and_index():
    first = simulate_head(Heads(), 7, 2, COARSE)
    simulate_head(Heads(), 7, 3, COARSE)
    again, otherwise = simulate_head(Heads(), 7, 2, COARSE), simulate_head(Heads(), 8, 2, COARSE)
    assert first["acquisitions"] == again["acquisitions"]
    for old, new, different in (
        (first["maps"], again["maps"], otherwise["maps"]),
        *((first["contrasts"][k], again["contrasts"][k], otherwise["contrasts"][k]) for k in first["contrasts"]),
    ):
        assert torch.equal(old, new) and not torch.equal(old, different)


@pytest.mark.parametrize(
    "options", [{"skull": "false"}, {"misstated": 1}, {"wide": 1.5}, {"thick": "0"}, {"field_strengths": (4.0,)}]
)
def test_impossible_heads(options):
    with pytest.raises(UserError, match=next(iter(options))):
        Heads(**options)

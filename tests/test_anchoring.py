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

import json

import pytest
import torch

from scripts.estimate.anchoring import Anchor, anchor, reference
from scripts.tissue import TISSUES, tissue_values

FAT, MUSCLE = (0.97, 0.37, 0.133), (0.78, 1.42, 0.032)


def head(tissues: dict[tuple, int], shape: tuple = (80, 90), spread: float = 0.08, seed: int = 0) -> torch.Tensor:
    """Maps of voxels of some tissues (PD, T1, T2), in proportion to the numbers given, with a log-normal scatter."""
    draw = torch.Generator().manual_seed(seed)
    share = torch.tensor(list(tissues.values()), dtype=torch.float64)
    label = torch.multinomial(share, torch.Size(shape).numel(), replacement=True, generator=draw)
    values = torch.tensor(list(tissues)).log()[label] + spread * torch.randn(len(label), 3, generator=draw)
    return values.exp().T.view(3, *shape)


def brain(field: float) -> dict[tuple, int]:
    white, grey = (tissue_values(tissue, field)[:3] for tissue in ("WM", "GM"))
    return {white: 35, grey: 50, (1.0, 4.3, 1.9): 15}


def everywhere(maps: torch.Tensor) -> torch.Tensor:
    return torch.ones(maps.shape[1:], dtype=torch.bool)


@pytest.mark.parametrize("field", TISSUES["GM"])
@pytest.mark.parametrize("shape", [(80, 90), (20, 20, 18)], ids=["2d", "3d"])
def test_white_matter_is_found_at_any_field(field, shape):
    maps = head(brain(field), shape)
    found = anchor(maps, everywhere(maps))
    assert found.ok and found.reason == ""
    white = tissue_values("WM", field)
    assert (found.pd, found.t1, found.t2) == pytest.approx(white[:3], rel=0.03)
    assert found.scale == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_pd_is_put_on_the_scale_of_water_and_nothing_else_changes(scale):
    maps = head(brain(3.0)) * torch.tensor([scale, 1, 1]).view(3, 1, 1)
    found = anchor(maps, everywhere(maps))
    assert found.scale == pytest.approx(1 / scale, rel=0.02)
    anchored = found.apply(maps)
    assert (anchored[1:] == maps[1:]).all()
    again = anchor(anchored, everywhere(maps))
    assert again.scale == pytest.approx(1, rel=1e-3) and again.pd == pytest.approx(reference(), rel=1e-3)


def test_the_rest_of_the_head_is_not_taken_for_white_matter():
    maps = head(brain(3.0) | {FAT: 60, MUSCLE: 60}, spread=0.12)
    found = anchor(maps, everywhere(maps))
    assert found.ok and found.t1 == pytest.approx(0.83, rel=0.04) and found.scale == pytest.approx(1, rel=0.03)


def test_white_matter_whose_t2_exceeds_that_of_grey_matter_is_found():
    maps = head({(0.69, 0.83, 0.11): 30, (0.8, 1.33, 0.08): 60})
    found = anchor(maps, everywhere(maps))
    assert found.ok and (found.t1, found.t2) == pytest.approx((0.83, 0.11), rel=0.03)


def test_partial_volume_and_lesions_do_not_move_the_mode():
    maps = head(brain(3.0) | {(0.75, 1.0, 0.095): 15, (0.9, 1.6, 0.2): 5})
    assert anchor(maps, everywhere(maps)).scale == pytest.approx(1, rel=0.03)


def test_voxels_count_by_how_well_they_are_known():
    maps, sd = head(brain(3.0)), torch.full((3, 80, 90), 0.05)
    maps[:, :50] = head({(0.5, 0.6, 0.08): 1}, (50, 90))
    sd[1:, :50] = 2.0
    assert anchor(maps, everywhere(maps), sd).t1 == pytest.approx(0.83, rel=0.03)
    assert anchor(maps, everywhere(maps)).t1 == pytest.approx(0.6, rel=0.03)


def test_air_and_undefined_maps_do_not_matter():
    maps = head(brain(3.0))
    found = anchor(maps, everywhere(maps))
    wide = torch.nn.functional.pad(maps, (0, 0, 30, 0))
    wide[1:, :30], wide[0, :10] = torch.nan, torch.inf
    assert anchor(wide, torch.ones(110, 90)) == found
    assert anchor(torch.cat([maps, maps], 1), torch.arange(160).view(-1, 1).expand(160, 90) < 80) == found


def noise() -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.exp(torch.rand(3, 80, 90, generator=draw) * 3 - torch.tensor([1.5, 1.5, 4.0]).view(3, 1, 1))


@pytest.mark.parametrize(
    ("maps", "reason"),
    [
        (head({(1.0, 4.3, 1.9): 1}), "0 voxels like white matter"),
        (head({tissue_values("GM", 3.0)[:3]: 60, (1.0, 4.3, 1.9): 30}), "T1 of the mode is 1.3"),
        (head({FAT: 50, MUSCLE: 50}), "voxels|mode"),
        (noise(), "no clear mode"),
        (head(brain(3.0), (12, 12)), "voxels like white matter"),
        (head(brain(3.0)) * torch.tensor([100.0, 1, 1]).view(3, 1, 1), "another unit"),
        (head(brain(3.0)) * torch.tensor([1.0, 1000, 1000]).view(3, 1, 1), "0 voxels like white matter"),
    ],
    ids=["only fluid", "no white matter", "no brain", "noise", "tiny", "unit of PD", "milliseconds"],
)
def test_where_there_is_no_anchor_pd_is_left_and_the_record_says_why(maps, reason):
    found = anchor(maps, everywhere(maps))
    assert not found.ok and found.scale == 1 and (found.apply(maps) == maps).all()
    assert found.reason and any(part in found.reason for part in reason.split("|"))
    assert found.to_sidecar()["Anchoring"]["Reason"] == found.reason


def test_an_empty_mask_is_no_anchor():
    maps = head(brain(3.0))
    assert anchor(maps, torch.zeros(80, 90)).reason.startswith("0 voxels")


@pytest.mark.parametrize("mask", [0, 1], ids=["refused", "anchored"])
def test_the_record_is_json(mask):
    found = anchor(head(brain(1.5)), torch.full((80, 90), mask))
    said = json.loads(json.dumps(found.to_sidecar(), allow_nan=False))["Anchoring"]
    assert said["Anchored"] is bool(mask) and said["ReferencePD"] == 0.69
    assert isinstance(found, Anchor) and (said["ModeT1"] is None) == (not mask)

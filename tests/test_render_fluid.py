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

"""Voxels with a share of fluid: the signals of both add up, and lesions keep theirs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scripts.acquisition import Acquisition
from scripts.render import SignalModel, share_beside_fluid
from scripts.render.fluid import FLUID, split
from scripts.simulate.slices import mix

FLAIR = Acquisition("inversion_recovery", te=0.09, tr=9.0, ti=2.5)
GRE = Acquisition("spoiled_gradient_echo", te=0.03, tr=0.5, flip_angle=40)
TRAIN = {"echo_train_length": 160, "echo_spacing": 0.007, "echoes_before_centre": 80}
MP2RAGE = Acquisition("mp2rage", te=0.003, tr=5.0, ti=0.7, ti2=2.5, flip_angle=4, flip_angle2=5, **TRAIN)
T2W = Acquisition("spin_echo", te=0.1, tr=4.5, flip_angle=90)
WATER, WHITE = torch.tensor([1.0, *FLUID]), torch.tensor([0.7, 0.86, 0.072])
STACK = FLAIR, T2W, GRE


def rows(*acquisitions: Acquisition) -> torch.Tensor:
    return torch.stack([one.to_row() for one in acquisitions])[None]


def tissues(count: int = 60) -> torch.Tensor:
    """Maps ``(1, 3, N)`` from short to long T1 and T2."""
    unit = torch.rand(1, 3, count, generator=torch.Generator().manual_seed(0))
    low, high = (torch.tensor(x)[:, None] for x in ([0.5, 0.3, 0.04], [1.0, 5.0, 2.5]))
    maps = low + unit * (high - low)
    return torch.cat([maps[:, :2], maps[:, 2:].minimum(maps[:, 1:2])], 1)


def mixed(share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps ``(1, 3, N)`` of voxels that are ``share (N,)`` fluid by volume, and that share of their PD."""
    points = (torch.arange(100) + 0.5) / 100 < share[:, None]
    fine = torch.where(points, WATER[:, None, None], WHITE[:, None, None])
    maps = mix(fine, lambda x: x.mean(-1))
    return maps[None], (points.float().mean(1) * WATER[0] / maps[0])[None]


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("signed", [False, True])
def test_without_fluid_and_with_nothing_else_nothing_changes(share, signed):
    model, acquisitions = SignalModel(signed), rows(*STACK)
    torch.testing.assert_close(model(tissues(), acquisitions, fluid=share), model(tissues(), acquisitions))


@pytest.mark.parametrize("share", [0.0, 1e-7, 1e-3, 0.3, 0.9, 0.999, 1.0])
def test_parts_make_up_the_map(share):
    maps = tissues()[0]
    parts = [torch.stack(part) for part in split([*maps], torch.full(maps.shape[1:], share))]
    assert all((part > 0).all() for part in parts[0][1:]) and all((part > 0).all() for part in parts[1][1:])
    pd = sum(part[0] for part in parts)
    torch.testing.assert_close(pd, maps[0])
    for q in (1, 2):
        rate = sum(part[0] / part[q] for part in parts) / pd
        torch.testing.assert_close(1 / rate, maps[q], rtol=1e-4, atol=0)


def test_mixed_voxel_is_the_sum_of_the_two_signals():
    volume = torch.linspace(0.1, 0.9, 9)
    maps, share = mixed(volume)
    model, acquisitions = SignalModel(signed=True), rows(*STACK)
    water, white = (model(x.view(1, 3, 1), acquisitions)[0] for x in (WATER, WHITE))
    expected = volume * water + (1 - volume) * white
    torch.testing.assert_close(model(maps, acquisitions, fluid=share)[0], expected, rtol=1e-3, atol=1e-4)
    one = model(maps, acquisitions)[0]
    assert ((one - expected).abs() > 0.05 * expected.abs())[0].all(), "one T1 and T2 do not do for FLAIR"


@pytest.mark.parametrize("ti", [1.6, 2.5], ids=["tissue above the null", "usual FLAIR"])
def test_ring_around_a_ventricle_makes_no_rim(ti):
    axis = (torch.arange(80) + 0.5) / 2 - 20
    inside = (axis[:, None] ** 2 + axis**2).sqrt() < 9
    fine = torch.where(inside, WATER[:, None, None], WHITE[:, None, None])
    pooled = torch.nn.AvgPool2d(2)
    maps = mix(fine, lambda x: pooled(x[None])[0])
    share = pooled((inside * fine[0])[None])[0] / maps[0]
    acquisition = rows(Acquisition("inversion_recovery", te=0.09, tr=9.0, ti=ti))
    truth = F.avg_pool2d(SignalModel(signed=True)(fine[None], acquisition)[0], 2)[0].abs()
    one, two = (SignalModel()(maps[None], acquisition, fluid=f)[0, 0] for f in (None, share[None]))
    rim = (share > 0.05) & (share < 0.95)
    error = [float(((image - truth).abs()[rim] / truth[~rim].max()).max()) for image in (one, two)]
    assert error[0] > 0.08 and error[1] < 0.005


def test_signs_count_before_the_magnitude():
    maps, share = mixed(torch.tensor([0.5]))
    early = rows(Acquisition("inversion_recovery", te=0.01, tr=9.0, ti=1.2))
    water, white = (SignalModel(signed=True)(x.view(1, 3, 1), early).squeeze() for x in (WATER, WHITE))
    assert water < 0 < white
    found = SignalModel()(maps, early, fluid=share).squeeze()
    torch.testing.assert_close(found, (0.5 * (water + white)).abs(), rtol=1e-3, atol=1e-4)


def test_given_t2_star_is_that_of_the_whole_voxel():
    maps, share = mixed(torch.tensor([0.0, 0.4, 1.0]))
    slow = maps[:, 2]
    same = SignalModel()(maps, rows(GRE), fluid=share, t2_star=slow)
    alone = SignalModel(signed=True)
    parts = [torch.stack(part) for part in split([*maps.movedim(1, 0)], share)]
    expected = sum(alone(part.movedim(0, 1), rows(GRE), t2_star=part[2]) for part in parts)
    torch.testing.assert_close(same, expected)


def test_ratios_do_not_add_up():
    maps, share = mixed(torch.tensor([0.4]))
    assert torch.equal(SignalModel()(maps, rows(MP2RAGE), fluid=share), SignalModel()(maps, rows(MP2RAGE)))


def test_chunks_masks_and_gradients_give_the_same():
    maps, share = mixed(torch.linspace(0, 1, 30))
    mask = torch.arange(30)[None] % 3 > 0
    plain = SignalModel()(maps, rows(*STACK), fluid=share)
    torch.testing.assert_close(SignalModel()(maps, rows(*STACK), fluid=share, mask=mask), plain * mask[:, None])
    maps.requires_grad_()
    signal = SignalModel()(maps, rows(*STACK), fluid=share)
    torch.testing.assert_close(signal.detach(), plain)
    signal.sum().backward()
    assert maps.grad.isfinite().all()


def test_share_counts_in_and_beside_a_region_of_fluid():
    share = np.zeros((20, 20, 1), np.float32)
    share[2:7, 2:7] = 1
    share[7, 2:7] = 0.5  # its border
    share[12:17, 12:17] = 0.6  # a lesion
    share[14, 14] = 0.95  # its core
    counted = share_beside_fluid(share)
    assert np.array_equal(counted[:9], share[:9]) and not counted[10:].any()


@pytest.mark.parametrize("size,counts", [((8, 8, 1), True), ((8, 8, 8), False)], ids=["slice", "volume"])
def test_a_region_is_as_large_as_a_square_or_cube(size, counts):
    share = np.zeros(size, np.float32)
    share[1:5, 1:5, :1] = 1
    assert share_beside_fluid(share).any() == counts


def test_share_counts_along_a_sulcus_as_far_as_it_is_connected():
    share = np.zeros((30, 9, 1), np.float32)
    share[1:5, 2:6] = 1
    share[5:20, 4] = 0.5  # only the first of them is beside pure fluid
    share[24:28, 4] = 0.5  # not connected
    counted = share_beside_fluid(share)
    assert np.array_equal(counted[:21], share[:21]) and not counted[21:].any()

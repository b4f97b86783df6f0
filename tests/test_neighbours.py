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

"""Neighbours whose noise explains their difference: averaged inside a tissue, apart at its edge."""

import pytest
import torch

from scripts.estimate.posterior.neighbours import fuse

PACKED = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
"""Order of the elements of a covariance."""
SD = torch.tensor([0.04, 0.10, 0.08])
CORRELATION = torch.tensor([[1.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 1.0]])
COVARIANCE = CORRELATION * SD[:, None] * SD


@pytest.fixture(params=[(40,), (20, 18), (10, 9, 8)], ids=["1d", "2d", "3d"])
def shape(request) -> tuple[int, ...]:
    return request.param


def packed(shape: tuple[int, ...]) -> torch.Tensor:
    elements = torch.stack([COVARIANCE[i, j] for i, j in PACKED])
    return elements.view(6, *[1] * len(shape)).expand(6, *shape)


def noise(shape: tuple[int, ...]) -> torch.Tensor:
    white = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    return torch.einsum("ij,j...->i...", torch.linalg.cholesky(COVARIANCE), white)


def test_noise_falls_inside_a_tissue(shape):
    mean = noise(shape)
    fused = fuse(mean, mean, packed(shape), torch.ones(shape, dtype=torch.bool))
    limit = {1: 0.93, 2: 0.76, 3: 0.65}[len(shape)]
    assert (fused.flatten(1).std(1) < limit * mean.flatten(1).std(1)).all()
    assert (fused.flatten(1).mean(1) - mean.flatten(1).mean(1)).abs().max() < 0.01


def test_edge_stays(shape):
    edge = torch.zeros(3, *shape)
    edge[1, shape[0] // 2 :] = 8 * SD[1]
    fused = fuse(edge, edge, packed(shape), torch.ones(shape, dtype=torch.bool))
    torch.testing.assert_close(fused, edge, atol=0.01 * float(SD[1]), rtol=0)


def test_lone_voxel_of_another_tissue_stays():
    mean = torch.zeros(3, 9, 9)
    mean[2, 4, 4] = -8 * SD[2]
    fused = fuse(mean, mean, packed((9, 9)), torch.ones(9, 9, dtype=torch.bool))
    torch.testing.assert_close(fused, mean, atol=0.01 * float(SD[2]), rtol=0)


def test_weights_are_those_of_the_formula():
    mean, covariance = noise((2,)), packed((2,)) * torch.tensor([1.0, 2.0])
    inside, shares = torch.ones(2, dtype=torch.bool), torch.tensor([[0.0, 1.0]])
    d = (mean[:, 0] - mean[:, 1]).double()
    square = d @ torch.linalg.inv(3 * COVARIANCE.double()) @ d
    w = float(torch.exp(-0.5 - square / 2))
    fused = fuse(shares, mean, covariance, inside)
    torch.testing.assert_close(fused, torch.tensor([[w, 1.0]]) / (1 + w))


def test_what_is_outside_neither_counts_nor_changes(shape):
    mean, inside = noise(shape), torch.ones(shape, dtype=torch.bool)
    inside[0] = False
    far = torch.where(inside, mean, 100.0)
    fused = fuse(far, far, packed(shape) * inside, inside)
    assert torch.equal(fused[:, ~inside], far[:, ~inside])
    alone = fuse(mean[:, 1:], mean[:, 1:], packed(shape)[:, 1:], inside[1:])
    torch.testing.assert_close(fused[:, 1:], alone)

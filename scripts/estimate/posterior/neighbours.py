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

"""Neighbours of one tissue have nearly the same maps: the mean of those whose noise explains their difference."""

from itertools import product
from math import exp

import torch
from torch import Tensor

SLAB = 16
"""Planes at a time, which bounds the memory."""


def fuse(values: Tensor, mean: Tensor, covariance: Tensor, inside: Tensor) -> Tensor:
    r"""Weighted mean of the values of each voxel and of its neighbours, at corners too.

    .. math:: w_{ij} = e^{-|i - j|^2 / 2 - d_{ij}^2 / 2}, \quad
        d_{ij}^2 = (x_i - x_j)^T (\Sigma_i + \Sigma_j)^{-1} (x_i - x_j)

    Differences that noise explains are averaged, an edge between tissues stays.

    Args:
        values: of each voxel ``(C, ...)``, of one, two or three dimensions.
        mean: of ln PD, ln T1, ln T2 ``(3, ...)``.
        covariance: of these: 00, 01, 02, 11, 12, 22 ``(6, ...)``.
        inside: voxels that count ``(...)``; the others keep their values.
    """
    fused = torch.empty_like(values)
    for start in range(0, len(inside), SLAB):
        low = max(start - 1, 0)
        piece, own = (slice(None), slice(low, start + SLAB + 1)), slice(start - low, start - low + SLAB)
        slab = _fuse(values[piece], mean[piece], covariance[piece], inside[piece[1]])
        fused[:, start : start + SLAB] = slab[:, own]
    return fused


def _fuse(values: Tensor, mean: Tensor, covariance: Tensor, inside: Tensor) -> Tensor:
    total, weight = values.clone(), torch.ones_like(mean[0])
    for offset in product((-1, 0, 1), repeat=inside.ndim):
        if offset <= (0,) * inside.ndim:  # the other half of the pairs
            continue
        near = tuple(slice(max(-step, 0), size - max(step, 0)) for step, size in zip(offset, inside.shape))
        far = tuple(slice(max(step, 0), size - max(-step, 0)) for step, size in zip(offset, inside.shape))
        here, there = (slice(None), *near), (slice(None), *far)
        square = _mahalanobis(mean[there] - mean[here], covariance[here] + covariance[there])
        w = exp(-sum(map(abs, offset)) / 2) * torch.exp(-square / 2) * (inside[near] & inside[far])
        total[here] += w * values[there]
        total[there] += w * values[here]
        weight[near] += w
        weight[far] += w
    return total / weight


def _mahalanobis(d: Tensor, covariance: Tensor) -> Tensor:
    """``d^T C^-1 d`` of differences ``(3, ...)``, by the Cholesky factors of C ``(6, ...)``; large where C is 0."""
    xx, xy, xz, yy, yz, zz = covariance.clamp_max(1e6)
    xx = xx.clamp_min(1e-12)
    lower_y, lower_z = xy / xx, xz / xx
    yy = (yy - lower_y * xy).clamp_min(1e-12)
    cross = (yz - lower_y * xz) / yy
    zz = (zz - lower_z * xz - cross**2 * yy).clamp_min(1e-12)
    x, y = d[0], d[1] - lower_y * d[0]
    z = d[2] - lower_z * x - cross * y
    return x**2 / xx + y**2 / yy + z**2 / zz

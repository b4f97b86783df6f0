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

"""Maps on another grid, such as that of the user's own scan."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .maps import Maps

LEAST_INSIDE = 0.5
"""Part of a voxel that has to be foreground for its maps to be defined."""


def on_grid(maps: Maps, shape: Sequence[int], affine: np.ndarray) -> Maps:
    """An estimate's maps on another grid; the same object where it has that grid already.

    ``ln map = sum(w ln map) / sum(w)`` with the linear weights ``w`` of the foreground voxels around a point; air does
    not count. Standard deviations of ``ln map`` are interpolated likewise. That is exact for errors that neighbours
    share, as most are. For independent errors the result is too wide.

    Args:
        maps: PD, T1, T2 with or without uncertainties, without options.
        shape: (X, Y, Z) of the grid.
        affine: voxel to mm of the grid ``(4, 4)``.
    """
    if maps.mask.shape == tuple(shape) and np.allclose(maps.affine, affine, atol=1e-4):
        return maps
    to_voxel = np.linalg.inv(maps.affine) @ affine

    def linear(volume: np.ndarray) -> np.ndarray:
        # Half a voxel at the border of the field of view lies beyond the last centre: it is as that one.
        return ndimage.affine_transform(
            volume, to_voxel[:3, :3], to_voxel[:3, 3], tuple(shape), np.float32, order=1, mode="nearest"
        )

    weight = linear(maps.mask.astype(np.float32))
    inside = weight >= LEAST_INSIDE

    def mean(volumes: np.ndarray) -> np.ndarray:
        sums = (linear(np.where(maps.mask, volume, 0)) for volume in volumes)
        return np.stack([np.divide(one, weight, np.zeros_like(one), where=inside) for one in sums])

    log_maps = mean(np.log(maps.values, np.zeros_like(maps.values), where=maps.mask))
    others = maps.sd, maps.correlations, maps.fractions
    sd, correlations, fractions = (None if part is None else mean(part) for part in others)
    return Maps(np.exp(log_maps) * inside, sd, inside, affine, correlations=correlations, fractions=fractions)

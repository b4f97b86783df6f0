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

"""The noise level of a scan, estimated from the scan itself."""

from math import log, sqrt

import torch
from torch import Tensor

HIGHEST_SNR = 1000.0
"""No scan is taken to be better than this, in its median voxel."""
FEWEST = 500
"""Background voxels for an estimate."""
SAMPLES = 1 << 18
"""Voxels of which a median is taken."""
DARK = 0.25
"""Air is darker than this share of the median of the head."""


def noise_level(image: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of the noise in each channel of one magnitude image, a number in its unit.

    There are two estimates. The first is the median absolute second difference along all axes inside the head, over
    0.6745 and over ``sqrt(6)`` per axis. Anatomy makes it larger, never smaller. The second needs air that was not set
    to zero: magnitudes there have a Rayleigh distribution, whose median is ``sigma sqrt(2 ln 2)``. It is preferred
    where there is such air, within a quarter of the first and the first, since parallel imaging and filters make the
    noise differ from place to place.

    Args:
        image: ``(...)`` with one to three spatial axes, 0 where there is nothing.
        mask: the head or the brain ``(...)``.

    Source: Immerkaer 1996 for second differences; Gudbjartsson and Patz 1995 for the background.
    """
    inside = subsample(image[mask & (image > 0)])
    typical = inside.median()
    rough, axes = image, [axis for axis in range(image.ndim) if image.shape[axis] > 2]
    there = mask & (image > 0)
    for axis in axes:
        n = rough.shape[axis]
        before, middle, after = (rough.narrow(axis, k, n - 2) for k in range(3))
        rough, there = before - 2 * middle + after, there.narrow(axis, 1, n - 2)
    rough = subsample(rough[there])
    least = typical / HIGHEST_SNR
    if len(rough) < FEWEST:
        return torch.maximum(0.02 * typical, least)
    sigma = rough.abs().median() / (0.6745 * sqrt(6) ** len(axes))
    air = image[~mask]
    if (air > 0).float().mean() > 0.5:
        air = subsample(air[(air > 0) & (air < DARK * typical)])
        if len(air) >= FEWEST:
            sigma = _rayleigh(air).clamp(sigma / 4, sigma)
    return torch.maximum(sigma, least)


def subsample(x: Tensor) -> Tensor:
    """Evenly spaced elements of ``x (N,)``, at most :data:`SAMPLES`."""
    return x[:: -(-len(x) // SAMPLES)] if len(x) > SAMPLES else x


def _rayleigh(air: Tensor) -> Tensor:
    """Scale of the darkest mode: the median of what lies within three times the scale, again and again."""
    sigma = air.quantile(0.1) / sqrt(-2 * log(0.9))
    for _ in range(10):
        sigma = air[air <= 3 * sigma].median() / sqrt(2 * log(2)) if bool((air <= 3 * sigma).any()) else sigma
    return sigma

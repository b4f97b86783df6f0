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

"""Smooth random fields over a head."""

from math import ceil, pi

import numpy as np
import torch
from numpy.random import Generator
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate


def smooth_field(random: Generator, shape: tuple[int, ...], sigma: float, channels: int = 1) -> Tensor:
    """Gaussian random field ``(channels, *shape)`` of mean 0 and variance about 1.

    Args:
        random: source of the random numbers.
        shape: spatial size, of a plane or a volume.
        sigma: standard deviation of the smoothing kernel [voxels]; smooth fields are drawn on a coarser grid.
        channels: number of independent fields.
    """
    step = max(1.0, sigma / 2)
    coarse = [ceil(size / step) + 1 for size in shape]
    noise = random.standard_normal((channels, *coarse), dtype=np.float32)
    width = sigma / step
    noise = gaussian_filter(noise, (0, *[width] * len(shape)), mode="wrap") * (2 * pi**0.5 * width) ** (len(shape) / 2)
    mode = {2: "bilinear", 3: "trilinear"}[len(shape)]
    return interpolate(torch.from_numpy(noise)[None], shape, mode=mode, align_corners=True)[0]

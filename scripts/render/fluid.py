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

"""Voxels with a share of fluid: two signals add up, where one T1 and T2 would make a rim of its own."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

FLUID = (4.2, 1.7)
"""T1, T2 of free water at body temperature [s]."""
TISSUE = ((0.2, 3.0), (0.01, 0.5))
"""Shortest and longest T1 and T2 of what is beside it [s]."""
PARTLY, PURE, SIDE = 0.2, 0.8, 4
"""Share of fluid in a voxel that has some, and in one that is nearly nothing else; as many of the latter make a region
as a square or cube of this side has."""


def share_beside_fluid(share: np.ndarray) -> np.ndarray:
    """The share of fluid of voxels in or beside a region of fluid, 0 elsewhere.

    A region is connected voxels with fluid, enough of them hardly anything else: a ventricle and its rim, or sulci, in
    which few voxels are pure. Elsewhere T1 and T2 between those of tissue and fluid mean another tissue: a lesion,
    which a FLAIR is to show bright.

    Args:
        share: of fluid in each voxel ``(X, Y, Z)``.
    """
    neighbours = np.ones((3,) * share.ndim, bool)
    regions, count = ndimage.label(share > PARTLY, neighbours)
    pure = np.bincount(regions[share > PURE], minlength=count + 1)
    region = (pure >= SIDE ** sum(size > 1 for size in share.shape))[regions]
    return np.where(ndimage.binary_dilation(region, neighbours), share, 0).astype(np.float32)


def split(maps: list[Tensor], share: Tensor) -> list[list[Tensor]]:
    r"""PD, T1, T2 of the tissue in each voxel, and of its fluid.

    With the share f of fluid, the tissue has :math:`(1 - f) PD` and the rates :math:`(R - f R_{fluid}) / (1 - f)`, as
    far as these are those of a tissue. The fluid has :math:`f PD` and the rates that are left. So mean PD and mean
    rates weighted with PD are those of the maps, as :func:`scripts.simulate.slices.mix` defines them. A voxel without
    fluid is all tissue, a voxel with nothing else all fluid, both with the T1 and T2 of the maps.

    Args:
        maps: PD, T1 [s], T2 [s] of the voxels, T1 and T2 positive.
        share: of fluid in the PD of each, from 0 to 1.
    """
    pd, *times = maps
    rest = 1 - share
    tissue, fluid = [pd * rest], [pd * share]
    for time, free, (shortest, longest) in zip(times, FLUID, TISSUE):
        rate = 1 / time
        low, high = rate.clamp_max(1 / longest), rate.clamp_min(1 / shortest)
        own = ((rate - share / free) / rest.clamp_min(1e-6)).clamp(low, high)
        left = (rate - rest * own) / share.clamp_min(1e-6)
        tissue.append(1 / own)
        fluid.append(1 / torch.where(share > 1e-6, left, rate))
    return [tissue, fluid]

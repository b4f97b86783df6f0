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

"""From the maps of a volume to the one image that was asked for."""

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from ...estimate.maps import Maps
from ...randomness import generator
from ..study.products import render
from .request import OUTPUTS, Request

LEAST_VARIANCE = 1e-6
"""Of what a map's error shares with no other, relative to its own: rounding can make it negative."""


def pack(maps: Maps) -> MetaTensor:
    """Maps, standard deviations, correlations and foreground as the channels of one image ``(10, X, Y, Z)``."""
    layers = (maps.values, maps.sd, maps.correlations, maps.mask[None])
    return MetaTensor(torch.from_numpy(np.concatenate(layers).astype(np.float32)), affine=maps.affine)


def unpack(packed: MetaTensor) -> Maps:
    """The maps of :func:`pack`."""
    layers = packed.as_tensor().numpy()
    return Maps(layers[:3], layers[3:6], layers[9] > 0, packed.affine.numpy(), correlations=layers[6:9])


def sample_posterior(maps: Maps, seed: int) -> Maps:
    """One sample from the posterior of the maps, ``exp(ln map + L n)`` with standard normal ``n``.

    ``L`` is the Cholesky factor of the covariance of the log maps in each voxel. Voxels are sampled independently. So
    over many seeds the scatter in a voxel is its uncertainty, but a single sample looks noisier than any true map.

    Args:
        maps: with standard deviations and correlations.
        seed: of all random numbers, not negative.
    """
    n = torch.randn(maps.values.shape, generator=generator(seed)).numpy()
    pd_t1, pd_t2, t1_t2 = maps.correlations
    own_t1 = np.sqrt(np.maximum(1 - pd_t1**2, LEAST_VARIANCE))
    t2_with_t1 = (t1_t2 - pd_t1 * pd_t2) / own_t1
    own_t2 = np.sqrt(np.maximum(1 - pd_t2**2 - t2_with_t1**2, LEAST_VARIANCE))
    errors = np.stack([n[0], pd_t1 * n[0] + own_t1 * n[1], pd_t2 * n[0] + t2_with_t1 * n[1] + own_t2 * n[2]])
    return maps._replace(values=maps.values * np.exp(maps.sd * errors))


def answer(request: Request, maps: Maps) -> Tensor:
    """The image that a request asks for ``(X, Y, Z)``: PD, T1 [s], T2 [s], their log-domain sd, or a contrast."""
    if request.seed is not None:
        maps = sample_posterior(maps, request.seed)
    if request.contrast is not None:
        return torch.from_numpy(render(maps, [request.contrast])[0])
    return torch.from_numpy(np.concatenate([maps.values, maps.sd])[OUTPUTS.index(request.output)])

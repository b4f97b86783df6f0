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

"""Brains whose tissue is drawn: fractions -> maps, each a function of (seed, index)."""

import numpy as np
import torch
from torch import Tensor

from ..randomness import rng
from ..render import SignalModel, share_beside_fluid
from ..tissue import FRACTIONS
from .fields import smooth_field
from .population import Tissue, draw_tissue

VARIETY = 0.5
"""Part of the population's spread that is drawn: without the differences between methods of measurement, 4 to 5 % in T1
and T2 between healthy people, as ``benchmarks/results/intervals.json`` has it."""
TISSUE, TEXTURE = 2, 3
"""Third address of the tissue values, and of the texture, of a sample."""
GRAIN_MM = (6.0, 20.0)
"""Smoothness of the two fields that texture is the sum of, as in simulated heads [mm]."""
FLUID = [FRACTIONS.index(name) for name in ("CSF", "ventricle")]
BRIGHT, FAINT = 99.5, 0.05
"""This percentile of the voxels above this share of the largest value becomes 1 in a scaled contrast."""


def sample_tissue(seed: int, index: int, field_strength: float = 3.0) -> Tissue:
    """Tissue of one sample at a field strength [T]."""
    return draw_tissue(rng(seed, index, TISSUE), field_strengths=(field_strength,), variety=VARIETY)


def sample_texture(size: tuple[int, ...], seed: int, index: int) -> Tensor:
    """Textures of T1 and T2 ``(2, ...)`` of variance about 1, of a plane or a volume."""
    random = rng(seed, index, TEXTURE)
    return sum(0.7 * smooth_field(random, tuple(size), grain, channels=2) for grain in GRAIN_MM)


def sample_maps(fractions: Tensor, seed: int, index: int, field_strength: float = 3.0) -> Tensor:
    """PD, T1 [s], T2 [s] ``(3, ...)`` of fractions ``(K, ...)`` of one sample, as the generator makes them."""
    texture = sample_texture(fractions.shape[1:], seed, index)
    return sample_tissue(seed, index, field_strength).mixed(fractions, texture)


def sample_contrasts(fractions: Tensor, rows: Tensor, seed: int, index: int, field_strength: float = 3.0) -> np.ndarray:
    """Scaled contrasts ``(M, H, W)`` of the acquisitions ``(M, A)`` of a slice ``(K, H, W)``, free of noise."""
    maps = sample_maps(fractions, seed, index, field_strength)
    fluid = torch.from_numpy(share_beside_fluid(fractions[FLUID].sum(0).numpy()))
    signal = SignalModel()(maps[None], rows[None], fluid=fluid[None], mask=maps[None, 0] > 0)[0]
    return np.stack([scale_contrast(one) for one in signal.numpy()])


def scale_contrast(image: np.ndarray) -> np.ndarray:
    """The magnitude of a contrast from 0 to 1: the :data:`BRIGHT` percentile, faint voxels left out, becomes 1."""
    image = np.abs(image)
    bright = image[image > FAINT * image.max()]
    top = np.percentile(bright, BRIGHT) if len(bright) else 1.0
    return (image / top).clip(0, 1).astype(np.float32)

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

"""Slices of a head of which everything is known, and the scans that a scanner would make of it."""

from math import log
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from scripts.evaluate.estimators import Scans
from scripts.nuisance import apply_gain, bias_field, noise_sigma, noisy_magnitude, polynomial_terms, transmit_field
from scripts.randomness import generator, rng
from scripts.render import SignalModel
from scripts.tissue import region_numbers

from .settings import Nuisance, Protocol

TISSUES = region_numbers("WM", "GM", "CSF")
WM, GM, CSF = TISSUES.values()
BIAS_DEGREE = 2


class Truth(NamedTuple):
    """Slices of one head.

    Attributes:
        name: of the head.
        maps: PD, T1 [s], T2 [s] ``(3, X, Y, S)``, 0 in air. In voxels of several tissues PD is the mean, 1/T1 and 1/T2
            are means weighted with PD.
        labels: 1 CSF, 2 grey, 3 white matter ``(X, Y, S)``, each where a voxel is (nearly) that alone; else 0.
        mask: the head ``(X, Y, S)``, filled.
        brain: the brain with its fluid ``(X, Y, S)``.
        fine: the maps on a finer grid ``(3, f X, f Y, f S)``, whose signals add up to those of the voxels.
        field_strength: of the values [T].
    """

    name: str
    maps: Tensor
    labels: Tensor
    mask: Tensor
    brain: Tensor
    fine: Tensor
    field_strength: float = 3.0

    @property
    def factor(self) -> int:
        """Fine voxels along an edge of a voxel."""
        return self.fine.shape[1] // self.maps.shape[1]


def signals(truth: Truth, rows: Tensor, **options: Tensor) -> Tensor:
    """Signed signals ``(M, X, Y, S)`` of rows ``(M, A)``: the mean of what is inside each voxel, not that of its mean.

    Args:
        truth: the head.
        rows: acquisitions.
        options: B1+ on the fine grid, inversion efficiency; see :class:`scripts.render.SignalModel`.
    """
    fine = SignalModel(signed=True)(truth.fine[None], rows[None], **options)[0]
    return F.avg_pool3d(fine, truth.factor)


def acquire(truth: Truth, protocol: Protocol, nuisance: Nuisance, seed: int, number: int) -> Scans:
    """The scans of a head: imperfect inversions and B1+ in the signal, gain and bias of each series, Rician noise.

    Args:
        truth: the head.
        protocol: its scans.
        nuisance: how imperfect the scanner is.
        seed: of all random numbers.
        number: of the head.
    """
    draw, rows = rng(seed, number), protocol.rows
    fine = truth.fine.shape[1:]
    efficiency = min(draw.normal(*nuisance.inversion_efficiency), 1.0)
    b1 = transmit_field(fine, *nuisance.b1)[None]
    signal = signals(truth, rows, b1=b1, inversion_efficiency=torch.tensor(efficiency))
    series = {gain: _series(draw, nuisance, truth.mask) for gain in sorted(set(protocol.gains))}
    image = []
    for scan, (one, gain) in enumerate(zip(signal, protocol.gains)):
        factor, bias = series[gain]
        received = apply_gain(bias * one, factor)
        sigma = max(noise_sigma(received, nuisance.snr, truth.labels == tissue) for tissue in (GM, WM))
        image.append(noisy_magnitude(received, sigma, generator(seed, number, scan)))
    return Scans(torch.stack(image)[None], rows[None], truth.mask[None], torch.tensor(protocol.gains)[None])


def _series(draw: Generator, nuisance: Nuisance, mask: Tensor) -> tuple[float, Tensor]:
    """Gain and bias field of one series."""
    count = len(polynomial_terms(3, BIAS_DEGREE))
    coefficients = draw.normal(0, nuisance.bias_sd / count**0.5, count).tolist()
    return np.exp(draw.uniform(*map(log, nuisance.gain))), bias_field(coefficients, mask.shape, mask)

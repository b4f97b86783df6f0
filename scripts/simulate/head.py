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

"""One random head: its tissue maps, labels and contrasts, all a function of (seed, index)."""

from functools import partial

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from ..acquisition import draw_acquisition
from ..nuisance import apply_gain, bias_field, noise_sigma, noisy_magnitude, polynomial_terms
from ..randomness import rng
from ..render import SignalModel
from ..tissue import tissue_values
from .anatomy import TISSUES, deform, draw_displacement, load_template, smooth_field

FIELD_STRENGTH = 3.0
BETWEEN_SUBJECTS = (0.02, 0.08, 0.10)
"""Standard deviation of ln PD, ln T1, ln T2 of one tissue between subjects."""
UPPER = (1.0, 5.0, 2.5)
"""Free water at body temperature: the largest PD, T1 [s], T2 [s]."""
TRAIN = {"echo_train_length": [16, 16], "echo_spacing": [0.0095, 0.0105]}
READOUT = {"echo_train_length": [176, 176], "echo_spacing": [0.0068, 0.0076], "echoes_before_centre": [88, 88]}
SCANS = {
    "T1w": {"sequence": "mprage", "te": [0.0028, 0.0033], "tr": [2.3, 2.4], "ti": [0.9, 1.0], "flip_angle": [8, 9]}
    | READOUT,
    "T2w": {"sequence": "turbo_spin_echo", "te": [0.08, 0.11], "tr": [3.0, 6.0]} | TRAIN,
    "FLAIR": {"sequence": "inversion_recovery_turbo_spin_echo", "te": [0.08, 0.1], "tr": [9.0, 9.0], "ti": [2.5, 2.5]}
    | TRAIN,
}
"""Suffix -> family of acquisitions, see :func:`scripts.acquisition.families.draw_acquisition`."""
GAIN, SNR, BIAS_SD, BIAS_DEGREE = (500.0, 2000.0), (20.0, 60.0), 0.03, 3


def simulate_head(seed: int, index: int, resolution: int = 1) -> dict:
    """One random head. Equal arguments give equal tensors, whatever was simulated before.

    In voxels of several tissues PD and the rates 1/T1 and 1/T2 are averaged, as if water exchanged fast between them.
    That is a simplification: the signals of a real voxel add up, so that no single T1 or T2 describes it, and FLAIR
    shows the borders of CSF somewhat too bright.

    Args:
        seed: seed of the study.
        index: number of the head in the study, from 0.
        resolution: voxel size [mm].

    Returns:
        ``maps (3, X, Y, Z)`` PD, T1 [s], T2 [s], all 0 outside the brain; ``labels (X, Y, Z)`` uint8 with 1 CSF, 2 GM,
        3 WM; ``contrasts`` suffix -> ``(X, Y, Z)`` int16 magnitudes; ``acquisitions`` suffix -> acquisition;
        ``affine (4, 4)`` voxel to RAS [mm].
    """
    stream = partial(rng, seed, index)
    template = load_template(resolution)
    moved = deform(template.channels, draw_displacement(stream(0), template, resolution))
    brain = moved[:3].sum(0) > 0.5
    fractions = draw_fractions(stream(1), moved[:3], brain, resolution)
    inside = draw_maps(stream(2), fractions, moved[3][brain], brain, resolution)
    maps = torch.zeros(3, *brain.shape)
    maps[:, brain] = inside
    labels = torch.zeros(brain.shape, dtype=torch.uint8)
    labels[brain] = (fractions.argmax(0) + 1).to(torch.uint8)

    contrasts, acquisitions = {}, {}
    for number, suffix in enumerate(SCANS):
        draw = stream(3, number)
        acquisitions[suffix] = draw_acquisition(SCANS[suffix] | {"field_strength": [FIELD_STRENGTH] * 2}, draw, suffix)
        signal = SignalModel(signed=True)(inside[None], acquisitions[suffix].to_row()[None, None])[0, 0]
        contrasts[suffix] = scan(draw, signal, brain, labels[brain] == 3)
    return {
        "maps": maps,
        "labels": labels,
        "contrasts": contrasts,
        "acquisitions": acquisitions,
        "affine": template.affine,
    }


def draw_fractions(draw: Generator, probabilities: Tensor, brain: Tensor, resolution: float) -> Tensor:
    """Tissue fractions ``(3, N)`` of the N brain voxels of one subject, from the deformed average ``(3, X, Y, Z)``.

    The average is blurred by the anatomy its subjects do not share: a power sharpens it, and smooth random weights
    make sulci wider here and the cortex thinner there.
    """
    weights = smooth_field(draw, tuple(brain.shape), 15 / resolution, channels=3)[:, brain]
    offset = torch.from_numpy(draw.normal((0.2, 0, 0), (0.5, 0.1, 0.2))).float()
    spread = torch.tensor([0.4, 0.2, 0.3])
    sharp = probabilities[:, brain].clamp_min(1e-6) ** 2.5 * (offset[:, None] + spread[:, None] * weights).exp()
    return sharp / sharp.sum(0)


def draw_maps(draw: Generator, fractions: Tensor, residual: Tensor, brain: Tensor, resolution: float) -> Tensor:
    """PD, T1 [s], T2 [s] ``(3, N)`` of the brain voxels: tissue values, smooth texture, T2 <= T1."""
    # Mostly common to all tissues: T2 of grey matter stays above that of white matter in nearly every subject.
    deviation = 0.8 * draw.normal(0, BETWEEN_SUBJECTS) + 0.6 * draw.normal(0, BETWEEN_SUBJECTS, (3, 3))
    values = np.array([tissue_values(tissue, FIELD_STRENGTH)[:3] for tissue in TISSUES]) * np.exp(deviation)
    power = np.array([1.0, -1.0, -1.0])
    mixed = torch.from_numpy((values**power).T).float() @ fractions
    texture = smooth_field(draw, tuple(brain.shape), 4 / resolution, channels=2)[:, brain]
    longer = 0.03 * texture[0] - 1.5 * residual.clamp(-0.1, 0.1)
    factors = torch.stack([0.3 * longer, longer, 0.6 * longer + 0.02 * texture[1]]).exp()
    maps = mixed ** torch.from_numpy(power).float()[:, None] * factors
    pd, t1, t2 = maps.minimum(torch.tensor(UPPER)[:, None])
    return torch.stack([pd, t1, t2.minimum(t1)])


def scan(draw: Generator, signal: Tensor, brain: Tensor, white: Tensor) -> Tensor:
    """What a scanner stores of a signal: gain, a mild smooth bias field and Rician noise, as int16.

    The noise of each channel is the mean signal of white matter over a random signal-to-noise ratio, so air shows the
    noise floor of a magnitude image.

    Args:
        draw: source of the random numbers.
        signal: signed signal ``(N,)`` in the brain voxels.
        brain: where these are ``(X, Y, Z)``.
        white: which of these are white matter ``(N,)``.
    """
    gain, snr = np.exp(draw.uniform(*np.log(GAIN))), draw.uniform(*SNR)
    count = len(polynomial_terms(3, BIAS_DEGREE))
    bias = bias_field(draw.normal(0, BIAS_SD / count**0.5, count).tolist(), brain.shape, brain)
    received = torch.zeros(brain.shape)
    received[brain] = apply_gain(bias[brain] * signal, gain)
    sigma = noise_sigma(received[brain], snr, white)
    noise = torch.Generator().manual_seed(int(draw.integers(2**63)))
    return noisy_magnitude(received, sigma, noise).round().to(torch.int16)

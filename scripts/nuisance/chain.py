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

"""All nuisances of one contrast, applied in the order of the scanner."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .fields import apply_gain, bias_field
from .motion import rigid_motion
from .noise import noise_sigma, noisy_magnitude
from .resolution import crop_kspace, thick_slices


@dataclass(frozen=True)
class Nuisances:
    """Parameters of the nuisances of one contrast. The defaults are neutral.

    Args:
        rotation: of the head [degrees], see :func:`.rigid_motion`; empty for a head at rest.
        translation: of the head along each axis [mm]; empty for a head at rest.
        bias: coefficients of :func:`.bias_field`; empty for none.
        gain: stored units per unit of PD.
        fraction: part of k-space that is acquired, see :func:`.crop_kspace`.
        taper: tapered part of it.
        partial_fourier: part acquired along ``phase_axis``.
        phase_axis: axis of partial Fourier.
        thickness: of a slice [mm], see :func:`.thick_slices`; None for the voxels of the grid.
        gap: between two slices [mm].
        regrid: bring thick slices back to the grid; else the image has these slices alone.
        slice_axis: axis across the slices.
        profile: of a slice, ``boxcar`` or ``gaussian``.
        snr: signal-to-noise ratio of the reference tissue; None for ``sigma``.
        sigma: standard deviation of the noise in each channel, where ``snr`` is None. With both None there is no
            noise, and the signal keeps its sign.
        coils: number of receive coils.
        seed: of the noise.
    """

    rotation: Sequence[float] = ()
    translation: Sequence[float] = ()
    bias: Sequence[float] = ()
    gain: float = 1.0
    fraction: float | Sequence[float] = 1.0
    taper: float = 0.0
    partial_fourier: float = 1.0
    phase_axis: int = 0
    thickness: float | None = None
    gap: float = 0.0
    regrid: bool = True
    slice_axis: int = -1
    profile: str = "boxcar"
    snr: float | None = None
    sigma: float | None = None
    coils: int = 1
    seed: int = 0


def apply_nuisances(
    signal: Tensor,
    nuisances: Nuisances,
    spacing: Sequence[float],
    mask: Tensor | None = None,
    reference: Tensor | None = None,
) -> Tensor:
    """Image of one contrast: motion, bias field and gain, k-space, slices, noise and magnitude, in this order.

    Args:
        signal: ``(X, Y)`` or ``(X, Y, Z)``, signed or complex.
        nuisances: their parameters.
        spacing: edges of a voxel [mm].
        mask: where the logarithm of the bias field has mean 0; None for everywhere.
        reference: where the reference tissue of the SNR is; None for everywhere.

    Returns:
        The magnitude; without noise the signed or complex signal.

    Raises:
        UserError: for a parameter outside its interval.
    """
    axes = signal.ndim
    if nuisances.rotation or nuisances.translation:
        rotation, translation = nuisances.rotation or [0.0] * (2 * axes - 3), nuisances.translation or [0.0] * axes
        signal = rigid_motion(signal, rotation, translation, spacing)
    if nuisances.bias:
        signal = signal * bias_field(nuisances.bias, signal.shape, mask).to(signal.device)
    signal = apply_gain(signal, nuisances.gain)
    signal = crop_kspace(signal, nuisances.fraction, nuisances.taper, nuisances.partial_fourier, nuisances.phase_axis)
    if nuisances.thickness is not None:
        axis, slices = nuisances.slice_axis, (nuisances.gap, nuisances.slice_axis, nuisances.profile, nuisances.regrid)
        signal = thick_slices(signal, nuisances.thickness, spacing[axis], *slices)
        if reference is not None and not nuisances.regrid:
            reference = thick_slices(reference.float(), nuisances.thickness, spacing[axis], *slices) > 0.5
    sigma = nuisances.sigma
    if nuisances.snr is not None:
        sigma = noise_sigma(signal, nuisances.snr, torch.ones_like(signal.real) if reference is None else reference)
    if sigma is None:
        return signal
    return noisy_magnitude(signal, sigma, torch.Generator().manual_seed(nuisances.seed), nuisances.coils)

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

"""What a voxel averages: truncated k-space in the encoded directions, the slice profile across them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import UserError

PROFILES = ("boxcar", "gaussian")


def crop_kspace(
    signal: Tensor,
    fraction: float | Sequence[float] = 1.0,
    taper: float = 0.0,
    partial_fourier: float = 1.0,
    axis: int = 0,
) -> Tensor:
    """Keeps the centre of k-space, zeros elsewhere: a larger voxel, with Gibbs ringing, on the same grid.

    ``S' = F^-1 W F S`` with ``W(k) = prod_i w(|k_i| / k_max,i)``, ``k_max = fraction / (2 voxel)``, and the Tukey
    window ``w(u) = 1`` up to u = 1 - taper, then ``(1 + cos(pi (u - 1 + taper) / taper)) / 2`` up to u = 1, then 0.
    Partial Fourier also drops ``k < -(2 partial_fourier - 1) k_max`` along one axis. It acts on the signed or complex
    signal as the scanner does; the magnitude of an inversion recovery rings where the signal itself is smooth.

    Args:
        signal: ``(X, Y)`` or ``(X, Y, Z)``, signed or complex.
        fraction: part of k-space that is acquired, in (0, 1], one for all axes or one for each: the edge of a voxel of
            the grid over that of an acquired voxel. 1 is neutral.
        taper: part of the acquired k-space that the window tapers, in [0, 1]: 0 none (neutral), 1 a Hann window.
        partial_fourier: part acquired along ``axis``, in [0.5, 1]; 1 is neutral.
        axis: of partial Fourier.

    Returns:
        The shape of ``signal``; real for a real signal, unless partial Fourier makes it complex.

    Raises:
        UserError: for a number outside its interval.

    Source: Bernstein, King and Zhou, Handbook of MRI Pulse Sequences, 2004, chapter 13.
    """
    fractions = [float(fraction)] * signal.ndim if isinstance(fraction, (int, float)) else list(fraction)
    if len(fractions) != signal.ndim or not all(0 < f <= 1 for f in fractions):
        raise UserError("fraction of k-space", f"{fraction}", f"give a number in (0, 1], or {signal.ndim} of them")
    if not (0 <= taper <= 1 and 0.5 <= partial_fourier <= 1):
        found = f"taper {taper:g}, partial Fourier {partial_fourier:g}"
        raise UserError("k-space", found, "give a taper in [0, 1] and a partial Fourier in [0.5, 1]")
    spectrum = signal
    for i, (size, kept) in enumerate(zip(signal.shape, fractions)):
        u = torch.fft.fftfreq(size, 0.5, dtype=torch.float64) / kept
        # A sample is kept when it lies on the limit, whichever way rounding went.
        window = (u.abs() <= 1 + 1e-9).double()
        if taper:
            ramp = (u.abs() - 1 + taper).clamp(0, taper) / taper
            window = window * (1 + torch.cos(math.pi * ramp)) / 2
        if i == axis % signal.ndim:
            window = window * (u >= 1 - 2 * partial_fourier - 1e-9)
        if bool((window == 1).all()):
            continue
        column = window.to(signal.device, signal.real.dtype).view(-1, *[1] * (signal.ndim - 1 - i))
        spectrum = torch.fft.ifft(torch.fft.fft(spectrum, dim=i) * column, dim=i)
    complex_result = signal.is_complex() or partial_fourier < 1
    return spectrum if complex_result or not spectrum.is_complex() else spectrum.real


def thick_slices(
    signal: Tensor,
    thickness: float,
    spacing: float,
    gap: float = 0.0,
    axis: int = -1,
    profile: str = "boxcar",
    regrid: bool = True,
) -> Tensor:
    """Averages a fine signal over slices, ``S_j = integral p(x - x_j) S(x) dx``, sampled at the slices' centres.

    Slices lie ``thickness + gap`` apart, as many as fit between the faces of the field of view, centred in it. The
    profile p is a boxcar as wide as the slice or a Gaussian with this full width at half maximum.

    Args:
        signal: ``(X, Y)`` or ``(X, Y, Z)``, signed or complex.
        thickness: of a slice [mm]; ``spacing``, with no gap and a boxcar, is neutral.
        spacing: edge of a voxel along the axis [mm].
        gap: between two slices [mm].
        axis: across the slices.
        profile: ``boxcar`` or ``gaussian``.
        regrid: bring the slices back to the grid of ``signal``, linearly between their centres and constant beyond the
            outer ones; else return the slices, ``thickness + gap`` apart.

    Raises:
        UserError: for a slice thinner than a voxel or thicker than the field of view, or a negative gap.
    """
    size = signal.shape[axis]
    weights, centres = slice_profiles(size, thickness, spacing, gap, profile)
    if regrid:
        # Where each voxel lies between the centres, in slices from the first.
        at = (torch.arange(size) - centres[0]) * spacing / (thickness + gap)
        distance = at.clamp(0, len(centres) - 1)[:, None] - torch.arange(len(centres))
        weights = (1 - distance.abs()).clamp_min(0) @ weights
    weights = weights.to(signal.device, signal.dtype)
    return torch.tensordot(signal, weights, dims=([axis], [1])).movedim(-1, axis)


def slice_profiles(
    size: int, thickness: float, spacing: float, gap: float = 0.0, profile: str = "boxcar"
) -> tuple[Tensor, Tensor]:
    """How much of each voxel a slice takes ``(slices, size)``, rows of sum 1, and the slices' centres in voxel indices.

    Arguments and errors are those of :func:`thick_slices`.
    """
    if not (spacing > 0 and spacing <= thickness <= size * spacing * (1 + 1e-9) and gap >= 0):
        found = f"{thickness:g} mm thick slices, {gap:g} mm apart, in {size} voxels of {spacing:g} mm"
        raise UserError("slices", found, "give a slice between one voxel and the field of view, and no negative gap")
    if profile not in PROFILES:
        raise UserError("slice profile", repr(profile), f"use one of {', '.join(PROFILES)}")
    count = math.floor((size * spacing + gap) / (thickness + gap) + 1e-6)
    order = torch.arange(count, dtype=torch.float64) - (count - 1) / 2
    centres = (size - 1) / 2 + order * (thickness + gap) / spacing
    distance = (torch.arange(size) - centres[:, None]).abs()
    width = thickness / spacing
    if profile == "boxcar":
        weights = ((width + 1) / 2 - distance).clamp(0, 1)
    else:
        weights = torch.exp(-4 * math.log(2) * (distance / width).square())
    return weights / weights.sum(1, keepdim=True), centres

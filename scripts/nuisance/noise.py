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

"""Thermal noise of the receiver, and the magnitude that a scanner stores."""

import re
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Generator, Tensor

from ..errors import UserError

WRITTEN = re.compile(r"snr=(?P<snr>[0-9]+(\.[0-9]+)?)(,coils=(?P<coils>[0-9]+))?")


def noise_sigma(signal: Tensor, snr: float, mask: Tensor) -> float:
    """Standard deviation of each noise channel, ``sigma = mean |S| / SNR`` over a reference tissue of this scan.

    Args:
        signal: real or complex, any shape.
        snr: signal-to-noise ratio of the reference tissue, > 0.
        mask: where the reference tissue is, for example white matter; the shape of ``signal``.

    Raises:
        UserError: for an SNR that is not positive, or an empty mask.
    """
    if not snr > 0:
        raise UserError("SNR", f"{snr:g}", "give a positive number")
    if not (mask > 0).any():
        raise UserError("SNR", "no voxel of the reference tissue", "give a mask that is not empty")
    # In float64, so that the number of threads does not show in the stored image.
    return float(signal[mask > 0].abs().double().mean()) / snr


def noisy_magnitude(signal: Tensor, sigma: float, generator: Generator, coils: int = 1) -> Tensor:
    """Magnitude of a signal in complex noise, root sum of squares over the coils.

    One coil: ``m = sqrt((s + n1)^2 + n2^2)`` with ``n ~ N(0, sigma^2)``, Rician. Several: ``m^2 = sum_k |s_k + n_k|^2``
    with ``sum_k |s_k|^2 = |s|^2``, non-central chi with 2 coils degrees of freedom. Only this sum matters to the
    distribution, so the first coil gets all of the signal. In air the mean is ``sigma sqrt(2) G(coils + 1/2) /
    G(coils)``, 1.25 sigma for one coil. The noise is white on the grid of the image; that of zero-filled, filtered or
    accelerated images is not.

    Args:
        signal: signed or complex, any shape.
        sigma: standard deviation in each channel of each coil, in units of the signal, see :func:`noise_sigma`. 0 is
            neutral: the magnitude of the signal.
        generator: on the CPU, whatever the device of the signal.
        coils: number of independent receive coils.

    Raises:
        UserError: for a negative sigma, or no coil.

    Source: Gudbjartsson and Patz 1995, doi:10.1002/mrm.1910340618; Constantinides et al. 1997,
    doi:10.1002/mrm.1910380524.
    """
    if not sigma >= 0 or coils < 1:
        raise UserError("noise", f"sigma {sigma:g} of {coils} coils", "give sigma ≥ 0 and at least one coil")
    real, imaginary = (signal.real, signal.imag) if signal.is_complex() else (signal, torch.zeros_like(signal))
    magnitude = None
    for _ in range(coils):
        noise = sigma * torch.randn((2, *signal.shape), generator=generator, dtype=real.dtype).to(signal.device)
        if magnitude is None:
            magnitude = torch.hypot(real + noise[0], imaginary + noise[1])
        else:
            magnitude = torch.hypot(magnitude, torch.hypot(noise[0], noise[1]))
    return magnitude


@dataclass(frozen=True)
class Noise:
    """Noise of a stated signal-to-noise ratio, see :func:`noisy_magnitude`.

    Args:
        snr: mean signal of the foreground over the standard deviation of the noise, > 0.
        coils: number of independent receive coils.
    """

    snr: float
    coils: int = 1

    @classmethod
    def of(cls, value: float | str | None) -> "Noise | None":
        """As an option states it: the SNR, or ``snr=30,coils=8``; None stays None.

        Raises:
            UserError: for anything else.
        """
        if value is None:
            return None
        snr, coils = value, 1
        if isinstance(value, str) and (found := WRITTEN.fullmatch(value)):
            snr, coils = float(found["snr"]), int(found["coils"] or 1)
        number = isinstance(snr, (int, float)) and not isinstance(snr, bool) and isfinite(snr)
        if not number or snr <= 0 or coils < 1:
            raise UserError("noise", repr(value), "give an SNR above 0, such as 30, or snr=30,coils=8")
        return cls(float(snr), coils)

    def __str__(self) -> str:
        return f"SNR {self.snr:g}" + (f", {self.coils} coils" if self.coils > 1 else "")

    def __call__(self, signal: Tensor, foreground: Tensor, generator: Generator) -> Tensor:
        """The magnitude of a signal with noise; ``foreground`` is where the mean signal is taken."""
        return noisy_magnitude(signal, noise_sigma(signal, self.snr, foreground), generator, self.coils)

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

"""Data consistency: moves an estimate to maps that explain the subject's own scans, and updates its covariance."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ...parallel import in_parallel
from ...tissue import Estimate
from .linear import pack, unpack
from .noise import noise_level
from .search import MISSING, Belief, Errors, Levels, Search, Voxels
from .signals import Scanner, usable_scans

__all__ = ["DataConsistency", "Fit"]

CHUNK = 1 << 14
"""Voxels at a time: their tensors stay in the processor's cache."""
SMALLEST_SD = 1e-4
"""No estimate is taken to be better than this, relative."""


class Fit(NamedTuple):
    """The estimate after data consistency, and how the scans fit it.

    Attributes:
        estimate: the maps that explain the scans, with their covariance.
        gains: unit of each scan over that of the signal equations ``(B, M)``; 0 of a scan that was not used.
        gain_sd: standard deviation of their logarithms ``(B, M)``.
        misfit: logarithm of image over prediction, in standard deviations of noise and model ``(B, M, ...)``.
    """

    estimate: Estimate
    gains: Tensor
    gain_sd: Tensor
    misfit: Tensor


class DataConsistency:
    """Most probable maps of each voxel by Gauss-Newton steps, from an estimate with its covariance and the scans.

    The estimate is the prior ``N(mean, L L^T)``. The signal equations predict the scans from it. They have unknowns
    that all voxels share: a gain per scan or group of scans, inversion efficiency, B1+ and the assumed parameters.
    :meth:`Search.profile` solves for these on a part of the voxels. What remains uncertain about them widens the
    covariance of every voxel, as do noise, model error and the variation of T2* / T2 between tissues.

    Args:
        steps: Gauss-Newton steps.
        model_error: relative standard deviation of the image about the signal equation: what is left of the bias
            field, of slice profiles, magnetisation transfer, refocusing.
        freedom: degrees of freedom of the Student t distribution of residuals. With fewer, scans that contradict the
            others count less.
        regions: number of parts of the head in which the errors of the estimate are independent of each other. With
            more, the gains are stated to be surer.
        inversion_efficiency: its mean and standard deviation in every scan.
        b1_sd: standard deviation of B1+ relative to nominal.
        gain_voxels: number of voxels, evenly spread, from which gains are solved.
    """

    def __init__(
        self,
        steps: int = 8,
        model_error: float = 0.02,
        freedom: float = 4.0,
        regions: float = 6.0,
        inversion_efficiency: tuple[float, float] = (0.93, 0.05),
        b1_sd: float = 0.1,
        gain_voxels: int = 8192,
    ) -> None:
        self.steps, self.errors = steps, Errors(model_error, freedom, regions)
        self.inversion_efficiency, self.b1_sd, self.gain_voxels = inversion_efficiency, b1_sd, gain_voxels

    @torch.no_grad()
    def __call__(
        self, estimate: Estimate, image: Tensor, rows: Tensor, mask: Tensor, gains: Sequence[int] | None = None
    ) -> Fit:
        """Fits each subject by itself, in float32; voxels outside the mask stay as they are.

        Args:
            estimate: what is known before the scans are compared with the signal equations.
            image: magnitudes in any unit ``(B, M, ...)``; 0 where there is nothing.
            rows: acquisitions ``(B, M, A)``; contrasts without a magnitude or with unknown parameters are left out.
            mask: head or brain ``(B, 1, ...)``.
            gains: which gain each contrast has ``(M,)``, equal numbers share one, as echoes of one series do. None
                gives each its own.
        """
        gains = range(image.shape[1]) if gains is None else gains
        with torch.autocast(image.device.type, enabled=False):
            inputs = zip(*(part.float() for part in estimate), image.float(), rows, mask[:, 0] > 0)
            subjects = [self._fit(Estimate(log_maps, cholesky), *scans, gains) for log_maps, cholesky, *scans in inputs]
        estimates, *others = zip(*subjects)
        return Fit(Estimate(*map(torch.stack, zip(*estimates))), *map(torch.stack, others))

    def _fit(self, estimate: Estimate, image: Tensor, rows: Tensor, mask: Tensor, gains: Sequence[int]) -> Fit:
        """One subject: as :meth:`__call__`, all without the batch axis."""
        log_maps, cholesky = estimate
        inside = mask & log_maps.isfinite().all(0) & cholesky.isfinite().all(0) & image.isfinite().all(0)
        scans = [scan for scan in usable_scans(rows) if bool((image[scan.number][inside] > 0).any())]
        result = Fit(
            Estimate(log_maps.clone(), cholesky.clone()),
            *image.new_zeros(2, len(image)).unbind(),
            torch.zeros_like(image),
        )
        if not scans:
            return result
        used = [scan.number for scan in scans]
        scanner = Scanner(scans, [gains[number] for number in used], self.inversion_efficiency, self.b1_sd)
        inside &= (image[used] > 0).any(0)
        # In units of a typical voxel of the group, none is too large or too small for float32.
        typical = torch.stack([image[number][inside & (image[number] > 0)].median() for number in used])
        unit = torch.stack(
            [max(x for x, other in zip(typical, scanner.group) if other == own) for own in scanner.group]
        )
        image = image[used] / unit.view(-1, *[1] * mask.ndim)
        levels = Levels(torch.stack([noise_level(scan, inside) for scan in image]), typical / unit)
        voxels = _voxels(log_maps[:, inside], cholesky[:, inside], image[:, inside], levels.noise)
        belief = self._gains(scanner, levels, voxels)
        chunks = _chunks(voxels)
        fitted = in_parallel(lambda part: self._maps(scanner, levels, part, belief), chunks, mask.device)
        bar = tqdm(fitted, "data consistency", len(chunks), unit=" chunks", disable=len(chunks) == 1)
        log_maps, cholesky, misfit = zip(*bar)
        result.estimate.log_maps[:, inside] = torch.cat(log_maps, -1)
        result.estimate.cholesky[:, inside] = torch.cat(cholesky, -1)
        for number, value in zip(used, torch.cat(misfit, -1)):
            result.misfit[number][inside] = value
        result.gains[used] = belief.mean[scanner.group].exp().to(unit) * unit
        result.gain_sd[used] = belief.covariance.diag().sqrt()[scanner.group].to(unit)
        return result

    def _gains(self, scanner: Scanner, levels: Levels, voxels: Voxels) -> Belief:
        """The unknowns of the scanner, from evenly spread voxels."""
        count = voxels.prior.shape[-1]
        chosen = torch.linspace(0, count - 1, min(count, self.gain_voxels), dtype=torch.float64).round().long()
        voxels = Voxels(*(x[..., chosen.to(x.device)] for x in voxels))
        start = scanner.expected().to(levels.noise)
        # Without noise: whether a voxel is near the noise depends on the gain, which is not yet known.
        ratio = voxels.log_image - scanner.predict(voxels.prior, start, 1e-6 * levels.noise).log_image
        ratio = ratio.masked_fill(voxels.missing > 0, torch.nan)
        for gain in range(scanner.gains):
            mine = [s for s, group in enumerate(scanner.group) if group == gain]
            start[gain] = ratio[mine].nanmedian().nan_to_num()
        search = Search(scanner, levels, voxels, self.errors)
        return search.run(Belief(start, torch.eye(scanner.size).to(start)), self.steps, profile=True)[1]

    def _maps(self, scanner: Scanner, levels: Levels, voxels: Voxels, belief: Belief) -> tuple[Tensor, Tensor, Tensor]:
        """Log maps ``(3, N)``, their Cholesky factor ``(6, N)`` and the misfit ``(S, N)``, given the belief."""
        search = Search(scanner, levels, voxels, self.errors)
        place, _ = search.run(belief, self.steps, profile=False)
        misfit = torch.where(voxels.missing > 0, 0, place.residual / place.variance.sqrt())
        return search.log_maps(place.u), pack(search.posterior(place, belief)), misfit


def _voxels(log_maps: Tensor, cholesky: Tensor, image: Tensor, sigma: Tensor) -> Voxels:
    """What a search needs of N voxels: log maps ``(3, N)``, their Cholesky factor ``(6, N)``, S scans ``(S, N)``."""
    factor = unpack(cholesky)
    for i in range(3):
        factor[i, i].clamp_(min=SMALLEST_SD)
    # A magnitude far below the noise happens by chance; its logarithm must not count for more than that.
    log_image = torch.maximum(image, 0.5 * sigma[:, None]).log()
    return Voxels(log_image, MISSING * (image <= 0), log_maps, factor)


def _chunks(voxels: Voxels) -> list[Voxels]:
    return [Voxels(*parts) for parts in zip(*(x.split(CHUNK, -1) for x in voxels))]

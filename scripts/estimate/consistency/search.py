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

"""Gauss-Newton steps to the most probable maps of many voxels, and to the unknowns of the scanner they share.

Symbols: S scans, N voxels, P unknowns of the scanner. A voxel is ``x = x0 + L u`` with the prior ``u ~ N(0, 1)``, so
``Z = J L (S, 3, N)`` are the derivatives of its log images. Residuals are of log images: these are nearly linear in
the log maps, and a relative error weighs the same in a bright and in a dark voxel.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .linear import apply, cholesky_of_inverse, invert, invert_lower, multiply, transpose
from .signals import HIGHEST, LOWEST, T2_STAR_SD, Scanner

LONGEST_STEP = 0.5
"""Largest change of a log map in one step."""
MISSING = 1e6
"""Variance of the logarithm of a voxel that a scan does not cover."""
EITHER_SIDE = 3.0
"""Variance of a scan of a voxel that may be on either side of its null, in squares of the distance between the two: it
makes intervals reach from one side to the other."""
GAIN_SD = 10.0
"""Standard deviation of the logarithm of a gain, before any voxel is read."""


class Voxels(NamedTuple):
    """N voxels of one subject.

    Attributes:
        log_image: logarithms of S scans ``(S, N)``.
        missing: what a scan does not cover has :data:`MISSING` here, 0 elsewhere ``(S, N)``.
        prior: expected log maps ``(3, N)``.
        factor: Cholesky factor L of their covariance ``(3, 3, N)``.
    """

    log_image: Tensor
    missing: Tensor
    prior: Tensor
    factor: Tensor


class Belief(NamedTuple):
    """Unknowns of the scanner: mean ``(P,)`` and covariance ``(P, P)``."""

    mean: Tensor
    covariance: Tensor


class Place(NamedTuple):
    """Where the search stands, and what the scans look like from there.

    Attributes:
        u: deviation from the prior ``(3, N)``.
        residual: log images less their prediction ``(S, N)``.
        by_voxel: Z ``(S, 3, N)``.
        by_scanner: derivatives by the unknowns of the scanner ``(S, P, N)``.
        by_t2_star: derivatives by ln(T2* / T2) ``(S, N)``.
        variance: of noise and model error ``(S, N)``.
        flip: what the residual is more than if the signal had the other sign, as after an inversion it may ``(S, N)``.
        beyond: what of the log image no signal of the other sign explains, whatever T1 ``(S, N)``.
    """

    u: Tensor
    residual: Tensor
    by_voxel: Tensor
    by_scanner: Tensor
    by_t2_star: Tensor
    variance: Tensor
    flip: Tensor
    beyond: Tensor


class Errors(NamedTuple):
    """What is assumed of errors, see :class:`scripts.estimate.consistency.DataConsistency`."""

    model: float
    freedom: float
    regions: float


class Levels(NamedTuple):
    """Levels of S scans, each in its own unit: of the noise, and the signal of a typical voxel, both ``(S,)``."""

    noise: Tensor
    typical: Tensor


class Search:
    """The search for the maps of N voxels.

    Args:
        scanner: the scans.
        levels: of their images.
        voxels: what is known of the voxels.
        errors: what is assumed of errors.
    """

    def __init__(self, scanner: Scanner, levels: Levels, voxels: Voxels, errors: Errors) -> None:
        self.scanner, self.levels, self.voxels, self.errors = scanner, levels, voxels, errors
        self.whiten = invert_lower(voxels.factor)
        self.inverted = torch.tensor(scanner.inverted).to(levels.noise)[:, None]
        self.extra = torch.zeros_like(voxels.log_image)

    def run(self, belief: Belief, steps: int, profile: bool) -> tuple[Place, Belief]:
        """Steps from the prior; where ``profile``, the unknowns of the scanner are estimated again before each."""
        start = self.limited(self.voxels.prior)
        here = self.look(apply(self.whiten, start - self.voxels.prior), belief.mean)
        trust = torch.ones_like(here.u[0])
        for _ in range(steps):
            if profile:
                belief, here = self.profile(here, belief)
            precision = self.precision(here, belief.covariance)
            u = self.propose(here, precision, trust)
            there = self.look(u, belief.mean)
            better = cost(there, precision) <= cost(here, precision)
            trust = torch.where(better, (2 * trust).clamp(max=1), trust / 4)
            here = Place(*(torch.where(better, new, old) for new, old in zip(there, here)))
        return here, belief

    def look(self, u: Tensor, unknown: Tensor) -> Place:
        """Predicts the scans at ``u (3, N)``."""
        seen = self.scanner.predict(self.log_maps(u), unknown, self.levels.noise)
        return Place(
            u,
            self.voxels.log_image - seen.log_image,
            multiply(seen.by_maps, self.voxels.factor),
            seen.by_scanner,
            seen.by_t2_star,
            seen.noise + self.model_error(seen.log_image) + self.voxels.missing,
            2 * self.inverted * (1 - seen.noise),
            seen.beyond,
        )

    def model_error(self, log_image: Tensor) -> Tensor:
        """Variance of log images by what the equation leaves out: a part of the signal, and as much of a typical one.

        The latter counts where a tissue is nulled, or saturated: what is left there is the difference of large numbers.
        """
        return self.errors.model**2 * (1 + (self.levels.typical.log()[:, None] - log_image).mul(2).exp())

    def log_maps(self, u: Tensor) -> Tensor:
        """``x = x0 + L u``."""
        return self.voxels.prior + apply(self.voxels.factor, u)

    def profile(self, here: Place, belief: Belief) -> tuple[Belief, Place]:
        """Estimates the unknowns of the scanner from all voxels, each weighted by how well its scans are predicted.

        With the maps marginalised the residual from the prior is ``D dphi`` in Gaussian errors of covariance
        ``C = R + Z Z^T``: the variance of noise and model, plus that by which the prior predicts the signal. Without
        the latter, voxels whose signal the prior does not know would drag the gains along. Neighbours err alike, so
        all voxels together count as no more than a number of independent regions.
        """
        scans = len(here.residual)
        eye = torch.eye(scans).to(here.residual)[..., None]
        weight = invert(self.covariance(here) + eye * self.extra + multiply(here.by_voxel, transpose(here.by_voxel)))
        residual = here.residual + apply(here.by_voxel, here.u)
        weighted = multiply(weight, here.by_scanner)
        mean, gains = belief.mean, self.scanner.gains
        for _ in range(2):
            misfit = (residual * apply(weight, residual)).sum(0)
            robust = ((self.errors.freedom + scans) / (self.errors.freedom + misfit)).clamp(max=1)
            per_voxel = (here.by_scanner[:, :gains] * weighted[:, :gains]).sum((0, 1)) * robust
            alike = min(
                1.0, self.errors.regions * float(per_voxel.square().sum() / per_voxel.sum().square().clamp_min(1e-12))
            )
            by_scanner = (here.by_scanner * robust).transpose(1, 2).flatten(0, 1).double()
            weighted_flat = weighted.transpose(1, 2).flatten(0, 1).double()
            expected = torch.ones_like(mean, dtype=torch.float64)
            expected[:gains] = GAIN_SD**-2
            information = alike * weighted_flat.T @ by_scanner + expected.diag()
            pull = torch.cat([torch.zeros_like(mean[:gains]), mean[gains:]]).double()
            covariance = torch.linalg.inv((information + information.T) / 2)
            step = covariance @ (alike * by_scanner.T @ apply(weight, residual).flatten().double() - pull)
            new = self.scanner.bounded(mean + step.clamp(-1, 1).float())
            change = torch.einsum("spn,p->sn", here.by_scanner, new - mean)
            mean, residual, here = new, residual - change, here._replace(residual=here.residual - change)
        return Belief(mean, covariance.float()), here

    def covariance(self, here: Place) -> Tensor:
        """Covariance R of the residuals of each voxel, its maps and the scanner known ``(S, S, N)``.

        Scans that share a gain were received alike, so the part of the model error that is relative is common to them.
        """
        local = T2_STAR_SD * here.by_t2_star
        group = torch.tensor(self.scanner.group, device=local.device)
        eye = torch.eye(len(local)).to(local)
        common = self.errors.model**2 * ((group[:, None] == group).float() - eye)
        return eye[..., None] * here.variance + common[..., None] + local[:, None] * local

    def precision(self, here: Place, of_scanner: Tensor) -> Tensor:
        """Inverse covariance of the residuals of each voxel, its maps known but not the scanner ``(S, S, N)``.

        What the prior and all other scans predict for a scan leaves the residual ``e = (C^-1 r)_s / (C^-1)_ss`` of
        variance ``1 / (C^-1)_ss``. A scan that contradicts them has its variance multiplied until it fits a Student t
        distribution. A scan after an inversion, whose magnitude does not tell on which side of its null a voxel is,
        hardly counts unless the probability of the other side is well below the tenth that a 90 % interval leaves out.
        The step to the other side is linear, and so may lead to where no signal is: :attr:`Place.beyond` says how far.
        """
        scans, size, count = here.by_scanner.shape
        moved = (of_scanner @ here.by_scanner.transpose(0, 1).reshape(size, -1)).view(size, scans, count)
        covariance = self.covariance(here) + multiply(here.by_scanner, moved)
        eye = torch.eye(scans).to(covariance)[..., None]
        weight = invert(covariance + eye * self.extra + multiply(here.by_voxel, transpose(here.by_voxel)))
        alone = weight.diagonal().T.clamp_min(1e-12)
        residual = apply(weight, here.residual + apply(here.by_voxel, here.u)) / alone
        variance = (1 / alone - self.extra).clamp_min(1e-12)
        this = residual.square() / variance
        other = ((residual - here.flip).square() + here.beyond.square()) / variance
        contradiction = ((torch.minimum(this, other) - 1) / (self.errors.freedom + 1)).clamp(min=0)
        sign = (10 * torch.sigmoid((this - other) / 2)).clamp(max=1)
        self.extra = here.variance * contradiction + EITHER_SIDE * here.flip.square() * sign
        return invert(covariance + eye * self.extra)

    def propose(self, here: Place, precision: Tensor, trust: Tensor) -> Tensor:
        """The next ``u``: a Gauss-Newton step within the trusted part, the longest step and the physical limits."""
        weighted = multiply(transpose(here.by_voxel), precision)
        inverse = invert(self.information(here, precision))
        goal = apply(inverse, apply(weighted, here.residual + apply(here.by_voxel, here.u)))
        now, step = self.log_maps(here.u), apply(self.voxels.factor, goal - here.u)
        step = trust * step * (LONGEST_STEP / step.abs().amax(0).clamp_min(LONGEST_STEP))
        return apply(self.whiten, self.limited(now + step) - self.voxels.prior)

    def limited(self, log_maps: Tensor) -> Tensor:
        """Log maps within the physical limits, or those of the prior where these are wider; T2 at most T1."""
        low, high = (self.voxels.prior.new_tensor(limit).log()[:, None] for limit in (LOWEST, HIGHEST))
        prior = self.voxels.prior
        pd, t1, t2 = log_maps.maximum(torch.minimum(low, prior)).minimum(torch.maximum(high, prior))
        return torch.stack([pd, t1, torch.minimum(t2, t1)])

    def information(self, here: Place, precision: Tensor) -> Tensor:
        """Inverse covariance of u after the scans, ``1 + Z^T R^-1 Z (3, 3, N)``: never less than before them."""
        eye = torch.eye(3).to(precision)[..., None]
        return eye + multiply(multiply(transpose(here.by_voxel), precision), here.by_voxel)

    def posterior(self, here: Place, belief: Belief) -> Tensor:
        """Cholesky factor of the covariance of the log maps after the scans ``(3, 3, N)``."""
        information = self.information(here, self.precision(here, belief.covariance))
        return multiply(self.voxels.factor, cholesky_of_inverse(information))


def cost(here: Place, precision: Tensor) -> Tensor:
    """What the most probable maps make smallest: squares of weighted residuals and of deviations from the prior."""
    return (here.residual * apply(precision, here.residual)).sum(0) + here.u.square().sum(0)

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

"""Scans and the network's estimate to the posterior of PD, T1 and T2, with what all voxels share."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...acquisition import values
from ...tissue import SAME_FIELD, Estimate
from .fractions import CLASSES
from .head import TRIANGLE, Errors, Head, every_voxel
from .mixture import COMPONENTS, Common, Mixture
from .neighbours import fuse
from .noise import noise_level
from .scanner import Scanner, usable_scans
from .unknowns import solve

__all__ = ["CLASSES", "Fit", "Posterior"]

START_VOXELS = 4000
"""From how many voxels of a scan its gain is taken to start with."""
STARTS = (0.0, -0.25, 0.25)
"""Added to the ln T1 of the network, of which gains to start from are made."""


class Fit(NamedTuple):
    """The posterior of one head, and how the scans fit it.

    Attributes:
        estimate: the maps, moments of the posterior.
        gains: unit of each scan over that of the signal equations ``(M,)``; 0 of a scan that was not used.
        gain_sd: standard deviation of their logarithms ``(M,)``.
        fractions: shares of :data:`CLASSES` in each voxel ``(5, ...)``.
        bimodal: number of voxels that two tissues far from each other explain about as well.
        factors: T1 and T2 of white matter over those of ``components.json`` at 3 T, and the standard deviations of
            their logarithms, common to the whole head ``(2, 2)``.
        evidence: log evidence of the head, of as many independent voxels as it is worth; nan where no scan was used.
        weights: component of the prior -> its share of the head.
    """

    estimate: Estimate
    gains: Tensor
    gain_sd: Tensor
    fractions: Tensor
    bimodal: int
    factors: Tensor
    evidence: float
    weights: dict[str, float]


class Posterior:
    r"""Posterior of the maps of every voxel, given the scans, the tissues of a head and the network's estimate.

    The prior of a voxel is the mixture of :mod:`.mixture`. The signal equations predict its scans. Both have unknowns
    that all voxels share: a gain per scan or group of scans, inversion efficiency, B1+, assumed parameters, and the
    shifts of T1 and T2 of the whole head. :func:`.unknowns.solve` finds them on a part of the voxels. The posterior of
    a voxel is a sum over nodes of (ln T1, ln T2), in which ln PD is integrated in closed form. The magnitude of an
    inversion recovery has two explanations; both are nodes, so both are weighed. The estimate is the mean of the
    posterior, averaged with the neighbours that noise explains, see :func:`.neighbours.fuse`. Its covariance is
    that of the voxel alone, which does not count on the neighbours, with :math:`S \Sigma_\varphi S^T` for what remains
    uncertain about the unknowns :math:`\varphi`, :math:`S` the posterior covariance of maps and scores.

    Args:
        network: weight of the network's component before the scans are seen; 0 leaves the network out.
        inflate: factor of the network's standard deviations.
        tissues: components of the prior besides the network, of :data:`.mixture.COMPONENTS`.
        network_sd: standard deviations of ln PD, ln T1, ln T2 that are added to these.
        common: what is uncertain about the means of all components.
        errors: of images about the equation.
        regions: how many independent voxels a head is worth. With more, what all voxels share is stated to be surer.
        voxels: number of voxels, evenly spread, from which this is solved.
        steps: of scoring, at most.
        inversion_efficiency: its mean and standard deviation; all scans share it.
        b1_sd: standard deviation of B1+ relative to nominal.
        smoothing: average neighbours that noise explains; else every voxel is estimated by itself.
    """

    def __init__(
        self,
        network: float = 0.3,
        inflate: float = 1.5,
        network_sd: Sequence[float] = (0.02, 0.04, 0.05),
        tissues: Sequence[str] = tuple(COMPONENTS),
        common: Common = Common(),
        errors: Errors = Errors(),
        regions: float = 8.0,
        voxels: int = 800,
        steps: int = 14,
        inversion_efficiency: Sequence[float] = (0.94, 0.06),
        b1_sd: float = 0.07,
        smoothing: bool = True,
    ) -> None:
        self.network, self.inflate, self.network_sd = network, inflate, tuple(network_sd)
        self.tissues, self.common, self.errors = tuple(tissues), common, errors
        self.regions, self.voxels, self.steps = regions, voxels, steps
        self.inversion_efficiency, self.b1_sd = tuple(inversion_efficiency), b1_sd
        self.smoothing = smoothing

    @torch.no_grad()
    def __call__(
        self, estimate: Estimate, image: Tensor, rows: Tensor, mask: Tensor, gains: Sequence[int] | None = None
    ) -> Fit:
        """The posterior of one head, on the CPU; voxels outside the mask stay as they are.

        Args:
            estimate: of the network ``(1, 3, ...)``. Its gains are where the search begins, also without a network in
                the mixture.
            image: magnitudes in any unit ``(M, ...)``; 0 where there is nothing.
            rows: acquisitions ``(M, A)``; scans without a magnitude or with unknown parameters are left out.
            mask: head or brain ``(...)``.
            gains: which gain each scan has ``(M,)``, equal numbers share one, as echoes of one series do. None gives
                each its own.
        """
        device = image.device
        whole = Estimate(*(part[0].float().cpu().clone() for part in estimate))
        result = Fit(
            whole, *torch.zeros(2, len(image)), torch.zeros(len(CLASSES), *mask.shape), 0,
            torch.full((2, 2), torch.nan), float("nan"), {},
        )  # fmt: skip
        problem = self._problem(whole, image.float().cpu(), rows, mask.cpu(), gains)
        if problem is not None:
            result = self._fit(result, problem)
        log_maps, cholesky = (part[None].to(device) for part in result.estimate)
        return result._replace(estimate=Estimate(log_maps, cholesky))

    @torch.no_grad()
    def explain(
        self, estimate: Estimate, image: Tensor, rows: Tensor, mask: Tensor, gains: Sequence[int] | None = None
    ) -> tuple[float, Tensor]:
        """How well scans are explained if these are their acquisitions; arguments as above.

        Returns:
            Log evidence of the head; median of ``|ln image - ln prediction|`` of each scan ``(M,)``, nan of one that is
            not used. A minority of voxels, such as suppressed fat, does not count.
        """
        misfit = torch.full((len(image),), torch.nan)
        whole = Estimate(*(part[0].float().cpu() for part in estimate))
        problem = self._problem(whole, image.float().cpu(), rows, mask.cpu(), gains, most=self.voxels)
        if problem is None:
            return float("-inf"), misfit
        head = problem.head
        # Asked for many protocols: one start each.
        solution = solve(head, problem.starts[:1], self.regions, self.voxels, self.steps, covariance=False)
        seen, found = head.y > 0, head.run(solution.unknown, np.arange(len(head.y)))[0].misfit
        for number, is_seen, deviation in zip(problem.used, seen.T, found.T):
            misfit[number] = float(np.median(abs(deviation[is_seen]))) if is_seen.any() else torch.nan
        return solution.evidence, misfit

    def _problem(
        self,
        estimate: Estimate,
        image: Tensor,
        rows: Tensor,
        mask: Tensor,
        gains: Sequence[int] | None,
        most: int | None = None,
    ) -> "_Problem | None":
        """None where no scan can be used; of at most so many voxels, evenly spread."""
        log_maps, cholesky = estimate
        groups = range(len(image)) if gains is None else gains
        inside = (mask > 0) & log_maps.isfinite().all(0) & cholesky.isfinite().all(0) & image.isfinite().all(0)
        scans = [scan for scan in usable_scans(rows) if bool((image[scan.number][inside] > 0).any())]
        if not scans:
            return None
        used = [scan.number for scan in scans]
        inside &= (image[used] > 0).any(0)
        scanner = Scanner(scans, [groups[number] for number in used], self.inversion_efficiency, self.b1_sd)
        y = image[used][:, inside]
        # In units of a typical voxel of the group, none is too large or too small for float32.
        typical = torch.stack([one[one > 0].median() for one in y])
        unit = torch.stack(
            [max(x for x, other in zip(typical, scanner.group) if other == own) for own in scanner.group]
        )
        noise = torch.stack([noise_level(image[number], inside) for number in used]) / unit
        mixture = Mixture(self.common, self.network, stated_field_strength(rows), self.tissues)
        mean, roots, y = log_maps[:, inside].T.numpy(), cholesky[:, inside].T.numpy(), y / unit[:, None]
        starts = _starts(scanner, y.T.numpy(), mean)
        if most is not None:
            some = np.linspace(0, len(mean) - 1, min(len(mean), most)).round().astype(int)
            mean, roots, y = mean[some], roots[some], y[:, some]
        network = None
        if self.network:
            root = np.zeros((len(mean), 3, 3), np.float32)
            root[:, *TRIANGLE] = self.inflate * roots
            covariance = root @ root.transpose(0, 2, 1)
            covariance += np.diag(np.square(self.network_sd)).astype(np.float32)
            network = mean, covariance
        head = Head(y, scanner, noise, typical / unit, mixture, self.errors, network)
        return _Problem(head, inside, used, unit, starts)

    def _fit(self, result: Fit, problem: "_Problem") -> Fit:
        head, inside, used, unit, starts = problem
        scanner, mixture = head.scanner, head.mixture
        solution = solve(head, starts, self.regions, self.voxels, self.steps)
        voxels = every_voxel(head, solution.unknown, solution.covariance)
        for whole, part in zip((*result.estimate, result.fractions), voxels):
            whole[:, inside] = torch.from_numpy(part.T)
        bimodal = int(voxels.bimodal.sum())
        del voxels  # neighbours take memory of their own
        if self.smoothing:
            log_maps, shares = result.estimate.log_maps, result.fractions
            covariance = Estimate(*(part[None] for part in result.estimate)).covariance[0]
            fused = fuse(torch.cat([log_maps, shares]), log_maps, covariance, inside)
            log_maps[:], shares[:] = fused.split((len(log_maps), len(shares)))
        sd = np.sqrt(np.diag(solution.covariance))
        result.gains[used] = torch.from_numpy(np.exp(solution.unknown)[scanner.group]).float() * unit
        result.gain_sd[used] = torch.from_numpy(sd[scanner.group]).float()
        if "WM" in self.tissues:
            shift, shift_sd = (head.shift(x)[self.tissues.index("WM"), 1:] for x in (solution.unknown, sd))
            result.factors[:] = torch.from_numpy(np.stack([np.exp(shift), shift_sd], 1))
        return result._replace(
            bimodal=bimodal, evidence=solution.evidence, weights=dict(zip(mixture.names, head.weight.tolist()))
        )


class _Problem(NamedTuple):
    """One head as it is solved: voxels, numbers of the scans, unit of each, logarithms of the gains to start from."""

    head: Head
    inside: Tensor
    used: list[int]
    unit: Tensor
    starts: list[np.ndarray]


def stated_field_strength(rows: Tensor) -> float | None:
    """The field strength [T] that scans ``(M, A)`` state; None where none does, or they disagree."""
    stated = sorted(value for value in values(rows, "field_strength").tolist() if value > 0)
    return stated[0] if stated and stated[-1] <= (1 + SAME_FIELD) * stated[0] else None


def _starts(scanner: Scanner, y: np.ndarray, log_maps: np.ndarray) -> list[np.ndarray]:
    """Logarithms of the gains ``(G,)`` at which the maps ``(N, 3)`` explain the median voxel of ``y (N, S)``.

    One for each of :data:`STARTS`.
    """
    # Some scans have few voxels that are not zero.
    there = [np.flatnonzero(scan) for scan in y.T]
    some = np.unique(np.concatenate([index[:: max(1, len(index) // START_VOXELS)] for index in there]))
    y, maps, properties = y[some], torch.from_numpy(log_maps[some].T).float(), scanner.expected()

    def gains(shift: float) -> np.ndarray:
        t1_t2 = torch.stack([maps[1] + shift, maps[2]])
        signal = scanner.predict(t1_t2, properties).signal.abs().clamp_min(1e-6)
        ratio = np.log(np.maximum(y.T, 1e-12)) - (maps[0] + signal.log()).numpy()
        members = [[s for s, own in enumerate(scanner.group) if own == g] for g in range(scanner.gains)]
        return np.array([np.median(np.concatenate([ratio[s][y[:, s] > 0] for s in group])) for group in members])

    return [gains(shift) for shift in STARTS]

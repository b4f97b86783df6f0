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

"""The posterior of the voxels of one head, where what they share is given; :mod:`.unknowns` finds that."""

from math import log, pi
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...parallel import in_parallel
from .first_pass import BROAD, likely_blocks
from .fractions import CLASSES, bimodal, fractions
from .kernel import moments
from .lattice import SPACING, tables
from .mixture import Mixture
from .nodes import NOTHING, STRICT
from .scanner import T2_STAR_SD, Scanner

SYMMETRIC = [0, 1, 2, 1, 3, 4, 2, 4, 5]
"""Where the elements of a symmetric matrix, row by row, stand among 00, 01, 02, 11, 12, 22."""
TRIANGLE = np.tril_indices(3)
"""Rows and columns of the lower triangle of a Cholesky factor."""
SMALLEST_SD = 1e-3
"""No map is taken to be better than this, relative."""
TIMES = (3, 5)
"""The variances of ln T1 and ln T2 among them."""
CHUNK = 2048
"""Voxels at a time."""
TYPICAL_PD, PD_SD = -0.2, 0.12
"""Mean and standard deviation of ln PD where the likelihood is made linear in it."""
FLOOR = 0.4
"""Magnitudes below this share of the noise are taken for it: their logarithm would be."""
CELL, DIM, FINER = 1.0, 2.0, 0.25
"""Side of a cell of magnitudes, in standard deviations of their errors. It is finer by the last factor for voxels with
a magnitude below so many standard deviations of the noise: their likelihood depends on where it is made linear."""


class Errors(NamedTuple):
    """Errors of images about the signal equation.

    Attributes:
        model: relative, common to the scans of a gain.
        own: relative, of each scan by itself.
        additive: of each scan by itself, over its typical magnitude.
    """

    model: float = 0.04
    own: float = 0.015
    additive: float = 0.015


class Sums(NamedTuple):
    """Moments of N voxels.

    Attributes:
        mean: of ln PD, ln T1, ln T2 ``(N, 3)``.
        covariance: 00, 01, 02, 11, 12, 22 ``(N, 6)``.
        evidence: log evidence ``(N,)``.
        component: responsibility and first and second moments of each component ``(N, K, 10)``.
        scanner: mean score by the unknowns of the scanner, and its covariance with the maps ``(N, 4, P)``.
        misfit: mean of ln image - ln prediction ``(N, S)``.
        fluid: share of fluid in voxels with several tissues ``(N,)``.
    """

    mean: np.ndarray
    covariance: np.ndarray
    evidence: np.ndarray
    component: np.ndarray
    scanner: np.ndarray
    misfit: np.ndarray
    fluid: np.ndarray


class Head:
    """Scans of one head and the unknowns that its voxels share: those of the scanner, and the shifts of the prior.

    Args:
        image: magnitudes in units of their gain ``(S, N)``; 0 where there is nothing.
        scanner: of the scans.
        noise: standard deviation of the noise in each ``(S,)``.
        typical: median magnitude of each ``(S,)``.
        mixture: the prior.
        errors: of the images about the equation.
        network: mean ``(N, 3)`` and covariance ``(N, 3, 3)`` of the network's component; None without.
    """

    def __init__(
        self,
        image: Tensor,
        scanner: Scanner,
        noise: Tensor,
        typical: Tensor,
        mixture: Mixture,
        errors: Errors,
        network: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        self.scanner, self.mixture, self.errors, self.network = scanner, mixture, errors, network
        self.y = np.ascontiguousarray(image.T.numpy(), np.float32)
        sigma = noise.double().numpy()
        self.log_y = self._log(self.y, sigma)
        self.noise = (sigma**2).astype(np.float32)
        self.absolute = np.hypot(sigma, errors.additive * typical.double().numpy())
        squares = [
            errors.additive**2,
            errors.model**2,
            errors.own**2,
            T2_STAR_SD**2,
            BROAD**2,
            TYPICAL_PD,
            PD_SD**-2,
            0,
        ]
        self.error = np.append(squares, typical.double().numpy() ** 2).astype(np.float32)
        self.group, self.pairs = np.array(scanner.group), np.array(scanner.pairs)
        self.size = scanner.size + len(mixture.shift)
        self.mean = np.append(np.zeros(scanner.size), mixture.shift)
        covariance = np.eye(self.size)
        covariance[scanner.size :, scanner.size :] = mixture.shift_covariance
        # A gain is known to nothing better than a factor of e^10.
        covariance[: scanner.gains, : scanner.gains] *= 100.0
        self.prior, self.precision = covariance, np.linalg.inv(covariance)
        self.weight = mixture.weight

    def shift(self, unknown: np.ndarray) -> np.ndarray:
        """Shifts ``(C, 3)`` of the Gaussians, the network's last."""
        return unknown[self.scanner.size :].reshape(-1, 3)

    def cells(self) -> np.ndarray:
        r"""Logarithms of the magnitudes, rounded ``(N, S)``: steps of :data:`CELL` of :math:`\int dy / \sigma(y)`.

        .. math:: \sigma(y)^2 = \epsilon^2 y^2 + \sigma_0^2, \quad
            \int_0^y \frac{dy}{\sigma(y)} = \frac{1}{\epsilon} \operatorname{asinh} \frac{\epsilon y}{\sigma_0}
        """
        sigma, relative = np.sqrt(self.noise), max(float(np.hypot(self.errors.model, self.errors.own)), 1e-3)
        dim = ((self.y > 0) & (self.y < DIM * sigma)).any(1, keepdims=True)
        side = relative * CELL * np.where(dim, FINER, 1.0)
        level = np.rint(np.arcsinh(self.y * (relative / self.absolute)) / side)
        return self._log(np.sinh(level * side) * (self.absolute / relative), sigma)

    def _log(self, y: np.ndarray, sigma: np.ndarray) -> np.ndarray:
        """Logarithms of magnitudes, of which those far below the noise have none."""
        return np.log(np.maximum(y, FLOOR * sigma)).astype(np.float32)

    def sums(
        self,
        unknown: np.ndarray,
        voxels: np.ndarray | slice,
        look_up: tuple,
        cells: np.ndarray | None = None,
        strict: bool = False,
    ) -> Sums:
        """Moments of some voxels.

        Args:
            unknown: the unknowns.
            voxels: which.
            look_up: the tables of these unknowns.
            cells: magnitudes about which the likelihood is made linear, see :meth:`cells`; None for their own.
            strict: whether a bright magnitude needs a signal, see :func:`.reference.likelihood`. Unknowns are found
                without: voxels that no equation describes, as suppressed fat, would drag them.
        """
        log_y, gaussian = self.log_y[voxels], np.zeros((0, 10), np.float32)
        middle = np.where(self.y[voxels] > 0, log_y if cells is None else cells[voxels], NOTHING)
        if self.network is not None:
            gaussian = _conditional(*(part[voxels].astype(float) for part in self.network))
            gaussian[:, :3] += self.shift(unknown)[-1]
            gaussian[:, 9] += log(max(self.weight[-1], 1e-12))
        count, scans = log_y.shape
        out = Sums(
            *(np.empty((count, *shape), np.float32)
              for shape in ((3,), (6,), (), (len(self.mixture.names), 10), (4, self.scanner.size), (scans,), ()))
        )  # fmt: skip
        signal, star, slopes, log_t, fluid, log_cell, log_prior, log_pd, members, first = look_up
        precision = (1 / self.mixture.pd_variance).astype(np.float32)
        order, likely = np.lexsort(middle.T), np.empty((count, first[-1]), np.uint8)
        error = self.error.copy()
        error[STRICT] = strict
        images = self.group, self.scanner.gains, self.noise, error
        likely_blocks(middle, order, *images, first, precision, gaussian, likely)
        moments(
            log_y, middle, order, *images, signal, star, slopes, self.pairs, log_t, fluid, log_cell, log_prior, log_pd,
            members, precision, gaussian, likely, self.scanner.size, out.mean, out.covariance, out.evidence,
            out.component, out.scanner, out.misfit, out.fluid,
        )  # fmt: skip
        return out

    def scores(self, unknown: np.ndarray, voxels: np.ndarray | slice, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
        """Mean score by all unknowns ``(N, U)``, and its covariance with ln PD, ln T1, ln T2 ``(N, 3, U)``."""
        score, link, shift = [sums.scanner[:, 0]], [sums.scanner[:, 1:]], self.shift(unknown)
        means, precisions = self.mixture.mean + shift[: self.mixture.gaussians], self.mixture.precision
        # Both are linear in the moments of a component: what each moment adds is what it gives alone.
        alone = np.array([np.hstack(_scores(np.eye(10), *gaussian)) for gaussian in zip(means, precisions)], np.float32)
        found = [np.split(sums.component[:, k] @ linear, [3], 1) for k, linear in enumerate(alone)]
        if self.network is not None:
            mean, covariance = (part[voxels].astype(float) for part in self.network)
            precision = np.linalg.inv(covariance).astype(np.float32)
            found.append(_scores(sums.component[:, -1], (mean + shift[-1]).astype(np.float32), precision))
        for own, joint in found:
            score.append(own)
            link.append(joint.reshape(-1, 3, 3) - sums.mean[:, :, None] * own[:, None])
        return np.concatenate(score, 1), np.concatenate(link, 2)

    def look_up(self, unknown: np.ndarray) -> tuple:
        """The tables of a state of the unknowns."""
        return tables(self.scanner, self.mixture, unknown[: self.scanner.size], self.shift(unknown), self.weight)

    def run(self, unknown: np.ndarray, voxels: np.ndarray) -> tuple[Sums, np.ndarray]:
        """Moments and mean scores of some voxels."""
        look_up = self.look_up(unknown)

        def part(piece: np.ndarray) -> tuple[Sums, np.ndarray]:
            sums = self.sums(unknown, piece, look_up)
            return sums, self.scores(unknown, piece, sums)[0]

        pieces = np.array_split(voxels, 2) if len(voxels) > 1 else [voxels]
        sums, scores = zip(*in_parallel(part, pieces, torch.device("cpu")))
        return Sums(*(np.concatenate(parts) for parts in zip(*sums))), np.concatenate(scores).astype(np.float64)


def _scores(moments: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean score by the mean of a Gaussian ``(N, 3)``, and its product with ln PD, ln T1, ln T2 ``(N, 9)``."""
    r, x, xx = np.split(moments, [1, 4], 1)
    square = xx[:, SYMMETRIC].reshape(-1, 3, 3)
    joint = (square - x[:, :, None] * np.atleast_2d(mean)[:, None]) @ precision
    return ((x - r * mean)[:, None] @ precision)[:, 0], joint.reshape(-1, 9)


def _conditional(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """A Gaussian of each voxel as the kernel wants it ``(N, 10)``: mean, slopes of ln PD on ln T1 and ln T2, inverse
    variance of ln PD given these, precision of these, and the constant of its density."""
    times = np.linalg.inv(covariance[:, 1:, 1:])
    slope = np.einsum("nj,njk->nk", covariance[:, 0, 1:], times)
    tau2 = covariance[:, 0, 0] - (slope * covariance[:, 0, 1:]).sum(1)
    constant = 0.5 * np.log(times[:, 0, 0] * times[:, 1, 1] - times[:, 0, 1] ** 2) - log(2 * pi)
    rest = 1 / tau2, times[:, 0, 0], times[:, 0, 1], times[:, 1, 1], constant
    return np.concatenate([mean, slope, np.stack(rest, 1)], 1).astype(np.float32)


class Voxels(NamedTuple):
    """The posterior of all N voxels.

    Attributes:
        mean: of ln PD, ln T1, ln T2 ``(N, 3)``.
        cholesky: lower triangle 00, 10, 11, 20, 21, 22 of the Cholesky factor of the covariance of these, what is
            uncertain about the unknowns of the head included ``(N, 6)``.
        fractions: of :data:`.fractions.CLASSES` ``(N, 5)``.
        bimodal: whether two tissues far from each other explain the voxel about as well ``(N,)``.
    """

    mean: np.ndarray
    cholesky: np.ndarray
    fractions: np.ndarray
    bimodal: np.ndarray


def every_voxel(head: Head, unknown: np.ndarray, unknown_covariance: np.ndarray) -> Voxels:
    """Sums every voxel, in pieces, one thread each, at unknowns of the head ``(U,)`` that have this covariance."""
    value, vector = np.linalg.eigh(unknown_covariance)
    keep = value > 1e-9
    root = (vector[:, keep] * np.sqrt(value[keep])).astype(np.float32)
    look_up = head.look_up(unknown)
    means = head.mixture.mean + head.shift(unknown)[: head.mixture.gaussians]
    count = len(head.y)
    whole = Voxels(*(np.empty((count, n), np.float32) for n in (3, 6, len(CLASSES))), np.empty(count, bool))

    cells = head.cells()
    order = np.lexsort(cells.T)

    def part(start: int) -> None:
        piece = order[start : start + CHUNK]
        sums = head.sums(unknown, piece, look_up, cells, strict=True)
        link = head.scores(unknown, piece, sums)[1]
        spread = (link.reshape(-1, link.shape[2]) @ root).reshape(len(piece), 3, -1)
        # Where the posterior is narrower than the lattice, one node has all of it.
        sums.covariance[:, TIMES] = np.maximum(sums.covariance[:, TIMES], np.square(SPACING) / 12)
        covariance = sums.covariance[:, SYMMETRIC].reshape(-1, 3, 3) + spread @ spread.transpose(0, 2, 1)
        covariance = covariance + SMALLEST_SD**2 * np.eye(3)
        whole.mean[piece] = sums.mean
        whole.cholesky[piece] = np.linalg.cholesky(covariance)[:, *TRIANGLE]
        whole.fractions[piece] = fractions(head.mixture, means, head.weight, sums.component[:, :, :4], sums.fluid)
        whole.bimodal[piece] = bimodal(head.mixture, sums.component[:, :, :4])

    starts = range(0, count, CHUNK)
    parts = in_parallel(part, starts, torch.device("cpu"))
    for _ in tqdm(parts, "data consistency", len(starts), unit=" chunks", disable=len(starts) < 16):
        pass
    return whole

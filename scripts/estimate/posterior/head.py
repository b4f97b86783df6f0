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
from .fractions import CLASSES, bimodal, fractions
from .kernel import BROAD, moments
from .lattice import SPACING, tables
from .mixture import Mixture
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
        self.scanner, self.mixture, self.network = scanner, mixture, network
        self.y = np.ascontiguousarray(image.T.numpy(), np.float32)
        sigma = noise.double().numpy()
        self.log_y = np.log(np.maximum(self.y, FLOOR * sigma)).astype(np.float32)
        self.noise = (sigma**2).astype(np.float32)
        squares = [errors.additive**2, errors.model**2, errors.own**2, T2_STAR_SD**2, BROAD**2, TYPICAL_PD, PD_SD**-2]
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

    def sums(self, unknown: np.ndarray, voxels: np.ndarray | slice, look_up: tuple) -> Sums:
        """Moments of some voxels; ``look_up`` are the tables of these unknowns."""
        y, log_y, gaussian = self.y[voxels], self.log_y[voxels], np.zeros((0, 10), np.float32)
        if self.network is not None:
            gaussian = _conditional(*(part[voxels].astype(float) for part in self.network))
            gaussian[:, :3] += self.shift(unknown)[-1]
            gaussian[:, 9] += log(max(self.weight[-1], 1e-12))
        count, scans = y.shape
        out = Sums(
            *(np.empty((count, *shape), np.float32)
              for shape in ((3,), (6,), (), (len(self.mixture.names), 10), (4, self.scanner.size), (scans,), ()))
        )  # fmt: skip
        signal, star, slopes, log_t, fluid, log_cell, log_prior, log_pd, members, first = look_up
        precision = (1 / self.mixture.pd_variance).astype(np.float32)
        moments(
            y, log_y, self.group, self.scanner.gains, self.noise, self.error, signal, star, slopes, self.pairs, log_t,
            fluid, log_cell, log_prior, log_pd, members, precision, first, gaussian, self.scanner.size,
            out.mean, out.covariance, out.evidence, out.component, out.scanner, out.misfit,
            out.fluid,
        )  # fmt: skip
        return out

    def scores(self, unknown: np.ndarray, voxels: np.ndarray | slice, sums: Sums) -> tuple[np.ndarray, np.ndarray]:
        """Mean score by all unknowns ``(N, U)``, and its covariance with ln PD, ln T1, ln T2 ``(N, 3, U)``."""
        score = [sums.scanner[:, 0]]
        link = [sums.scanner[:, 1:]]
        shift, plain = self.shift(unknown), self.mixture.gaussians
        shown = [*range(plain), *([len(self.mixture.names) - 1] if self.network is not None else [])]
        for number, k in enumerate(shown):
            r, x, xx = np.split(sums.component[:, k], [1, 4], 1)
            square = xx[:, SYMMETRIC].reshape(-1, 3, 3)
            if number < plain:
                mean, precision = (self.mixture.mean[k] + shift[k]).astype(np.float32), self.mixture.precision[k]
                own = (x - r * mean) @ precision.astype(np.float32)
                joint = (square - x[:, :, None] * mean) @ precision.astype(np.float32)
            else:
                mean = (self.network[0][voxels] + shift[-1]).astype(np.float32)
                precision = np.linalg.inv(self.network[1][voxels].astype(float)).astype(np.float32)
                own = ((x - r * mean)[:, None] @ precision)[:, 0]
                joint = (square - x[:, :, None] * mean[:, None]) @ precision
            score.append(own)
            link.append(joint - sums.mean[:, :, None] * own[:, None])
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

    def part(start: int) -> None:
        piece = slice(start, start + CHUNK)
        sums = head.sums(unknown, piece, look_up)
        spread = head.scores(unknown, piece, sums)[1] @ root
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

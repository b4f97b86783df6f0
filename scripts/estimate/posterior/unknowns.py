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

"""What all voxels of a head share: found on some of them, with its covariance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ...parallel import in_parallel
from .head import Head

WEIGHTS_AFTER, PSEUDO = (2, 4, 6, 8), 30.0
"""Steps after which the weights of the components are fitted; voxels that their prior is worth."""
SLOWEST = 0.02
"""Gain in log evidence below which scoring has converged."""
GAIN_SD = 0.5
"""No logarithm of a gain is less sure than this, since PD, T1 and T2 are known to better. A Hessian says more where
scoring ended before its maximum."""
SCANNER_SHARE = 1 / 2
"""How many voxels a head is worth for the properties of the scanner, over how many for the rest: what the equations
leave out, such as bias fields and the course of B1+, is alike in many voxels and looks like these properties."""


class Solution(NamedTuple):
    """The unknowns of a head.

    Attributes:
        unknown: their most probable values ``(U,)``.
        covariance: of these.
        evidence: log evidence of the head, of as many independent voxels as it is worth.
    """

    unknown: np.ndarray
    covariance: np.ndarray
    evidence: float


class _Peak(NamedTuple):
    """Where scoring ended: the unknowns, the weights of the components, log evidence, information of the scores."""

    unknown: np.ndarray
    weight: np.ndarray
    evidence: float
    outer: np.ndarray


def solve(
    head: Head, starts: Sequence[np.ndarray], regions: float, voxels: int, steps: int, covariance: bool = True
) -> Solution:
    """Penalised scoring on some voxels, from each start; the largest evidence wins. Sets the weights of the components.

    The information is that of outer products of scores. The covariance is the sandwich ``H^-1 (J + P) H^-1`` with the
    Hessian H by differences, nowhere above the prior's: the outer products alone call a wrong model informative.

    Args:
        head: the head.
        starts: logarithms of the gains to start from ``(G,)``. The magnitude of an inversion recovery has several
            explanations for a whole head, and scoring from one does not reach the others.
        regions: how many independent voxels a head is worth.
        voxels: how many are used, evenly spread.
        steps: at most.
        covariance: whether it is wanted; else it is the prior's.
    """
    index = np.linspace(0, len(head.y) - 1, min(len(head.y), voxels)).round().astype(int)
    scale = min(1.0, regions / len(index))
    best = max((_climb(head, gains, scale, index, steps) for gains in starts), key=lambda peak: peak.evidence)
    head.weight = best.weight
    if not covariance:
        return Solution(best.unknown, head.prior, best.evidence)
    some = index[::2]
    return Solution(best.unknown, _sandwich(head, best, scale * len(index) / len(some), some), best.evidence)


def _climb(head: Head, gains: np.ndarray, scale: float, index: np.ndarray, steps: int) -> _Peak:
    free, start = head.scanner.gains, head.scanner.size
    unknown = head.mean.copy()
    unknown[:free] = gains
    head.weight = head.mixture.weight

    def deviation(at: np.ndarray) -> np.ndarray:
        d = at - head.mean
        d[:free] = 0  # of gains nothing is known beforehand
        return d

    def posterior(at: np.ndarray, evidence: np.ndarray) -> float:
        d = deviation(at)
        return float(scale * evidence.sum(dtype=float) - 0.5 * d @ head.precision @ d)

    sums, scores = head.run(unknown, index)
    now, trust = posterior(unknown, sums.evidence), 1.0
    for step in range(steps):
        size = np.linalg.norm(scores, axis=1)
        clipped = scores * np.minimum(np.quantile(size, 0.98) / np.maximum(size, 1e-12), 1.0)[:, None]
        outer = scale * clipped.T @ clipped
        move = np.linalg.solve(outer + head.precision, scale * clipped.sum(0) - head.precision @ deviation(unknown))
        move *= trust * min(1.0, *(limit / max(np.abs(part).max(), 1e-9)
                                   for limit, part in ((0.3, move[:free]), (0.2, move[start:]))))  # fmt: skip
        at = unknown + move
        at[:start] = head.scanner.bounded(torch.from_numpy(at[:start])).numpy()
        moved, moved_scores = head.run(at, index)
        then = posterior(at, moved.evidence)
        if then < now - 1e-3:
            trust /= 3
            continue
        gained, trust = then - now, min(1.5, 1.6 * trust)
        unknown, sums, scores, now = at, moved, moved_scores, then
        if step in WEIGHTS_AFTER:
            mass = sums.component[:, :, 0].sum(0, dtype=float) * scale
            head.weight = (mass + PSEUDO * head.mixture.weight) / (mass.sum() + PSEUDO)
            sums, scores = head.run(unknown, index)
            now = posterior(unknown, sums.evidence)
        elif gained < SLOWEST and step > max(WEIGHTS_AFTER) / 2:
            break
    return _Peak(unknown, head.weight, now, outer)


def _sandwich(head: Head, peak: _Peak, scale: float, index: np.ndarray) -> np.ndarray:
    unknown, outer = peak.unknown, peak.outer
    base = head.run(unknown, index)[1].sum(0)

    def row(j: int) -> np.ndarray:
        step = 0.15 if head.scanner.gains <= j < head.scanner.size else 0.02
        at = unknown.copy()
        at[j] += step
        look_up = head.look_up(at)
        sums = head.sums(at, index, look_up)
        return -scale * (head.scores(at, index, sums)[0].sum(0) - base) / step

    hessian = np.array([*in_parallel(row, range(head.size), torch.device("cpu"))])
    prior, free = head.prior.copy(), head.scanner.gains
    prior[:free, :free] = GAIN_SD**2 * np.eye(free)
    trust = np.ones(head.size)
    trust[free : head.scanner.size] = SCANNER_SHARE**0.5
    hessian, outer = (trust[:, None] * trust * matrix for matrix in (hessian, outer))
    value, vector = np.linalg.eigh(prior)
    root = vector * np.sqrt(np.maximum(value, 1e-12))
    d, v = np.linalg.eigh(root.T @ (hessian + hessian.T) / 2 @ root)
    inverse = v @ np.diag(1 / (1 + np.maximum(d, 0))) @ v.T
    whole = inverse @ (root.T @ outer @ root + np.eye(head.size)) @ inverse
    d, v = np.linalg.eigh((whole + whole.T) / 2)
    return root @ (v @ np.diag(np.clip(d, 0, 1)) @ v.T) @ root.T

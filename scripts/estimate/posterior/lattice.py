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

"""The nodes of (ln T1, ln T2) over which a posterior is summed, in blocks, and what the scans would be there."""

from functools import cache
from math import log
from typing import NamedTuple

import numpy as np
import torch

from .kernel import LANES
from .mixture import FLUID, Mixture
from .nodes import NOTHING
from .scanner import T2_STAR_SD, Scanner

SPACING = (0.06, 0.06)
"""Distance of nodes in ln T1 and ln T2."""
LOG_AREA = log(SPACING[0] * SPACING[1])
"""Logarithm of the area of a node's cell."""
SHARE = (np.arange(LANES) + 0.5) / LANES
"""Shares of fluid of the nodes of a block of voxels with fluid."""
UNLIKELY = 12.0
"""Components whose log prior in all of a block is further below the best there than this are left out of the block."""
RANGE_T1, RANGE_T2 = (0.1, 6.5), (0.008, 3.0)
"""Ends of the lattice [s]; T2 is at most T1."""
SIDE = 4
"""Nodes along the side of a block."""
DEEPEST = 3.0
"""Largest range of ln S in a block, in the first pass: that of a block with a null has no end."""
STEEPEST = 40.0
"""Largest relative derivative, near the null of an inversion."""


class Lattice(NamedTuple):
    """Nodes in blocks.

    Attributes:
        log_t: ln T1, ln T2 ``(B, 2, L)``; blocks at an edge repeat a node.
        there: whether it is a node of its own ``(B, L)``.
        centre: the node that stands for a block in the first pass ``(B,)``.
    """

    log_t: np.ndarray
    there: np.ndarray
    centre: np.ndarray


@cache
def lattice() -> Lattice:
    """The nodes with T2 <= T1."""
    axes = [np.arange(log(low), log(high), step) for (low, high), step in zip((RANGE_T1, RANGE_T2), SPACING)]
    log_t, there, centres = [], [], []
    for i in range(0, len(axes[0]), SIDE):
        for j in range(0, len(axes[1]), SIDE):
            nodes = np.array([(t1, t2) for t1 in axes[0][i : i + SIDE] for t2 in axes[1][j : j + SIDE] if t2 <= t1])
            if len(nodes):
                here = np.arange(LANES) < len(nodes)
                log_t.append(nodes[np.where(here, np.arange(LANES), 0)].T)
                there.append(here)
                centres.append(np.square(nodes - nodes.mean(0)).sum(1).argmin())
    return Lattice(np.array(log_t), np.array(there), np.array(centres))


class Tables(NamedTuple):
    """What :func:`.kernel.moments` looks up, for one state of the unknowns; see there."""

    signal: np.ndarray
    star: np.ndarray
    slopes: np.ndarray
    log_t: np.ndarray
    fluid: np.ndarray
    log_cell: np.ndarray
    log_prior: np.ndarray
    log_pd: np.ndarray
    members: np.ndarray
    first: tuple[np.ndarray | int, ...]


def tables(scanner: Scanner, mixture: Mixture, unknown: np.ndarray, shift: np.ndarray, weight: np.ndarray) -> Tables:
    """Signals and priors at the nodes: those of the lattice, then a block for each kind of voxel with fluid.

    Args:
        scanner: of the scans.
        mixture: components of the prior.
        unknown: of the scanner ``(P,)``.
        shift: of the means of the components ``(C or C + 1, 3)``.
        weight: of all components ``(K,)``.
    """
    nodes, mean = lattice(), mixture.mean + shift[: mixture.gaussians]
    plain, kinds = len(nodes.log_t), len(mixture.partial)
    mixing = [FLUID, *(entry["of"] for entry in mixture.partial.values())] if kinds else []
    ends = np.array([mean[mixture.names.index(name)] for name in mixing]).reshape(-1, 3)
    effective = np.array([_effective(*np.exp([ends[0], end])) for end in ends[1:]]).reshape(kinds, 3, LANES)
    image, star, slopes = _signals(scanner, unknown, ends)
    log_cell = np.full((plain + kinds, LANES), float(NOTHING))
    log_cell[:plain][nodes.there] = LOG_AREA
    log_prior, log_pd = _priors(mixture, mean, np.log(np.maximum(weight, 1e-12)), log_cell[:plain], effective[:, 0])
    first = _first_pass(image[:plain], star[:plain], log_prior[:plain], log_pd[:plain])
    log_t = np.concatenate([nodes.log_t, effective[:, 1:]])
    fluid = np.concatenate([np.zeros((plain, LANES)), np.tile(SHARE, (kinds, 1))])
    images = (part.swapaxes(0, 1).reshape(part.shape[1], -1) for part in (image, star, slopes, log_t))
    priors = (part.swapaxes(0, 1).reshape(part.shape[1], -1) for part in (log_prior, log_pd))
    single = (np.ascontiguousarray(part, np.float32) for part in (*images, fluid.ravel(), log_cell.ravel(), *priors))
    return Tables(*single, _members(log_prior), first)


def _signals(scanner: Scanner, unknown: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, ...]:
    """Magnitudes of PD 1, gain included, ``(B, S, L)``, their relative derivatives by ln T2* and by the unknowns."""
    nodes, pairs = lattice(), scanner.pairs[len(scanner.group) :]
    plain = len(nodes.log_t)
    count = plain * LANES
    at = np.concatenate([nodes.log_t.transpose(1, 0, 2).reshape(2, -1), np.minimum(ends[:, 1:], ends[:, 1:2]).T], 1)
    prediction = scanner.predict(torch.from_numpy(at).float(), torch.from_numpy(unknown).float())
    pd = np.exp(ends[:, 0])

    def blocks(part: np.ndarray) -> np.ndarray:
        """The signals of voxels with fluid add up."""
        mixed = [_with_fluid(part[:, count], tissue, pd[0], own) for tissue, own in zip(part[:, count + 1 :].T, pd[1:])]
        lattices = part[:, :count].reshape(len(part), plain, LANES).transpose(1, 0, 2)
        return np.concatenate([lattices, np.array(mixed).reshape(len(mixed), *lattices.shape[1:])])

    signal, star, by_property = (blocks(part.double().numpy()) for part in prediction)
    signal = np.where(signal == 0, 1e-9, signal)
    slopes = by_property / signal[:, [s for s, _ in pairs]] if pairs else by_property
    slopes = np.concatenate([np.ones_like(signal), np.clip(slopes, -STEEPEST, STEEPEST)], 1)
    gain = np.exp(unknown[scanner.group])[None, :, None]
    return gain * np.abs(signal), np.clip(star / signal, -5, 5), slopes


def _priors(
    mixture: Mixture, mean: np.ndarray, log_weight: np.ndarray, log_cell: np.ndarray, log_pd_with_fluid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log weight of each component at the nodes, and its mean ln PD there ``(B, K, L)``."""
    plain, kinds, gaussians = len(log_cell), len(log_pd_with_fluid), mixture.gaussians
    log_prior = np.full((plain + kinds, gaussians + kinds, LANES), float(NOTHING))
    log_pd = np.zeros_like(log_prior)
    d = lattice().log_t[:, None] - mean[:, 1:, None]
    variance = mixture.covariance[:, [1, 2], [1, 2]][..., None]
    density = -0.5 * (d**2 / variance + np.log(2 * np.pi * variance)).sum(2)
    log_prior[:plain, :gaussians] = density + log_weight[:gaussians, None] + log_cell[:, None]
    log_pd[:plain, :gaussians] = mean[:, 0, None] + mixture.slope[:, None] * d[:, :, 0]
    for v, own in enumerate(log_pd_with_fluid):
        log_prior[plain + v, gaussians + v] = log_weight[gaussians + v] - log(LANES)
        log_pd[plain + v, gaussians + v] = own
    return log_prior, log_pd


def _members(log_prior: np.ndarray) -> np.ndarray:
    """Numbers of the components that matter somewhere in a block ``(B, K)``, then -1."""
    best = log_prior.max(1, keepdims=True)
    matters = ((log_prior > best - UNLIKELY) & (log_prior > NOTHING / 2)).any(2)
    order = np.argsort(~matters, axis=1, kind="stable")
    return np.where(np.take_along_axis(matters, order, 1), order, -1)


def _first_pass(
    image: np.ndarray, star: np.ndarray, log_prior: np.ndarray, log_pd: np.ndarray
) -> tuple[np.ndarray | int, ...]:
    """One node for each of the B blocks of the lattice, which are the lanes of new blocks.

    It has the middle of the block's range of ln S, and half the range as one more error beside that by T2*.
    """
    nodes, plain = lattice(), len(image)

    def centre(part: np.ndarray) -> np.ndarray:
        return part[np.arange(plain), :, nodes.centre]

    high = np.log(image.max(2))
    low = np.maximum(np.log(image.min(2)), high - DEEPEST)
    broad = np.hypot(centre(star), (high - low) / (2 * T2_STAR_SD))
    prior = log_prior.max(2)
    table = np.exp((high + low) / 2), broad, centre(nodes.log_t), prior, centre(log_pd), np.full((plain, 1), LOG_AREA)
    # Loops over many nodes at once have no rest.
    *table, log_cell = (np.pad(part.T, [(0, 0), (0, -plain % (2 * LANES))], "edge") for part in table)
    table[3][:, plain:], log_cell[:, plain:] = NOTHING, NOTHING
    return *(np.ascontiguousarray(part, np.float32) for part in (*table, log_cell[0])), plain


def _with_fluid(fluid: np.ndarray, tissue: np.ndarray, fluid_pd: float, tissue_pd: float) -> np.ndarray:
    """Signals of PD 1 ``(S, L)`` of voxels with the shares :data:`SHARE` of fluid, from those of both ``(S,)``."""
    parts = SHARE * fluid_pd, (1 - SHARE) * tissue_pd
    return (parts[0] * fluid[:, None] + parts[1] * tissue[:, None]) / (parts[0] + parts[1])


def _effective(fluid: np.ndarray, tissue: np.ndarray) -> np.ndarray:
    """ln PD, ln T1, ln T2 ``(3, L)`` that stand for voxels with the shares :data:`SHARE` of fluid.

    Mean PD, mean rates weighted with PD. Source: :func:`scripts.simulate.slices.mix`, which defines their true maps.
    """
    parts = SHARE * fluid[0], (1 - SHARE) * tissue[0]
    pd = parts[0] + parts[1]
    t1, t2 = (pd / (parts[0] / fluid[q] + parts[1] / tissue[q]) for q in (1, 2))
    return np.log([pd, t1, np.minimum(t2, t1)])

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

from .kernel import LANES, NOTHING
from .mixture import FLUID, Mixture
from .scanner import T2_STAR_SD, Scanner

SPACING = (0.06, 0.06)
"""Distance of nodes in ln T1 and ln T2."""
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
    first: tuple[np.ndarray | int, ...]


def tables(scanner: Scanner, mixture: Mixture, unknown: np.ndarray, shift: np.ndarray, weight: np.ndarray) -> Tables:
    """Signals and priors at the nodes.

    Args:
        scanner: of the scans.
        mixture: components of the prior.
        unknown: of the scanner ``(P,)``.
        shift: of the means of the components ``(C or C + 1, 3)``.
        weight: of all components ``(K,)``.
    """
    nodes = lattice()
    plain, mean = len(nodes.log_t), mixture.mean + shift[: mixture.gaussians]
    log_area = log(SPACING[0] * SPACING[1])
    # Voxels with fluid: their signals add up.
    share = (np.arange(LANES) + 0.5) / LANES
    names, partial = mixture.names[: mixture.gaussians], mixture.partial
    mixing = [FLUID, *(entry["of"] for entry in partial.values())] if partial else []
    ends = np.array([mean[names.index(name)] for name in mixing]).reshape(-1, 3)
    at = np.concatenate([nodes.log_t.transpose(1, 0, 2).reshape(2, -1), np.minimum(ends[:, 1:], ends[:, 1:2]).T], 1)
    prediction = scanner.predict(torch.from_numpy(at).float(), torch.from_numpy(unknown).float())
    signal, star, by_property = (part.double().numpy() for part in prediction)
    signal = np.where(signal == 0, 1e-9, signal)
    pairs = scanner.pairs[len(scanner.group) :]
    count = plain * LANES
    mixed = [
        np.stack(
            [
                _with_fluid(part[:, count], part[:, count + 1 + v], share, *np.exp([ends[0, 0], ends[1 + v, 0]]))
                for v in range(len(partial))
            ]
            or [np.zeros((len(part), LANES))],
            1,
        )[:, : len(partial)]
        for part in (signal, star, by_property)
    ]
    whole = [
        np.concatenate([part[:, :count].reshape(len(part), plain, LANES), more], 1).transpose(1, 0, 2)
        for part, more in zip((signal, star, by_property), mixed)
    ]
    signal, star, by_property = whole
    star = np.clip(star / signal, -5, 5)
    slopes = by_property / signal[:, [s for s, _ in pairs]] if pairs else by_property
    slopes = np.concatenate([np.ones_like(signal), np.clip(slopes, -STEEPEST, STEEPEST)], 1)
    gain = np.exp(unknown[scanner.group])[None, :, None]
    effective = [_effective(np.exp(ends[0]), np.exp(end), share) for end in ends[1:]]
    log_t = np.concatenate([nodes.log_t, np.array([one[1:] for one in effective]).reshape(-1, 2, LANES)])
    fluid = np.concatenate([np.zeros((plain, LANES)), np.tile(share, (len(partial), 1))])
    log_cell = np.full((len(log_t), LANES), float(NOTHING))
    log_cell[:plain][nodes.there] = log_area
    components = mixture.gaussians + len(partial)
    log_prior = np.full((len(log_t), components, LANES), float(NOTHING))
    log_pd = np.zeros((len(log_t), components, LANES))
    log_weight = np.log(np.maximum(weight, 1e-12))
    d = nodes.log_t[:, None] - mean[:, 1:, None]
    variance = mixture.covariance[:, [1, 2], [1, 2]][..., None]
    gaussian = -0.5 * (d**2 / variance + np.log(2 * np.pi * variance)).sum(2) + log_weight[: mixture.gaussians, None]
    log_prior[:plain, : mixture.gaussians] = gaussian + log_cell[:plain, None]
    log_pd[:plain, : mixture.gaussians] = mean[:, 0, None] + mixture.slope[:, None] * d[:, :, 0]
    for v, one in enumerate(effective):
        log_prior[plain + v, mixture.gaussians + v] = log_weight[mixture.gaussians + v] - log(LANES)
        log_pd[plain + v, mixture.gaussians + v] = one[0]
    single, image = np.float32, gain * np.abs(signal)
    first = _first_pass(image[:plain], star[:plain], log_prior[:plain], log_pd[:plain], log_area)
    return Tables(
        np.ascontiguousarray(image, single), np.ascontiguousarray(star, single),
        np.ascontiguousarray(slopes, single), log_t.astype(single), fluid.astype(single), log_cell.astype(single),
        log_prior.astype(single), log_pd.astype(single), first,
    )  # fmt: skip


def _first_pass(
    image: np.ndarray, star: np.ndarray, log_prior: np.ndarray, log_pd: np.ndarray, log_area: float
) -> tuple[np.ndarray | int, ...]:
    """One node for each of the B blocks of the lattice, which are the lanes of new blocks.

    It has the middle of the block's range of ln S, and half the range as one more error beside that by T2*.
    """
    nodes, plain = lattice(), len(image)
    block = np.pad(np.arange(plain), (0, -plain % LANES))
    missing = (np.arange(len(block)) >= plain)[:, None]

    def centre(part: np.ndarray) -> np.ndarray:
        return part[np.arange(plain), :, nodes.centre]

    def lanes(part: np.ndarray) -> np.ndarray:
        part = part[block].reshape(-1, LANES, part.shape[1])
        return np.ascontiguousarray(part.transpose(0, 2, 1), np.float32)

    high = np.log(image.max(2))
    low = np.maximum(np.log(image.min(2)), high - DEEPEST)
    broad = np.hypot(centre(star), (high - low) / (2 * T2_STAR_SD))
    nothing = lanes(np.zeros((plain, 1))) + np.where(missing, NOTHING, 0).reshape(-1, 1, LANES)
    return (
        lanes(np.exp((high + low) / 2)), lanes(broad), lanes(centre(nodes.log_t)),
        np.maximum(lanes(log_prior.max(2)) + nothing, NOTHING), lanes(centre(log_pd)),
        (nothing + np.float32(log_area))[:, 0], plain,
    )  # fmt: skip


def _with_fluid(
    fluid: np.ndarray, tissue: np.ndarray, share: np.ndarray, fluid_pd: float, tissue_pd: float
) -> np.ndarray:
    """Signals of PD 1 ``(S, L)`` of voxels with a share of fluid."""
    mixed = share * fluid_pd * fluid[:, None] + (1 - share) * tissue_pd * tissue[:, None]
    return mixed / (share * fluid_pd + (1 - share) * tissue_pd)


def _effective(fluid: np.ndarray, tissue: np.ndarray, share: np.ndarray) -> np.ndarray:
    """ln PD, ln T1, ln T2 ``(3, L)`` that stand for voxels with a share of fluid: mean PD, mean rates weighted with PD.

    Source: :func:`scripts.simulate.slices.mix`, which defines the true maps of such voxels.
    """
    parts = share * fluid[0], (1 - share) * tissue[0]
    pd = parts[0] + parts[1]
    t1, t2 = (pd / (parts[0] / fluid[q] + parts[1] / tissue[q]) for q in (1, 2))
    return np.log([pd, t1, np.minimum(t2, t1)])

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
"""What one protocol can tell about each tissue, alone, with the prior, and with one more scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from ...acquisition import Acquisition
from ...tissue import known_tissues, tissue_values
from .candidates import Candidate, near_duplicate
from .identifiability import (
    Bounds,
    FreeDirections,
    bounds,
    condition_number,
    free_directions,
    gain_bias,
    independent_prior,
    noise_levels,
)

ANCHORS = ("WM", "GM")
"""They set the noise of every scan, and the next scan is chosen for them."""
KNOWN, ALONE, PRIOR, BEST = "scales known", "scans alone", "with prior", "with prior and best next scan"
"""Cases: scales exactly known and no prior; scales as uncertain as stated; then the prior too; then one more scan."""
VAGUE_SD = (3.0, 3.0, 3.0)
"""What is known of ln PD, ln T1, ln T2 without prior: a factor of 20. Without even that, T2 from two echoes would count
as unknown for want of T1, which hardly matters to it."""
EXAMPLES = 50
"""Tissues by which the free directions are counted."""


@dataclass(frozen=True)
class Protocol:
    """The scans of a session.

    Args:
        name: for headings.
        suffixes: BIDS suffix of each scan.
        acquisitions: the scans.
        gains: which gain each scan has, see :func:`scripts.commands.protocol_report.identifiability.bounds`.
        notes: what a reader should know of it besides.
    """

    name: str
    suffixes: tuple[str, ...]
    acquisitions: tuple[Acquisition, ...]
    gains: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assumptions:
    """What the bounds rest on besides the signal equations.

    Args:
        field_strength: of the tissue values [T].
        snr: signal-to-noise ratio of every scan, in the brighter of white and grey matter.
        gain_sd: standard deviation of the logarithm of the scale of each scan.
        prior_sd: that of ln PD, ln T1, ln T2 before any scan.
    """

    field_strength: float
    snr: float
    gain_sd: float
    prior_sd: tuple[float, float, float]


@dataclass(frozen=True)
class Ranked:
    """A candidate and what it brings: ``improvement`` is the mean share by which errors of the anchors shrink."""

    candidate: Candidate
    improvement: float
    bounds: dict[str, Bounds]


@dataclass(frozen=True)
class Findings:
    """All that is reported of a protocol.

    Args:
        protocol: what was asked about.
        assumptions: what the answers rest on.
        tissues: tissue -> PD, T1 [s], T2 [s] ``(3,)``.
        conditions: tissue -> condition number.
        bounds: case -> tissue -> bounds; :data:`BEST` is there only if a candidate is.
        ranking: candidates that are new to the protocol, the best first.
        duplicates: the others.
        free: what no number of voxels determines where the scales are unknown.
        bias: anchor tissue -> derivatives of its estimated ln PD, ln T1, ln T2 by the ln scale of each scan
            ``(3, M)``; empty where the scans alone do not determine them.
    """

    protocol: Protocol
    assumptions: Assumptions
    tissues: dict[str, Tensor]
    conditions: dict[str, float]
    bounds: dict[str, dict[str, Bounds]]
    ranking: tuple[Ranked, ...]
    duplicates: tuple[Candidate, ...]
    free: FreeDirections
    bias: dict[str, Tensor]


def analyse(protocol: Protocol, assumptions: Assumptions, candidates: Sequence[Candidate]) -> Findings:
    """Computes everything that is reported of a protocol, at a field strength at which the anchors are known."""
    field = assumptions.field_strength
    tissues = {name: torch.tensor(tissue_values(name, field)[:3], dtype=torch.float64) for name in known_tissues(field)}
    anchors = torch.stack([tissues[name] for name in ANCHORS])
    prior, vague = independent_prior(assumptions.prior_sd), independent_prior(VAGUE_SD)
    noise = noise_levels(protocol.acquisitions, anchors, assumptions.snr)
    scans = protocol.acquisitions
    cases = {KNOWN: (0.0, vague), ALONE: (assumptions.gain_sd, vague), PRIOR: (assumptions.gain_sd, prior)}
    found = {
        case: {name: bounds(scans, tissue, noise, *knowledge, protocol.gains) for name, tissue in tissues.items()}
        for case, knowledge in cases.items()
    }

    ranking, duplicates = [], []
    for candidate in candidates:
        if near_duplicate(candidate, scans, anchors):
            duplicates.append(candidate)
            continue
        more = (*scans, *candidate.acquisitions)
        gains = (*protocol.gains, *[max(protocol.gains) + 1] * len(candidate.acquisitions))
        noises = noise_levels(more, anchors, assumptions.snr)
        with_it = {
            name: bounds(more, tissue, noises, assumptions.gain_sd, prior, gains) for name, tissue in tissues.items()
        }
        ratios = torch.cat([with_it[name].sd / found[PRIOR][name].sd for name in ANCHORS])
        ranking.append(Ranked(candidate, 1 - ratios.log().mean().exp().item(), with_it))
    ranking.sort(key=lambda ranked: -ranked.improvement)
    if ranking:
        found[BEST] = ranking[0].bounds

    conditions = dict(zip(tissues, condition_number(scans, torch.stack([*tissues.values()])).tolist()))
    bias = {name: gain_bias(scans, tissues[name], noise) for name in ANCHORS if conditions[name] < inf}
    free = free_directions(scans, example_tissues(), protocol.gains)
    return Findings(protocol, assumptions, tissues, conditions, found, tuple(ranking), tuple(duplicates), free, bias)


def example_tissues(count: int = EXAMPLES) -> Tensor:
    """Tissues all different ``(count, 3)``, always the same: PD .5-1, T1 .5-4.5 s, T2 40-300 ms."""
    low, high = torch.tensor([[0.5, 0.5, 0.04], [1.0, 4.5, 0.3]], dtype=torch.float64).log()
    draw = torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (low + (high - low) * draw).exp()

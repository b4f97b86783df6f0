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

"""The contrasts of a random subject: their acquisitions, and their signals through the exact equations."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from ..acquisition import FAMILIES, Acquisition, draw_acquisition
from ..nuisance import transmit_field
from ..render import SignalModel
from ..tissue import CLASSES
from .anatomy import INDEX
from .population import POPULATION, Tissue

T1W = {"MPRAGE": 5, "SE": 2, "SPGR": 3}
T2W = {"TSE": 6, "SPACE": 3, "SE": 1}
FLUID_NULLED = {"FLAIR": 6, "SPACE-FLAIR": 3, "IR": 1}
ANY = {"SE": 3, "TSE": 4, "PDw": 5, "SPACE": 2, "IR": 3, "STIR": 2, "DIR": 1, "MPRAGE": 3, "SPGR": 4, "bSSFP": 1}
"""Families of :data:`scripts.acquisition.FAMILIES` with their weights."""
CONTRASTS = (T1W, T2W, FLUID_NULLED, ANY, ANY, ANY)
"""Of every slice: what a clinic takes, then anything."""
EFFICIENCY = (0.85, 1.0)
B1 = {"centre": (0.95, 1.2), "edge": (0.8, 1.05)}
B1_SHIFT = 0.3
FAT = ("scalp", "marrow")
SUPPRESSED, LEFT = 0.3, (0.02, 0.3)
"""Probability that fat is suppressed in a contrast, and how much of its signal is left then."""
MULTISLICE = ("spin_echo", "turbo_spin_echo", "inversion_recovery_turbo_spin_echo")
"""Sequences that take slice after slice in two dimensions. For one slice the pulses of the others are off resonance:
they saturate its macromolecules."""
SATURATED, TRANSFER = 0.5, 0.2
"""Probability that magnetisation transfer darkens a contrast of these, and by how much at most.

Source: Melki and Mulkern 1992, Magnetization transfer effects in multislice RARE sequences, Magn Reson Med 24."""
MACROMOLECULES = torch.tensor([POPULATION.get(name, {}).get("transfer", 0.0) for name in CLASSES])
"""Magnetisation transfer of every class relative to white matter."""


class Hidden(NamedTuple):
    """What no sidecar says of the scans of one subject.

    Attributes:
        b1: B1+ relative to nominal on a grid.
        efficiency: of the inversions.
        fat: what is left of the signal of fat in each contrast ``(K,)``.
        transfer: by how much magnetisation transfer darkens white matter in each contrast ``(K,)``.
    """

    b1: Tensor
    efficiency: float
    fat: list[float]
    transfer: list[float]


def draw_contrasts(
    random: Generator, contrasts: Sequence[Mapping[str, float]], field_strength: float
) -> list[Acquisition]:
    """One acquisition of each of these weighted choices of families."""
    drawn = []
    for choice in contrasts:
        weights = np.array(list(choice.values()), dtype=float)
        name = list(choice)[random.choice(len(choice), p=weights / weights.sum())]
        drawn.append(at_field(draw_acquisition(FAMILIES[name], random, name), field_strength))
    return drawn


def at_field(acquisition: Acquisition, field_strength: float) -> Acquisition:
    """The acquisition on a scanner of this field strength [T]."""
    provenance = acquisition.provenance | {"field_strength": "given"}
    return replace(acquisition, field_strength=field_strength, provenance=provenance)


def draw_hidden(random: Generator, shape: Sequence[int], acquisitions: Sequence[Acquisition]) -> Hidden:
    """Random B1+ on a grid, inversion efficiency; fat suppression and magnetisation transfer of each contrast."""
    centre, edge = random.uniform(*B1["centre"]), random.uniform(*B1["edge"])
    b1 = transmit_field(shape, centre, edge, random.uniform(-B1_SHIFT, B1_SHIFT, len(shape)))
    efficiency, number = random.uniform(*EFFICIENCY), len(acquisitions)
    fat = np.where(random.uniform(size=number) < SUPPRESSED, random.uniform(*LEFT, number), 1.0)
    transfer = np.where(random.uniform(size=number) < SATURATED, random.uniform(0, TRANSFER, number), 0.0)
    transfer *= [acquisition.sequence in MULTISLICE for acquisition in acquisitions]
    return Hidden(b1, efficiency, fat.tolist(), transfer.tolist())


def render_points(maps: Tensor, classes: Tensor, b1: Tensor, tissue: Tissue, hidden: Hidden, rows: Tensor) -> Tensor:
    """Signed signals ``(K, N)`` of points.

    Magnetisation transfer darkens a tissue by ``S' = (1 - m f) S``: m is what white matter loses in this contrast, f
    the share of macromolecules relative to white matter.

    Args:
        maps: PD, T1 [s], T2 [s] of the points ``(3, N)``; those without PD give no signal.
        classes: of the points ``(N,)``.
        b1: B1+ at the points ``(N,)``.
        tissue: of the subject, for its T2*.
        hidden: what no sidecar says.
        rows: acquisitions ``(K, A)``.
    """
    solid = (maps[0] > 0).nonzero().squeeze(1)
    inside = maps[:, solid]
    drawn = SignalModel(signed=True)(
        inside[None],
        rows[None],
        b1=b1[solid][None],
        t2_star=(tissue.t2_star_ratio * inside[2])[None],
        inversion_efficiency=hidden.efficiency,
    )[0]
    fat = sum(classes[solid] == INDEX[name] for name in FAT)
    bound = MACROMOLECULES.to(maps.device)[classes[solid]]
    for contrast, left, transfer in zip(drawn, hidden.fat, hidden.transfer):
        contrast *= (1 - fat * (1 - left)) * (1 - transfer * bound)
    return maps.new_zeros(len(rows), maps.shape[1]).index_copy(1, solid, drawn)

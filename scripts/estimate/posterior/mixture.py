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

"""The prior of a voxel: a mixture of tissues, whose means move with the head.

Each component but the mixtures with fluid is a Gaussian in (ln PD, ln T1, ln T2), see ``components.json``. The mean of
component k is shifted by ``delta_k ~ N(field, load common^2 load^T + own^2 + FIELD_SD^2 field field^T)``: T1 and T2 of
a whole head may be longer than the literature's, and field strength changes all of them, by a step that is uncertain
itself. The last component is the network's estimate of the voxel, where there is one.
"""

import json
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...tissue import MAPS

_TABLE = json.loads(Path(__file__).with_name("components.json").read_text(encoding="utf-8"))
del _TABLE["_desc_"]
COMPONENTS: dict[str, dict] = {name: entry for name, entry in _TABLE.items() if "t1" in entry}
"""Tissue -> its Gaussian."""
PARTIAL: dict[str, dict] = {name: entry for name, entry in _TABLE.items() if "of" in entry}
"""Voxel of a tissue and fluid -> which tissue, and how far ln PD is off."""
FLUID, NETWORK = "CSF", "network"
REFERENCE_FIELD = 3.0
"""Field strength of the means [T]."""
LOW_FIELD = 1 / 3
"""Where no scan states its field strength: probability of 1.5 T; else it is 3 T."""
FIELD_SD = 0.4
"""How uncertain the step of T1 and T2 from 3 T to another field strength is, relative to it."""


class Common(NamedTuple):
    """What is uncertain about the means of all components.

    Attributes:
        t1, t2: standard deviations of the logarithms of the factors of T1 and T2 that are common to a head.
        network: the same of the network's own errors in ln PD, ln T1, ln T2 that all voxels share.
        network_tie: correlation of the head's factors with the network's, which regresses to what it was shown.
    """

    t1: float = 0.12
    t2: float = 0.18
    network: tuple[float, float, float] = (0.02, 0.10, 0.15)
    network_tie: float = 0.5


class Mixture:
    """Components of the prior of one head.

    Args:
        common: what is uncertain about the means of all components.
        network: weight of the network's component; 0 for none.
        field_strength: of the scans [T]; None where it is not known.
        tissues: which of :data:`COMPONENTS`.

    Attributes:
        names: of the K components: the Gaussians, those with partial volume of fluid, then the network.
        partial: the components with partial volume.
        gaussians: number of Gaussians besides the network's.
        mean, covariance, precision: of the Gaussians ``(C, 3)``, ``(C, 3, 3)``.
        slope: of ln PD on ln T1 ``(C,)``.
        pd_variance: of ln PD, given T1 and T2 in a Gaussian, and of a voxel with fluid ``(C + V,)``.
        weight: of all components ``(K,)``, before the scans.
        shift: expected shifts of the means of the Gaussians and of the network ``(3 (C + 1),)``.
        shift_covariance: their covariance.
    """

    def __init__(
        self, common: Common, network: float, field_strength: float | None, tissues: Sequence[str] = tuple(COMPONENTS)
    ) -> None:
        table = [COMPONENTS[name] for name in tissues]
        self.gaussians, self.network = len(table), network > 0
        self.partial = {name: entry for name, entry in PARTIAL.items() if entry["of"] in tissues and FLUID in tissues}
        self.names = [*tissues, *self.partial, *([NETWORK] if self.network else [])]
        self.shifted = [*tissues, *([NETWORK] if self.network else [])]
        self.mean = np.log([[entry[name] for name in ("pd", "t1", "t2")] for entry in table])
        self.slope = np.array([float(entry["pd_of_t1"]) for entry in table])
        sd = np.array([entry["sd"] for entry in table])
        self.covariance = np.zeros((self.gaussians, 3, 3))
        self.covariance[:, [1, 2], [1, 2]] = sd[:, 1:] ** 2
        self.covariance[:, 0, 1] = self.covariance[:, 1, 0] = self.slope * sd[:, 1] ** 2
        self.covariance[:, 0, 0] = sd[:, 0] ** 2 + self.slope**2 * sd[:, 1] ** 2
        self.precision = np.linalg.inv(self.covariance)
        self.pd_variance = np.append(sd[:, 0] ** 2, [entry["sd"][0] ** 2 for entry in self.partial.values()])
        weight = np.array([entry["weight"] for entry in [*table, *self.partial.values()]])
        weight = weight / weight.sum() * (1 - network)
        self.weight = np.append(weight, network) if self.network else weight
        self.shift, self.shift_covariance = self._shifts(table, common, field_strength)

    def _shifts(self, table: list[dict], common: Common, field_strength: float | None) -> tuple[np.ndarray, np.ndarray]:
        count, extra = len(self.shifted), [[1.0, 1.0]] if self.network else []
        load = np.array([entry["load"] for entry in table] + extra)
        own = np.array([entry["own"] for entry in table] + ([common.network] if self.network else []))
        covariance = np.zeros((count, 3, count, 3))
        tie = np.ones((count, count))
        if self.network:
            tie[-1, :-1] = tie[:-1, -1] = common.network_tie
        for q, sd in ((1, common.t1), (2, common.t2)):
            covariance[:, q, :, q] = sd**2 * tie * np.outer(load[:, q - 1], load[:, q - 1])
        covariance = covariance.reshape(3 * count, 3 * count) + np.diag(own.ravel() ** 2)
        factors = np.zeros((count, 3))
        if field_strength is None:
            # Either field strength may be the true one: their difference is one more common factor.
            factors[: len(table)] = [_field(entry, 1.5) for entry in table]
            difference = factors.ravel()
            covariance += LOW_FIELD * (1 - LOW_FIELD + FIELD_SD**2) * np.outer(difference, difference)
            return LOW_FIELD * difference, covariance
        factors[: len(table)] = [_field(entry, field_strength) for entry in table]
        return factors.ravel(), covariance + FIELD_SD**2 * np.outer(factors, factors)


def _field(entry: dict, field_strength: float) -> list[float]:
    """Shift of ln PD, ln T1, ln T2 at a field strength, linear in its logarithm between those of the table."""
    known = {log(REFERENCE_FIELD): (1.0, 1.0)} | {log(float(field)): pair for field, pair in entry["field"].items()}
    at = sorted(known)
    return [
        0.0,
        *(float(np.interp(log(field_strength), at, [log(known[x][q]) for x in at])) for q in range(len(MAPS) - 1)),
    ]

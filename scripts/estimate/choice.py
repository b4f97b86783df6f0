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

"""Which of the named protocols a session's scans are: the one by which they explain each other best."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import isfinite

import torch
from torch import Tensor

from ..acquisition import UNKNOWN, Acquisition
from ..tissue import Estimate
from .scans import Scans

MOST = 24
"""Combinations of the scans' alternatives that are all tried; with more, one scan's after the other."""
ROUTINE = {"clinical_2d": 1.0}
"""Log odds of a scan without parameters being of such a protocol, over any other. Folders without sidecars come from
clinical routine more often than from a study with a protocol of its own, and scans often fit several alike."""
WORST = 0.3
"""Median of |ln image - ln prediction| above which a protocol is said not to explain a scan."""


def choose(
    posterior: Callable, start: Estimate, scans: Scans, acquisitions: Sequence[Acquisition], names: Sequence[str]
) -> tuple[list[Acquisition], dict]:
    """The most probable acquisitions, and what sidecars say about the choice.

    Their probability is that of the scans, the evidence, times that of :data:`ROUTINE` before them.

    A scan that even the best of its alternatives does not explain becomes unknown: data consistency leaves it out.

    Args:
        posterior: a :class:`scripts.estimate.Posterior`.
        start: the network's estimate where nothing is known of the scans in question.
        scans: of one session.
        acquisitions: of its scans, some with alternatives.
        names: of the scans in the sidecars.
    """
    image, mask = scans.intensities[0], scans.mask[0, 0]
    tried: dict[tuple[int, ...], tuple[float, Tensor]] = {}
    options = [one.alternatives or (("", one),) for one in acquisitions]

    def attempt(numbers: tuple[int, ...]) -> float:
        if numbers not in tried:
            rows = torch.stack([option[number][1].to_row() for option, number in zip(options, numbers)])
            evidence, misfit = posterior.explain(start, image, rows, mask, scans.gains)
            usual = sum(ROUTINE.get(option[number][0], 0.0) for option, number in zip(options, numbers))
            tried[numbers] = evidence + usual, misfit
        return tried[numbers][0]

    every = [*product(*(range(len(option)) for option in options))]
    if len(every) <= MOST:
        best = max(every, key=attempt)
    else:
        best = (0,) * len(options)
        for _ in range(2):
            for place, option in enumerate(options):
                best = max(((*best[:place], n, *best[place + 1 :]) for n in range(len(option))), key=attempt)
    log_odds, misfit = tried[best]
    chosen, about = [], {}
    for place, (name, option, number) in enumerate(zip(names, options, best)):
        protocol, acquisition = option[number]
        if acquisitions[place].alternatives:
            explained = bool(misfit[place] <= WORST)
            others = {
                option[n][0]: max(value for key, (value, _) in tried.items() if key[place] == n)
                for n in {key[place] for key in tried} - {number}
            }
            second = max(others, key=others.get, default=None)
            about[name] = {
                "Chosen": protocol if explained else UNKNOWN,
                "RunnerUp": second,
                "LogOddsOverRunnerUp": None if second is None else _finite(log_odds - others[second]),
                "Misfit": _finite(misfit[place]),
            }
            acquisition = replace(acquisition, alternatives=()) if explained else Acquisition(UNKNOWN)
        chosen.append(acquisition)
    return chosen, {"ProtocolByEvidence": about}


def _finite(number: float | Tensor) -> float | None:
    """For JSON, which has neither nan nor infinity."""
    return round(float(number), 3) if isfinite(number) else None

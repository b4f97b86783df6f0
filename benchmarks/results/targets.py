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

"""What was promised of heads of known truth, beside what was measured.

- ``targets`` of a protocol: ``SSIM`` at least, ``T1 WM`` and the like at most, the median relative error.
- The 90 % interval covers 85 to 95 % of each tissue, 80 to 97 % where only the prior knows: where the Cramer-Rao
  standard deviation with prior is at least :data:`PRIOR_ONLY` times that of the prior.
- Where that standard deviation is under 5 % (T1) or 8 % (T2), the median absolute error in white and grey matter is at
  most 60 ms (T1) or 10 ms (T2).

A head outside any prior has limits of its own: errors of T1 and T2 in white and grey matter up to 20 %, coverage of at
least 85 %.
"""

from collections.abc import Iterator
from typing import NamedTuple

from scripts.commands.protocol_report.identifiability import PRIOR_SD
from scripts.evaluate.estimators import BOTH
from scripts.tissue import MAPS

from .heads import Evaluation, Outcome, cells
from .page import percent

COVERAGE, PRIOR_COVERAGE = (0.85, 0.95), (0.80, 0.97)
PRIOR_ONLY = 0.8
DETERMINED = {"T1": (0.05, 0.060), "T2": (0.08, 0.010)}
"""Map -> the Cramer-Rao standard deviation below which its median absolute error [s] is limited, and to what."""
UNUSUAL_ERROR, UNUSUAL_COVERAGE = 0.20, 0.85


class Check(NamedTuple):
    """A promise: of which protocol, what, the limit and the measurement in words, and whether it is kept."""

    protocol: str
    what: str
    limit: str
    measured: str
    met: bool


def checks(evaluations: list[Evaluation], unusual: bool = False, way: str = BOTH) -> list[Check]:
    """All promises, for heads like those of the literature or ones outside any prior."""
    if unusual:
        return [check for evaluation in evaluations for check in _unusual(evaluation, way)]
    return [
        check
        for evaluation in evaluations
        for part in (_stated, _determined, _coverage)
        for check in part(evaluation, way)
    ]


def _stated(evaluation: Evaluation, way: str) -> Iterator[Check]:
    outcome: Outcome = evaluation.outcomes[way]
    for what, limit in evaluation.protocol.targets.items():
        if what == "SSIM":
            value = outcome.mean.ssim
            yield Check(
                evaluation.protocol.name, "unseen contrasts, SSIM", f"≥ {limit:g}", f"{value:.3f}", value >= limit
            )
        else:
            name, tissue = what.split()
            value = outcome.maps[tissue][name].error
            yield Check(evaluation.protocol.name, f"{what}, error", f"≤ {limit:.0%}", f"{value:.1%}", value <= limit)


def _determined(evaluation: Evaluation, way: str) -> Iterator[Check]:
    for tissue in ("WM", "GM"):
        for name, (one, bound) in zip(MAPS, cells(evaluation, tissue, way)):
            below, limit = DETERMINED.get(name, (0, 0))
            if bound < below:
                measured = f"{one.absolute * 1000:.1f} ms"
                met = one.absolute <= limit
                yield Check(
                    evaluation.protocol.name, f"{name} {tissue}, error", f"≤ {limit * 1000:.0f} ms", measured, met
                )


def _coverage(evaluation: Evaluation, way: str) -> Iterator[Check]:
    for tissue in evaluation.bounds:
        for name, prior, (one, bound) in zip(MAPS, PRIOR_SD, cells(evaluation, tissue, way)):
            low, high = PRIOR_COVERAGE if bound >= PRIOR_ONLY * prior else COVERAGE
            limit, met = f"{percent(low)[:-2]}–{percent(high)[:-2]} %", low <= one.coverage <= high
            yield Check(evaluation.protocol.name, f"{name} {tissue}, coverage", limit, f"{one.coverage:.1%}", met)


def _unusual(evaluation: Evaluation, way: str) -> Iterator[Check]:
    for tissue in ("WM", "GM"):
        for name, (one, _) in zip(MAPS, cells(evaluation, tissue, way)):
            what = f"{name} {tissue}"
            if name != "PD":
                met = one.error <= UNUSUAL_ERROR
                yield Check(evaluation.protocol.name, f"{what}, error", "≤ 20 %", f"{one.error:.1%}", met)
            met = one.coverage >= UNUSUAL_COVERAGE
            yield Check(evaluation.protocol.name, f"{what}, coverage", "≥ 85 %", f"{one.coverage:.1%}", met)

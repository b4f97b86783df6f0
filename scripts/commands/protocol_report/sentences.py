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
"""Findings in sentences that a clinician understands. Every number in them is computed."""

from collections.abc import Sequence
from dataclasses import replace
from math import expm1, log

import torch
from torch import Tensor

from ...acquisition import Acquisition
from ...tissue import MAPS, TISSUE_NAMES
from .analysis import ALONE, ANCHORS, BEST, KNOWN, PRIOR, Findings
from .identifiability import sensitivities

WELL, POOR = 0.10, 0.25
"""Standard deviations of a logarithm up to which a quantity is well, and beyond which it is poorly determined."""
TANGLED = 0.9
"""Correlation of errors beyond which two poorly determined quantities cannot be separated."""
MERELY_PRIOR = 0.8
"""Share of the prior's standard deviation beyond which an estimate is little more than the prior."""
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DOUBT, ERROR = 1.1, 1.2
"""Factors for a wrong scale and a wrong contrast-equivalent echo time in the examples."""


def percent(sd: float) -> str:
    """``±12 %``; words where a percentage would mislead."""
    if sd >= 1:
        return "worse than ±100 %"
    return f"±{100 * sd:.{1 if sd < 0.0095 else 0}f} %"


def join(words: list[str], last: str = "and") -> str:
    """``a, b and c``."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def count(number: int, noun: str) -> str:
    """``three scans``."""
    return f"{NUMBERS[number] if number < len(NUMBERS) else number} {noun}{'' if number == 1 else 's'}"


def tissue_sentences(findings: Findings, tissue: str) -> list[str]:
    """What the scans say of PD, T1 and T2 of one tissue: what is well determined, what is not, and what would help."""
    where = TISSUE_NAMES[tissue]
    sd = {case: dict(zip(MAPS, of[tissue].sd.tolist())) for case, of in findings.bounds.items()}
    prior = dict(zip(MAPS, findings.assumptions.prior_sd))
    together = _inseparable(findings, tissue)
    left = [name for name in MAPS if name not in together]
    well = [name for name in left if sd[ALONE][name] <= WELL]
    merely = [name for name in left if _merely_prior(sd[PRIOR][name], prior[name]) and sd[ALONE][name] > prior[name]]
    rest = [name for name in left if name not in (*well, *merely)]

    sentences = []
    if together:
        sentences.append(
            f"{_these(findings)} cannot separate {join(together, 'from' if len(together) == 2 else 'and')} in {where}: "
            f"{_values(sd[ALONE], together)}{_if_known(sd, together)}; "
            f"with the prior {_values(sd[PRIOR], together)}{_would(findings, sd, together)}."
        )
    if well:
        verb = "is" if len(well) == 1 else "are"
        sentences.append(
            f"{join(well)} of {where} {verb} well determined by the scans alone: {_values(sd[ALONE], well)}."
        )
    if rest:
        sentences.append(
            f"The scans alone tell {join(rest)} of {where} to {_values(sd[ALONE], rest)}; "
            f"with the prior {_values(sd[PRIOR], rest)}{_would(findings, sd, rest)}."
        )
    for name in merely:
        sentences.append(
            f"{name} of {where} comes from the prior: the scans alone leave it at {percent(sd[ALONE][name])}, "
            f"the prior at {percent(prior[name])}, both together at {percent(sd[PRIOR][name])}"
            f"{_would(findings, sd, [name])}."
        )
    hidden = [name for name in (*together, *rest) if _merely_prior(sd[PRIOR][name], prior[name])]
    if hidden:
        themselves = "is little more than the prior itself" if len(hidden) == 1 else "are little more than the prior"
        sentences.append(f"With the prior, {join(hidden)} {themselves} ({_values(prior, hidden)}).")
    return sentences


def free_sentences(findings: Findings) -> list[str]:
    """What no number of voxels determines where the scales of the scans are unknown, in plain words."""
    free, scans = findings.free, len(findings.protocol.acquisitions)
    others = free.count - free.common_scale - free.r2_shift
    if free.per_voxel:
        sentences = [
            f"Even with known scales, {count(free.per_voxel, 'combination')} of PD, T1 and T2 of every voxel "
            f"{'is' if free.per_voxel == 1 else 'are'} undetermined by {count(scans, 'scan')}: the prior decides. "
            "With unknown scales these changes of the whole head leave every scan as it is, too:"
        ]
    else:
        sentences = [
            f"Where the scales are unknown, {count(free.count, 'change')} of the maps of the whole head "
            f"{'leaves' if free.count == 1 else 'leave'} every scan exactly as it is, however many voxels there are:"
        ]
    if free.common_scale:
        sentences.append("- PD of everything times any factor, the scales of all scans divided by it: PD is relative.")
    if free.r2_shift:
        sentences.append(
            "- 1/T2 of everything shifted by one amount, the scale of each scan making up for it by exp(shift x TE): "
            "T2 needs a tissue of known T2 (here white matter) or two echoes of one measurement."
        )
    if others and not free.per_voxel:
        sentences.append(
            f"- {count(others, 'further change')}, because {count(scans, 'scan')} leave nothing to check: some maps "
            "fit exactly whatever the scales are, so a residual of zero certifies nothing."
        )
    if not free.r2_shift:
        sentences.append("A shift of all 1/T2 is not among them: scans with one scale, or of another kind, exclude it.")
    return sentences


def bias_sentences(findings: Findings) -> list[str]:
    """What a wrong scale, transmit field or contrast-equivalent echo time does to an estimate without prior."""
    protocol, sentences = findings.protocol, []
    for tissue, bias in findings.bias.items():
        where, here = TISSUE_NAMES[tissue], findings.tissues[tissue][None]
        worst = int(bias.norm(dim=0).argmax())
        sentences.append(
            f"A scale of the {protocol.suffixes[worst]} that is {100 * (DOUBT - 1):.0f} % too high, the worst of them, "
            f"changes {where} by {_changes(bias[:, worst] * log(DOUBT))}."
        )
        weaker = _log_signals(protocol.acquisitions, here, 2 - DOUBT) - _log_signals(protocol.acquisitions, here)
        sentences.append(
            f"A transmit field (B1+) {100 * (DOUBT - 1):.0f} % too weak changes it by {_changes(bias @ weaker[0])}."
        )
    if len(findings.bias) < len(ANCHORS):
        return sentences
    anchors = torch.stack([findings.tissues[name] for name in ANCHORS])
    for i, (suffix, acquisition) in enumerate(zip(protocol.suffixes, protocol.acquisitions)):
        if acquisition.te_equivalent is not None:
            longer = replace(acquisition, te_equivalent=ERROR * acquisition.te_equivalent)
            white, grey = (_log_signals([longer], anchors) - _log_signals([acquisition], anchors)).flatten()
            sentences.append(
                f"The contrast-equivalent echo time of the {suffix}, {1000 * acquisition.te_equivalent:.0f} ms, is "
                f"{acquisition.provenance.get('te_equivalent', 'unknown')}. If it is {100 * (ERROR - 1):.0f} % longer "
                f"in truth, {TISSUE_NAMES['GM']}, with white matter as the anchor, changes by "
                f"{_changes(findings.bias['GM'][:, i] * (grey - white))}."
            )
    return sentences


def _log_signals(acquisitions: Sequence[Acquisition], maps: Tensor, b1: float = 1.0) -> Tensor:
    return sensitivities(acquisitions, maps, b1)[0].abs().log()


def _inseparable(findings: Findings, tissue: str) -> list[str]:
    """Poorly determined quantities of a tissue whose errors go together."""
    alone = findings.bounds[ALONE][tissue]
    poor = (alone.sd > POOR).tolist()
    tied = alone.correlation.abs() > TANGLED
    return [
        name
        for i, name in enumerate(MAPS)
        if poor[i] and any(poor[j] and tied[i, j] for j in range(len(MAPS)) if j != i)
    ]


def _merely_prior(with_prior: float, prior: float) -> bool:
    return with_prior > MERELY_PRIOR * prior


def _if_known(sd: dict[str, dict[str, float]], names: list[str]) -> str:
    """What the scans would say without doubt about their scales, where that is much more."""
    if not any(sd[KNOWN][name] < 0.7 * sd[ALONE][name] for name in names):
        return ""
    return f" ({_values(sd[KNOWN], names)} even if the scales of the scans were known exactly)"


def _would(findings: Findings, sd: dict[str, dict[str, float]], names: list[str]) -> str:
    """What the best next scan would bring, if that is worth a clause."""
    if BEST not in sd or all(sd[BEST][name] > MERELY_PRIOR * sd[PRIOR][name] for name in names):
        return ""
    return f"; adding {findings.ranking[0].candidate.label} would bring that to {_values(sd[BEST], names)}"


def _values(sd: dict[str, float], names: list[str]) -> str:
    values = [percent(sd[name]) for name in names]
    return values[0] if len(set(values)) == 1 else join(values)


def _these(findings: Findings) -> str:
    scans = len(findings.protocol.acquisitions)
    return "This scan" if scans == 1 else f"These {count(scans, 'scan')}"


def _changes(logarithms: Tensor) -> str:
    """``PD -11 %, T1 -10 % and T2 +17 %``."""
    return join([f"{name} {100 * expm1(value):+.0f} %" for name, value in zip(MAPS, logarithms.tolist())])

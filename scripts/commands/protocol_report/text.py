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
"""Findings as a report to read (Markdown) and as tables to compute with (TSV)."""

from collections.abc import Iterable, Sequence
from math import exp

from ...acquisition import FIELDS, Acquisition
from ...signal import SEQUENCES
from ...tissue import MAPS, TISSUE_NAMES, tissue_values
from ..report import format_time
from .analysis import ALONE, ANCHORS, BEST, KNOWN, PRIOR, VAGUE_SD, Findings
from .sentences import bias_sentences, free_sentences, percent, tissue_sentences

SHORT = {
    "te": "TE",
    "tr": "TR",
    "ti": "TI",
    "ti2": "TI2",
    "flip_angle": "FA",
    "flip_angle2": "FA2",
    "echo_train_length": "N",
    "echo_spacing": "spacing",
    "echoes_before_centre": "before centre",
    "te_equivalent": "equivalent TE",
}
DISCUSSED = ("WM", "GM", "CSF")
"""Tissues that are discussed in sentences, as far as they are known; the tables have all."""
MOST_CANDIDATES = 6


def report(findings: Sequence[Findings]) -> str:
    """The whole report, the most frequent protocol first."""
    cited = {}
    for one in findings:
        for tissue in one.tissues:
            sources = tissue_values(tissue, one.assumptions.field_strength).sources
            cited |= dict.fromkeys(source for name, source in sources.items() if name in ("pd", "t1", "t2"))
    lines = [line for one in findings for line in _section(one)]
    sources = ["## Sources of the tissue values", "", "In brackets: what of the source was read.", ""]
    return "\n".join(["# What the scans can tell", "", *lines, *sources, *(f"- {source}" for source in cited), ""])


def bounds_table(findings: Iterable[Findings]) -> str:
    """One row per protocol, tissue and quantity: standard deviations of its logarithm, and correlations of the errors.

    Correlations are those with the prior. The condition number is ``inf`` where the scans leave something undetermined.
    """
    columns = [
        "protocol",
        "field_strength",
        "tissue",
        "quantity",
        "value",
        "sd_prior",
        "sd_scales_known",
        "sd_scans_alone",
    ]
    columns += ["sd_with_prior", "sd_with_best_next_scan", "best_next_scan", "condition_number"]
    rows = [[*columns, *(f"correlation_with_{name}" for name in MAPS)]]
    for one in findings:
        best = one.ranking[0].candidate.name if one.ranking else "n/a"
        for tissue, values in one.tissues.items():
            sd = {case: bounds[tissue].sd.tolist() for case, bounds in one.bounds.items()}
            for i, name in enumerate(MAPS):
                row = [one.protocol.name, one.assumptions.field_strength, tissue, name, values[i].item()]
                row += [one.assumptions.prior_sd[i], sd[KNOWN][i], sd[ALONE][i], sd[PRIOR][i]]
                row += [sd[BEST][i] if BEST in sd else "n/a", best, one.conditions[tissue]]
                rows.append([*row, *one.bounds[PRIOR][tissue].correlation[i].tolist()])
    return _tsv(rows)


def candidates_table(findings: Iterable[Findings]) -> str:
    """One row per protocol and candidate, the best first: mean shrinkage of the errors, and the errors with it."""
    quantities = [f"sd_{tissue}_{name}" for tissue in ANCHORS for name in MAPS]
    rows = [["protocol", "candidate", "scans", "shrinkage", *quantities, "remark"]]
    for one in findings:
        for ranked in one.ranking:
            sd = [value for tissue in ANCHORS for value in ranked.bounds[tissue].sd.tolist()]
            scans = len(ranked.candidate.acquisitions)
            rows.append(
                [one.protocol.name, ranked.candidate.name, scans, ranked.improvement, *sd, ranked.candidate.label]
            )
        for candidate in one.duplicates:
            blank = ["n/a"] * (1 + len(quantities))
            rows.append([one.protocol.name, candidate.name, len(candidate.acquisitions), *blank, "near duplicate"])
    return _tsv(rows)


def describe(acquisition: Acquisition, origins: tuple[str, ...] | None = None) -> str:
    """``TE 3.16 ms, TR 2.4 s``: what the equation needs; only values of these origins, if any are named."""
    words = []
    for name in (name for name in FIELDS if name in SEQUENCES[acquisition.sequence].fields):
        if origins is None or acquisition.provenance.get(name, "unknown") in origins:
            words.append(f"{SHORT[name]} {_value(name, getattr(acquisition, name))}")
    return ", ".join(words)


def _section(one: Findings) -> list[str]:
    assumed, protocol = one.assumptions, one.protocol
    lines = [f"## {protocol.name}", "", *(f"- {note}" for note in protocol.notes), *([""] if protocol.notes else [])]
    rows = [["scan", "signal equation", "parameters", "of these assumed"]]
    for suffix, acquisition in zip(protocol.suffixes, protocol.acquisitions):
        unsure = describe(acquisition, ("assumed", "unknown"))
        everything = describe(acquisition)
        rows.append([suffix, acquisition.sequence, everything, "all" if unsure == everything else unsure or "none"])
    lines += _markdown(rows)
    lines += ["", f"### In words ({assumed.field_strength:g} T)", ""]
    lines += [f"- {' '.join(tissue_sentences(one, tissue))}" for tissue in DISCUSSED if tissue in one.tissues]
    lines += ["", "### Smallest possible errors", ""]
    cases = [case for case in (KNOWN, ALONE, PRIOR, BEST) if case in one.bounds]
    rows = [["tissue", "PD, T1, T2", *(f"{case}: PD, T1, T2" for case in cases)]]
    for tissue, values in one.tissues.items():
        errors = [", ".join(map(_brief, one.bounds[case][tissue].sd.tolist())) for case in cases]
        value = f"{values[0]:.2f}, {format_time(values[1].item())}, {format_time(values[2].item())}"
        rows.append([TISSUE_NAMES[tissue], value, *errors])
    lines += [*_markdown(rows), ""]

    lines += ["### The next scan", ""]
    if one.ranking:
        rows = [["add", "errors shrink by", *(f"{TISSUE_NAMES[tissue]}: PD, T1, T2" for tissue in ANCHORS)]]
        for ranked in one.ranking[:MOST_CANDIDATES]:
            errors = [", ".join(map(_brief, ranked.bounds[tissue].sd.tolist())) for tissue in ANCHORS]
            rows.append([ranked.candidate.label, f"{100 * ranked.improvement:.0f} %", *errors])
        lines += [*_markdown(rows), ""]
        lines += [
            "Mean over PD, T1 and T2 of white and grey matter, with the prior. The time a scan takes is not weighed."
        ]
    if one.duplicates:
        labels = ", ".join(candidate.label for candidate in one.duplicates)
        lines += [f"Not ranked, because a scan of this protocol weights the tissues alike: {labels}."]

    lines += ["", "### What no number of voxels tells", "", *free_sentences(one), ""]
    lines += [
        "### What these numbers rest on",
        "",
        *(f"- {line}" for line in (*_assumptions(one), *bias_sentences(one))),
        "",
    ]
    return lines


def _assumptions(one: Findings) -> list[str]:
    assumed = one.assumptions
    prior = ", ".join(f"{name} {percent(sd)}" for name, sd in zip(MAPS, assumed.prior_sd))
    return [
        "The errors are Cramér-Rao bounds, standard deviations of logarithms: no unbiased estimate of one voxel is "
        "better. Those of PD, T1 and T2 are not independent; bounds.tsv has their correlations.",
        "They assume that the signal equations are right. What the transmit field (B1+), magnetisation transfer (which "
        "alone moves the T1 of white matter between methods) and contrast-equivalent echo times do comes on top.",
        f"Noise: a signal-to-noise ratio of {assumed.snr:g} in every scan, in the brighter of white and grey matter; "
        "Gaussian, which is fair above a ratio of about 3 and too optimistic near the null of an inversion recovery.",
        f"The scale of each scan is known to {percent(assumed.gain_sd)}, by white matter of known values as the "
        "anchor: PD, T1 and T2 are relative to these.",
        f"The prior of one tissue: {prior}. The scans alone means that each is known to a factor of "
        f"{round(exp(VAGUE_SD[0]))} beforehand. T2* is taken for a fixed share of T2.",
    ]


def _brief(sd: float) -> str:
    return "> 100 %" if sd >= 1 else percent(sd)


def _value(name: str, value: float) -> str:
    if name in ("flip_angle", "flip_angle2"):
        return f"{value:g}°"
    return f"{value:g}" if name.startswith("echo") and name != "echo_spacing" else format_time(value)


def _markdown(rows: list[list[str]]) -> list[str]:
    """A table whose columns are aligned in plain text too."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]


def _tsv(rows: Iterable[Sequence]) -> str:
    lines = (
        "\t".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell).replace("\t", " ") for cell in row)
        for row in rows
    )
    return "\n".join(lines) + "\n"

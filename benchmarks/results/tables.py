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

"""Tables of heads of known truth."""

from collections import defaultdict
from collections.abc import Mapping

from scripts.evaluate.estimators import BOTH
from scripts.tissue import MAPS

from .heads import TRUE_MAPS, ContrastScore, Evaluation, cells
from .page import percent, table, verdict
from .settings import Protocol
from .targets import Check

COVERAGE = ", coverage"


def markdown(evaluations: list[Evaluation], ceiling: dict[str, ContrastScore], checks: list[Check]) -> str:
    """Everything of one set of heads."""
    return "\n".join(
        [
            f"Targets of *{BOTH}*:\n\n{targets_table(checks)}",
            f"Median relative error and (bias) of *{BOTH}*; Cramér–Rao standard deviation with prior next to the "
            f"robust standard deviation of the error; all in %:\n\n{errors_table(evaluations)}",
            "Share of true values inside the 90 % interval [%] and (mean width of that interval in units of the "
            f"natural logarithm):\n\n{coverage_table(evaluations)}",
            f"Ways to estimate, side by side; means over tissues or contrasts:\n\n{ways_table(evaluations, ceiling)}",
            f"Unseen contrasts of *{BOTH}*, SSIM (NRMSE) inside the head:\n\n"
            f"{contrasts_table(evaluations, ceiling)}",
        ]
    )


def targets_table(checks: list[Check]) -> str:
    """One line per promise; those of coverage as one line per protocol, which names what fails."""
    covered = defaultdict(list)
    for check in checks:
        if check.what.endswith(COVERAGE):
            covered[check.protocol].append(check)
    lines = [[*check[:-1], verdict(check.met)] for check in checks if not check.what.endswith(COVERAGE)]
    for protocol, group in covered.items():
        failing = [check for check in group if not check.met]
        named = "; ".join(f"{one.what.removesuffix(COVERAGE)} {one.measured} ({one.limit})" for one in failing)
        measured = f"{len(group) - len(failing)} of {len(group)}" + (f", but {named}" if named else "")
        lines.append([protocol, "90 % intervals of every tissue and map", "all", measured, verdict(not failing)])
    return table(("Protocol", "What", "Target", "Measured", ""), lines)


def errors_table(evaluations: list[Evaluation]) -> str:
    """Protocol and tissue by map."""
    rows = []
    for evaluation in evaluations:
        for tissue in evaluation.bounds:
            found = cells(evaluation, tissue)
            errors = [f"{percent(one.error)} ({percent(one.bias, signed=True)})" for one, _ in found]
            limits = [f"{percent(limit)} / {percent(one.robust_sd)}" for one, limit in found]
            rows.append((evaluation.protocol.name, tissue, *errors, *limits))
    bounds = [f"{name}: bound / error" for name in MAPS]
    return table(("Protocol", "Tissue", *(f"{name} error (bias)" for name in MAPS), *bounds), rows)


def coverage_table(evaluations: list[Evaluation]) -> str:
    """Protocol and tissue by map."""
    rows = [
        (
            evaluation.protocol.name,
            tissue,
            *(f"{percent(one.coverage)} ({one.width:.2f})" for one, _ in cells(evaluation, tissue)),
        )
        for evaluation in evaluations
        for tissue in evaluation.bounds
    ]
    return table(("Protocol", "Tissue", *MAPS), rows)


def ways_table(evaluations: list[Evaluation], ceiling: Mapping[str, ContrastScore]) -> str:
    """Protocol and way by summary."""
    rows = []
    for evaluation in evaluations:
        for way, outcome in evaluation.outcomes.items():
            errors = [percent(outcome.maps[tissue][name].error) for tissue in ("WM", "GM") for name in MAPS]
            covered = [one.coverage for maps in outcome.maps.values() for one in maps.values()]
            widths = [one.width for maps in outcome.maps.values() for one in maps.values()]
            interval = f"{percent(sum(covered) / len(covered))} ({sum(widths) / len(widths):.2f})"
            rows.append((evaluation.protocol.name, way, *errors, interval, *_summary(outcome.mean)))
    best = ContrastScore(*(sum(column) / len(ceiling) for column in zip(*ceiling.values())))
    rows.append(("any", TRUE_MAPS, *["0"] * 2 * len(MAPS), "", *_summary(best)))
    errors = [f"{name} {tissue} [%]" for tissue in ("WM", "GM") for name in MAPS]
    return table(("Protocol", "Way", *errors, "coverage (width)", "SSIM (NRMSE), head", "SSIM (NRMSE), brain"), rows)


def contrasts_table(evaluations: list[Evaluation], ceiling: Mapping[str, ContrastScore]) -> str:
    """Protocol by contrast."""
    named = {evaluation.protocol.name: evaluation.outcomes[BOTH].contrasts for evaluation in evaluations}
    named[TRUE_MAPS] = ceiling
    rows = [(name, *(f"{one.ssim:.3f} ({one.nrmse:.3f})" for one in found.values())) for name, found in named.items()]
    return table(("Protocol", *ceiling), rows)


def acquisitions(protocol: Protocol) -> str:
    """The scans of a protocol in words."""
    words = []
    for name, _, one in protocol.requests:
        times = [("TE", one.te), ("TR", one.tr), ("TI", one.ti), ("TI2", one.ti2)]
        values = [f"{key} {value * 1000:.4g} ms" for key, value in times if value is not None]
        angle = [f"{one.flip_angle:g}°"] if one.flip_angle is not None else []
        words.append(f"`{name}` {one.sequence.replace('_', ' ')}, {', '.join(values + angle)}")
    return "; ".join(words)


def _summary(one: ContrastScore) -> tuple[str, str]:
    return f"{one.ssim:.3f} ({one.nrmse:.3f})", f"{one.brain_ssim:.3f} ({one.brain_nrmse:.3f})"

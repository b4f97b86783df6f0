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
"""The picture of a protocol: smallest errors per tissue and quantity, alone, with the prior, with one more scan."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...tissue import MAPS, TISSUE_NAMES
from .analysis import ALONE, BEST, PRIOR, Findings

LOWEST, HIGHEST = 0.5, 200.0
"""Ends of the axis [%]; a larger error is drawn as an arrow at the end."""
TICKS = (1, 2, 5, 10, 20, 50, 100)
STYLES = {
    ALONE: {"color": "#9a9a9a", "marker": "o", "markersize": 8, "markerfacecolor": "white", "markeredgewidth": 1.5},
    PRIOR: {"color": "#1f5fa8", "marker": "o", "markersize": 8},
    BEST: {"color": "#f0a13c", "marker": "D", "markersize": 5},
}
"""In the order in which they are drawn: one that hides another is smaller."""


def picture(findings: Findings) -> bytes:
    """A PNG with one panel per quantity and one line per tissue."""
    tissues = [*findings.tissues]
    figure = Figure(figsize=(11, 2.3 + 0.42 * len(tissues)), layout="constrained")
    axes = figure.subplots(1, len(MAPS), sharey=True)
    for i, (axis, name) in enumerate(zip(axes, MAPS)):
        _panel(axis, findings, i)
        axis.set_title(f"{name}, prior ±{100 * findings.assumptions.prior_sd[i]:.0f} %", fontsize=10)
    axes[0].set_yticks(range(len(tissues)), [TISSUE_NAMES[tissue] for tissue in tissues])
    axes[0].set_ylim(len(tissues) - 0.5, -0.5)

    assumed, protocol = findings.assumptions, findings.protocol
    labels = {ALONE: "the scans alone", PRIOR: "with the prior"}
    if findings.ranking:
        labels[BEST] = f"with the prior and {findings.ranking[0].candidate.label}"
    handles = [Line2D([], [], linestyle="none", label=label, **STYLES[case]) for case, label in labels.items()]
    handles.append(Line2D([], [], linestyle=":", color=STYLES[PRIOR]["color"], label="the prior alone"))
    caption = (
        f"Smallest standard error of one voxel. Signal-to-noise ratio {assumed.snr:g}, scales of the scans known to "
        f"±{100 * assumed.gain_sd:g} %.\nErrors of the signal model (B1+, magnetisation transfer, contrast-equivalent "
        "echo times) come on top."
    )
    options = {"title": caption, "title_fontsize": 9, "fontsize": 9, "frameon": False}
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), **options)
    scans = " + ".join(protocol.suffixes)
    figure.suptitle(f"What the scans can tell: {protocol.name} ({scans}), {assumed.field_strength:g} T", fontsize=12)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _panel(axis: Axes, findings: Findings, quantity: int) -> None:
    axis.set(xscale="log", xlim=(LOWEST, HIGHEST), xlabel="[%]")
    axis.set_xticks(TICKS, [f"{tick}" for tick in TICKS])
    axis.set_xticks([], minor=True)
    axis.tick_params(axis="both", length=0, labelsize=9)
    axis.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axis.spines[["top", "right", "left"]].set_visible(False)
    prior = 100 * findings.assumptions.prior_sd[quantity]
    axis.axvline(prior, color=STYLES[PRIOR]["color"], linestyle=":", linewidth=1.2, zorder=1)
    for row, tissue in enumerate(findings.tissues):
        errors = {
            case: 100 * findings.bounds[case][tissue].sd[quantity].item() for case in STYLES if case in findings.bounds
        }
        ends = [min(max(error, LOWEST), HIGHEST) for error in errors.values()]
        axis.plot([min(ends), max(ends)], [row, row], color="#cfcfcf", linewidth=2, zorder=1, solid_capstyle="butt")
        for case, error in errors.items():
            style = dict(STYLES[case])
            if error > HIGHEST:
                style["marker"] = ">"
            axis.plot(min(max(error, LOWEST), HIGHEST), row, linestyle="none", zorder=3, clip_on=False, **style)

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


"""T1 and T2 of maps against what is known of tissue: histograms, shares inside intervals, distances (paper, Fig. 4)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import wasserstein_distance

from ..tissue import MAPS, region_numbers
from .page import png_of

LITERATURE = json.loads(Path(__file__).with_name("literature.json").read_text(encoding="utf-8"))
"""Tissue -> map -> ``value``, ``low`` and ``high`` [s]."""
TISSUES = region_numbers("WM", "GM", "CSF")
TIMES = ("T1", "T2")
CLIPPED = 95
"""Percentile at which histograms end, as in the paper."""

FIGURE4 = "T1 and T2 of all voxels, clipped at the 95th percentile, as Figure 4 of the paper."
TABLE4 = (
    "Share of the voxels of a tissue inside the interval of the literature at 3 T, and Wasserstein distances [s]. The "
    "intervals are those of means over subjects and sites: single voxels scatter more. Sources: literature.json."
)


def tissue_values(maps: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Tissue -> T1 and T2 of its voxels [s].

    Args:
        maps: PD, T1 [s], T2 [s] ``(3, ...)``.
        labels: numbers of :data:`scripts.tissue.REGIONS` ``(...)``.
    """
    return {
        tissue: {name: maps[MAPS.index(name)][labels == number] for name in TIMES} for tissue, number in TISSUES.items()
    }


def score(values: np.ndarray, low: float, high: float, value: float, truth: np.ndarray | None = None) -> dict:
    """Share of values inside an interval, their median, and Wasserstein distances.

    ``W1(p, q) = integral |F_p - F_q|``, the mean distance that mass is moved (SciPy's). From the literature's value, a
    distribution in one point, it is the mean of ``|x - value|``.

    Args:
        values: of the voxels of a tissue [s].
        low: lower end of the interval [s].
        high: upper end.
        value: of the literature.
        truth: true values of voxels of this tissue; None where they are not known.
    """
    found = {"median": float(np.median(values)), "inside [%]": 100 * float(((values >= low) & (values <= high)).mean())}
    found["W1 to value"] = float(np.abs(values - value).mean())
    if truth is not None:
        found["W1 to truth"] = float(wasserstein_distance(values, truth))
    return found


def rows(named: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]], truth: str | None = None) -> list[dict]:
    """A row for each tissue, map and source of maps.

    Args:
        named: source of maps -> :func:`tissue_values`.
        truth: which of the sources is true; None for none.
    """
    found = []
    for tissue, both in LITERATURE.items():
        for name, known in both.items() if isinstance(both, dict) else ():
            for source, values in named.items():
                if len(values[tissue][name]):
                    interval = {"low": known["low"], "high": known["high"], "value": known["value"]}
                    true = named[truth][tissue][name] if truth not in (None, source) else None
                    one = score(values[tissue][name], **interval, truth=true)
                    key = {"tissue and map": f"{tissue} {name}", "maps": source, "voxels": len(values[tissue][name])}
                    found.append(key | interval | one)
    return found


def histogram(named: Mapping[str, Sequence[np.ndarray]]) -> bytes:
    """Histograms of T1 and T2 of all voxels, each clipped at its 95th percentile, with the values of WM and GM.

    Args:
        named: source of maps -> T1 and T2 [s] of the voxels of heads.
    """
    figure = Figure((9, 2.6 * len(named)), layout="constrained")
    axes = figure.subplots(len(named), len(TIMES), squeeze=False)
    for line, (source, both) in zip(axes, named.items()):
        for axis, name, values in zip(line, TIMES, both):
            values = values[values <= np.percentile(values, CLIPPED)]
            axis.hist(1000 * values, bins=100, color="0.6", density=True)
            for tissue, colour in (("WM", "tab:blue"), ("GM", "tab:red")):
                value = LITERATURE[tissue][name]["value"]
                axis.axvline(1000 * value, color=colour, label=f"{tissue}, {1000 * value:.0f} ms")
            axis.set_title(f"{name}, {source}", fontsize=9)
            axis.set_xlabel(f"{name} [ms]", fontsize=8)
            axis.set_yticks([])
            axis.legend(fontsize=7)
    return png_of(figure)

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

"""Anatomy of generated slices beside that of heads: faults, layout, areas, and whether what was asked for came out."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import ks_2samp, pearsonr

from .layout import (
    BRAIN,
    NUMBER,
    TISSUES,
    Distance,
    areas,
    contact_lengths,
    contacts,
    has_island,
    is_broken,
    is_open,
    layout,
    symmetry,
)

LEVELS = ((-20, -5), (-5, 10), (10, 25), (25, 40))
"""Ranges of slices that are compared [mm above the centre of the cerebrum]."""
COMPONENTS = {"layout": 32, "contacts": 16}
CONFIDENCE = 0.95
SMALLEST = 0.5
"""Area that a ratio is given to [cm²]: that to nothing says nothing."""
Row = dict[str, str | float | int]
Slices = Sequence[np.ndarray]


def likeness_rows(groups: Mapping[str, Slices], reference: Slices) -> list[Row]:
    """Faults, distances from a reference, symmetry, contact of white matter and fluid, nearest neighbours.

    Args:
        groups: name -> slices of classes ``(X, Y)``, numbers of :data:`scripts.tissue.FRACTIONS`.
        reference: slices of training heads.
    """
    places = Distance(layout(reference), COMPONENTS["layout"])
    touches = Distance(contacts(reference), COMPONENTS["contacts"])
    rows = []
    for name, numbers in groups.items():
        faults = {
            "open skull": [is_open(one) for one in numbers],
            "island of fluid": [has_island(one) for one in numbers],
            "broken midline": [is_broken(one) for one in numbers],
        }
        lengths = sum(map(contact_lengths, numbers))
        white = lengths[NUMBER["white matter"]]
        rows.append(
            {
                "": name,
                "slices": len(numbers),
                **{fault: sum(found) for fault, found in faults.items()},
                "any fault": sum(map(any, zip(*faults.values()))),
                "Fréchet distance of the layout": places(layout(numbers)),
                "of contacts": touches(contacts(numbers)),
                "symmetry": float(np.mean([symmetry(np.isin(one, BRAIN)) for one in numbers])),
                "WM–CSF over WM–GM contact": float(white[NUMBER["CSF"]] / max(white[NUMBER["cortex"]], 1)),
                "nearest training slice": float(np.median(places.nearest(layout(numbers)))),
            }
        )
    return rows


def area_rows(ours: Slices, our_levels: Sequence[float | None], theirs: Slices, their_levels: Sequence[float]) -> list:
    """Areas [cm²] of two sets of slices at each level: samples ``(N,)`` of both, and whether they are spread alike.

    Each row also has the areas themselves, in ``samples`` and ``held-out heads``.
    """
    rows = []
    for low, high in LEVELS:
        both = [
            [areas(one) for one, level in zip(*group) if level is not None and low <= level < high]
            for group in ((ours, our_levels), (theirs, their_levels))
        ]
        for name in TISSUES if all(both) else ():
            samples, heads = (np.array([one[name] for one in group]) for group in both)
            middle = float(np.median(heads))
            rows.append(
                {
                    "level": f"{low} to {high} mm",
                    "tissue": name,
                    "samples": samples,
                    "held-out heads": heads,
                    "p (KS)": float(ks_2samp(samples, heads).pvalue),
                    "ratio of medians": float(np.median(samples) / middle) if middle >= SMALLEST else math.nan,
                }
            )
    return rows


def asked_row(pairs: Sequence[tuple[float, float]]) -> Row:
    """Correlation and mean difference of what was asked for and what was measured, ``(asked, measured)`` each.

    The interval is that of Fisher's z, for :data:`CONFIDENCE`.
    """
    asked, found = np.array(pairs, float).reshape(-1, 2).T
    row: Row = {"samples": len(asked)}
    if len(asked) > 3 and asked.std() and found.std():
        r = pearsonr(asked, found)
        low, high = r.confidence_interval(CONFIDENCE)
        row |= {"asked from": float(asked.min()), "to": float(asked.max()), "r": float(r.statistic)}
        row |= {"r from": float(low), "r to": float(high), "mean error": float(np.abs(asked - found).mean())}
    return row


def spread(values: np.ndarray, digits: int = 1) -> str:
    """``median (5–95 %)``."""
    if not len(values):
        return "–"
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"

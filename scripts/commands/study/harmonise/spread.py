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

"""How much the intensities of a tissue differ between sessions, as scanned and harmonised."""

import numpy as np
from pandas import DataFrame, Series

from .intensities import ACQUIRED, HARMONISED

RATIO = "GM/WM"
"""The contrast of grey and white matter: the ratio of their intensities, which no scaling changes."""
COLUMNS = ("suffix", "tissue", "sessions", "acquired", "harmonised", "shrinks", "within_acquired", "within_harmonised")
LEAST = 2
"""Sessions that have a spread."""


def with_ratio(table: DataFrame) -> DataFrame:
    """The table of :func:`.intensities.measure`, of any sessions, with rows for :data:`RATIO`."""
    keys = ["session", "image", "suffix", "stage"]
    wide = table.pivot_table(index=keys, columns="tissue", values="median").reset_index()
    if not {"GM", "WM"} <= {*wide.columns}:
        return table
    extra = wide[keys].assign(tissue=RATIO, median=wide["GM"] / wide["WM"])
    return DataFrame({name: [*table[name], *extra.get(name, Series(np.nan, extra.index))] for name in table})


def per_session(table: DataFrame) -> DataFrame:
    """Median of each session, suffix and tissue in both stages, the mean of several scans of one suffix.

    Args:
        table: rows of :func:`.intensities.measure`, with ``session`` besides.

    Returns:
        Columns ``session``, ``suffix``, ``tissue``, ``acquired``, ``harmonised``; NaN where there is no such image.
    """
    index = ["session", "suffix", "tissue"]
    wide = with_ratio(table).pivot_table(index=index, columns="stage", values="median", aggfunc="mean", sort=False)
    return wide.reindex(columns=[ACQUIRED, HARMONISED]).reset_index()


def spreads(table: DataFrame) -> DataFrame:
    """Standard deviation between sessions of the median intensity, for each suffix that is rendered and each tissue.

    Both stages are compared in the sessions that have both. ``shrinks`` is their ratio. Where subjects have several
    sessions, ``within_*`` are the pooled standard deviations between the sessions of one subject: what is left then is
    no difference between people.

    Args:
        table: result of :func:`per_session`.
    """
    rows = []
    for (suffix, tissue), group in table.groupby(["suffix", "tissue"], sort=False):
        if group[HARMONISED].isna().all():
            continue
        both = group.dropna(subset=[ACQUIRED, HARMONISED])
        between = [between_sessions(both[stage]) for stage in (ACQUIRED, HARMONISED)]
        subjects = both["session"].str.split("_").str[0]
        within = [within_subjects(both[stage], subjects) for stage in (ACQUIRED, HARMONISED)]
        rows.append((suffix, tissue, len(both), *between, ratio(*between), *within))
    return DataFrame(rows, columns=[*COLUMNS])


def between_sessions(values: Series) -> float:
    """Standard deviation; NaN for fewer than two values."""
    return float(values.std()) if len(values) >= LEAST else np.nan


def within_subjects(values: Series, subjects: Series) -> float:
    """``(Σ (x - mean of its subject)² / Σ (n - 1))^½``; NaN where no subject has two values."""
    freedom = len(values) - subjects.nunique()
    if freedom < 1:
        return np.nan
    return float(np.sqrt(((values - values.groupby(subjects).transform("mean")) ** 2).sum() / freedom))


def ratio(before: float, after: float) -> float:
    """How many times the spread shrinks."""
    return before / after if after > 0 else np.nan


def overall(table: DataFrame) -> float:
    """Geometric mean of how many times the spreads of WM, GM and their ratio shrink; NaN where none is known.

    Fluid is left out: it is dark in some contrasts, and its spread is that of the noise.

    Args:
        table: result of :func:`spreads`.
    """
    known = table["shrinks"][(table["tissue"] != "CSF") & (table["shrinks"] > 0)]
    return float(np.exp(np.log(known).mean())) if len(known) else np.nan

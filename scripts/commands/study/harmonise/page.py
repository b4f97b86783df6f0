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

"""The report on a harmonised folder, as a page."""

from collections.abc import Mapping, Sequence

from pandas import DataFrame

from ....acquisition import RenderRequest
from ...report import acquisition_lines
from .notes import SAME_FIELD, Scanned
from .spread import RATIO, overall

SPREAD = (
    "Standard deviation between sessions of the median intensity of each tissue. Intensities go from 0, the darkest of "
    "the image, to 1, the 99.5 percentile of the brain. {} is the ratio of grey to white matter, which no scaling "
    "changes. Acquired and harmonised images are compared in the same sessions. What differs between people is part "
    "of both."
)
WITHIN = "*Within* is the standard deviation between sessions of one subject: no difference between people is left."
ALONE = "One session has no spread: give a folder of several."
FIELDS = (
    "The sessions were scanned at {}. T1 depends on the field, and rendering does not change it: sessions of different "
    "fields stay different."
)


def page(
    title: str,
    requests: Sequence[RenderRequest],
    found: DataFrame,
    scanned: Mapping[str, Scanned],
    said: Mapping[str, Sequence[str]],
    failures: Mapping[str, Exception],
    picture: str,
    chart: str,
) -> str:
    """The page, in Markdown.

    Args:
        title: name of the protocol.
        requests: its contrasts.
        found: result of :func:`.spread.spreads`.
        scanned: the sessions by name.
        said: notes on each.
        failures: why others have no result.
        picture: file name of the images.
        chart: file name of the intensities.
    """
    count = f"{len(scanned)} session" + "s" * (len(scanned) > 1)
    lines = [f"# {count} at {title}", ""]
    settings = [(request.name, request.suffix, "  ".join(acquisition_lines(request.acquisition)))
                for request in requests]  # fmt: skip
    lines += [*table(("image", "suffix", "rendered at"), settings), ""]
    lines += [f"![Scans and harmonised images of some sessions, in one window]({picture})", "", "## Spread", ""]
    lines += [SPREAD.format(RATIO), ""]
    within = found["within_acquired"].notna().any()
    lines += [*spread_table(found, within), ""]
    shrinks = overall(found)
    if shrinks == shrinks:
        change = f"shrinks {shrinks:.1f}-fold" if shrinks >= 1 else f"grows {1 / shrinks:.1f}-fold"
        lines += [f"In white matter, grey matter and their ratio the spread {change} (geometric mean).", ""]
    lines += [WITHIN, ""] if within else []
    lines += [ALONE, ""] if len(scanned) == 1 else []
    lines += [f"![Median intensity of each tissue, acquired and harmonised]({chart})", "", "## Sessions", ""]
    rows = [(name, ", ".join(one.acquisitions), _assumed(one), " ".join(said[name]) or "none")
            for name, one in scanned.items()]  # fmt: skip
    lines += [*table(("session", "scans", "assumed", "notes"), rows), ""]
    fields = sorted({field for one in scanned.values() for field in one.field_strengths})
    if fields and fields[-1] > SAME_FIELD * fields[0]:
        lines += [FIELDS.format(" and ".join(f"{field:g} T" for field in fields)), ""]
    if failures:
        reasons = [(name, " ".join(str(error).split())) for name, error in failures.items()]
        lines += ["## Without a result", "", *table(("session", "reason"), reasons), ""]
    return "\n".join(lines)


def spread_table(found: DataFrame, within: bool) -> list[str]:
    """Lines of the table of spreads, in percent of the bright level or, for the ratio, of 1."""
    heads = ["contrast", "tissue", "sessions", "acquired [%]", "harmonised [%]", "shrinks"]
    heads += ["within, acquired [%]", "within, harmonised [%]"] if within else []
    rows = []
    for row in found.itertuples():
        shrinks = "n/a" if row.shrinks != row.shrinks else f"{row.shrinks:.1f}-fold"
        cells = [row.suffix, row.tissue, str(row.sessions), percent(row.acquired), percent(row.harmonised), shrinks]
        cells += [percent(row.within_acquired), percent(row.within_harmonised)] if within else []
        rows.append(cells)
    return table(heads, rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    clean = [[cell.replace("|", "/").replace("\n", " ") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *clean)]


def percent(share: float) -> str:
    """``.0312`` -> ``3.1``."""
    return "n/a" if share != share else f"{100 * share:.1f}"


def _assumed(one: Scanned) -> str:
    parts = [f"{name}: {', '.join(keys)}" for name, keys in one.assumed.items() if keys]
    return "; ".join(parts) or "nothing"

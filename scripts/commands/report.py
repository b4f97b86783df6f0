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

"""Figures: what a subject's maps and contrasts look like, and many samples at a glance."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from ..acquisition import UNKNOWN, Acquisition, RenderRequest

COLUMNS = 6
MOST_SAMPLES, MOST_CONTRASTS = 6, 4
MARGIN = 4
"""Air around the foreground [voxels]."""
BRIGHTEST = 3.0
"""The window ends at so many times what is typical of the brain."""
LINE = 44
"""Characters that fit above a panel."""
# Title, colours, and the top of the scale; None is chosen as for a contrast.
MAP_PANELS = (("PD [relative]", "gray", None), ("T1 [s]", "inferno", 3.0), ("T2 [s]", "viridis", 0.2))
OPTION_PANELS = {
    "t2_star": ("T2* [s]", "viridis", 0.1),
    "b1": ("B1+ / nominal", "cividis", 2.0),
    "fluid": ("Share of fluid", "gray", 1.0),
}
SD_PANELS = {1: ("T1 ± [%]", "cividis", 40.0), 2: ("T2 ± [%]", "cividis", 40.0)}
"""Channel -> panel. A standard deviation of 0.4 of the logarithm is a map that is little more than a guess."""
AXIAL = "Axial, radiological display: the patient's right is on the left."
THREE_VIEWS = "Axial and coronal, the patient's right on the left; sagittal, the face on the left."

# Sizes [inch].
PANEL, GAP, SECTION_GAP, EDGE = 2.2, 0.05, 0.4, 0.15
HEADING, TITLE_LINE, BAR, ROW_GAP, FOOT = 0.36, 0.17, 0.32, 0.12, 0.25
HEADING_LETTER, FOOT_LETTER = 0.105, 0.06
"""Mean width of a letter [inches]: a picture of few panels is as wide as its text."""
DOTS_PER_INCH = 120
T = TypeVar("T")


class Panel(NamedTuple):
    """One image with its title.

    Attributes:
        title: what it shows, in one line or more.
        image: rows from front to back, the patient's right in the first column; NaN is black.
        colours: name of the colour map.
        low: value of its first colour.
        high: value of its last colour.
        bar: draw the colour bar.
    """

    title: str
    image: np.ndarray
    colours: str
    low: float
    high: float
    bar: bool = False


class Section(NamedTuple):
    """Panels that belong together, side by side."""

    heading: str
    panels: list[Panel]


def request_title(request: RenderRequest) -> str:
    """``fig3a (T1w)`` and, in further lines, its times and flip angles."""
    return "\n".join([f"{request.name} ({request.suffix})", *acquisition_lines(request.acquisition)])


def acquisition_lines(one: Acquisition) -> list[str]:
    """``TE 3 ms  TR 2.4 s  TI 1 s  FA 8°`` in lines that fit above a panel."""
    if one.sequence == UNKNOWN:
        return ["acquisition unknown"]
    times = (("TE", one.te), ("TEeq", one.te_equivalent), ("TR", one.tr), ("TI", one.ti), ("TI2", one.ti2))
    angles = (("FA", one.flip_angle), ("FA2", one.flip_angle2))
    values = [f"{name} {format_time(value)}" for name, value in times if value is not None]
    values += [f"{name} {value:.3g}°" for name, value in angles if value is not None]
    length = len(values) if len("  ".join(values)) <= LINE else 3
    return ["  ".join(values[i : i + length]) for i in range(0, len(values), length)]


def format_time(seconds: float) -> str:
    """``3 ms``, ``2.4 s``."""
    return f"{seconds * 1000:.3g} ms" if seconds < 0.1 else f"{seconds:.3g} s"


def few(requests: Sequence[T]) -> list[T]:
    """What a picture shows of many contrasts: at most :data:`MOST_CONTRASTS`, spread over all of them."""
    if len(requests) <= MOST_CONTRASTS:
        return [*requests]
    return [requests[i] for i in np.linspace(0, len(requests) - 1, MOST_CONTRASTS).round().astype(int)]


def overview(
    path: Path,
    title: str,
    maps: np.ndarray,
    sd: np.ndarray | None,
    mask: np.ndarray,
    inputs: Mapping[str, np.ndarray],
    contrasts: Mapping[str, np.ndarray],
    options: Mapping[str, np.ndarray] = MappingProxyType({}),
    count: int | None = None,
    footnote: str = AXIAL,
) -> None:
    """Picture of one subject: its scans, the maps with units and colour bars, rendered contrasts, the uncertainty.

    Args:
        path: the PNG.
        title: name of the subject.
        maps: one axial slice of PD, T1, T2 ``(3, X, Y)``, RAS.
        sd: their log-domain standard deviations, or None.
        mask: foreground ``(X, Y)``.
        inputs: title -> scan ``(X, Y)``.
        contrasts: title -> rendered contrast ``(X, Y)``.
        options: ``t2_star``, ``b1``, ``fluid`` -> its map ``(X, Y)``.
        count: number of all rendered contrasts, where these are some of them.
        footnote: how slices are shown.
    """
    view = _view(mask)
    inside = view(mask).astype(bool)
    rendered = f"{len(contrasts)} of {count} new contrasts" if count and count > len(contrasts) else "New contrasts"
    panels = [*zip(MAP_PANELS, maps), *((OPTION_PANELS[name], values) for name, values in options.items())]
    sections = [
        Section("Scans", [_grey(name, view(image), inside) for name, image in inputs.items()]),
        Section("Tissue maps", [_map(panel, view(values), inside) for panel, values in panels]),
        Section(f"{rendered}, rendered from the maps", [_grey(name, view(x), inside) for name, x in contrasts.items()]),
    ]
    if sd is not None:
        uncertain = [_map(panel, 100 * view(sd[channel]), inside) for channel, panel in SD_PANELS.items()]
        sections.append(Section("Uncertainty: standard deviation", uncertain))
    path.write_bytes(_draw(title, _flow(sections), footnote))


def montage(
    samples: Mapping[str, tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]], count: int, footnote: str = AXIAL
) -> bytes:
    """Picture of the first samples, one a row: maps and one contrast of each kind.

    Args:
        samples: name -> maps ``(3, X, Y)``, foreground, title -> contrast; at most :data:`MOST_SAMPLES` are shown.
        count: number of all samples, for the title.
        footnote: how slices are shown.
    """
    rows = []
    for name, (maps, mask, contrasts) in [*samples.items()][:MOST_SAMPLES]:
        # The whole field of view, so that slices keep their relative size.
        view = _view(np.ones_like(mask))
        inside = view(mask).astype(bool)
        panels = [_map(panel, view(values), inside) for panel, values in zip(MAP_PANELS, maps)]
        rendered = [_grey(title, view(image), inside) for title, image in contrasts.items()]
        rows.append([Section(f"{name}: generated maps", panels), Section("Contrasts rendered from them", rendered)])
    title = f"{count} samples" if count <= MOST_SAMPLES else f"The first {MOST_SAMPLES} of {count} samples"
    return _draw(title, rows, footnote)


def comparison(title: str, rows: Sequence[tuple[str, Sequence[tuple[str, np.ndarray]]]], footnote: str) -> bytes:
    """Picture of images of one size whose intensities can be compared: all have the window from 0 to 1.

    Args:
        title: what it shows.
        rows: heading -> title and slice ``(X, Y)`` of each image of a row.
        footnote: how slices are shown.
    """
    sections = []
    for heading, images in rows:
        view = _view(np.ones_like(images[0][1], dtype=bool))
        sections.append([Section(heading, [Panel(name, view(image), "gray", 0.0, 1.0) for name, image in images])])
    return _draw(title, sections, footnote)


def _view(mask: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Cuts a slice ``(X, Y)`` to the foreground and turns it: rows from front to back, columns from right to left."""
    where = np.argwhere(mask if mask.any() else np.ones_like(mask))
    low, high = np.maximum(where.min(0) - MARGIN, 0), where.max(0) + 1 + MARGIN
    return lambda image: np.rot90(image[low[0] : high[0], low[1] : high[1]])[:, ::-1]


def window(image: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Darkest and brightest grey that a reader would choose for the brain, whatever the scalp does.

    The brain is taken for the deeper half of the foreground: scalp, skull and the fluid around the brain lie in the
    other. The window is a little wider than its range: fluid of a T1w is not as black as air, grey matter of a FLAIR
    not as white as can be. Where fluid outshines tissue, as in a T2w, fluid is white throughout.
    """
    depth = distance_transform_edt(binary_fill_holes(inside))
    part = image[inside & (depth >= np.median(depth[inside]))] if inside.any() else image
    floor, low, middle, high = float(image.min()), *np.percentile(part, [1, 50, 99])
    high = min(high, floor + BRIGHTEST * (middle - floor))
    low, high = floor + 0.7 * (low - floor), high + 0.15 * (high - low)
    return low, max(high, low + 1e-6)


def _grey(title: str, image: np.ndarray, inside: np.ndarray) -> Panel:
    return Panel(title, image, "gray", *window(image, inside))


def _map(panel: tuple[str, str, float | None], image: np.ndarray, inside: np.ndarray) -> Panel:
    title, colours, top = panel
    low, high = (0.0, top) if top else window(image, inside)
    return Panel(title, np.where(inside, image, np.nan), colours, low, high, bar=True)


def _flow(sections: Iterable[Section]) -> list[list[Section]]:
    """Sections in rows of at most :data:`COLUMNS` panels; one that is too long for a row is continued in the next."""
    rows: list[list[Section]] = []
    for heading, panels in sections:
        for i in range(0, len(panels), COLUMNS):
            part = Section(heading if i == 0 else "", panels[i : i + COLUMNS])
            if not rows or sum(len(section.panels) for section in rows[-1]) + len(part.panels) > COLUMNS:
                rows.append([])
            rows[-1].append(part)
    return rows


def _draw(title: str, rows: Sequence[Sequence[Section]], footnote: str) -> bytes:
    """A PNG, white on black as on a reading screen. Every panel has the size of the first one."""
    shape = rows[0][0].panels[0].image.shape
    height = PANEL * shape[0] / shape[1]
    lines = [max(panel.title.count("\n") + 1 for section in row for panel in section.panels) for row in rows]
    bars = [any(panel.bar for section in row for panel in section.panels) for row in rows]
    widths = [sum(len(s.panels) * (PANEL + GAP) - GAP for s in row) + SECTION_GAP * (len(row) - 1) for row in rows]
    heights = [HEADING + TITLE_LINE * n + height + BAR * bar + ROW_GAP for n, bar in zip(lines, bars)]
    headings = [HEADING_LETTER * len(section.heading) for row in rows for section in row[:1] if len(row) == 1]
    width = max(*widths, *headings, FOOT_LETTER * len(f"{title}. {footnote}"))
    size = width + 2 * EDGE, sum(heights) + FOOT + EDGE
    figure = Figure(figsize=size, facecolor="black")

    def text(x: float, y: float, string: str, **style) -> None:
        figure.text(x / size[0], y / size[1], string, **{"color": "white", "va": "bottom", **style})

    y = size[1] - EDGE
    for row, count, row_height in zip(rows, lines, heights):
        x, top = EDGE, y - HEADING - TITLE_LINE * count
        for number, section in enumerate(row):
            if number:
                text(x - SECTION_GAP / 2, top - height / 2, "›", fontsize=26, ha="center", va="center", color="silver")
            text(x, y - HEADING + 0.1, section.heading, fontsize=12, weight="bold")
            for panel in section.panels:
                box = np.array([x, top - height, PANEL, height]) / np.tile(size, 2)
                axis = figure.add_axes(box, facecolor="black", xticks=[], yticks=[])
                axis.spines[:].set_visible(False)
                axis.imshow(panel.image, cmap=panel.colours, vmin=panel.low, vmax=panel.high)
                axis.set_title(panel.title, fontsize=8, color="white", pad=3)
                axis.text(0.02, 0.98, "R", color="white", fontsize=8, va="top", transform=axis.transAxes)
                if panel.bar:
                    bar = np.array([x + 0.1 * PANEL, top - height - 0.11, 0.8 * PANEL, 0.07]) / np.tile(size, 2)
                    _colour_bar(figure, panel, bar)
                x += PANEL + GAP
            x += SECTION_GAP - GAP
        y -= row_height
    text(EDGE, 0.08, f"{title}. {footnote}", fontsize=8, color="silver")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def _colour_bar(figure: Figure, panel: Panel, box: np.ndarray) -> None:
    axis = figure.add_axes(box)
    colours = ScalarMappable(Normalize(panel.low, panel.high), panel.colours)
    figure.colorbar(colours, cax=axis, orientation="horizontal", extend="both" if panel.low else "max")
    axis.tick_params(labelsize=7, colors="white", length=2, pad=1)
    axis.locator_params(nbins=4)

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
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import binary_erosion

from ..acquisition import RenderRequest

COLUMNS = 4
MOST_SAMPLES = 12
MARGIN = 4
LINE = 36
"""Characters that fit above a panel."""
# Title, colours, and the top of the scale; None is the foreground's 99.5 percentile.
MAP_PANELS = (("PD [relative]", "gray", None), ("T1 [s]", "inferno", 3.0), ("T2 [s]", "viridis", 0.25))
OPTION_PANELS = {"t2_star": ("T2* [s]", "viridis", 0.125), "b1": ("B1+ / nominal", "cividis", 2.0)}
SD_PANELS = ("sd of ln PD", "sd of ln T1", "sd of ln T2")
SD_SHOWN = 0.5
"""Largest standard deviation that the colours tell apart: beyond it a map is little more than a guess."""
SCALP = 15
"""How deep the scalp and the skull may go [voxels]."""
FOOTNOTE = "Axial, seen from above: the patient's right is on the right."


def request_title(request: RenderRequest) -> str:
    """``fig3a T1w`` and, in a second line, its times and flip angles; in a third what does not fit."""
    one = request.acquisition
    times = (("TE", one.te), ("TEeq", one.te_equivalent), ("TR", one.tr), ("TI", one.ti), ("TI2", one.ti2))
    angles = (("FA", one.flip_angle), ("FA2", one.flip_angle2))
    values = [f"{name} {format_time(value)}" for name, value in times if value is not None]
    values += [f"{name} {value:g}°" for name, value in angles if value is not None]
    length = len(values) if len("  ".join(values)) <= LINE else 3
    lines = ["  ".join(values[i : i + length]) for i in range(0, len(values), length)]
    return "\n".join([f"{request.name} {request.suffix}", *lines])


def format_time(seconds: float) -> str:
    """``3 ms``, ``2.4 s``."""
    return f"{seconds * 1000:.3g} ms" if seconds < 0.1 else f"{seconds:.3g} s"


def overview(
    path: Path,
    title: str,
    maps: np.ndarray,
    sd: np.ndarray | None,
    mask: np.ndarray,
    inputs: Mapping[str, np.ndarray],
    contrasts: Mapping[str, np.ndarray],
    options: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> None:
    """Picture of one subject: its scans, the maps with units and colour bars, the rendered contrasts.

    Args:
        path: the PNG.
        title: name of the subject.
        maps: one axial slice of PD, T1, T2 ``(3, X, Y)``, RAS.
        sd: their log-domain standard deviations, or None.
        mask: foreground ``(X, Y)``.
        inputs: title -> scan ``(X, Y)``.
        contrasts: title -> rendered contrast ``(X, Y)``.
        options: ``t2_star``, ``b1`` -> its map ``(X, Y)``.
    """
    view = _view(mask)
    inside = view(mask).astype(bool)
    sections = [[_grey(f"scan {name}", view(image), inside) for name, image in inputs.items()]]
    panels = [*zip(MAP_PANELS, maps), *((OPTION_PANELS[name], values) for name, values in options.items())]
    sections.append([_map(panel, view(values), inside) for panel, values in panels])
    if sd is not None:
        sections.append([_sd(name, view(values), inside) for name, values in zip(SD_PANELS, sd)])
    sections.append([_grey(name, view(image), inside) for name, image in contrasts.items()])
    rows = [section[i : i + COLUMNS] for section in sections for i in range(0, len(section), COLUMNS)]
    path.write_bytes(_draw(title, rows, inside.shape))


def montage(samples: Mapping[str, tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]], count: int) -> bytes:
    """Picture of the first samples, one a row: maps and one contrast of each kind.

    Args:
        samples: name -> maps ``(3, X, Y)``, foreground, title -> contrast; at most :data:`MOST_SAMPLES` are shown.
        count: number of all samples, for the title.
    """
    rows, shape = [], (1, 1)
    for name, (maps, mask, contrasts) in [*samples.items()][:MOST_SAMPLES]:
        # The whole field of view, so that slices keep their relative size.
        view = _view(np.ones_like(mask))
        inside, shape = view(mask).astype(bool), mask.shape[1::-1]
        panels = [_map(panel, view(values), inside) for panel, values in zip(MAP_PANELS, maps)]
        rows.append([*panels, *(_grey(title, view(image), inside) for title, image in contrasts.items())])
        rows[-1][0] = _labelled(rows[-1][0], name)
    title = f"{count} samples" if count <= MOST_SAMPLES else f"The first {MOST_SAMPLES} of {count} samples"
    return _draw(title, rows, shape)


def _view(mask: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Cuts a slice ``(X, Y)`` to the foreground and turns it: rows from front to back."""
    where = np.argwhere(mask if mask.any() else np.ones_like(mask))
    low, high = np.maximum(where.min(0) - MARGIN, 0), where.max(0) + 1 + MARGIN
    return lambda image: np.rot90(image[low[0] : high[0], low[1] : high[1]])


def _grey(title: str, image: np.ndarray, inside: np.ndarray) -> Callable[[Axes], None]:
    def draw(axis: Axes) -> None:
        # Scalp is the brightest of many contrasts; what lies deeper is to be seen.
        deep = binary_erosion(inside, iterations=SCALP)
        part = image[deep if deep.any() else inside]
        low, high = np.percentile(part, [0.5, 99.5]) if part.size else (0, 1)
        # Scaled scans have air at -1; rendered ones at 0.
        low = min(low, float(image.min()))
        axis.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
        axis.set_title(title, fontsize=9)

    return draw


def _map(panel: tuple[str, str, float | None], image: np.ndarray, inside: np.ndarray) -> Callable[[Axes], None]:
    title, colours, top = panel
    top = top or (float(np.percentile(image[inside], 99.5)) if inside.any() else 1.0)

    def draw(axis: Axes) -> None:
        shown = axis.imshow(np.where(inside, image, np.nan), cmap=colours, vmin=0, vmax=top)
        axis.set_facecolor("black")
        bar = axis.figure.colorbar(shown, ax=axis, location="bottom", shrink=0.8, aspect=25, pad=0.02, extend="max")
        bar.ax.tick_params(labelsize=7)
        axis.set_title(title, fontsize=9)

    return draw


def _sd(title: str, image: np.ndarray, inside: np.ndarray) -> Callable[[Axes], None]:
    return _map((title, "cividis", SD_SHOWN), image, inside)


def _labelled(draw: Callable[[Axes], None], label: str) -> Callable[[Axes], None]:
    def labelled(axis: Axes) -> None:
        draw(axis)
        axis.set_ylabel(label, fontsize=9)

    return labelled


def _draw(title: str, rows: Iterable[list[Callable[[Axes], None]]], shape: tuple[int, int]) -> bytes:
    """A PNG with one panel per function; a row shorter than the others is left-aligned."""
    rows = list(rows)
    columns, width = max(map(len, rows)), 2.4
    height = width * shape[0] / shape[1] + 0.45
    figure = Figure(figsize=(columns * width, len(rows) * height + 0.7), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for line, row in zip(axes, rows):
        for axis, draw in zip(line, row):
            draw(axis)
        for axis in line[len(row) :]:
            axis.axis("off")
    figure.suptitle(title, fontsize=12)
    figure.supxlabel(FOOTNOTE, fontsize=7, color="gray")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()

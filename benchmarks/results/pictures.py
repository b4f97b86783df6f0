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

"""Pictures of the results: small JPEGs, maps with units and colour bars, in radiological display."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from scripts.commands.report import AXIAL, MAP_PANELS
from scripts.tissue import Estimate

from .truth import Truth

LARGEST = 290_000
"""Bytes of a file."""
ERROR_TOP, SD_TOP = 0.5, 0.5
"""Ends of the scales of errors and standard deviations of the logarithm."""

Panel = Callable[[Axes], None]


def draw(path: Path, title: str, rows: Sequence[Sequence[Panel]], width: float = 2.0, footnote: str = AXIAL) -> None:
    """Writes panels as a JPEG, at the best quality that keeps it small.

    Args:
        path: the file.
        title: above all.
        rows: panels of each row; a shorter one is left-aligned.
        width: of a panel [inch].
        footnote: below all.
    """
    columns = max(map(len, rows))
    figure = Figure(figsize=(columns * width, len(rows) * width * 1.35 + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, panels in zip(axes, rows):
        for axis in line:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, panel in zip(line, panels):
            panel(axis)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(footnote, fontsize=7, color="gray")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    save(path, Image.open(buffer))


def save(path: Path, image: Image.Image) -> None:
    """Writes a JPEG of at most :data:`LARGEST` bytes."""
    for quality in range(90, 10, -10):
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= LARGEST:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())


def grey(title: str, image: Tensor, top: float, outline: Tensor | None = None) -> Panel:
    """A contrast ``(X, Y)`` from 0 to ``top``, with the outline of a region."""

    def panel(axis: Axes) -> None:
        axis.imshow(turned(image), cmap="gray", vmin=0, vmax=top)
        if outline is not None and outline.any():
            axis.contour(turned(outline), [0.5], colors="red", linewidths=0.5)
        axis.set_title(title, fontsize=8)

    return panel


def coloured(title: str, image: Tensor, colours: str, low: float, high: float, mask: Tensor) -> Panel:
    """A map ``(X, Y)`` inside a mask, with its colour bar."""

    def panel(axis: Axes) -> None:
        shown = axis.imshow(np.where(turned(mask), turned(image), np.nan), cmap=colours, vmin=low, vmax=high)
        axis.set_facecolor("black")
        bar = axis.figure.colorbar(shown, ax=axis, location="bottom", shrink=0.8, aspect=25, pad=0.02)
        bar.ax.tick_params(labelsize=6)
        axis.set_title(title, fontsize=8)

    return panel


def turned(image: Tensor) -> np.ndarray:
    """A slice ``(X, Y)`` as rows from front to back, columns from the patient's right to the left."""
    return np.rot90(np.asarray(image))[:, ::-1]


def maps_picture(path: Path, title: str, truth: Truth, estimate: Estimate) -> None:
    """True and estimated maps of the middle slice, their difference and the stated standard deviation."""
    z, mask = truth.maps.shape[-1] // 2, truth.mask[..., truth.maps.shape[-1] // 2]
    rows = []
    for channel, (name, colours, top) in enumerate(MAP_PANELS):
        true, found = truth.maps[channel, ..., z], estimate.maps[0, channel, ..., z]
        level = truth.maps[0][truth.labels == 3].median() / estimate.maps[0, 0][truth.labels == 3].median()
        found = found * level if channel == 0 else found
        error = (found / true.clamp_min(1e-6)).clamp_min(1e-6).log()
        top, what, tissue = top or 1.2, name.split()[0], mask & (truth.maps[0, ..., z] > 0)
        rows.append(
            [
                coloured(f"true {name}", true, colours, 0, top, mask),
                coloured(f"estimated {name}", found, colours, 0, top, mask),
                coloured(f"ln({what} / true)", error, "RdBu_r", -ERROR_TOP, ERROR_TOP, tissue),
                coloured(f"sd of ln {what}", estimate.sd[0, channel, ..., z], "cividis", 0, SD_TOP, tissue),
            ]
        )
    draw(path, title, rows)


def contrasts_picture(
    path: Path, title: str, names: Sequence[str], target: Tensor, image: Tensor, mask: Tensor, brain: Tensor
) -> None:
    """True and rendered contrasts ``(M, X, Y)`` and their difference; the brain sets the grey scale."""
    rows = [[], [], []]
    for name, true, found in zip(names, target, image):
        top = float(np.percentile(true[brain], 99.5))
        rows[0].append(grey(f"{name}\ntrue", true, top))
        rows[1].append(grey("from estimated maps", found * mask, top))
        rows[2].append(coloured("difference / brightest", (found - true) / top, "RdBu_r", -0.25, 0.25, mask))
    draw(path, title, rows, width=1.6)

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

"""Pictures of a harmonised folder: images of some sessions in one window, and intensities of all."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from ....acquisition import RenderRequest
from ....bids import Session, load_image, output_path
from ....estimate.maps import Maps
from ...report import COLUMNS, acquisition_lines, comparison
from ..consoles import load_scans, scan_title
from ..products import read_maps
from .intensities import ACQUIRED, HARMONISED, TISSUES, brain_of, read_labels, scaled
from .spread import RATIO

MARGIN = 4
"""Air around a head [voxels]."""
COLOURS = {ACQUIRED: "tab:gray", HARMONISED: "tab:blue"}
FOOTNOTE = (
    "Intensities from 0 to the 99.5 percentile of the brain, one window for all. Scans lie where their headers say. "
    "Axial, radiological display: the patient's right is on the left."
)


def comparison_picture(title: str, root: Path, records: Mapping[str, dict], requests: Sequence[RenderRequest]) -> bytes:
    """A PNG with two rows for each contrast: as scanned, and rendered at the protocol; one column a session.

    Args:
        title: name of the protocol.
        root: folder of the study.
        records: session records by name; some of them, evenly spread, are shown.
        requests: the contrasts of the protocol.
    """
    names = [*records]
    if len(names) > COLUMNS:
        names = [names[i] for i in np.linspace(0, len(names) - 1, COLUMNS).round().astype(int)]
    before: dict[str, list] = {request.name: [] for request in requests}
    after: dict[str, list] = {request.name: [] for request in requests}
    for name in names:
        record = records[name]
        session: Session = record["session"]
        maps = read_maps(root, session)
        scans = load_scans(session, maps)
        brain = brain_of(read_labels((root,), session, maps), maps.mask)
        lines = {scan_title(session, contrast.path): (contrast.suffix, acquisition)
                 for contrast, acquisition in zip(session.contrasts, record["acquisitions"])}  # fmt: skip
        for request in requests:
            scan = next((one for one in scans if lines[one][0] == request.suffix), None)
            told = [] if scan is None or lines[scan][1].alternatives else acquisition_lines(lines[scan][1])
            image = np.zeros(maps.mask.shape, np.float32) if scan is None else scans[scan]
            heading = "\n".join([name if scan else f"{name}: not scanned", *told])
            before[request.name].append((heading, _slice(image, maps, brain)))
            path = output_path(root, session, request.suffix, acq=request.name)
            after[request.name].append((name, _slice(load_image(path, uniform=True)[0], maps, brain)))
    shape = np.max([image.shape for row in before.values() for _, image in row], 0)
    rows = []
    for request in requests:
        settings = "  ".join(acquisition_lines(request.acquisition))
        rows.append((f"{request.suffix} as scanned", _padded(before[request.name], shape)))
        rows.append((f"{request.suffix} at {title}:  {settings}", _padded(after[request.name], shape)))
    return comparison(f"{len(names)} of {len(records)} sessions", rows, FOOTNOTE)


def _slice(image: np.ndarray, maps: Maps, brain: np.ndarray) -> np.ndarray:
    """The axial slice to show, scaled as the whole image and cut to the head."""
    array = scaled(image, brain, maps.affine)[0] if image.any() else image
    where = np.argwhere(maps.mask.any(2))
    (left, back), (right, front) = np.maximum(where.min(0) - MARGIN, 0), where.max(0) + 1 + MARGIN
    return array[left:right, back:front, maps.middle]


def _padded(row: Sequence[tuple[str, np.ndarray]], shape: np.ndarray) -> list[tuple[str, np.ndarray]]:
    gaps = [shape - image.shape for _, image in row]
    pads = [[(gap // 2, gap - gap // 2) for gap in both] for both in gaps]
    return [(name, np.pad(image, pad)) for (name, image), pad in zip(row, pads)]


def spread_picture(medians: DataFrame, found: DataFrame) -> bytes:
    """A PNG with one panel for each contrast: the median intensity of each tissue in each session, in both stages.

    Args:
        medians: result of :func:`.spread.per_session`.
        found: result of :func:`.spread.spreads`.
    """
    suffixes = [*dict.fromkeys(found["suffix"])]
    figure = Figure(figsize=(4.2 * len(suffixes), 3.6), layout="constrained")
    axes = figure.subplots(1, len(suffixes), squeeze=False)[0]
    for axis, suffix in zip(axes, suffixes):
        for place, tissue in enumerate((*TISSUES, RATIO)):
            part = medians[(medians["suffix"] == suffix) & (medians["tissue"] == tissue)]
            for offset, stage in ((-0.17, ACQUIRED), (0.17, HARMONISED)):
                values = part[stage].dropna().to_numpy()
                x = place + offset + np.linspace(-0.1, 0.1, len(values)) * (len(values) > 1)
                label = stage if place == 0 else None
                axis.plot(x, values, "o", ms=4, color=COLOURS[stage], alpha=0.8, mew=0, label=label)
        axis.set_xticks(range(len(TISSUES) + 1), [*TISSUES, RATIO])
        axis.set_title(suffix)
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("median intensity, bright level = 1; ratio")
    axes[0].legend(frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()

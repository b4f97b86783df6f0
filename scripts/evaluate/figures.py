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


"""Figures 1, 3 and 4 of Luepke et al. 2024 from a folder of maps, and noise beside that of real scans."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import ndimage
from torch import Tensor

from ..acquisition import RenderRequest, load_render, read_json
from ..bids import Session, find_sessions, load_image
from ..bids.names import stem
from ..errors import UserError
from ..files import check_writable
from ..preprocess.session import filled_foreground
from ..render import SignalModel
from ..tissue import MAPS
from ..train.monitor import upright
from . import noise, relaxation
from .page import Part, Picture, Table, png_of, write_page

PUBLISHED = "fig3"
"""Preset of the settings of the paper's Figure 3."""
TE, TR, TI = (0.01, 0.09, 0.3), (2.0, 4.0, 9.0), (0.25, 0.5, 1.0, 2.5)
"""Sweep of an inversion recovery [s]."""
T1W = {"name": "t1w", "suffix": "T1w", "EchoTime": 0.003, "RepetitionTime": 2.4, "InversionTime": 1.0}
TOPS = {"PD": 1.2, "T1": 3.0, "T2": 0.25}
"""Upper end of the grey scale of a map [s, relative to water]."""
BRIGHT = 95
"""Percentile of the head that is white in a contrast."""
HEAD = 0.1
"""Share of the bright level above which a voxel of a scan is of the head."""
FIGURE1 = "Tissue maps, as Figure 1 of the paper. The patient's right is on the left, as in all figures."
FIGURE3 = (
    "One brain by the settings of the paper's Figure 3; the first of each sequence lies in the training data of the "
    "paper. Its second setting, TI 1.0 s with TR 0.1 s, is left out: no inversion lies before the one before it."
)
SWEEP = (
    "Inversion recovery, spin echo: TI down, TR and TE across. Magnitudes, each on its own grey scale; '–': TI > TR."
)
NOISE = (
    "Noise of scans, read from their air, or, where the scanner set this to zero (KS distance '–'), from differences "
    "of neighbours in the head; given to a rendered slice of another head. Powers are those at the highest frequencies "
    "over sigma²: means over squares of 16 voxels in the air, where noise of one coil has 2 - pi/2 = .43; in the brain "
    "those of the square with least anatomy, where noise alone has about 1. Zero-filled or filtered k-space lowers the "
    "power of a scan there; added noise is white."
)


@dataclass(eq=False)
class Figures:
    """Draws the figures and writes their page. Building this object reads nothing.

    Args:
        maps: sessions with maps, see :func:`scripts.bids.find_maps`.
        output_dir: folder of the page.
        without_prior: sessions with maps of a model without the prior; None for none.
        scans_dir: folder of real scans for noise; None leaves noise out.
        equations: ``exact``, or ``paper`` for the published ones.
        heads: how many sessions count for histograms.
        seed: of the noise.
    """

    maps: Iterable[Session]
    output_dir: str | Path
    without_prior: Iterable[Session] | None = None
    scans_dir: str | Path | None = None
    equations: str = "exact"
    heads: int = 100
    seed: int = 0

    def run(self) -> Path:
        """Draws and writes.

        Raises:
            UserError: for folders without maps or scans, and one that cannot be written.
        """
        root = check_writable(self.output_dir)
        sources = {"with the prior" if self.without_prior is not None else "maps": self.maps}
        sources |= {} if self.without_prior is None else {"without the prior": self.without_prior}
        loaded = {name: [_load(one) for one in islice(sessions, self.heads)] for name, sessions in sources.items()}
        first, _ = next(iter(loaded.values()))[0]
        middle = first[..., first.shape[-1] // 2]
        content: list[Part] = [
            Picture("figure1", "Tissue maps", draw_maps(middle), FIGURE1),
            Picture("figure3", "One brain, many contrasts", self._contrasts(middle), FIGURE3),
            Picture("sweep", "TE, TR and TI", draw_sweep(middle), SWEEP),
            Picture("figure4", "T1 and T2", relaxation.histogram(_times(loaded)), relaxation.FIGURE4),
        ]
        named = {
            name: _tissues(found) for name, found in loaded.items() if all(labels is not None for _, labels in found)
        }
        if named and (rows := relaxation.rows(named)):
            content.append(Table("relaxation", "T1 and T2 of each tissue", rows, note=relaxation.TABLE4))
        if self.scans_dir is not None:
            content += self._noise(middle)
        page = write_page(root, "figures", "Figures of the paper", content, {"heads": len(next(iter(loaded.values())))})
        print(page, flush=True)
        return page

    def _contrasts(self, maps: np.ndarray) -> bytes:
        requests = load_render(PUBLISHED, self.equations)
        rows: dict[str, list[RenderRequest]] = {}
        for request in requests:
            rows.setdefault(request.suffix, []).append(request)
        figure = Figure((2.2 * max(map(len, rows.values())), 2.9 * len(rows)), layout="constrained")
        axes = figure.subplots(len(rows), max(map(len, rows.values())), squeeze=False)
        for line, one in zip(axes, rows.values()):
            for axis in line:
                axis.axis("off")
            for axis, request in zip(line, one):
                image = _render(maps, request)
                axis.imshow(upright(image), cmap="gray", vmin=0, vmax=_bright(image))
                row = request.acquisition
                times = "–".join(f"{value:g}" for value in (row.te, row.tr, row.ti) if value is not None)
                axis.set_title(f"{request.suffix} {times} s", fontsize=8)
        return png_of(figure)

    def _noise(self, maps: np.ndarray) -> list[Part]:
        rows, pictures = [], []
        [request] = load_render([T1W], self.equations)
        rendered = _render(maps, request)
        for session in find_sessions(self.scans_dir):
            for contrast in session.contrasts:
                scan, head = _slice(contrast.path)
                name = contrast.path.name.split(".")[0]
                found = noise.measure(scan, head)
                png, powers = noise.draw(name, scan, head, found, rendered, filled_foreground(maps[0] > 0), self.seed)
                facts = {"sigma": found.sigma, "coils": found.coils, "SNR": found.snr, "KS distance": found.distance}
                rows.append({"scan": name} | facts | powers)
                title = f"Noise of {name} and of a rendered slice"
                pictures.append(Picture(f"noise_{len(pictures) + 1}", title, png))
        return [Table("noise", "Noise of scans", rows, note=NOISE), *pictures]


def draw_maps(maps: np.ndarray) -> bytes:
    """PD, T1 and T2 of a slice ``(3, X, Y)``."""
    figure = Figure((9, 3.6), layout="constrained")
    for axis, name, image in zip(figure.subplots(1, len(MAPS)), MAPS, maps):
        shown = axis.imshow(upright(image), cmap="gray", vmin=0, vmax=TOPS[name])
        axis.set_title(name if name == "PD" else f"{name} [s]", fontsize=9)
        axis.axis("off")
        figure.colorbar(shown, ax=axis, shrink=0.7)
    return png_of(figure)


def draw_sweep(maps: np.ndarray) -> bytes:
    """Inversion recovery of a slice ``(3, X, Y)`` over :data:`TE`, :data:`TR` and :data:`TI`."""
    figure = Figure((1.5 * len(TE) * len(TR), 2.1 * len(TI)), layout="constrained")
    axes = figure.subplots(len(TI), len(TE) * len(TR))
    for line, ti in zip(axes, TI):
        for axis, (tr, te) in zip(line, product(TR, TE)):
            axis.axis("off")
            axis.set_title(f"TI {ti:g} TR {tr:g} TE {te:g}", fontsize=6)
            request = {"name": "sweep", "suffix": "T1w", "sequence": "inversion_recovery"}
            request |= {"EchoTime": te, "RepetitionTime": tr, "InversionTime": ti}
            try:
                image = _render(maps, load_render([request])[0])
            except UserError:
                axis.imshow(np.zeros(maps.shape[:0:-1]), cmap="gray")
                axis.text(0.5, 0.5, "–", ha="center", color="white", transform=axis.transAxes)
                continue
            axis.imshow(upright(image), cmap="gray", vmin=0, vmax=_bright(image))
    return png_of(figure)


def _render(maps: np.ndarray, request: RenderRequest) -> np.ndarray:
    rows: Tensor = request.acquisition.to_row()[None, None]
    return SignalModel()(torch.from_numpy(maps)[None], rows)[0, 0].numpy()


def _bright(image: np.ndarray) -> float:
    """Upper end of the grey scale: fat may be brighter than any brain."""
    return float(np.percentile(image[image > 0], BRIGHT))


def _load(session: Session) -> tuple[np.ndarray, np.ndarray | None]:
    """Maps ``(3, X, Y, Z)`` and labels of a session, None where it has none."""
    maps = np.stack([load_image(session.maps[f"{name}map"], uniform=True)[0] for name in MAPS]).astype(np.float32)
    path = session.maps["T1map"]
    labels = path.with_name(path.name.replace("T1map", "dseg"))
    if not labels.exists():
        return maps, None
    sidecar = labels.with_name(f"{stem(labels)}.json")
    stated = read_json(sidecar).get("Labels", {}) if sidecar.exists() else {}
    for tissue, number in relaxation.TISSUES.items():
        if stated and stated.get(str(number)) != tissue:
            found = f"{stated.get(str(number))!r} for {number}, where {tissue} is meant"
            raise UserError(sidecar, found, "make these maps anew: the numbers of tissues have changed since")
    return maps, load_image(labels, uniform=True)[0]


def _tissues(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    each = [relaxation.tissue_values(maps, labels) for maps, labels in found]
    return {
        tissue: {name: np.concatenate([one[tissue][name] for one in each]) for name in both}
        for tissue, both in each[0].items()
    }


def _times(loaded: dict[str, list]) -> dict[str, list[np.ndarray]]:
    """Source -> T1 and T2 of all voxels that have them."""
    return {
        source: [np.concatenate([maps[n][maps[n] > 0] for maps, _ in found]) for n in (1, 2)]
        for source, found in loaded.items()
    }


def _slice(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The slice across a scan's shortest axis in its middle, and where the head is."""
    data, _ = load_image(path)
    axis = int(np.argmin(data.shape))
    scan = np.take(data, data.shape[axis] // 2, axis)
    bright = ndimage.gaussian_filter(scan, 1.0) > HEAD * np.percentile(scan, 99.5)
    # The skull is as dark as air; closing joins the scalp with the brain.
    return scan, filled_foreground(ndimage.binary_closing(np.pad(bright, 8), iterations=6)[8:-8, 8:-8])

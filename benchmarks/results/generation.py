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

"""Samples of the generator beside heads that it was not trained on."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from scripts.acquisition import load_render
from scripts.bids import Session
from scripts.commands.study.products import read_maps
from scripts.errors import UserError
from scripts.render import SignalModel

from .anatomy import Segments, areas, segment
from .label_maps import canonical, label_truth
from .page import percent, table
from .pictures import save, turned

TRAINED, HELD_OUT = range(1, 12), range(12, 17)
"""Numbers of the heads that training used, and of the others."""
CEREBRUM = (2, 3, 41, 42)
LEVELS = ((-10, 5), (5, 20), (20, 35))
"""Ranges of slices that are compared [mm above the centre of the cerebrum]: the rule fails at the base of the skull."""
EVERY = {"training": 4, "held-out": 5}
"""Distance of the slices of label maps [mm]."""
CONTRAST = "mprage"
CANVAS, POOL = (192, 224), 8
COLUMNS, SHOWN, TILE = 8, 64, (112, 132)
LITERATURE = json.loads(Path(__file__).with_name("intervals.json").read_text(encoding="utf-8"))
"""Tissue -> map -> lowest and highest T1 or T2 of a subject at 3 T [s]."""


class Slice(NamedTuple):
    """Maps ``(3, X, Y)`` of one axial slice, its level [mm above the centre of the cerebrum], and its segments."""

    maps: np.ndarray
    level: float
    segments: Segments


def run(samples: Path, label_maps: Path, pictures: Path, seed: int) -> str:
    """Tables, and the picture of the samples with a row of held-out heads below.

    Args:
        samples: folder that ``configs/generate.json`` wrote.
        label_maps: folder of the heads.
        pictures: folder of the picture.
        seed: of the tissue values of the heads.
    """
    generated = read_samples(samples)
    held_out, trained = (
        [one for number in numbers for one in read_head(label_maps / f"head_{number:02d}.nii.gz", every, seed, number)]
        for numbers, every in ((HELD_OUT, EVERY["held-out"]), (TRAINED, EVERY["training"]))
    )
    shown = [*generated[:SHOWN], *held_out[:: max(1, len(held_out) // COLUMNS)][:COLUMNS]]
    mosaic(pictures / "results_generation.jpg", shown)
    lost = sum(not one.segments.brain.any() for one in generated)
    return "\n".join(
        [
            f"{len(generated)} samples, {lost} of them without a brain by the rule of the tables.\n",
            f"T1 and T2 [s]: median of the samples' medians, 5 to 95 % of them, share of the samples inside what "
            f"the literature lets expect:\n\n{relaxation_table(generated)}",
            "Areas [cm²], median and 5 to 95 % of the slices, all segmented by the same rule:\n\n"
            f"{areas_table(generated, held_out)}",
            "Distance to the nearest training slice, as it is or mirrored (root mean square difference of the log maps,"
            f" each standardised inside the head, in blocks of {POOL} mm):\n\n"
            f"{neighbours_table(generated, held_out, trained)}",
        ]
    )


def read_samples(folder: Path) -> list[Slice]:
    """The samples of a folder, by name.

    Raises:
        UserError: for a folder without any.
    """
    names = sorted(path.name.removeprefix("sub-") for path in folder.glob("sub-*") if path.is_dir())
    if not names:
        raise UserError(folder, "no samples", "make some: monai.bundle run --config_file configs/generate.json")
    read = (read_maps(folder, Session(name, None, ())) for name in names)
    return [Slice(maps.values[..., 0], float(maps.affine[2, 3]), segment(maps.values[..., 0])) for maps in read]


def read_head(path: Path, every: int, seed: int, number: int) -> list[Slice]:
    """Slices of a label map at all levels that are compared."""
    where = np.flatnonzero(np.isin(canonical(path), CEREBRUM).any((0, 1)))
    levels = range(LEVELS[0][0], LEVELS[-1][1], every)
    centre = (where[0] + where[-1]) / 2
    truth = label_truth(path, [round(centre + level) for level in levels], seed, number)
    maps = truth.maps.movedim(-1, 0).numpy()
    return [Slice(one, float(level), segment(one)) for one, level in zip(maps, levels)]


def relaxation_table(slices: Sequence[Slice]) -> str:
    """T1 and T2 of white and grey matter."""
    rows = []
    for tissue, name in (("WM", "white"), ("GM", "grey"), ("CSF", "fluid")):
        for channel, quantity in ((1, "T1"), (2, "T2")):
            masks = [(one.maps[channel], getattr(one.segments, name)) for one in slices]
            medians = np.array([np.median(values[mask]) for values, mask in masks if mask.any()])
            low, high = LITERATURE[tissue][quantity]
            inside = float(((medians >= low) & (medians <= high)).mean()) if len(medians) else 0.0
            rows.append((tissue, quantity, _spread(medians, 3), f"{low:g}–{high:g}", f"{percent(inside)} %"))
    return table(("Tissue", "", "samples", "literature", "inside"), rows)


def areas_table(generated: Sequence[Slice], held_out: Sequence[Slice]) -> str:
    """Areas at each level."""
    rows = []
    for low, high in LEVELS:
        groups = [[areas(one.segments) for one in group if low <= one.level < high] for group in (generated, held_out)]
        for name in ("ventricles", "white matter", "grey matter"):
            values = [np.array([one[name] for one in group]) for group in groups]
            counts = f"{len(groups[0])} / {len(groups[1])}"
            rows.append((f"{low} to {high} mm", name, counts, *(_spread(one, 1) for one in values)))
    return table(("Level", "", "slices", "samples", "held-out heads"), rows)


def neighbours_table(generated: Sequence[Slice], held_out: Sequence[Slice], trained: Sequence[Slice]) -> str:
    """How near the training slices are."""
    known = torch.stack([features(one.maps) for one in trained])
    known = torch.cat([known, known.flip(2)])
    rows = []
    for name, group in (("samples", generated), ("held-out heads", held_out)):
        same = [features(one.maps) for one in group if LEVELS[0][0] <= one.level < LEVELS[-1][1]]
        if same:
            distances = nearest(torch.stack(same), known).numpy()
            rows.append((name, str(len(same)), _spread(distances, 3), f"{distances.min():.3f}"))
    return table(("", "slices", "median (5–95 %)", "smallest"), rows)


def features(maps: np.ndarray) -> torch.Tensor:
    """Log maps of a slice, centred, standardised inside the head, in blocks ``(3, x, y)``; 0 in air."""
    values = torch.from_numpy(np.ascontiguousarray(maps)).float()
    inside = values[0] > 0.05
    logs = values.clamp_min(1e-3).log() * inside
    for one in logs:
        one[inside] = (one[inside] - one[inside].mean()) / one[inside].std().clamp_min(1e-6)
    where = inside.nonzero()
    canvas = torch.zeros(3, *CANVAS)
    if len(where):
        low, high = where.amin(0), where.amax(0) + 1
        cut = logs[:, low[0] : high[0], low[1] : high[1]][:, : CANVAS[0], : CANVAS[1]]
        start = [(size - n) // 2 for size, n in zip(CANVAS, cut.shape[1:])]
        canvas[:, start[0] : start[0] + cut.shape[1], start[1] : start[1] + cut.shape[2]] = cut
    return F.avg_pool2d(canvas, POOL)


def nearest(group: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Root mean square difference ``(N,)`` of each of ``group (N, ...)`` from the nearest of ``known (K, ...)``."""
    return torch.cdist(group.flatten(1), known.flatten(1)).amin(1) / group[0].numel() ** 0.5


def mosaic(path: Path, slices: Iterable[Slice]) -> None:
    """T1w-like pictures of slices side by side, :data:`COLUMNS` in a row, seen from above."""
    (request,) = [one for one in load_render("clinical") if one.name == CONTRAST]
    tiles = []
    for one in slices:
        image = SignalModel()(torch.from_numpy(one.maps)[None], request.acquisition.to_row()[None, None])[0, 0].numpy()
        # White matter is alike in all; fat, elsewhere the brightest, may saturate.
        level = np.median(image[one.segments.white]) if one.segments.white.any() else image.max()
        grey = np.clip(turned(image) / max(float(level), 1e-9) * 200, 0, 255).astype(np.uint8)
        tile = Image.new("L", TILE)
        scaled = Image.fromarray(grey)
        scaled.thumbnail(TILE, Image.Resampling.LANCZOS)
        tile.paste(scaled, tuple((a - b) // 2 for a, b in zip(TILE, scaled.size)))
        tiles.append(tile)
    rows = -(-len(tiles) // COLUMNS)
    picture = Image.new("L", (COLUMNS * TILE[0], rows * TILE[1]))
    for number, tile in enumerate(tiles):
        picture.paste(tile, (number % COLUMNS * TILE[0], number // COLUMNS * TILE[1]))
    save(path, picture)


def _spread(values: np.ndarray, digits: int) -> str:
    """``median (5–95 %)``."""
    if not len(values):
        return "–"
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"

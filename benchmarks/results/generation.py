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
from PIL import Image

from scripts.acquisition import load_render
from scripts.bids import Session, output_path
from scripts.commands.generation_report.groups import read_numbers, sample_names
from scripts.commands.study.products import read_maps
from scripts.evaluate.anatomy import LEVELS, area_rows, asked_row, likeness_rows, spread
from scripts.evaluate.layout import NUMBER
from scripts.nuisance import Noise
from scripts.randomness import generator
from scripts.render import SignalModel
from scripts.simulate import LabelledSlices, LabelMaps
from scripts.tissue import FRACTIONS, class_values
from scripts.tissue.fractions import AREAS, count_fractions, mix_fractions

from .page import percent, table
from .pictures import save, turned

TRAINED, HELD_OUT = (0, 11), (11, 2)
"""First head of those that the generator was trained on, and how many; of those held out."""
HEADS = {"trained": 28, "held-out": 10}
"""Random heads made of them, of :attr:`LabelledSlices.per_head` slices each."""
CONTRASTS = {"t1w": ("mprage", 200), "t2w": ("t2", 80), "flair": ("flair", 120)}
"""Pictures: name in the preset ``clinical``, and the grey value of white matter."""
NOISE = Noise(25.0)
COLUMNS, SHOWN, TILE = 8, 64, (112, 140)
LITERATURE = json.loads(Path(__file__).with_name("intervals.json").read_text(encoding="utf-8"))
"""Tissue -> map -> lowest and highest T1 or T2 of a subject at 3 T [s]."""
OF_LITERATURE = {"WM": "white matter", "GM": "cortex", "CSF": "ventricle"}


class Slice(NamedTuple):
    """One axial slice.

    Attributes:
        numbers: classes, numbers of :data:`FRACTIONS` ``(X, Y)``.
        maps: PD, T1 [s], T2 [s] ``(3, X, Y)``.
        level: mm above the centre of the cerebrum; None where it was not asked for.
        requested: name of a condition -> what was asked.
        measured: name of an area -> what it is [cm²].
    """

    numbers: np.ndarray
    maps: np.ndarray
    level: float | None
    requested: dict[str, float | None] = {}
    measured: dict[str, float] = {}


def run(samples: Path, asked: Sequence[Path], label_maps: Path, pictures: Path, seed: int) -> str:
    """Tables, and pictures of the samples with a row of held-out heads below.

    Args:
        samples: folder that ``configs/generate.json`` wrote, at 3 T; of these only positions were asked.
        asked: folders of samples of which areas were asked.
        label_maps: folder of the heads.
        pictures: folder of the pictures.
        seed: of the random heads.
    """
    generated, of_asked = read_samples(samples), [one for folder in asked for one in read_samples(folder)]
    trained = read_heads(label_maps, TRAINED, HEADS["trained"], seed)
    held_out = read_heads(label_maps, HELD_OUT, HEADS["held-out"], seed)
    shown = [*generated[:SHOWN], *held_out[:: max(1, len(held_out) // COLUMNS)][:COLUMNS]]
    for contrast in CONTRASTS:
        mosaic(pictures / f"results_generation_{contrast}.jpg", shown, contrast)
    return "\n".join(
        [
            f"{len(generated)} samples, {len(held_out)} slices of held-out heads, {len(trained)} of training heads.\n",
            f"Faults by explicit rules, and likeness:\n\n{likeness_table(generated, held_out, trained)}",
            f"Areas [cm²], median and 5 to 95 %:\n\n{areas_table(generated, held_out)}",
            f"What was asked for and what came out:\n\n{asked_table(of_asked)}",
            "T1 and T2 [s]: median of the samples' medians, 5 to 95 %, share inside what the literature expects:\n\n"
            f"{relaxation_table(generated)}",
        ]
    )


def read_samples(folder: Path) -> list[Slice]:
    """The samples of a folder, by name.

    Raises:
        UserError: for a folder without any.
    """
    return [_read_sample(folder, Session(name, None, ())) for name in sample_names(folder)]


def _read_sample(folder: Path, session: Session) -> Slice:
    sidecar = json.loads(output_path(folder, session, "T1map", ".json").read_text())
    requested = sidecar["GeneratedFrom"]["requested"]
    numbers = read_numbers(folder, session)[..., 0]
    maps = read_maps(folder, session).values[..., 0]
    return Slice(numbers, maps, requested["position"], requested, sidecar["Measured"])


def read_heads(label_maps: Path, heads: tuple[int, int], count: int, seed: int) -> list[Slice]:
    """Slices of random heads of some label maps, at the levels that are compared, with tissue of the literature."""
    slices = LabelledSlices(LabelMaps(label_maps, *heads), seed)
    values = torch.tensor([class_values(name, 3.0) for name in FRACTIONS])
    found = []
    for index in range(count * slices.per_head):
        one = slices[index]
        if LEVELS[0][0] <= one["position"] < LEVELS[-1][1]:
            fractions = count_fractions(one["numbers"][None])
            maps = mix_fractions(fractions, values)[0].numpy()
            found.append(Slice(fractions[0].argmax(0).numpy(), maps, float(one["position"])))
    return found


def likeness_table(generated: Sequence[Slice], held_out: Sequence[Slice], trained: Sequence[Slice]) -> str:
    """Faults, distances, symmetry, contact of white matter and fluid, nearest neighbours."""
    groups = {"samples": generated, "held-out heads": held_out, "training heads, other half": trained[1::2]}
    numbers = {name: [one.numbers for one in group] for name, group in groups.items()}
    rows = [
        (
            row[""],
            f"{row['open skull']} / {row['island of fluid']} / {row['broken midline']}, "
            f"{row['any fault']} of {row['slices']}",
            f"{row['Fréchet distance of the layout']:.2f}",
            f"{row['of contacts']:.2f}",
            f"{row['symmetry']:.3f}",
            f"{row['WM–CSF over WM–GM contact']:.4f}",
            f"{row['nearest training slice']:.2f}",
        )
        for row in likeness_rows(numbers, [one.numbers for one in trained[::2]])
    ]
    head = (
        "",
        "open skull / island of fluid / broken midline, any",
        "Fréchet distance of the layout",
        "of contacts",
        "symmetry",
        "WM–CSF over WM–GM contact",
        "nearest training slice",
    )
    return table(head, rows)


def areas_table(generated: Sequence[Slice], held_out: Sequence[Slice]) -> str:
    """Areas at each level, and whether they are spread alike."""
    groups = [([one.numbers for one in group], [one.level for one in group]) for group in (generated, held_out)]
    rows = [
        (
            row["level"],
            row["tissue"],
            f"{len(row['samples'])} / {len(row['held-out heads'])}",
            spread(row["samples"]),
            spread(row["held-out heads"]),
            f"{row['p (KS)']:.2f}, {row['ratio of medians']:.2f}".replace("nan", "–"),
        )
        for row in area_rows(*groups[0], *groups[1])
    ]
    return table(("Level", "", "slices", "samples", "held-out heads", "p (KS), ratio of medians"), rows)


def asked_table(generated: Sequence[Slice]) -> str:
    """Correlation and mean difference of the areas that were asked for and those measured."""
    rows = []
    for name in AREAS:
        pairs = [(one.requested.get(name), one.measured[name]) for one in generated]
        row = asked_row([pair for pair in pairs if pair[0] is not None])
        found = ("–", "–", "–")
        if "r" in row:
            found = f"{row['asked from']:.1f}–{row['to']:.1f}", f"{row['r']:.3f}", f"{row['mean error']:.2f}"
        rows.append((name, str(row["samples"]), *found))
    return table(("Area", "samples", "asked [cm²]", "r", "mean error [cm²]"), rows)


def relaxation_table(slices: Sequence[Slice]) -> str:
    """T1 and T2 of white and grey matter and fluid."""
    rows = []
    for tissue, name in OF_LITERATURE.items():
        for channel, quantity in ((1, "T1"), (2, "T2")):
            masks = [(one.maps[channel], one.numbers == NUMBER[name]) for one in slices]
            medians = np.array([np.median(values[mask]) for values, mask in masks if mask.any()])
            low, high = LITERATURE[tissue][quantity]
            inside = float(((medians >= low) & (medians <= high)).mean()) if len(medians) else 0.0
            rows.append((tissue, quantity, spread(medians, 3), f"{low:g}–{high:g}", f"{percent(inside)} %"))
    return table(("Tissue", "", "samples", "literature", "inside"), rows)


def mosaic(path: Path, slices: Iterable[Slice], contrast: str) -> None:
    """Pictures of slices side by side, with noise, :data:`COLUMNS` in a row, in radiological display."""
    name, grey = CONTRASTS[contrast]
    (request,) = [one for one in load_render("clinical") if one.name == name]
    tiles = []
    for number, one in enumerate(slices):
        image = SignalModel()(torch.from_numpy(one.maps)[None], request.acquisition.to_row()[None, None])[0, 0]
        image = NOISE(image, image > 0, generator(number)).numpy()
        # White matter is alike in all; fat may saturate.
        white = one.numbers == NUMBER["white matter"]
        level = np.median(image[white]) if white.any() else image.max()
        scaled = Image.fromarray(np.clip(turned(image) / max(float(level), 1e-9) * grey, 0, 255).astype(np.uint8))
        tile = Image.new("L", TILE)
        scaled.thumbnail(TILE, Image.Resampling.LANCZOS)
        tile.paste(scaled, tuple((a - b) // 2 for a, b in zip(TILE, scaled.size)))
        tiles.append(tile)
    rows = -(-len(tiles) // COLUMNS)
    picture = Image.new("L", (COLUMNS * TILE[0], rows * TILE[1]))
    for number, tile in enumerate(tiles):
        picture.paste(tile, (number % COLUMNS * TILE[0], number // COLUMNS * TILE[1]))
    save(path, picture)

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

"""The command: reads, simulates, measures, writes."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from ...acquisition import load_render
from ...errors import UserError
from ...evaluate import Picture, Table, Text, png_of, text_table, write_page
from ...evaluate.anatomy import area_rows, asked_row, likeness_rows, spread
from ...evaluate.features import Features
from ...evaluate.layout import layout
from ...simulate import CachedSlices, LabelledHeads, LabelledSlices, LabelMaps, LesionMasks
from ...tissue.fractions import measure_volumes
from . import images
from .groups import Group, read_group, simulated_group

PUBLISHED = json.loads((Path(__file__).parents[2] / "evaluate" / "published_generation.json").read_text("utf-8"))
GENERATED, HELD_OUT, TRAINING = "generated", "held-out heads", "training heads"
OTHER_HALF = "held-out heads, other half"
REFERENCE, KNOWN, TRAINING_HALF = "reference", "known", "training heads, other half"
VOLUME_HEADS, POINT_ML = 12, 0.008
"""Held-out heads whose volumes are measured, and the volume that a point of these stands for [mL]."""
SHOWN = 6
MEMORY_NOTE = "Distances to the nearest of half of the training slices over those of held-out heads: 0 for copies."
STRUCTURE_NOTE = (
    "Share of the variance of a contrast that is a function of the others, and normalised mutual information of pairs."
)
OWN_NOTE = (
    "Features are those of the encoder of this project's physics VAE, standardised: their distances are no FID "
    "that was published. How much they see is in the rows below the first."
)


class GenerationReport:
    """Measures a folder of generated brains against held-out heads, prints the tables and writes them as a page.

    Args:
        dataset_dir: folder that ``configs/generate.json`` or ``configs/generate_dldm.json`` wrote: slices, or heads.
        features: what distances are computed from.
        output_dir: folder of ``generation.html``, ``generation.json``, tables and figures.
        asked: further folders, of which only what was asked for is measured.
        reference_dir: folder of held-out maps or contrasts; None for simulated heads of the label maps.
        training_dir: likewise of what the generator learned from.
        render: contrasts that are compared, see :func:`scripts.acquisition.load_render`.
        label_maps: folder of label maps; None for the embedded head, which then is training and held-out at once.
        lesion_masks: folder of masks of real lesions; None for drawn ones.
        train_heads: first label map that the generator was trained on, and how many.
        validation_heads: likewise of those held out.
        slices: of random training heads.
        validation_slices: of random held-out heads.
        pairs: pairs of slices behind the measures of diversity.
        seed: of the random heads and of pairs.
        cache_dir: folder where simulated slices are kept.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        features: Features,
        output_dir: str | Path,
        asked: Sequence[str] = (),
        reference_dir: str | None = None,
        training_dir: str | None = None,
        render: object = "oasis3",
        label_maps: str | None = None,
        lesion_masks: str | None = None,
        train_heads: tuple[int, int | None] = (0, 11),
        validation_heads: tuple[int, int | None] = (11, 2),
        slices: int = 392,
        validation_slices: int = 196,
        pairs: int = 200,
        seed: int = 0,
        cache_dir: str | Path = "data/slices",
    ) -> None:
        self.dataset_dir, self.features, self.output_dir, self.asked = dataset_dir, features, Path(output_dir), asked
        self.reference_dir, self.training_dir, self.render = reference_dir, training_dir, render
        self.label_maps, self.lesion_masks = label_maps, LesionMasks(lesion_masks)
        self.heads = {HELD_OUT: validation_heads, TRAINING: train_heads}
        self.counts = {HELD_OUT: validation_slices, TRAINING: slices}
        self.pairs, self.seed, self.cache_dir = pairs, seed, Path(cache_dir)

    def run(self) -> Path:
        """Measures and writes; returns the page.

        Raises:
            UserError: for folders without samples, and files or options that cannot be used; before anything is long.
        """
        if self.dataset_dir is None:
            raise UserError("dataset_dir", "no folder", "name one with --dataset_dir")
        requests = load_render(self.render)
        if len(requests) < 2:
            raise UserError("render", f"{len(requests)} contrast", "give two or more: what they share is measured")
        self.features.load()
        ours = read_group(GENERATED, self.dataset_dir, requests)
        if len(ours) < images.LEAST:
            raise UserError(self.dataset_dir, f"{len(ours)} slices", f"give at least {images.LEAST}")
        conditions = [*ours.conditions, *(c for folder in self.asked for c in self._conditions(folder, requests))]
        held_out = self._reference(HELD_OUT, self.reference_dir, requests, ours)
        training = self._reference(TRAINING, self.training_dir, requests, ours)
        parts = [Text(self._introduction(ours, held_out, training))]
        parts += self._image_parts(ours, held_out, training, requests)
        if ours.numbers is not None and held_out.numbers is not None and training.numbers is not None:
            parts += self._anatomy_parts(ours, held_out, training)
        parts += self._volume_parts(conditions) + self._asked_parts(conditions)
        note = "Other data, other features, mostly volumes: they are no comparison, only what others report."
        parts += [Table("published", "Published values, measured on other data", PUBLISHED["rows"], note=note)]
        for part in parts:
            print(f"\n{part.title}\n{text_table(part)}" if isinstance(part, Table) else "", end="\n")
        # A folder's place is nobody's business.
        about = {"samples": Path(self.dataset_dir).resolve().name, "seed": self.seed, "features": self.features.name}
        page = write_page(self.output_dir, "generation", "Generated brains beside held-out heads", parts, about)
        print(f"written to {page}", flush=True)
        return page

    def _conditions(self, folder: str, requests: Sequence) -> list:
        return read_group(GENERATED, folder, requests).conditions

    def _reference(self, name: str, folder: str | None, requests: Sequence, ours: Group) -> Group:
        if folder is not None:
            group = read_group(name, folder, requests)
        else:
            group = simulated_group(
                name, CachedSlices(self._slices(name, ours), self.cache_dir, self.counts[name]), requests
            )
        if group.images.shape[2:] != ours.images.shape[2:]:
            sizes = " and ".join(str(one.images.shape[2:]) for one in (ours, group))
            raise UserError(
                self.dataset_dir, f"slices of other sizes than those of {name} ({sizes})", "make them alike"
            )
        if len(group) < 2 * images.LEAST:
            raise UserError(folder or name, f"{len(group)} slices", f"give at least {2 * images.LEAST}")
        return group

    def _slices(self, name: str, ours: Group) -> LabelledSlices:
        first, count = self.heads[name] if self.label_maps is not None else (0, None)
        known = [level for level in ours.positions if level is not None]
        positions = (min(known), max(known)) if known and min(known) < max(known) else (-20.0, 40.0)
        anatomies, seed = LabelMaps(self.label_maps, first, count), self.seed + (name == HELD_OUT)
        return LabelledSlices(
            anatomies, seed, ours.images.shape[2:], lesion_masks=self.lesion_masks, positions=positions
        )

    def _introduction(self, ours: Group, held_out: Group, training: Group) -> str:
        text = f"{len(ours)} generated slices, {len(held_out)} of held-out heads, {len(training)} of training heads."
        if self.reference_dir is None and self.label_maps is None:
            text += " All heads are random ones of the embedded anatomy: held-out ones are not new to the generator."
        return f"{text}\n\nImages are scaled to their 99.5 percentile; no noise is added to either side."

    def _image_parts(self, ours: Group, held_out: Group, training: Group, requests: Sequence) -> list:
        reference, other = held_out.halves()
        groups = {GENERATED: ours, OTHER_HALF: other}
        for name, distort in images.distorted(self.seed).items():
            changed = np.stack([distort(one, number) for number, one in enumerate(other.images)])
            groups[f"{OTHER_HALF}, {name}"] = Group(name, changed, None, other.positions, other.heads)
        known, unknown = training.halves()
        groups |= {REFERENCE: reference, KNOWN: known, TRAINING_HALF: unknown}
        vectors = images.encode_groups(groups, self.features, requests, REFERENCE)
        rows = [one for one in vectors.items() if one[0] not in (REFERENCE, KNOWN)]
        from_held_out = images.distance_rows(dict(rows), vectors[REFERENCE], requests)
        near = {name: vectors[name] for name in (GENERATED, OTHER_HALF, TRAINING_HALF)}
        from_training = images.distance_rows(near, vectors[KNOWN], requests)
        own = OWN_NOTE if self.features.own else f"Features of {self.features.name}."
        note = f"{own} The reference is one half of the held-out heads; all rows have equally many slices."
        learned = "The reference is one half of the training heads: what the generator was to learn."
        memory = [self._memory_row(*(vectors[name] for name in (GENERATED, OTHER_HALF, KNOWN)))]
        if ours.numbers is not None and known.numbers is not None and other.numbers is not None:
            places = (layout([*one.numbers]) for one in (ours, other, known))
            memory.append({"measured in": "layout of tissue in cells of 8 mm"} | images.memory_row(*places))
        diversity = [images.diversity_row(group, requests, self.pairs, self.seed) for group in (ours, held_out)]
        structure = [images.structure_row(group, requests) for group in (ours, held_out)]
        return [
            Picture("samples", "Samples and held-out heads", _mosaic(ours, held_out, requests), "Evenly spread."),
            Table("distances", "Likeness of images to held-out heads", from_held_out, note=note),
            Picture("sensitivity", "What the distance sees", _distances(from_held_out)),
            Table("distances_training", "Likeness of images to training heads", from_training, note=learned),
            Table("memorisation", "Nearest training neighbours", memory, note=MEMORY_NOTE),
            Table("diversity", "Similarity of random pairs: the lower, the more diverse", diversity),
            Table("structure", "What contrasts of one brain have in common", structure, note=STRUCTURE_NOTE),
        ]

    def _memory_row(self, *vectors: np.ndarray) -> dict:
        return {"measured in": self.features.name} | images.memory_row(*vectors)

    def _anatomy_parts(self, ours: Group, held_out: Group, training: Group) -> list:
        half, other = training.halves()
        groups = {GENERATED: ours, HELD_OUT: held_out, TRAINING_HALF: other}
        rows = likeness_rows({name: [*one.numbers] for name, one in groups.items()}, [*half.numbers])
        areas = area_rows([*ours.numbers], ours.positions, [*held_out.numbers], held_out.positions)
        shown = [row | {name: spread(row[name]) for name in ("samples", HELD_OUT)} for row in areas]
        note = (
            "Faults are counted by explicit rules, see docs/results.md; distances are from half of the training heads."
        )
        parts = [Table("layout", "Anatomy", rows, note=note)]
        return parts + ([Table("areas", "Areas [cm²], median (5–95 %)", shown)] if shown else [])

    def _volume_parts(self, conditions: Sequence) -> list:
        """Volumes of whole heads, where the samples are such."""
        measured = [measured for _, measured, unit in conditions if unit == "mL"]
        if not measured or self.reference_dir is not None:
            return []
        first, count = self.heads[HELD_OUT] if self.label_maps is not None else (0, None)
        heads = LabelledHeads(LabelledSlices(LabelMaps(self.label_maps, first, count), self.seed + 1))
        volumes = [_volumes(heads[number]["counts"]) for number in range(VOLUME_HEADS)]
        rows = [
            {
                "volume": name,
                GENERATED: spread(np.array([one[name] for one in measured]), 0),
                HELD_OUT: spread(np.array([one[name] for one in volumes]), 0),
            }
            for name in measured[0]
        ]
        return [Table("volumes", "Volumes of whole heads [mL], median (5–95 %)", rows)]

    def _asked_parts(self, conditions: Sequence) -> list:
        rows, points = [], {}
        # Areas of slices and volumes of heads are two things.
        for name, unit in dict.fromkeys((name, unit) for _, measured, unit in conditions for name in measured):
            told = [one for one in conditions if one[2] == unit and name in one[1] and one[0].get(name) is not None]
            pairs = [(asked[name], found[name]) for asked, found, _ in told]
            if len(pairs) > 3:
                rows.append({"condition": f"{name} [{unit}]"} | asked_row(pairs))
                points[rows[-1]["condition"]] = np.array(pairs)
        if not rows:
            return []
        note = "Pearson's r with its 95 % interval (Fisher's z). Measured on the samples' own tissue fractions."
        return [
            Table("conditions", "What was asked for and what came out", rows, note=note),
            Picture("asked", "Asked and measured", _scatter(points)),
        ]


def _volumes(counts: torch.Tensor) -> dict[str, float]:
    found = measure_volumes(counts[None].float(), POINT_ML)
    return {name: float(value) for name, value in found.items()}


def _mosaic(ours: Group, held_out: Group, requests: Sequence) -> bytes:
    figure = Figure((1.5 * 2 * SHOWN, 1.9 * len(requests)), facecolor="black")
    shown = [images.evenly(group.images, SHOWN) for group in (ours, held_out)]
    axes = figure.subplots(len(requests), 2 * SHOWN, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
    for row, request in zip(axes, range(len(requests))):
        for axis, image in zip(row, np.concatenate(shown)[:, request]):
            axis.imshow(np.rot90(image)[:, ::-1], cmap="gray", vmin=0, vmax=1)
            axis.axis("off")
    for column, group in ((0, ours), (SHOWN, held_out)):
        axes[0, column].set_title(group.name, color="white", loc="left", fontsize=10)
    return png_of(figure)


def _distances(rows: Sequence[dict]) -> bytes:
    figure = Figure((7, 0.35 * len(rows) + 0.8))
    axis = figure.subplots()
    # A bar would have no start on a logarithmic axis.
    axis.plot([max(row[images.FRECHET], 1e-6) for row in rows][::-1], [row[""] for row in rows][::-1], "o")
    axis.set_xscale("log")
    axis.grid(alpha=0.3)
    axis.set_xlabel("Fréchet distance from one half of the held-out heads")
    return png_of(figure)


def _scatter(points: dict[str, np.ndarray]) -> bytes:
    figure = Figure((3.2 * len(points), 3.2), layout="constrained")
    for axis, (name, pairs) in zip(figure.subplots(1, len(points), squeeze=False)[0], points.items()):
        ends = [pairs.min(), pairs.max()]
        axis.plot(ends, ends, color="silver", linewidth=1)
        axis.plot(*pairs.T, ".", color="#4477aa")
        axis.set(xlabel=f"{name}, asked", ylabel="measured")
    return png_of(figure)

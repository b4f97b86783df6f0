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

"""Generated heads beside heads that the generator was not trained on."""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from monai.metrics import MultiScaleSSIMMetric
from PIL import Image
from scipy import ndimage
from torch import Tensor

from scripts.acquisition import load_render
from scripts.bids import Session, output_path
from scripts.commands.generation_report.groups import read_numbers, sample_names
from scripts.commands.study.products import read_maps
from scripts.errors import UserError
from scripts.evaluate.anatomy import asked_row
from scripts.evaluate.layout import BRAIN, NUMBER, SKULL
from scripts.render import SignalModel
from scripts.simulate import LabelledSlices, LabelMaps
from scripts.simulate.labelled import without_specks
from scripts.tissue import FRACTION_OF, FRACTIONS, class_values
from scripts.tissue.fractions import VOLUMES, measure_volumes

from .generation import HELD_OUT
from .page import percent, table
from .pictures import save, turned
from .thinned import KEPT

HEADS = 12
"""Held-out heads, random ones of two anatomies."""
CENTRE_MM = 2.0
"""Height of the middle of a head above the centre of the cerebrum, see :class:`scripts.networks.HeadSampler`."""
CONNECTED = 0.99
"""A skull or a brain is one where its largest component has at least this share of it."""
AXES = ("left to right", "back to front", "foot to head")
SCALES, KERNEL, POOLED = (0.3, 0.4, 0.3), 7, 2
"""MS-SSIM of heads in voxels of :data:`POOLED` mm: weights of its three scales, and its window."""
COLUMNS, WIDTH, WHITE = 2, 1200, 200
"""Samples in a row of the picture, its width [pixels], and the grey value of white matter."""
OF_TISSUE = {"WM": ("white matter",), "GM": ("cortex",)}


class Head(NamedTuple):
    """A whole head, voxels of 1 mm.

    Attributes:
        numbers: classes, numbers of :data:`FRACTIONS` ``(X, Y, Z)``.
        requested: name of a volume -> what was asked [mL].
        measured: name of a volume -> what it is [mL].
    """

    numbers: np.ndarray
    requested: dict[str, float | None]
    measured: dict[str, float]


def run(samples: Path, estimated: Path | None, label_maps: Path, pictures: Path, seed: int) -> str:
    """Tables, and a picture of the samples.

    Args:
        samples: folder that ``configs/generate.json`` wrote under ``configs/heads.json``.
        estimated: maps that ``configs/inference.json`` made of the contrasts of all or some of them, or of what
            :func:`.thinned.thin` left of them; None for none.
        label_maps: folder of the heads that are compared with.
        pictures: folder of the picture.
        seed: of the random heads.

    Raises:
        UserError: for folders without samples, or without maps of them.
    """
    names = sample_names(samples)
    generated = [read_head(samples, name) for name in names]
    mosaic(pictures / "results_volumes.jpg", samples, dict(zip(names, generated)))
    held_out = read_held_out(label_maps, seed, generated[0].numbers.shape)
    groups = {"samples": generated, "held-out heads": held_out}
    parts = [
        f"{len(generated)} samples, {len(held_out)} held-out heads of {HELD_OUT[1]} anatomies.\n",
        f"Whole, and unlike each other:\n\n{wholeness_table(groups)}",
        f"Share of the head whose class is not that of the neighbouring slice [%], median and 5 to 95 % of all "
        f"slices:\n\n{neighbours_table(groups)}",
        f"Volumes [mL], median and range:\n\n{volumes_table(groups)}",
        f"What was asked for and what came out:\n\n{asked_table(generated)}",
    ]
    if estimated is not None:
        there = [pair for pair in zip(names, generated) if (estimated / f"sub-{pair[0]}").is_dir()]
        if not there:
            raise UserError(estimated, "maps of none of the samples", "estimate them, as docs/results.md says")
        errors = [map_errors(samples, estimated, name, one.numbers) for name, one in there]
        about = "Median relative error of maps that the estimator made of the contrasts of"
        parts.append(f"{about} {len(there)} samples, mean and worst head:\n\n{recovery_table(errors)}")
    return "\n".join(parts)


def read_head(folder: Path, name: str) -> Head:
    """A sample of a folder.

    Raises:
        UserError: for a slice.
    """
    session = Session(name, None, ())
    numbers = read_numbers(folder, session)
    if numbers.shape[-1] == 1:
        raise UserError(folder, f"{name} is a slice", "generate with the overlay configs/heads.json")
    sidecar = json.loads(output_path(folder, session, "T1map", ".json").read_text())
    return Head(numbers, sidecar["GeneratedFrom"]["requested"], sidecar["Measured"])


def read_held_out(label_maps: Path, seed: int, size: Sequence[int]) -> list[Head]:
    """Random heads of the held-out label maps."""
    slices = LabelledSlices(LabelMaps(label_maps, *HELD_OUT), seed)
    axes = [torch.arange(n) - (n - 1) / 2 for n in size]
    axes[2] = axes[2] + CENTRE_MM
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)
    found = []
    for number in range(HEADS):
        classes, _ = slices.head(number).classes(points)
        numbers = without_specks(torch.tensor(FRACTION_OF, dtype=torch.uint8)[classes].view(*size)).numpy()
        found.append(Head(numbers, {}, volumes(numbers)))
    return found


def mosaic(path: Path, samples: Path, heads: dict[str, Head]) -> None:
    """Three orthogonal slices of each sample's T1w through its middle, :data:`COLUMNS` samples in a row."""
    tiles = []
    for name, head in heads.items():
        file = min((samples / f"sub-{name}" / "anat").glob("*_T1w.nii.gz"))
        image = np.asarray(nib.load(file).dataobj, dtype=np.float32)
        # White matter is alike in all; fat saturates.
        white = np.median(image[head.numbers == NUMBER["white matter"]])
        image = np.clip(image / white * WHITE, 0, 255).astype(np.uint8)
        x, y, z = (size // 2 for size in image.shape)
        side = max(image.shape)
        views = [turned(view) for view in (image[:, :, z], image[:, y], image[x - 4])]
        tiles.append(np.concatenate([_centred(view, side) for view in views], 1))
    rows = [np.concatenate(tiles[start : start + COLUMNS], 1) for start in range(0, len(tiles), COLUMNS)]
    rows[-1] = np.pad(rows[-1], ((0, 0), (0, rows[0].shape[1] - rows[-1].shape[1])))
    picture = Image.fromarray(np.concatenate(rows))
    save(path, picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS))


def _centred(view: np.ndarray, side: int) -> np.ndarray:
    """A view in the middle of a black square."""
    missing = [side - size for size in view.shape]
    return np.pad(view, [(one // 2, one - one // 2) for one in missing])


def volumes(numbers: np.ndarray) -> dict[str, float]:
    """Volumes of a head [mL]."""
    fractions = F.one_hot(torch.from_numpy(numbers).long().flatten(), len(FRACTIONS)).T[None]
    return {name: float(value) for name, value in measure_volumes(fractions, 1e-3).items()}


def largest_share(mask: np.ndarray) -> float:
    """Share of a mask in its largest component, diagonal neighbours included."""
    parts, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return float(np.bincount(parts.ravel())[1:].max() / mask.sum()) if count else 0.0


def wholeness_table(groups: dict[str, Sequence[Head]]) -> str:
    """Skulls and brains of one piece, and likeness between heads of a group."""
    rows = []
    for name, heads in groups.items():
        skulls, brains = ([largest_share(np.isin(one.numbers, what)) for one in heads] for what in (SKULL, BRAIN))
        whole = [sum(share >= CONNECTED for share in shares) for shares in (skulls, brains)]
        rows.append(
            (
                name,
                f"{whole[0]} of {len(heads)} (least {percent(min(skulls))} %)",
                f"{whole[1]} of {len(heads)} (least {percent(min(brains))} %)",
                f"{likeness(heads):.3f}",
            )
        )
    share = f"at least {percent(CONNECTED)} % in one piece"
    return table(("", f"skull, {share}", f"brain, {share}", "MS-SSIM between two"), rows)


def likeness(heads: Sequence[Head]) -> float:
    """Mean MS-SSIM of each two heads as T1w images with tissue of the literature; low where heads are diverse."""
    (request,) = [one for one in load_render("clinical") if one.name == "mprage"]
    values = torch.tensor([class_values(name, 3.0) for name in FRACTIONS])
    signal = SignalModel()(values.T[None, :, None], request.acquisition.to_row()[None, None]).abs()[0, 0, 0]
    images = [F.avg_pool3d(signal[torch.from_numpy(one.numbers).long()][None, None], POOLED) for one in heads]
    metric = MultiScaleSSIMMetric(3, float(signal.max()), kernel_size=KERNEL, weights=SCALES)
    return float(torch.stack([metric(one, other).mean() for one, other in combinations(images, 2)]).mean())


def changes(numbers: np.ndarray, axis: int) -> np.ndarray:
    """Share of the voxels of head, of each two neighbouring slices across an axis, whose classes differ."""
    moved = np.moveaxis(numbers, axis, 0)
    head = ((moved[1:] > 0) | (moved[:-1] > 0)).sum((1, 2))
    differ = (moved[1:] != moved[:-1]).sum((1, 2))
    # A few voxels of scalp tell nothing.
    large = head > 0.1 * head.max()
    return differ[large] / head[large]


def neighbours_table(groups: dict[str, Sequence[Head]]) -> str:
    """How much neighbouring slices differ, along each axis."""
    rows = []
    for name, heads in groups.items():
        spread = []
        for axis in range(3):
            low, middle, high = np.percentile(
                np.concatenate([changes(one.numbers, axis) for one in heads]), [5, 50, 95]
            )
            spread.append(f"{percent(middle)} ({percent(low)}–{percent(high)})")
        rows.append((name, *spread))
    return table(("", *AXES), rows)


def volumes_table(groups: dict[str, Sequence[Head]]) -> str:
    """Volumes of both groups."""
    rows = []
    for volume in VOLUMES:
        row = [volume]
        for heads in groups.values():
            values = [one.measured[volume] for one in heads]
            row.append(f"{np.median(values):.0f} ({min(values):.0f}–{max(values):.0f})")
        rows.append(row)
    return table(("", *groups), rows)


def asked_table(generated: Sequence[Head]) -> str:
    """Correlation and mean difference of the volumes that were asked for and those measured."""
    rows = []
    for name in VOLUMES:
        pairs = [(one.requested.get(name), one.measured[name]) for one in generated]
        pairs = [pair for pair in pairs if pair[0]]
        found = asked_row(pairs)
        if "r" in found:
            relative = np.mean([abs(asked - measured) / asked for asked, measured in pairs])
            ends = f"{found['asked from']:.0f}–{found['to']:.0f}"
            r = f"{found['r']:.3f} ({found['r from']:.3f}–{found['r to']:.3f})"
            rows.append((name, str(len(pairs)), ends, r, f"{found['mean error']:.1f} mL", f"{percent(relative)} %"))
    if not rows:
        return "Nothing was asked for.\n"
    return table(("", "heads", "asked [mL]", "r (95 % interval)", "mean error", "relative"), rows)


def map_errors(samples: Path, estimated: Path, name: str, numbers: np.ndarray) -> dict[str, list[float]]:
    """Tissue -> median relative error of PD, T1 and T2 that were estimated; PD up to its scale.

    Of all slices, or of those that :func:`.thinned.thin` left.

    Raises:
        UserError: where there are no such maps, or of another grid.
    """
    session = Session(name, None, ())
    true, found = (torch.from_numpy(read_maps(folder, session).values) for folder in (samples, estimated))
    if found.shape == true[..., KEPT].shape:
        true, numbers = true[..., KEPT], numbers[..., KEPT]
    if true.shape != found.shape:
        sizes = f"maps of {tuple(found.shape[1:])} voxels instead of {tuple(true.shape[1:])}"
        raise UserError(estimated, sizes, "estimate from the contrasts of the samples")
    white = torch.from_numpy(np.isin(numbers, NUMBER["white matter"])) & (found > 0).all(0)
    found[0] *= true[0][white].median() / found[0][white].median()
    return {
        tissue: _median_errors(true, found, torch.from_numpy(np.isin(numbers, [NUMBER[name] for name in names])))
        for tissue, names in OF_TISSUE.items()
    }


def _median_errors(true: Tensor, found: Tensor, where: Tensor) -> list[float]:
    inside = where & (true > 0).all(0)
    return ((found - true).abs() / true)[:, inside].median(1).values.tolist()


def recovery_table(errors: Sequence[dict[str, list[float]]]) -> str:
    """Errors of maps, the mean over heads and the worst."""
    rows = []
    for tissue in OF_TISSUE:
        each = np.array([one[tissue] for one in errors])
        rows.append((tissue, *(f"{percent(a)} % ({percent(b)} %)" for a, b in zip(each.mean(0), each.max(0)))))
    return table(("", "PD", "T1", "T2"), rows)

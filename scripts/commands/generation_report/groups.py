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

"""Axial slices that are compared: of a folder of maps or images, or of simulated heads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from ...acquisition import RenderRequest, read_json
from ...bids import Session, load_image, output_path
from ...errors import UserError
from ...estimate.maps import Maps
from ...simulate import CachedSlices
from ...simulate.drawn import sample_contrasts, scale_contrast
from ...tissue import FRACTIONS
from ...tissue.fractions import count_fractions
from ..study.brains import label_of
from ..study.products import read_maps, render

LEVELS = np.arange(-17.5, 40.0, 5.0)
"""Slices of a whole head [mm above the centre of the cerebrum]: three in each interval that areas are compared in,
evenly spread as those of held-out heads are."""
MAKE = "make some: python -m monai.bundle run --config_file configs/generate.json"


@dataclass
class Group:
    """Slices of one origin.

    Attributes:
        name: what tables call them.
        images: contrasts from 0 to 1 ``(N, M, X, Y)``.
        numbers: classes of :data:`scripts.tissue.FRACTIONS` ``(N, X, Y)``; None where only images are known.
        positions: mm above the centre of the cerebrum; None where it was not asked for.
        heads: name of the head of each slice.
        conditions: of each sample, name -> what was asked, and what was measured, with its unit.
    """

    name: str
    images: np.ndarray
    numbers: np.ndarray | None
    positions: list[float | None]
    heads: list[str]
    conditions: list[tuple[dict, dict, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.images)

    def halves(self) -> tuple["Group", "Group"]:
        """Every second head, and the others."""
        number = {head: n for n, head in enumerate(dict.fromkeys(self.heads))}
        return self.part([number[head] % 2 == 0 for head in self.heads]), self.part(
            [number[head] % 2 == 1 for head in self.heads]
        )

    def part(self, chosen: Sequence[bool]) -> "Group":
        """Some of the slices."""
        where = np.flatnonzero(chosen)
        numbers = None if self.numbers is None else self.numbers[where]
        positions, heads = ([values[n] for n in where] for values in (self.positions, self.heads))
        return Group(self.name, self.images[where], numbers, positions, heads)


def read_group(name: str, folder: str | Path, requests: Sequence[RenderRequest]) -> Group:
    """The samples of a folder, by name: contrasts are rendered from maps, or read where there are none.

    Raises:
        UserError: for a folder without samples, or one that lacks a contrast; naming the file.
    """
    folder, parts, conditions = Path(folder), [], []
    for one in sample_names(folder):
        session = Session(one, None, ())
        if output_path(folder, session, "T1map").exists():
            sidecar = read_json(output_path(folder, session, "T1map", ".json"))
            asked = sidecar.get("GeneratedFrom", {}).get("requested", {})
            conditions.append((asked, sidecar.get("Measured", {}), sidecar.get("MeasuredUnits", "")))
            parts += _of_maps(folder, session, requests, asked.get("position"))
        else:
            images = [_slice(output_path(folder, session, r.suffix, acq=r.name)) for r in requests]
            if len({image.shape for image in images}) > 1:
                raise UserError(folder / f"sub-{one}", "contrasts of several sizes", "give slices of one size")
            parts += [(np.stack(images), None, None, one)]
    return _group(name, parts, conditions)


def sample_names(folder: Path) -> list[str]:
    """Names of the samples of a folder, sorted.

    Raises:
        UserError: for a folder without any.
    """
    names = sorted(path.name.removeprefix("sub-") for path in folder.glob("sub-*") if path.is_dir())
    if not names:
        raise UserError(folder, "no samples", MAKE)
    return names


def read_numbers(folder: Path, session: Session) -> np.ndarray:
    """The class with the largest fraction in each voxel of a sample, numbers of :data:`FRACTIONS` ``(X, Y, Z)``."""
    numbers, most = np.uint8(0), np.float32(-1)
    # One after the other: all classes of a head at once would take half a gigabyte.
    for number, name in enumerate(FRACTIONS):
        share = load_image(output_path(folder, session, "probseg", label=label_of(name)), uniform=True)[0]
        numbers, most = np.where(share > most, np.uint8(number), numbers), np.maximum(share, most)
    return numbers


def _slice(path: Path) -> np.ndarray:
    """A contrast of one slice from 0 to 1 ``(X, Y)``."""
    image, affine = load_image(path, uniform=True)
    _check_axes(path, affine)
    if image.shape[2] != 1:
        raise UserError(path, f"{image.shape[2]} slices", "give images of one slice, or folders of maps")
    return scale_contrast(image[..., 0])


def _check_axes(path: Path, affine: np.ndarray) -> None:
    """Refuses other axes than right, front, top: slices would be mirrored or of another plane."""
    axes = "".join(nib.aff2axcodes(affine))
    if axes != "RAS":
        raise UserError(path, f"the axes {axes}", "give RAS, as generate writes, and inference without --native")


def _of_maps(folder: Path, session: Session, requests: Sequence[RenderRequest], position: float | None) -> list:
    maps = read_maps(folder, session)
    _check_axes(output_path(folder, session, "T1map"), maps.affine)
    numbers = None
    if output_path(folder, session, "probseg", label=label_of(FRACTIONS[0])).exists():
        numbers = read_numbers(folder, session)
    if maps.mask.shape[2] == 1:
        planes = [(0, position)]
    else:
        bottom, height = maps.affine[2, 3], maps.affine[2, 2]
        chosen = ((level - bottom) / height for level in LEVELS)
        planes = [(round(z), bottom + height * round(z)) for z in chosen if 0 <= round(z) < maps.mask.shape[2]]
    return [
        (contrasts(maps.axial(z), requests), None if numbers is None else numbers[..., z], level, session.name)
        for z, level in planes
    ]


def simulated_group(
    name: str, slices: CachedSlices, requests: Sequence[RenderRequest], report: Callable[[str], object] = print
) -> Group:
    """Simulated slices with tissue and texture drawn as the generator draws them: they differ in their shapes only."""
    rows, parts = torch.stack([one.acquisition.to_row() for one in requests]), []
    for index in range(len(slices)):
        if index % slices.slices.per_head == 0:
            report(f"{name}: slice {index + 1} of {len(slices)}")
        one = slices[index]
        fractions = count_fractions(one["numbers"][None])[0]
        drawn = sample_contrasts(fractions, rows, slices.slices.seed, index)
        number = fractions.argmax(0).numpy()
        head = str(index // slices.slices.per_head)
        parts.append((drawn, number, float(one["position"]), head))
    return _group(name, parts)


def contrasts(maps: Maps, requests: Sequence[RenderRequest]) -> np.ndarray:
    """Contrasts ``(M, X, Y)`` of a slice of maps, from 0 to 1."""
    return np.stack([scale_contrast(one) for one in render(maps, requests)])


def _group(name: str, parts: list, conditions: Sequence = ()) -> Group:
    images, numbers, positions, heads = zip(*parts)
    shapes = {one.shape for one in images}
    if len(shapes) > 1:
        raise UserError(name, f"slices of several sizes ({', '.join(map(str, shapes))})", "give slices of one size")
    known = all(one is not None for one in numbers)
    return Group(name, np.stack(images), np.stack(numbers) if known else None, [*positions], [*heads], [*conditions])

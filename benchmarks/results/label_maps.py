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

"""Truth from label maps: literature values, a subject's own deviation, smooth texture, partial volume."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from scipy.ndimage import gaussian_filter
from torch import Tensor

from scripts.errors import UserError
from scripts.preprocess import filled_foreground
from scripts.randomness import rng
from scripts.tissue import tissue_values

from .truth import Truth

CLASSES = {
    name: entry
    for name, entry in json.loads(Path(__file__).with_name("classes.json").read_text(encoding="utf-8")).items()
    if name != "_desc_"
}
FIELD_STRENGTH = 3.0
TEXTURE, TEXTURE_MM = ((0.009, 0.0), (0.03, 0.0), (0.018, 0.02)), 4.0
"""Standard deviations of ln PD, ln T1, ln T2 inside a class along two smooth fields, and their smoothness."""
UPPER = (1.0, 5.0, 2.5)
"""Free water at body temperature: the largest PD, T1 [s], T2 [s]."""
FACTOR = 2
"""Fine voxels along an edge of a voxel."""
SMOOTH = 0.6
"""Of the classes before they are cut again on the finer grid [voxels]."""
PURE = 0.75
"""Share of a voxel that must be one tissue to count as that: of mixed voxels no single T1 describes the signal."""
MARGIN = 4


class Spread(NamedTuple):
    """How the tissue of subjects differs.

    Attributes:
        common: standard deviation of ln PD, ln T1, ln T2 that all classes of a subject have in common.
        own: that of each class besides.
        t2: class -> T2 [s] in the middle, where it is not the literature's.
    """

    common: tuple[float, float, float]
    own: tuple[float, float, float]
    t2: dict[str, float] = {}


LITERATURE = Spread((0.016, 0.064, 0.08), (0.012, 0.048, 0.06))
"""2 % PD, 8 % T1, 10 % T2 in all."""
WIDE = Spread((0.025, 0.14, 0.16), (0.02, 0.05, 0.06), {"white matter": 0.070, "cortex": 0.086})
"""As published means differ, mostly in common. The fluid is that of :data:`LITERATURE`."""
FLUID = 1
"""Segment of what is fluid."""


def label_truth(path: Path, slices: Sequence[int], seed: int, number: int, spread: Spread = LITERATURE) -> Truth:
    """Truth of some axial slices of a label map, cropped to the head.

    Args:
        path: the label map, FreeSurfer numbers, isotropic voxels.
        slices: their numbers from the feet, after reorientation to RAS.
        seed: of the tissue values.
        number: of the head.
        spread: of the tissue between subjects.

    Raises:
        UserError: for labels that no class has.
    """
    labels = canonical(path)
    classes = to_classes(labels, path)
    where = np.argwhere(classes[..., list(slices)])
    low, high = np.maximum(where.min(0)[:2] - MARGIN, 0), where.max(0)[:2] + 1 + MARGIN
    classes = classes[low[0] : high[0], low[1] : high[1]]
    draw = rng(seed, number)
    values = subject_values(draw, spread)
    fine = torch.cat([fine_classes(classes, z) for z in slices], 2)
    maps = torch.stack([fine_maps(draw, part, values) for part in fine.split(FACTOR, 2)], -1).flatten(3)
    maps = maps.view(3, *fine.shape[:2], FACTOR, len(slices)).transpose(3, 4).flatten(3)
    return Truth(path.name.split(".")[0], *average(maps, fine), maps, FIELD_STRENGTH)


def canonical(path: Path) -> np.ndarray:
    """A label map in RAS."""
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj).astype(np.int64)


def to_classes(labels: np.ndarray, where: object) -> np.ndarray:
    """Numbers of the classes, from 1; 0 is air.

    Raises:
        UserError: for labels that no class has.
    """
    table = np.full(labels.max() + 1, -1)
    table[0] = 0
    for number, entry in enumerate(CLASSES.values(), 1):
        table[[label for label in entry["labels"] if label < len(table)]] = number
    classes = table[labels]
    if (classes < 0).any():
        unknown = sorted({int(label) for label in labels[classes < 0]})
        raise UserError(where, f"labels {unknown}", "give them a class in classes.json")
    return classes


def literature() -> np.ndarray:
    """PD, T1 [s], T2 [s] of every class ``(classes, 3)``."""
    return np.array(
        [entry.get("values") or tissue_values(entry["tissue"], FIELD_STRENGTH)[:3] for entry in CLASSES.values()]
    )


def subject_values(draw: Generator, spread: Spread = LITERATURE) -> np.ndarray:
    """PD, T1 [s], T2 [s] of every class in one subject ``(classes, 3)``."""
    values = literature()
    common, own = draw.standard_normal(3), draw.standard_normal(values.shape)
    for row, (name, entry) in enumerate(CLASSES.items()):
        part = LITERATURE if entry["segment"] == FLUID else spread
        values[row, 2] = part.t2.get(name, values[row, 2])
        values[row] *= np.exp(part.common * common + part.own * own[row])
    return values


def fine_classes(classes: np.ndarray, z: int) -> Tensor:
    """Classes of one slice on the finer grid ``(f X, f Y, f)``: those of the smoothed indicator that is largest."""
    slab = classes[..., z - 1 : z + 2]
    best, winner = torch.full([], -1.0), torch.zeros([], dtype=torch.int64)
    for number in np.unique(slab):
        smooth = gaussian_filter((slab == number).astype(np.float32), SMOOTH)
        up = F.interpolate(torch.from_numpy(smooth)[None, None], scale_factor=FACTOR, mode="trilinear")[0, 0]
        up = up[..., FACTOR : 2 * FACTOR]
        winner = torch.where(up > best, int(number), winner)
        best = torch.maximum(up, best)
    return winner


def fine_maps(draw: Generator, classes: Tensor, values: np.ndarray) -> Tensor:
    """PD, T1 [s], T2 [s] ``(3, f X, f Y, f)`` of the classes of one slice, with texture, T2 <= T1; 0 in air."""
    fields = [
        gaussian_filter(draw.standard_normal(classes.shape[:2]), FACTOR * TEXTURE_MM) for _ in range(len(TEXTURE[0]))
    ]
    fields = np.stack([field / field.std() for field in fields])
    texture = torch.from_numpy(np.exp(np.tensordot(TEXTURE, fields, 1)))[..., None]
    table = torch.from_numpy(np.concatenate([np.zeros((1, 3)), values]))
    maps = table[classes].movedim(-1, 0) * texture
    maps = maps.minimum(torch.tensor(UPPER)[:, None, None, None]).float()
    return torch.stack([maps[0], maps[1], maps[2].minimum(maps[1])])


def average(maps: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Maps, labels, head and brain of the voxels, from fine maps ``(3, ...)`` and fine classes ``(...)``."""
    pd, t1, t2 = maps
    mean = F.avg_pool3d(torch.stack([pd, *(torch.where(pd > 0, pd / t, 0) for t in (t1, t2))])[None], FACTOR)[0]
    voxels = torch.stack([mean[0], *(torch.where(mean[0] > 0, mean[0] / rate, 0) for rate in mean[1:])])
    segments = torch.tensor([0, *(entry["segment"] for entry in CLASSES.values())])[classes]
    labels = torch.zeros(voxels.shape[1:], dtype=torch.int64)
    for segment in (1, 2, 3):
        labels[_share(segments == segment) >= PURE] = segment
    head, brain = (filled(_share(inside) >= 0.5) for inside in (classes > 0, segments > 0))
    return voxels, labels, head, brain


def _share(fine: Tensor) -> Tensor:
    return F.avg_pool3d(fine.float()[None], FACTOR)[0]


def filled(mask: Tensor) -> Tensor:
    """Largest connected part of each axial slice ``(X, Y, S)``, its holes filled."""
    slices = [torch.from_numpy(filled_foreground(one.numpy())) for one in mask.unbind(2)]
    return torch.stack(slices, 2)

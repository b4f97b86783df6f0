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

"""Measures of a slice of classes: where they are, what touches what, whether a skull is open or fluid is in an island.

A slice is numbers of :data:`scripts.tissue.FRACTIONS` ``(X, Y)``, voxels of 1 mm, levelled.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from ..tissue import FRACTIONS
from ..tissue.fractions import AREAS
from .distances import frechet_distance

BLOCK = 8
"""Edge of the cells of the layout [mm]."""
COUNT = len(FRACTIONS)
NUMBER = {name: number for number, name in enumerate(FRACTIONS)}
BRAIN = [NUMBER[name] for name in AREAS["brain"]]
DEEP = [NUMBER[name] for name in ("caudate and putamen", "thalamus", "pallidum")]
SKULL = [NUMBER[name] for name in ("bone", "marrow")]
FLUID = [NUMBER[name] for name in ("CSF", "ventricle")]
TISSUES = {
    "ventricle": [NUMBER["ventricle"]],
    "white matter": [NUMBER["white matter"], NUMBER["lesion"]],
    "grey matter": [NUMBER["cortex"]],
    "deep grey": DEEP,
}
"""Name of an area -> its classes."""
AIR_MM, GAP_MM = 4, 6
"""A skull is open where outside air is nearer to the brain than this, or where along so much of the brain's border
scalp or muscle is within :data:`TOUCH_MM`, but no bone within :data:`REACH_MM`."""
TOUCH_MM, REACH_MM = 3, 4
ISLAND = (60, 0.9)
"""An island is fluid of at least so many mm² around which this share is white matter."""
SIDES, OVERLAP = 1.25, 0.82
"""A midline is broken where the halves of the brain differ by more than this ratio, or the brain and its mirror image
have less than this in common."""
CENTRE = 40
"""Farther than this from the middle of the brain [mm], islands do not count: sulci end there."""


def layout(slices: Sequence[np.ndarray]) -> np.ndarray:
    """Fractions of the classes in cells of :data:`BLOCK` mm ``(N, K cells)``; lesions count as white matter."""
    return torch.cat([_cells(one) for one in slices]).numpy()


def _cells(numbers: np.ndarray) -> torch.Tensor:
    healthy = np.where(numbers == NUMBER["lesion"], NUMBER["white matter"], numbers)
    points = F.one_hot(torch.from_numpy(healthy).long(), COUNT).permute(2, 0, 1).float()
    return F.avg_pool2d(points[None], BLOCK).flatten(1)


def contacts(slices: Sequence[np.ndarray]) -> np.ndarray:
    """Roots of the length of the border between each two classes ``(N, pairs)`` [10 mm]; lesions as white matter."""
    found = []
    for numbers in slices:
        lengths = contact_lengths(np.where(numbers == NUMBER["lesion"], NUMBER["white matter"], numbers))
        found.append(np.sqrt(lengths[np.triu_indices(COUNT, 1)] / 100))
    return np.stack(found)


def contact_lengths(numbers: np.ndarray) -> np.ndarray:
    """Length of the border between each two classes ``(K, K)``, counted from both sides."""
    numbers, lengths = numbers.astype(int), np.zeros((COUNT, COUNT))
    for a, b in ((numbers[:-1], numbers[1:]), (numbers[:, :-1], numbers[:, 1:])):
        np.add.at(lengths, (a.ravel(), b.ravel()), 1)
    return lengths + lengths.T


class Distance:
    """Fréchet distance from a reference, in its largest principal components over the deviation of the first.

    Args:
        reference: features ``(N, D)``.
        components: how many.
    """

    def __init__(self, reference: np.ndarray, components: int) -> None:
        self.mean = reference.mean(0)
        _, values, vectors = np.linalg.svd(reference - self.mean, full_matrices=False)
        self.vectors, self.sd = vectors[:components], values[0] / len(reference) ** 0.5
        self.reference = self._project(reference)

    def __call__(self, features: np.ndarray) -> float:
        """The distance of features ``(M, D)``."""
        return frechet_distance(self._project(features), self.reference)

    def nearest(self, features: np.ndarray) -> np.ndarray:
        """Distance of each of the features to the nearest of the reference ``(M,)``."""
        return np.linalg.norm(self._project(features)[:, None] - self.reference, axis=2).min(1)

    def _project(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) @ self.vectors.T / self.sd


def is_open(numbers: np.ndarray) -> bool:
    """Whether outside air comes near the brain, or a stretch of its border meets scalp or muscle without skull."""
    brain = ndimage.binary_fill_holes(np.isin(numbers, BRAIN))
    border = brain & ~ndimage.binary_erosion(brain)
    parts, _ = ndimage.label(np.pad(numbers == NUMBER["air"], 1, constant_values=True))
    outside = (parts == parts[0, 0])[1:-1, 1:-1]
    if _within(outside, border, AIR_MM).any():
        return True
    flesh = np.isin(numbers, [NUMBER["scalp"], NUMBER["muscle"]])
    bare = _within(flesh, border, TOUCH_MM) & ~_within(np.isin(numbers, SKULL), border, REACH_MM)
    parts, count = ndimage.label(bare, np.ones((3, 3)))
    return bool(count) and int(np.bincount(parts.ravel())[1:].max()) > GAP_MM


def _within(what: np.ndarray, border: np.ndarray, limit: float) -> np.ndarray:
    """Which voxels of a border are within a distance [mm] of something."""
    return border & (ndimage.distance_transform_edt(~what) < limit) if what.any() else np.zeros_like(border)


def has_island(numbers: np.ndarray) -> bool:
    """Whether there is an island of fluid in white matter that is no ventricle by its place."""
    brain = np.isin(numbers, BRAIN)
    if not brain.any():
        return False
    parts, count = ndimage.label(np.isin(numbers, FLUID))
    white = np.isin(numbers, TISSUES["white matter"])
    for part in range(1, count + 1):
        island = parts == part
        around = ndimage.binary_dilation(island, iterations=2) & ~island
        if island.sum() < ISLAND[0] or white[around].mean() < ISLAND[1]:
            continue
        x, y = np.argwhere(island).mean(0) - np.argwhere(brain).mean(0)
        if abs(x) > CENTRE or (numbers[island] == NUMBER["CSF"]).mean() > 0.5:
            return True
    return False


def is_broken(numbers: np.ndarray) -> bool:
    """Whether the halves of the brain do not match."""
    brain = np.isin(numbers, BRAIN)
    if not brain.any():
        return True
    left, right = (half.sum() + 1 for half in np.array_split(brain, 2))
    return max(left / right, right / left) > SIDES or symmetry(brain) < OVERLAP


def symmetry(mask: np.ndarray) -> float:
    """Intersection over union of a mask and its mirror image about the middle of it."""
    columns = np.flatnonzero(mask.any(1))
    if not len(columns):
        return 0.0
    cut = mask[columns[0] : columns[-1] + 1]
    return float((cut & cut[::-1]).sum() / (cut | cut[::-1]).sum())


def areas(numbers: np.ndarray) -> dict[str, float]:
    """Area of each of :data:`TISSUES` [cm²]."""
    return {name: float(np.isin(numbers, classes).sum()) / 100 for name, classes in TISSUES.items()}

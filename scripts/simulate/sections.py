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

"""Whole levelled heads: coarse volumes of tissue, and slices that lie near each other."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_dilation, label
from torch import Tensor

from ..randomness import rng
from ..tissue import FRACTION_OF, FRACTIONS
from ..tissue.fractions import FINER
from .labelled import LabelledSlices
from .shape import Shape
from .slices import plane

VERSION = 1
"""Counts the changes after which equal seeds give other heads."""
CELL_MM, POINTS = 8, 4
"""Edge of a cell of the coarse volume, and points along each axis of a cell, whose classes are counted."""


@dataclass(frozen=True)
class LabelledHeads:
    """Random heads of the generator's population, each a function of (seed, number).

    The classes of a head are counted in cells of 8 mm, and shown in slices around a random level: two slices and the
    one halfway between them are there for every distance.

    Args:
        slices: the population, and the size of a slice.
        cells: size of the coarse volume, whose centre is on the midline, at the height ``centre``.
        centre: middle of the volume [mm above the centre of the cerebrum].
        distances: of slices to the one in the middle [mm].
    """

    slices: LabelledSlices = field(default_factory=LabelledSlices)
    cells: tuple[int, int, int] = (24, 28, 20)
    centre: float = 2.0
    distances: tuple[int, ...] = (1, 2, 4, 8, 16)

    @property
    def settings(self) -> dict:
        """Everything that these heads depend on."""
        own = {"cells": self.cells, "centre": self.centre, "distances": self.distances, "heads_version": VERSION}
        return self.slices.settings | own

    @property
    def offsets(self) -> list[int]:
        """Places of the slices of a head, from the one in the middle [mm]."""
        return sorted({0, *self.distances, *(-distance for distance in self.distances)})

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """``counts (K, X, Y, Z)`` of the points of a cell, ``numbers (N, FINER H, FINER W)`` of slices, both uint8, and
        their ``position (N,)`` [mm]; K and the numbers are those of :data:`scripts.tissue.FRACTIONS`.
        """
        shape = self.slices.head(number)
        volume, head = self._volume(shape)
        half = CELL_MM * self.cells[2] / 2
        middle = rng(self.slices.seed, 2, number).uniform(self.centre - half, self.centre + half)
        position = middle + torch.tensor(self.offsets).float()
        numbers = torch.stack([self._slice(shape, head, float(one)) for one in position])
        return {"counts": count_cells(volume), "numbers": numbers, "position": position}

    def _volume(self, shape: Shape) -> tuple[Tensor, np.ndarray]:
        """Numbers of points 2 mm apart, and where the head is, a point wider: what lies apart from it is left out."""
        size = [POINTS * n for n in self.cells]
        axes = [(torch.arange(n) - (n - 1) / 2) * CELL_MM / POINTS for n in size]
        axes[2] = axes[2] + self.centre
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 3)
        numbers = torch.tensor(FRACTION_OF, dtype=torch.uint8)[shape.classes(points)[0]].view(size)
        parts, _ = label(numbers.numpy() > 0)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        head = parts == sizes.argmax()
        return numbers * torch.from_numpy(head), binary_dilation(head, np.ones((3, 3, 3)))

    def _slice(self, shape: Shape, head: np.ndarray, position: float) -> Tensor:
        points = plane(self.slices.size, np.zeros(1), np.zeros(3), (0.0, 0.0, position))
        numbers = torch.tensor(FRACTION_OF, dtype=torch.uint8)[shape.classes(points)[0]]
        size = torch.tensor(head.shape)
        centre = torch.tensor([0.0, 0.0, self.centre])
        voxel = ((points - centre) * POINTS / CELL_MM + (size - 1) / 2).round().long().clamp_min(0).minimum(size - 1)
        numbers = numbers * torch.from_numpy(head)[tuple(voxel.T)]
        return numbers.view(*(FINER * n for n in self.slices.size))


def count_cells(numbers: Tensor) -> Tensor:
    """Points of each class ``(K, X, Y, Z)``, uint8, in cells of :data:`POINTS` ** 3 points ``numbers (4X, 4Y, 4Z)``."""
    classes = torch.arange(len(FRACTIONS), dtype=torch.uint8).view(-1, 1, 1, 1)
    shares = F.avg_pool3d((numbers == classes).float()[None], POINTS)[0]
    return (shares * POINTS**3).round().to(torch.uint8)

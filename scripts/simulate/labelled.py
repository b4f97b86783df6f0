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

"""Slices of levelled heads as classes on a fine grid: what a generator of brains learns from."""

from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from ..randomness import rng
from ..tissue import FRACTION_OF
from ..tissue.fractions import FINER
from .anatomy import Anatomy
from .between import Between
from .cached import HeadCache, folder_name
from .labels import LabelMaps
from .lesions import LesionMasks
from .pose import level
from .shape import MILD, Shape, draw_shape
from .slices import plane

VERSION = 1
"""Counts the changes after which equal seeds give other slices."""
MOVED, FARTHEST = 0.7, 0.8
"""Probability that a head lies between two anatomies, and the largest share of the way from one to the other."""


@dataclass(frozen=True)
class LabelledSlices:
    """Axial slices of levelled, mildly warped, mirrored heads, each a function of (seed, index).

    Args:
        anatomies: heads to take shapes from.
        seed: seed of all draws.
        size: of a slice [voxels of 1 mm].
        per_head: slices of each random head, evenly spread over the positions.
        lesions: probability of white-matter lesions.
        lesion_masks: real lesions to take shapes and places from.
        positions: lowest and highest slice [mm above the centre of the cerebrum].
        between: velocities from one anatomy to another; None for heads of one anatomy each.
    """

    anatomies: LabelMaps = field(default_factory=LabelMaps)
    seed: int = 0
    size: tuple[int, int] = (176, 224)
    per_head: int = 14
    lesions: float = 0.5
    lesion_masks: LesionMasks = field(default_factory=LesionMasks)
    positions: tuple[float, float] = (-25.0, 45.0)
    between: Between | None = None

    def head(self, number: int) -> Shape:
        """Shape of a random head."""
        return _head(self.anatomies, self.seed, number, self.lesions, self.lesion_masks, self.between)

    @property
    def settings(self) -> dict:
        """Everything that these slices depend on."""
        settings = asdict(self) | {"version": VERSION, "between": self.between is not None}
        return settings | {name: getattr(self, name).names for name in ("anatomies", "lesion_masks")}

    def participants(self, index: int) -> dict[str, float]:
        """Name of each anatomy that the head of a slice is made of -> its share; the shares add up to 1."""
        names = self.anatomies.participants
        first, other, share = _parents(rng(self.seed, 0, index // self.per_head), len(names), self.between)
        return {names[first]: 1 - share, names[other]: share} if share else {names[first]: 1.0}

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One slice: ``numbers (FINER H, FINER W)`` of :data:`scripts.tissue.FRACTIONS`, uint8; ``position`` [mm]."""
        number, nth = divmod(index, self.per_head)
        lowest, highest = self.positions
        share = (nth + rng(self.seed, 1, index).uniform()) / self.per_head
        position = lowest + (highest - lowest) * share
        points = plane(self.size, np.zeros(1), np.zeros(3), (0.0, 0.0, position))
        classes, _ = self.head(number).classes(points)
        numbers = torch.tensor(FRACTION_OF, dtype=torch.uint8)[classes]
        numbers = numbers.view(*(FINER * n for n in self.size))
        return {"numbers": without_specks(numbers), "position": torch.tensor(position)}


def without_specks(numbers: Tensor) -> Tensor:
    """A slice without what lies apart from the head, such as a headrest in the label map."""
    parts, count = label(numbers.numpy() > 0)
    if count < 2:
        return numbers
    largest = np.bincount(parts.ravel())[1:].argmax() + 1
    return numbers * torch.from_numpy(parts == largest)


@lru_cache(maxsize=1)
def _head(
    anatomies: LabelMaps, seed: int, number: int, lesions: float, lesion_masks: LesionMasks, between: Between | None
) -> Shape:
    random = rng(seed, 0, number)
    first, other, share = _parents(random, len(anatomies), between)
    anatomy = _levelled(anatomies, first)
    towards = share * between.velocity(anatomy, _levelled(anatomies, other)) if share else None
    return draw_shape(random, anatomy, lesions, 0.0, lesion_masks, MILD, towards)


def _parents(random: np.random.Generator, count: int, between: Between | None) -> tuple[int, int, float]:
    """Number of a random head's anatomy, that of the one it is moved towards, and the share of the way; 0 for none."""
    first, step = int(random.integers(count)), int(random.integers(1, count)) if count > 1 else 0
    share = random.uniform(0, FARTHEST) * (random.uniform() < MOVED)
    return first, (first + step) % count, share if between is not None and step else 0.0


def _levelled(anatomies: LabelMaps, number: int) -> Anatomy:
    """A head that can be levelled; the message about one that cannot names it."""
    level(anatomies[number], anatomies.names[number])
    return anatomies[number]


@dataclass(eq=False)
class CachedSlices(Dataset):
    """A bounded number of labelled slices, simulated when they are first asked for, and kept on disk: a file a head.

    Args:
        slices: where they come from.
        cache_dir: folder below which they are kept, in a folder named after everything they depend on.
        length: how many there are, about 10 kB each.

    Raises:
        UserError: for a length that is no such number.
    """

    slices: LabelledSlices
    cache_dir: str | Path
    length: int

    def __post_init__(self) -> None:
        if not isinstance(self.length, int) or isinstance(self.length, bool) or self.length < 1:
            raise UserError("slices", repr(self.length), "use a whole number of at least 1")

    def head(self, number: int) -> dict[str, Tensor]:
        """All slices of a head: ``numbers (N, FINER H, FINER W)`` and ``position (N,)``; raises likewise."""
        return self._heads[number]

    @cached_property
    def _heads(self) -> HeadCache:
        return HeadCache(self.folder, ("numbers", "position"), self._make)

    @property
    def folder(self) -> Path:
        """Folder of these slices."""
        return Path(self.cache_dir) / folder_name("labelled", self.slices.settings)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The slice, with its ``index``.

        Raises:
            UserError: for unusable label maps or masks, or a file that cannot be written.
        """
        if not 0 <= index < self.length:
            raise IndexError(index)
        number, nth = divmod(index, self.slices.per_head)
        head = self.head(number)
        return {"numbers": head["numbers"][nth], "position": head["position"][nth], "index": index}

    def _make(self, number: int) -> dict[str, Tensor]:
        first = number * self.slices.per_head
        made = [self.slices[index] for index in range(first, first + self.slices.per_head)]
        return {name: torch.stack([one[name] for one in made]) for name in ("numbers", "position")}

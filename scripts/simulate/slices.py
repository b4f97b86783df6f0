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

"""Clean slices of random heads: maps, labels and the signed signals of several contrasts, free of noise."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..randomness import rng
from ..tissue import REGIONS
from ..tissue.fractions import mix
from .anatomy import BRAIN, REGION
from .contrasts import CONTRASTS, draw_contrasts, draw_hidden, render_points
from .labels import LabelMaps
from .lesions import LesionMasks
from .population import Tissue, draw_tissue
from .shape import Shape, draw_shape

FINE = 2
"""Points per millimetre along each axis of the plane, and per slice across it where a slice is thick."""


@dataclass(frozen=True)
class Slices:
    """Random slices, each a function of (seed, index): drawn on the CPU, computed on any device.

    Args:
        anatomies: heads to take shapes from.
        seed: seed of all draws.
        size: of a slice [voxels of 1 mm].
        per_head: slices of each random head; shape, tissue and lesions are common to them.
        wide: probability of tissue far from the literature, see :func:`draw_tissue`.
        lesions: probability of white-matter lesions.
        masses: probability of an infarct or tumour.
        lesion_masks: real lesions to take shapes and places from.
        positions: lowest and highest slice [mm above the centre of the cerebrum].
        oblique: probability of a slice tilted by up to 25 degrees; the others are tilted by a few.
        thick: probability of thick slices (2 to 6 mm) in some of the contrasts.
        contrasts: families of each contrast with their weights.
        device: where slices are computed, and stay.
    """

    anatomies: LabelMaps = field(default_factory=LabelMaps)
    seed: int = 0
    size: tuple[int, int] = (192, 224)
    per_head: int = 8
    wide: float = 0.6
    lesions: float = 0.35
    masses: float = 0.15
    lesion_masks: LesionMasks = field(default_factory=LesionMasks)
    positions: tuple[float, float] = (-75.0, 62.0)
    oblique: float = 0.2
    thick: float = 0.3
    contrasts: tuple[dict[str, float], ...] = CONTRASTS
    device: str | torch.device = "cpu"

    def head(self, number: int) -> tuple[Shape, Tissue]:
        """Shape and tissue of a random head."""
        return _head(self.anatomies, self.seed, number, self.wide, self.lesions, self.masses, self.lesion_masks)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One slice: ``maps (3, H, W)`` PD, T1 [s], T2 [s], zero in air and bone; ``labels (H, W)`` uint8, numbers of
        :data:`REGIONS`; ``brain (H, W)`` bool; ``signal (K, H, W)`` signed, of ``acquisition (K, A)``; ``position``
        [mm above the centre of the cerebrum].
        """
        shape, tissue = self.head(index // self.per_head)
        random = rng(self.seed, 1, index)
        position = random.uniform(*self.positions)
        tilt = random.uniform(-25, 25, 3) if random.uniform() < self.oblique else random.normal(0, 4, 3)
        thickness = random.uniform(2, 6) if random.uniform() < self.thick else 0.0
        across = np.array([0.0]) if not thickness else thickness * np.array([0, -1 / 3, 1 / 3])
        points = plane(self.size, across, tilt, (*random.normal(0, 3, 2), position)).to(self.device)
        classes, texture = shape.classes(points)
        maps = tissue.maps(classes, texture)
        acquisitions = draw_contrasts(random, self.contrasts, tissue.field_strength)
        fine = tuple(FINE * n for n in self.size)
        hidden = draw_hidden(random, fine, acquisitions)
        b1 = hidden.b1.to(self.device).expand(len(across), *fine).flatten()
        rows = torch.stack([acquisition.to_row() for acquisition in acquisitions]).to(self.device)
        signal = render_points(maps, classes, b1, tissue, hidden, rows).view(len(rows), len(across), *fine)
        is_thick = torch.from_numpy(random.uniform(size=len(acquisitions)) < 0.6).to(self.device)[:, None, None]
        signal = torch.where(is_thick, signal.mean(1), signal[:, 0])
        # Maps and labels are those of the sub-slice in the middle, the first.
        first = slice(0, fine[0] * fine[1])
        regions = F.one_hot(REGION.to(self.device)[classes[first]], len(REGIONS)).T.float().view(-1, *fine)
        brain = BRAIN.to(self.device)[classes[first]].float().view(1, *fine)
        return {
            "maps": mix(maps[:, first].view(3, *fine), _coarse),
            "labels": _coarse(regions).argmax(0).to(torch.uint8),
            "brain": _coarse(brain)[0] > 0.5,
            "signal": _coarse(signal),
            "acquisition": rows,
            "position": torch.tensor(position, device=self.device),
        }


@lru_cache(maxsize=1)
def _head(
    anatomies: LabelMaps, seed: int, number: int, wide: float, lesions: float, masses: float, lesion_masks: LesionMasks
) -> tuple[Shape, Tissue]:
    random = rng(seed, 0, number)
    anatomy = anatomies[int(random.integers(len(anatomies)))]
    return draw_shape(random, anatomy, lesions, masses, lesion_masks), draw_tissue(random, wide)


def plane(size: tuple[int, int], across: np.ndarray, tilt: np.ndarray, centre: tuple[float, ...]) -> Tensor:
    """Points ``(N, 3)`` [mm] of a plane with :data:`FINE` points per millimetre, once per offset across it.

    Args:
        size: of the plane [mm].
        across: offsets of its sub-slices [mm].
        tilt: rotation about the three axes [degrees].
        centre: of the plane [mm].
    """
    axes = [(np.arange(FINE * n) + 0.5) / FINE - n / 2 for n in size]
    z, x, y = np.meshgrid(across, *axes, indexing="ij")
    turned = np.stack([x, y, z], -1).reshape(-1, 3) @ Rotation.from_euler("xyz", tilt, degrees=True).as_matrix().T
    return torch.from_numpy((turned + np.array(centre)).astype(np.float32))


def _coarse(fine: Tensor) -> Tensor:
    return F.avg_pool2d(fine[None], FINE)[0]

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

"""Diseased tissue of a random head: lesions of the white matter, from real masks or drawn, and infarcts or tumours."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from numpy.random import Generator
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from ..acquisition.families import log_uniform
from ..bids import load_image
from ..errors import UserError
from .anatomy import INDEX, Anatomy
from .fields import smooth_field

ENDINGS = (".nii", ".nii.gz")
CHANNELS = 3
"""Smooth fields of :class:`Lesions`: depth in a lesion, black holes, depth in a mass."""
NOWHERE = -1e3
"""Depth where there is nothing [mm]."""
EDGE = 0.15
"""Change of a field of variance 1 along 1 mm, where it is steep."""
SCATTERED, CONFLUENT = (0.5, 2.0), (2.0, 3.5)
"""Weight of the nearness to the ventricles in the field of scattered and of confluent lesions."""
LESION_LEVEL = {False: (2.3, 3.3), True: (1.9, 3.0)}
"""Level above which a field is lesion, of scattered and of confluent ones: many to few."""
IS_CONFLUENT = 0.4
"""Probability of confluent lesions."""
FROM_MASK = 0.75
"""Probability that lesions are those of a mask, where there are masks."""
GROWTH_MM, ROUGHNESS_MM = (-0.7, 1.2), 0.7
"""How much the lesions of a mask grow, and standard deviation of the place of their border [mm]."""
MASK_DEGREES, MASK_SCALE_SD, MASK_MM = 4.0, 0.05, 3.0
"""Standard deviations of the rotation, the scale and the shift of a mask."""
MNI_WHITE = ((0.0, -17.0, 20.6), (31.6, 38.7, 23.3))
"""Mean and standard deviation of the place of cerebral white matter in the MNI152 average [mm]."""
RIM_MM, SHELL = (0.8, 2.5), (0.1, 0.6)
"""Thickness of the rim of a lesion [mm]; of the oedema of a mass, over its radius."""
HOLES_LEVEL = 0.6
"""Level of a smooth field above which the middle of a lesion is a black hole."""
MASS_MM, MASS_ASPECT_SD, MASS_ROUGHNESS_MM = (6.0, 26.0), 0.25, 1.5
"""Radius of a mass [mm], standard deviations of the logarithm of its axes and of the place of its border [mm]."""
CROSSES = 0.5
"""Probability that a mass goes on in cortex and deep grey matter."""
WHITE = ("white matter", "cerebellar white matter")
GREY = ("cortex", "caudate and putamen", "thalamus", "pallidum", "hippocampus and amygdala")
FARTHEST_MM = 8
"""Beyond this the depth in a mask does not matter [mm]."""


class Mask(NamedTuple):
    """Lesions of one person.

    Attributes:
        depth: distance from their border [mm], positive inside, on a grid of the masked box ``(X, Y, Z)``.
        affine: MNI [mm] to voxel ``(4, 4)``.
    """

    depth: Tensor
    affine: np.ndarray


class LesionMasks:
    """Masks of real lesions to take shapes and places from: every ``.nii`` or ``.nii.gz`` of a folder, in MNI space.

    Args:
        folder: where they are; None for none.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)

    @property
    def paths(self) -> list[Path]:
        """Files of the masks, in the order of their names.

        Raises:
            UserError: for a missing folder, or one without masks.
        """
        if self.folder is None:
            return []
        if not self.folder.is_dir():
            raise UserError(self.folder, "no such folder", "name a folder of lesion masks in MNI space, or none")
        found = sorted(path for path in self.folder.iterdir() if path.name.lower().endswith(ENDINGS))
        if not found:
            raise UserError(self.folder, "no masks", "give .nii or .nii.gz files in MNI space, or no folder")
        return found

    @property
    def names(self) -> list[str]:
        """Names of the masks."""
        return [path.name for path in self.paths]

    def pick(self, share: float) -> Mask | None:
        """The mask at this share of the list, from 0 to below 1; None where there are none.

        Raises:
            UserError: as :attr:`paths` and :func:`read_mask`.
        """
        paths = self.paths
        return read_mask(paths[int(share * len(paths))]) if paths else None


@lru_cache(maxsize=64)
def read_mask(path: Path) -> Mask:
    """A mask of lesions as the depth inside them, cropped to them.

    Raises:
        UserError: for a file that cannot be read, is no volume, or is empty.
    """
    data, affine = load_image(path)
    mask = np.asanyarray(data) > 0.5
    if not mask.any():
        raise UserError(path, "no lesion", "give a mask with voxels above 0.5")
    zooms = nib.affines.voxel_sizes(affine)
    places, margin = np.argwhere(mask), np.ceil(FARTHEST_MM / zooms).astype(int)
    low = np.maximum(places.min(0) - margin, 0)
    box = tuple(slice(a, b) for a, b in zip(low, places.max(0) + margin + 1))
    inside = np.pad(mask[box], 1)
    depth = distance_transform_edt(inside, zooms) - distance_transform_edt(~inside, zooms)
    # Borders lie between voxels: half a voxel from the centres on either side.
    depth = (depth - np.sign(depth) * zooms.mean() / 2).clip(-FARTHEST_MM, FARTHEST_MM)[1:-1, 1:-1, 1:-1]
    moved = affine @ np.block([[np.eye(3), low[:, None]], [np.zeros((1, 3)), 1]])
    return Mask(torch.from_numpy(np.ascontiguousarray(depth, np.float32)), np.linalg.inv(moved))


class Lesions(NamedTuple):
    """What of a head is diseased, with the smooth fields of its :class:`.shape.Shape`.

    Attributes:
        mask: depth in the lesions of a mask [mm], to which that of the field is added; None for the field alone.
        to_mask: voxel of the label map to voxel of the mask ``(3, 4)``.
        rim: thickness of the rim of lesions [mm].
        shell: thickness of the oedema of a mass [mm].
        crosses: whether a mass goes on in grey matter.
    """

    mask: Tensor | None = None
    to_mask: Tensor = torch.eye(4)[:3]
    rim: float = 1.0
    shell: float = 1.0
    crosses: bool = False

    def mark(self, classes: Tensor, at: Tensor, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Classes ``(N,)`` with the diseased ones among them, and how far their next border is ``(N,)`` [mm].

        Args:
            classes: of a healthy head ``(N,)``; numbers that are no class stay.
            at: voxel coordinates in the label map ``(N, 3)``.
            fields: smooth fields there ``(3, N)``.
        """
        depth, holes, mass = fields
        if self.mask is not None:
            depth = depth + self._depth(at)
        marked, white = classes.clone(), _among(classes, WHITE)
        affected = _among(classes, WHITE + GREY * self.crosses)
        lesion, core = white & (depth > 0), white & (depth > self.rim)
        marked[lesion] = INDEX["lesion rim"]
        marked[core] = INDEX["lesion"]
        marked[core & (holes > HOLES_LEVEL)] = INDEX["black hole"]
        marked[affected & (mass > 0)] = INDEX["oedema"]
        marked[affected & (mass > self.shell)] = INDEX["mass"]
        hole_border = torch.where(depth > self.rim, (holes - HOLES_LEVEL).abs() / EDGE, -NOWHERE)
        borders = [depth.abs(), (depth - self.rim).abs(), hole_border, mass.abs(), (mass - self.shell).abs()]
        margin = torch.stack(borders).amin(0)
        return marked, torch.where(white | affected, margin, -NOWHERE)

    def _depth(self, at: Tensor) -> Tensor:
        """Depth in the lesions of the mask ``(N,)`` [mm]."""
        to_mask, depth = self.to_mask.to(at.device), self.mask.to(at.device)
        voxel = at @ to_mask[:, :3].T + to_mask[:, 3]
        unit = (2 * voxel / (torch.tensor(depth.shape, device=at.device) - 1) - 1).flip(1)
        found = grid_sample(depth[None, None], unit[None, None, None], padding_mode="border", align_corners=True)
        return found.flatten()


def draw_lesions(
    random: Generator, anatomy: Anatomy, near: Tensor, lesions: float, masses: float, masks: LesionMasks
) -> tuple[Lesions, Tensor]:
    """Random lesions of white matter, and a random mass.

    Args:
        random: source of the random numbers.
        anatomy: the label map.
        near: nearness to the ventricles on the control grid ``(1, x, y, z)``, 1 beside them.
        lesions: probability of lesions of the white matter.
        masses: probability of an infarct or tumour.
        masks: real ones, placed where they lie in the MNI152 average.

    Returns:
        The lesions, and their smooth fields on the control grid ``(3, x, y, z)``.

    Raises:
        UserError: for unusable masks.
    """
    shape = tuple(near.shape[1:])
    ill, has_mass, has_mask = random.uniform(size=3) < (lesions, masses, FROM_MASK)
    share, to_mni = random.uniform(), _to_white(random, anatomy)
    mask = masks.pick(share) if ill and has_mask else None
    confluent = bool(random.uniform() < IS_CONFLUENT)
    growth, border, broad = random.uniform(*GROWTH_MM), smooth_field(random, shape, 1.2), smooth_field(random, shape, 3)
    weight, level = random.uniform(*(CONFLUENT if confluent else SCATTERED)), random.uniform(*LESION_LEVEL[confluent])
    if mask is None:
        field = (0.6 * border + 0.6 * broad if confluent else 0.8 * border) + weight * near
        depth = (field - level) / EDGE
    else:
        depth = growth + ROUGHNESS_MM * border
    holes = smooth_field(random, shape, 2)
    mass, radius = _draw_mass(random, anatomy, shape)
    nowhere = torch.full_like(depth, NOWHERE)
    made = Lesions(
        None if mask is None else mask.depth,
        torch.from_numpy((np.eye(4) if mask is None else mask.affine @ to_mni)[:3]).float(),
        random.uniform(*RIM_MM),
        random.uniform(*SHELL) * radius,
        bool(random.uniform() < CROSSES),
    )
    return made, torch.cat([depth if ill else nowhere, holes, mass if has_mass else nowhere])


def _to_white(random: Generator, anatomy: Anatomy) -> np.ndarray:
    """Voxel of the label map to MNI [mm] ``(4, 4)``: its white matter where that of the average is, a little off."""
    white = np.argwhere(anatomy.classes.numpy() == INDEX["white matter"])
    mean, sd = (white.mean(0), white.std(0)) if len(white) else (np.array(anatomy.centre), np.ones(3))
    centre, spread = np.array(MNI_WHITE)
    turn = Rotation.from_euler("xyz", random.normal(0, MASK_DEGREES, 3), degrees=True).as_matrix()
    scale = np.diag(spread / sd.clip(1) * np.exp(random.normal(0, MASK_SCALE_SD, 3)))
    affine = np.eye(4)
    affine[:3, :3] = scale @ turn * [random.choice([-1, 1]), 1, 1]
    affine[:3, 3] = centre + random.normal(0, MASK_MM, 3) - affine[:3, :3] @ mean
    return affine


def _draw_mass(random: Generator, anatomy: Anatomy, shape: tuple[int, ...]) -> tuple[Tensor, float]:
    """Depth in a smooth blob with its middle in white matter [mm] on the control grid ``(1, x, y, z)``; its radius."""
    white = (anatomy.classes == INDEX["white matter"]).float()[None, None]
    places = np.argwhere(interpolate(white, shape, mode="area")[0, 0].numpy() > 0.5)
    radius, chosen = log_uniform(random, *MASS_MM), random.uniform()
    axes = radius * np.exp(random.normal(0, MASS_ASPECT_SD, 3))
    turn = Rotation.from_euler("xyz", random.uniform(0, 180, 3), degrees=True).as_matrix()
    rough = MASS_ROUGHNESS_MM * smooth_field(random, shape, 2.0)
    if not len(places):
        return torch.full((1, *shape), NOWHERE), radius
    step = (np.array(anatomy.classes.shape) - 1) / (np.array(shape) - 1)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    offset = (grid - places[int(chosen * len(places))]) * step
    distance = np.linalg.norm(offset @ turn / axes, axis=-1)
    return torch.from_numpy(radius * (1 - distance)).float()[None] + rough, radius


def _among(classes: Tensor, names: tuple[str, ...]) -> Tensor:
    """Which classes ``(N,)`` are among these."""
    table = torch.zeros(256, dtype=torch.bool)
    table[[INDEX[name] for name in names]] = True
    return table.to(classes.device)[classes]

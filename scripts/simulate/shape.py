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

"""The shape of a random head: a label map moved by a random diffeomorphism, with smooth fields for its tissue."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from monai.networks.blocks import DVF2DDF
from numpy.random import Generator
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, pad

from ..tissue import CLASSES
from .anatomy import AROUND, INDEX, MIXED, Anatomy
from .fields import smooth_field
from .lesions import CHANNELS, LesionMasks, Lesions, draw_lesions
from .pose import level

CONTROL_MM = 4.0
SQUARINGS = 6
TEXTURE, SULCAL, DISEASE = slice(3, 5), 5, slice(6, 6 + CHANNELS)
"""Channels of the smooth fields behind those of the displacement."""


class Variety(NamedTuple):
    """By how much random heads differ from the label maps they are made of.

    Attributes:
        waves: random velocity as (smoothness, standard deviation) [mm]: lobes, then gyri. The flow moves a little less.
        ventricle: range of the displacement of the ventricle walls [mm], outwards positive: slim to wide ventricles.
        sulci: range of the logarithm of the weight of fluid against cortex where both share a voxel: narrow to wide.
        degrees: standard deviation of the rotation about each axis.
        size: standard deviation of the logarithm of the size, of all axes together and of each.
        levelled: heads are first brought into the canonical pose, see :mod:`.pose`.
    """

    waves: tuple[tuple[float, float], ...]
    ventricle: tuple[float, float]
    sulci: tuple[float, float]
    degrees: float
    size: tuple[float, float]
    levelled: bool


WILD = Variety(((30.0, 3.0), (10.0, 1.0)), (-2.0, 4.0), (-1.0, 1.2), 3.0, (0.04, 0.04), levelled=False)
"""Any head in any pose: what an estimator must be able to read."""
MILD = Variety(((30.0, 1.5), (10.0, 0.5)), (-1.5, 3.0), (-0.6, 0.8), 1.0, (0.03, 0.02), levelled=True)
"""Heads as they are, in one pose: what a generator is to make."""


class Shape(NamedTuple):
    """A deformed head: where a point of the new head lies in the label map, and smooth fields there.

    Attributes:
        anatomy: the label map.
        fields: on the control grid ``(9, x, y, z)``: displacement [mm] (3), texture of T1 and of T2 (2), logarithm of
            the weight of fluid (1), fields of the lesions (3).
        turn: rotation and scale ``(3, 3)`` from points of the new head to those of the label map.
        lesions: what is diseased, by these fields.
    """

    anatomy: Anatomy
    fields: Tensor
    turn: Tensor
    lesions: Lesions

    def classes(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Classes ``(N,)`` and textures ``(2, N)`` at points ``(N, 3)`` [mm from the centre of the cerebrum, RAS].

        The class of a point is the likeliest of those of the eight voxels around it, weighted linearly: at half a
        millimetre the borders are smooth.
        """
        at, fields = self.locate(points)
        blocks = self.anatomy.blocks.to(points.device)
        classes = _at(blocks, at.floor().long() + AROUND).long()
        mixed = (classes == MIXED).nonzero().squeeze(1)
        chance = _linear(self.anatomy.classes.to(points.device), at[mixed])
        for fluid in ("CSF", "ventricle"):
            chance[INDEX[fluid]] *= fields[SULCAL, mixed].exp()
        classes[mixed] = chance.argmax(0)
        return self.lesions.mark(classes, at, fields[DISEASE])[0], fields[TEXTURE]

    def locate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Voxel coordinates in the label map ``(N, 3)``, and fields ``(9, N)``, at points ``(N, 3)`` as above."""
        centre = torch.tensor(self.anatomy.centre, device=points.device)
        at = points @ self.turn.T.to(points.device) + centre
        size = torch.tensor(self.anatomy.classes.shape, device=points.device)
        unit = (2 * at / (size - 1) - 1).flip(1)
        fields = grid_sample(
            self.fields[None].to(points.device), unit[None, None, None], padding_mode="border", align_corners=True
        )[0, :, 0, 0]
        return at + fields[:3].T, fields


def draw_shape(
    random: Generator,
    anatomy: Anatomy,
    lesions: float = 0.0,
    masses: float = 0.0,
    lesion_masks: LesionMasks | None = None,
    variety: Variety = WILD,
    towards: Tensor | None = None,
) -> Shape:
    """A random shape: flip, pose, size, diffeomorphic warp, ventricles, sulci, lesions.

    A smooth velocity (lobes, gyri, ventricles) is integrated by scaling and squaring, so that nothing folds.

    Args:
        random: source of the random numbers.
        anatomy: the label map.
        lesions: probability of white-matter lesions.
        masses: probability of an infarct or tumour.
        lesion_masks: real lesions to take shapes and places from.
        variety: by how much the head differs from the label map.
        towards: velocity on the control grid ``(3, x, y, z)`` [mm] that is added, see :class:`.between.Between`.

    Raises:
        UserError: for unusable masks, or a label map that cannot be levelled.
    """
    shape = control_grid(anatomy)
    outward, near = _ventricles(anatomy, shape)
    velocity = random.uniform(*variety.ventricle) * outward
    for sigma, amplitude in variety.waves:
        velocity = velocity + amplitude * smooth_field(random, shape, sigma / CONTROL_MM, channels=3)
    flow = integrate(velocity if towards is None else velocity + towards)
    texture = 0.7 * smooth_field(random, shape, 1.5, 2) + 0.7 * smooth_field(random, shape, 5, 2)
    sulci = random.uniform(*variety.sulci) + 0.5 * smooth_field(random, shape, 5)
    turn = Rotation.from_euler("xyz", random.normal(0, variety.degrees, 3), degrees=True).as_matrix()
    common, own = variety.size
    scale = np.exp(random.normal(0, common) + random.normal(0, own, 3)) * [random.choice([-1, 1]), 1, 1]
    diseased, fields = draw_lesions(random, anatomy, near, lesions, masses, lesion_masks or LesionMasks())
    turn = turn * scale
    if variety.levelled:
        # p = R (h - c) + t, so h = R^T p + (c - R^T t).
        pose = level(anatomy)
        turn = pose.rotation.T @ turn
        anatomy = anatomy._replace(centre=tuple((anatomy.centre - pose.rotation.T @ pose.shift).tolist()))
    fields = torch.cat([flow, texture, sulci, fields]).float()
    return Shape(anatomy, fields, torch.from_numpy(turn).float(), diseased)


def control_grid(anatomy: Anatomy) -> tuple[int, ...]:
    """Size of the grid of the smooth fields of a head."""
    return tuple(round(size / CONTROL_MM) for size in anatomy.classes.shape)


def integrate(velocity: Tensor) -> Tensor:
    """The flow ``(3, x, y, z)`` [mm] of a stationary velocity on the control grid, by scaling and squaring."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "monai.networks.blocks.Warp")
        return DVF2DDF(num_steps=SQUARINGS, padding_mode="border")(velocity[None] / CONTROL_MM)[0] * CONTROL_MM


def _ventricles(anatomy: Anatomy, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Vectors of length 1 at most that point into the ventricles ``(3, x, y, z)``, nearness to them ``(1, x, y, z)``.

    Pulling the label map back along such a vector moves their walls outwards.
    """
    ventricles = (anatomy.classes == INDEX["ventricle"]).float()[None, None]
    coarse = interpolate(ventricles, shape, mode="area")[0, 0].numpy()
    pull = np.stack(np.gradient(gaussian_filter(coarse, 7 / CONTROL_MM)))
    pull /= max(np.linalg.norm(pull, axis=0).max(), 1e-6)
    distance = distance_transform_edt(~binary_dilation(coarse > 0.3)) * CONTROL_MM if (coarse > 0.3).any() else 100.0
    near = np.broadcast_to(np.exp(-np.asarray(distance) / 8), shape).astype(np.float32)
    return torch.from_numpy(pull.astype(np.float32)), torch.from_numpy(near.copy())[None]


def _linear(classes: Tensor, at: Tensor) -> Tensor:
    """Weight of each class ``(C, N)`` at voxel coordinates ``(N, 3)``, trilinear; air from outside."""
    chance = torch.zeros(len(CLASSES), len(at), device=at.device)
    corner = at.floor()
    share = at - corner
    padded = pad(classes, [1] * 6)
    for offset in torch.cartesian_prod(*[torch.arange(2, device=at.device)] * 3):
        weight = torch.where(offset > 0, share, 1 - share).prod(1)
        label = _at(padded, corner.long() + offset + 1).long()
        chance.scatter_add_(0, label[None], weight[None])
    return chance


def _at(volume: Tensor, voxel: Tensor) -> Tensor:
    """Values ``(N,)`` of a volume at integer voxels ``(N, 3)``, the nearest one from outside."""
    x, y, z = volume.shape
    i, j, k = voxel.unbind(1)
    return volume.flatten()[(i.clamp(0, x - 1) * y + j.clamp(0, y - 1)) * z + k.clamp(0, z - 1)]

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

CONTROL_MM = 4.0
WAVES_MM = ((30.0, 3.0), (10.0, 1.0))
"""Random velocity as (smoothness, standard deviation) [mm]: lobes, then gyri. The flow moves a little less."""
VENTRICLE_MM = (-2.0, 4.0)
"""Range of the displacement of the ventricle walls [mm], outwards positive: slim to wide ventricles."""
SULCI = (-1.0, 1.2)
"""Range of the logarithm of the weight of fluid against cortex where both share a voxel: narrow to wide sulci."""
SIZE_SD = 0.04
TEXTURE, SULCAL, DISEASE = slice(3, 5), 5, slice(6, 6 + CHANNELS)
"""Channels of the smooth fields behind those of the displacement."""


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
) -> Shape:
    """A random shape: flip, pose, size, diffeomorphic warp, ventricles, sulci, lesions.

    A smooth velocity (lobes, gyri, ventricles) is integrated by scaling and squaring, so that nothing folds.

    Args:
        random: source of the random numbers.
        anatomy: the label map.
        lesions: probability of white-matter lesions.
        masses: probability of an infarct or tumour.
        lesion_masks: real lesions to take shapes and places from.

    Raises:
        UserError: for unusable masks.
    """
    size = tuple(anatomy.classes.shape)
    shape = tuple(round(s / CONTROL_MM) for s in size)
    outward, near = _ventricles(anatomy, shape)
    velocity = random.uniform(*VENTRICLE_MM) * outward
    for sigma, amplitude in WAVES_MM:
        velocity = velocity + amplitude * smooth_field(random, shape, sigma / CONTROL_MM, channels=3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "monai.networks.blocks.Warp")
        flow = DVF2DDF(num_steps=6, padding_mode="border")(velocity[None] / CONTROL_MM)[0] * CONTROL_MM
    texture = 0.7 * smooth_field(random, shape, 1.5, 2) + 0.7 * smooth_field(random, shape, 5, 2)
    sulci = random.uniform(*SULCI) + 0.5 * smooth_field(random, shape, 5)
    turn = Rotation.from_euler("xyz", random.normal(0, 3, 3), degrees=True).as_matrix()
    scale = np.exp(random.normal(0, SIZE_SD) + random.normal(0, SIZE_SD, 3)) * [random.choice([-1, 1]), 1, 1]
    diseased, fields = draw_lesions(random, anatomy, near, lesions, masses, lesion_masks or LesionMasks())
    return Shape(
        anatomy, torch.cat([flow, texture, sulci, fields]).float(), torch.from_numpy(turn * scale).float(), diseased
    )


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

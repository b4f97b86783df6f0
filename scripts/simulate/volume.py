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

"""Clean volumes of a random head: maps, labels and signals of all its voxels, free of noise."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import torch
from scipy.ndimage import maximum_filter, minimum_filter
from torch import Tensor
from torch.nn.functional import one_hot

from ..tissue import REGIONS
from .anatomy import BRAIN, INDEX, MIXED, REGION
from .contrasts import Hidden, render_points
from .population import Tissue
from .shape import DISEASE, TEXTURE, Shape
from .slices import FINE, mix

SLAB = 8
"""Axial planes that are computed at once: memory holds the points of no more."""


class Volume(NamedTuple):
    """A head without noise; within this file also a flat list of its voxels.

    Attributes:
        maps: PD, T1 [s], T2 [s] ``(3, X, Y, Z)``, zero in air and bone.
        labels: numbers of :data:`scripts.simulate.REGIONS` ``(X, Y, Z)``, uint8.
        brain: where there is brain ``(X, Y, Z)``, bool.
        signal: signed, of K contrasts ``(K, X, Y, Z)``.
    """

    maps: Tensor
    labels: Tensor
    brain: Tensor
    signal: Tensor


def clean_volume(
    shape: Shape, tissue: Tissue, hidden: Hidden, rows: Tensor, corner: Sequence[float], resolution: float
) -> Volume:
    """All voxels of a head: :data:`FINE` points along each axis of a voxel that may hold several tissues, else one.

    Args:
        shape: where which tissue is.
        tissue: its values.
        hidden: what no sidecar says; its B1+ ``(X, Y, Z)`` gives the grid.
        rows: acquisitions ``(K, A)``.
        corner: centre of the first voxel [mm from the centre of the cerebrum, RAS].
        resolution: edge of a voxel [mm].
    """
    x, y, z = hidden.b1.shape
    uniform = uniform_classes(shape.anatomy.classes, ceil(0.5 + 0.4 * resolution))
    axes = [torch.arange(n) * resolution + first for n, first in zip((x, y, z), corner)]
    # Slabs lie one after the other in memory: their axis comes first.
    volume = Volume(
        torch.zeros(3, z, x, y),
        torch.zeros(z, x, y, dtype=torch.uint8),
        torch.zeros(z, x, y, dtype=torch.bool),
        torch.zeros(len(rows), z, x, y),
    )
    for start in range(0, z, SLAB):
        planes = slice(start, start + SLAB)
        heights, across, along = torch.meshgrid(axes[2][planes], axes[0], axes[1], indexing="ij")
        points = torch.stack([across, along, heights], -1).view(-1, 3)
        b1 = hidden.b1[..., planes].movedim(2, 0).flatten()
        slab = _voxels(shape, tissue, hidden, rows, points, uniform, b1, resolution)
        for whole, part in zip(volume, slab):
            whole[..., planes, :, :] = part.view(*part.shape[:-1], -1, x, y)
    return Volume(*(whole.movedim(-3, -1).contiguous() for whole in volume))


def _voxels(
    shape: Shape,
    tissue: Tissue,
    hidden: Hidden,
    rows: Tensor,
    points: Tensor,
    uniform: Tensor,
    b1: Tensor,
    resolution: float,
) -> Volume:
    """The voxels around points ``(N, 3)``, with B1+ ``(N,)`` there."""
    inside = ((torch.arange(FINE) + 0.5) / FINE - 0.5) * resolution
    offsets = torch.cartesian_prod(inside, inside, inside)
    classes, texture = _classes(shape, uniform, points, resolution)
    mixed = (classes == MIXED).nonzero().squeeze(1)
    fine, fine_texture = shape.classes((points[mixed, None] + offsets).view(-1, 3))
    classes[mixed] = INDEX["air"]
    alone = (tissue.values[:, 0] > 0)[classes].nonzero().squeeze(1)

    def together(x: Tensor) -> Tensor:
        """Means of the points ``(C, P)`` of each voxel ``(C, N)``."""
        means = x.new_zeros(len(x), len(points))
        means[:, alone] = x[:, : len(alone)]
        means[:, mixed] = x[:, len(alone) :].unflatten(1, (len(mixed), len(offsets))).mean(2)
        return means

    all_classes = torch.cat([classes[alone], fine])
    maps = tissue.maps(all_classes, torch.cat([texture[:, alone], fine_texture], 1))
    b1 = b1[torch.cat([alone, mixed.repeat_interleave(len(offsets))])]
    signal = together(render_points(maps, all_classes, b1, tissue, hidden, rows))
    labels, brain = REGION[classes], BRAIN[classes]
    labels[mixed] = one_hot(REGION[fine].view(-1, len(offsets)), len(REGIONS)).sum(1).argmax(1)
    brain[mixed] = BRAIN[fine].view(-1, len(offsets)).sum(1) > len(offsets) / 2
    return Volume(mix(maps, together), labels, brain, signal)


def _classes(shape: Shape, uniform: Tensor, points: Tensor, resolution: float) -> tuple[Tensor, Tensor]:
    """Classes ``(N,)`` of voxels around points ``(N, 3)``, or :data:`MIXED`, and textures ``(2, N)``."""
    at, fields = shape.locate(points)
    size = torch.tensor(uniform.shape)
    voxel = at.round().long()
    within = ((voxel >= 0) & (voxel < size)).all(1)
    i, j, k = voxel.clamp_min(0).minimum(size - 1).unbind(1)
    classes = uniform[i, j, k].long() * within
    classes, margin = shape.lesions.mark(classes, at, fields[DISEASE])
    classes[margin < resolution] = MIXED
    return classes, fields[TEXTURE]


def uniform_classes(classes: Tensor, radius: int) -> Tensor:
    """The class ``(X, Y, Z)`` of each voxel that has only its like within a cube of this radius, else :data:`MIXED`."""
    volume, size = classes.numpy(), 2 * radius + 1
    # Air is the smallest class, and all around.
    equal = minimum_filter(volume, size, mode="constant") == maximum_filter(volume, size, mode="constant")
    return torch.where(torch.from_numpy(equal), classes, MIXED)

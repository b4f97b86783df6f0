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

"""A head as a volume of classes."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..tissue import CLASSES, REGIONS

INDEX = {name: number for number, name in enumerate(CLASSES)}
"""Class -> its number in :class:`Anatomy`."""
REGION = torch.tensor([REGIONS.index(entry.region) for entry in CLASSES.values()])
BRAIN = (REGION >= REGIONS.index("CSF")) & (REGION <= REGIONS.index("lesion"))
"""Which classes are brain, its fluid included."""
CEREBRUM = (INDEX["cortex"], INDEX["white matter"])
MARGIN, BELOW = 4, 40
"""Air around the head, and what is kept below the cerebrum [mm]."""


MIXED = 255
"""Stands for the class of a block of voxels that holds several."""
AROUND = 2
"""Voxels of air around the head in :attr:`Anatomy.blocks`."""


class Anatomy(NamedTuple):
    """Classes of one head on a grid of 1 mm, RAS.

    Attributes:
        classes: numbers of :data:`CLASSES` ``(X, Y, Z)``, uint8.
        blocks: the class of each block of eight voxels, or :data:`MIXED`, ``(X + 3, Y + 3, Z + 3)``, uint8; block
            ``i`` ends with voxel ``i - 1``, there is air around the head.
        centre: centre of the cerebrum's bounding box, in voxels.
        affine: voxel to RAS [mm] ``(4, 4)``.
    """

    classes: Tensor
    blocks: Tensor
    centre: tuple[float, float, float]
    affine: np.ndarray


def crop_head(classes: np.ndarray, affine: np.ndarray, where: object) -> Anatomy:
    """The head alone: its surroundings, and what lies far below the cerebrum, left out.

    Args:
        classes: numbers of :data:`CLASSES` ``(X, Y, Z)`` on a grid of 1 mm, RAS.
        affine: voxel to RAS [mm].
        where: file they come from, for the message.

    Raises:
        UserError: where there is no cerebrum.
    """
    head, brain = np.argwhere(classes), np.argwhere(np.isin(classes, CEREBRUM))
    if not len(brain):
        raise UserError(where, "no label of the cerebrum", "give a label map of a head")
    low, high = np.maximum(head.min(0) - MARGIN, 0), np.minimum(head.max(0) + MARGIN + 1, classes.shape)
    low[2] = max(low[2], brain[:, 2].min() - BELOW)
    centre = (brain.min(0) + brain.max(0)) / 2 - low
    cropped = np.ascontiguousarray(classes[tuple(slice(a, b) for a, b in zip(low, high))])
    moved = affine @ np.block([[np.eye(3), low[:, None]], [np.zeros((1, 3)), 1]])
    lowest = highest = np.pad(cropped, AROUND)
    for axis in range(3):
        lowest, highest = np.moveaxis(lowest, axis, 0), np.moveaxis(highest, axis, 0)
        lowest, highest = np.minimum(lowest[:-1], lowest[1:]), np.maximum(highest[:-1], highest[1:])
        lowest, highest = np.moveaxis(lowest, 0, axis), np.moveaxis(highest, 0, axis)
    alike = np.where(lowest == highest, lowest, np.uint8(MIXED))
    return Anatomy(torch.from_numpy(cropped), torch.from_numpy(alike), tuple(centre.tolist()), moved)

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

"""Contrasts of whole volumes without gradients, fast.

Three things cost time beyond reading the maps and writing the images, and each is avoided. Temporaries of the size of a
volume: an equation runs on chunks of voxels whose temporaries stay in a cache. Air: with a mask only the voxels inside
are rendered. The first touch of fresh memory: the images lie on huge pages.
"""

import numpy as np
import torch
from torch import Tensor

from ..acquisition import sequence_name, values
from ..signal import SEQUENCES
from .contrast import contrast

CHUNK = 2**18
"""Voxels that pass an equation at once on a CPU."""


def render_volumes(maps: Tensor, rows: Tensor, given: dict[str, Tensor], mask: Tensor | None, signed: bool) -> Tensor:
    """Contrasts ``(B, M, ...)``; arguments as in :class:`scripts.render.SignalModel`, ``given`` holding its options."""
    signal = zeros((*rows.shape[:2], *maps.shape[2:]), maps.device)
    for b, images in enumerate(signal):
        options = {name: x[b] if x.ndim else x for name, x in given.items()}
        render_into(images, maps[b], rows[b], options, None if mask is None else mask[b], signed)
    return signal


def render_into(
    images: Tensor, maps: Tensor, rows: Tensor, given: dict[str, Tensor], mask: Tensor | None, signed: bool
) -> None:
    """Writes the contrasts of one subject into ``images (M, ...)``, but nothing for absent ones or outside the mask."""
    inside = None if mask is None else torch.from_numpy(np.flatnonzero(mask.cpu())).to(maps.device)

    def voxels(x: Tensor) -> Tensor:
        return x.flatten() if inside is None else x.flatten().index_select(0, inside)

    maps = [voxels(x) for x in maps]
    given = {name: voxels(x) if x.ndim else x for name, x in given.items()}
    names = [sequence_name(row) for row in rows.cpu()]
    images, count = images.view(len(images), -1), len(maps[0])
    size = CHUNK if images.device.type == "cpu" else max(count, 1)
    for start in range(0, count, size):
        part = slice(start, start + size)
        near = [x[part] for x in maps]
        options = {name: x[part] if x.ndim else x for name, x in given.items()}
        for image, row, name in zip(images, rows, names):
            if name in SEQUENCES:
                fields = {field: values(row, field) for field in SEQUENCES[name].fields}
                signal = contrast(SEQUENCES[name], near, fields, options, signed)
                if inside is None:
                    image[part] = signal
                else:
                    image.index_copy_(0, inside[part], signal)


def zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Zeros; NumPy puts large arrays on huge pages, whose first touch takes a fifth of the time."""
    return torch.from_numpy(np.zeros(shape, np.float32)) if device.type == "cpu" else torch.zeros(shape, device=device)

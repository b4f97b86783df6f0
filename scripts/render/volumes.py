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

"""Many contrasts of whole volumes without gradients, at the speed of memory.

Three things cost time beyond reading the maps and writing the images: temporaries of the size of a volume, air, and the
first touch of fresh memory. So voxels go through the equations in chunks that stay in a cache while one contrast after
the other is made of them; with a mask only the voxels inside do; and the images lie on huge pages.
"""

import numpy as np
import torch
from torch import Tensor

from ..acquisition import sequence_code, values
from ..signal import SEQUENCES
from .compiled import draw_compiled
from .contrast import draw

CHUNK, COMPILED_CHUNK = 2**17, 2**19
"""Voxels rendered at once on a CPU: the temporaries of an equation, or the maps alone, stay in its caches."""


def render_volumes(
    maps: Tensor, acquisition: Tensor, given: dict[str, Tensor], mask: Tensor | None, signed: bool, compiled: bool
) -> Tensor:
    """Contrasts ``(B, M, ...)``; arguments as in :class:`scripts.render.SignalModel`, ``given`` holding its options."""
    signal = zeros((*acquisition.shape[:2], *maps.shape[2:]), maps.device)
    for b, images in enumerate(signal):
        options = {name: x[b] if x.ndim else x for name, x in given.items()}
        render_subject(images, maps[b], acquisition[b], options, None if mask is None else mask[b], signed, compiled)
    return signal


def render_subject(
    images: Tensor,
    maps: Tensor,
    rows: Tensor,
    given: dict[str, Tensor],
    mask: Tensor | None,
    signed: bool,
    compiled: bool,
) -> None:
    """Fills the zeros ``images (M, ...)`` with the contrasts of one subject."""
    inside = None if mask is None else torch.from_numpy(np.flatnonzero(mask.cpu())).to(maps.device)

    def voxels(x: Tensor) -> Tensor:
        return x.flatten() if inside is None else x.flatten().index_select(0, inside)

    maps = [voxels(x) for x in maps]
    given = {name: voxels(x) if x.ndim else x for name, x in given.items()}
    sequences = {sequence_code(name): sequence for name, sequence in SEQUENCES.items()}
    wanted = [
        (image.view(-1), sequences[code], {name: values(row, name).clone() for name in sequences[code].fields})
        for image, row, code in zip(images, rows, rows[:, 0].tolist())
        if code
    ]
    count = len(maps[0])
    size = (COMPILED_CHUNK if compiled else CHUNK) if images.device.type == "cpu" else max(count, 1)
    render = draw_compiled if compiled else draw
    for start in range(0, count, size):
        part = slice(start, start + size)
        near = [x[part] for x in maps]
        options = {name: x[part] if x.ndim else x for name, x in given.items()}
        for image, sequence, fields in wanted:
            drawn = image[part] if inside is None else torch.empty_like(near[0])
            render(drawn, sequence, near, fields, options, signed)
            if inside is not None:
                image.index_copy_(0, inside[part], drawn)


def zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Zeros; NumPy puts large arrays on huge pages, whose first touch takes a seventh of the time."""
    return torch.from_numpy(np.zeros(shape, np.float32)) if device.type == "cpu" else torch.zeros(shape, device=device)

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

"""Contrasts of whole volumes without gradients, at the speed of memory.

Three things cost time beyond reading the maps and writing the images: temporaries of the size of a volume, air, and the
first touch of fresh memory. So an equation runs compiled, in one loop without temporaries, or else on chunks of voxels
whose temporaries stay in a cache; with a mask only the voxels inside are rendered; and the images lie on huge pages.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..acquisition import has_sequence, values
from ..signal import SEQUENCES, Sequence
from .compiled import Compiler, draw_compiled
from .contrast import draw

CHUNK = 2**18
"""Voxels that pass an uncompiled equation at once on a CPU: its temporaries stay in the caches."""
TOGETHER = 4
"""Largest number of settings of a sequence that share a pass over the maps."""


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
    """Writes the contrasts of one subject into ``images (M, ...)``, but nothing for absent ones or outside the mask."""
    inside = None if mask is None else torch.from_numpy(np.flatnonzero(mask.cpu())).to(maps.device)

    def voxels(x: Tensor) -> Tensor:
        return x.flatten() if inside is None else x.flatten().index_select(0, inside)

    maps = [voxels(x) for x in maps]
    given = {name: voxels(x) if x.ndim else x for name, x in given.items()}
    images, passes = images.view(len(images), -1), list(shared_passes(rows))
    compiled = compiled and Compiler.works
    count = len(maps[0])
    size = CHUNK if images.device.type == "cpu" and not compiled else max(count, 1)
    for start in range(0, count, size):
        part = slice(start, start + size)
        near = [standalone(x[part]) for x in maps]
        options = {name: standalone(x[part] if x.ndim else x) for name, x in given.items()}
        for sequence, mine, settings in passes:
            drawn = [standalone(images[m, part]) if inside is None else torch.empty_like(near[0]) for m in mine]
            (draw_compiled if compiled else draw)(drawn, sequence, near, settings, options, signed)
            if inside is not None:
                for m, image in zip(mine, drawn):
                    images[m].index_copy_(0, inside[part], image)


def shared_passes(rows: Tensor) -> Iterator[tuple[Sequence, list[int], list[dict[str, Tensor]]]]:
    """What to render in one pass: a sequence, some of its rows ``(M, A)``, and the fields of each.

    A value that all rows of a pass have is one tensor, so that the compiler sees that they share it.
    """
    for name, sequence in SEQUENCES.items():
        mine = has_sequence(rows, name).nonzero().flatten().tolist()
        for some in (mine[i : i + TOGETHER] for i in range(0, len(mine), TOGETHER)):
            columns = {field: list(values(rows[some], field)) for field in sequence.fields}
            for field, column in columns.items():
                equal = all(x == column[0] for x in column)
                columns[field] = [column[0].clone()] * len(some) if equal else [x.clone() for x in column]
            yield sequence, some, [dict(zip(columns, setting)) for setting in zip(*columns.values())]


def standalone(x: Tensor) -> Tensor:
    """The same memory as a tensor of its own: the offset of a view would be one more thing to compile for."""
    return torch.from_dlpack(x.detach())


def zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Zeros; NumPy puts large arrays on huge pages, whose first touch takes a fifth of the time."""
    return torch.from_numpy(np.zeros(shape, np.float32)) if device.type == "cpu" else torch.zeros(shape, device=device)

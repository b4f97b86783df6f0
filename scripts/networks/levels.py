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

"""In which order the slices of a head are made, and what a coarse volume says at a level."""

from typing import NamedTuple

import torch
from torch import Tensor

CELL_MM, CENTRE_MM = 8.0, 2.0
"""Edge of a cell of the coarse volume; height of its middle above the centre of the cerebrum."""


class Step(NamedTuple):
    """Slices that are made together.

    Attributes:
        made: their numbers ``(N,)``.
        below: numbers of the nearest slices below them that are there already ``(N,)``; -1 for none.
        above: likewise above.
    """

    made: Tensor
    below: Tensor
    above: Tensor

    @property
    def distance(self) -> Tensor:
        """Slices from those made to those below and above ``(N, 2)``; infinite where there is none."""
        known = torch.stack([self.below, self.above], 1)
        return torch.where(known < 0, torch.inf, (known - self.made[:, None]).abs().float())


def halving_order(count: int, first: int = 16) -> list[Step]:
    """Every slice once: each ``first``-th one, then those halfway between two, until there is none left.

    Errors do not add up along the head as in a chain of slices, and all slices of a step are made at once.

    Args:
        count: slices of the head.
        first: distance of the slices that are made first, a power of 2.
    """
    numbers = torch.arange(0, count, first)
    none = torch.full_like(numbers, -1)
    steps, distance = [Step(numbers, none, none)], first // 2
    while distance:
        numbers = torch.arange(distance, max(count, distance), 2 * distance)
        above = numbers + distance
        steps.append(Step(numbers, numbers - distance, torch.where(above < count, above, -1)))
        distance //= 2
    return [step for step in steps if len(step.made)]


def at_levels(coarse: Tensor, positions: Tensor, size: tuple[int, int]) -> Tensor:
    """What a coarse volume says of slices ``(B, K, H, W)``, linear between its cells, the last ones beyond its ends.

    Args:
        coarse: fractions ``(B, K, X, Y, Z)``, or ``(1, K, X, Y, Z)`` of one head for all.
        positions: levels of the slices [mm above the centre of the cerebrum] ``(B,)``.
        size: H and W; cells of the volume that lie outside are left out, as many on either side.
    """
    top = coarse.shape[-1] - 1
    at = ((positions - CENTRE_MM) / CELL_MM + top / 2).clamp(0, top)
    lower = at.floor().long().clamp_max(max(top - 1, 0))
    share = (at - lower).view(-1, 1, 1, 1)
    heads = torch.arange(len(coarse)).expand(len(at))
    low, high = (coarse[heads, ..., cell] for cell in (lower, (lower + 1).clamp_max(top)))
    left, front = ((there - wanted) // 2 for there, wanted in zip(coarse.shape[2:], size))
    return torch.lerp(low, high, share)[:, :, left : left + size[0], front : front + size[1]]

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

"""The scans that an estimate is made from."""

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from torch import Tensor


class Scans(NamedTuple):
    """The aligned scans of one session.

    Attributes:
        image: contrasts scaled to about [-1, 1] ``(1, M, ...)``.
        window: lowest and highest intensity of each, which the scaling made -1 and 1 ``(1, M, 2)``.
        rows: their acquisitions ``(1, M, A)``.
        gains: which gain each scan has ``(M,)``; equal numbers share one.
        mask: head or brain, boolean ``(1, 1, ...)``.
        spacing: distance of one axial slice from the next [mm]; infinite where they are no neighbours.
    """

    image: Tensor
    window: Tensor
    rows: Tensor
    gains: Sequence[int]
    mask: Tensor
    spacing: float = inf

    @property
    def intensities(self) -> Tensor:
        """The contrasts as the scanner stored them ``(1, M, ...)``: the scaling undone."""
        low, high = self.window.view(*self.window.shape, *[1] * (self.image.ndim - 2)).unbind(2)
        return (self.image + 1) / 2 * (high - low) + low

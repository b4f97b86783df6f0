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

"""What the random twins have in common: parameters of their own for each contrast, and ranges to draw them from."""

import math
from collections.abc import Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from ..errors import UserError
from ..nuisance import Nuisances, apply_nuisances
from .meta import like, plain, spacing_of

Pair = Sequence[float]


class RandNuisanced(RandomizableTransform, MapTransform):
    """Base of the random twins: draws nuisances for each channel of each key and applies them.

    A subclass says which, in ``nuisances``.

    Args:
        keys: of the contrasts (M, X, Y[, Z]), M of them or 1.
        prob: probability that a contrast is changed.
        spacing: edge of a voxel of plain tensors [mm]; MetaTensors bring their own.
        allow_missing_keys: skip keys that data lack.
    """

    def __init__(self, keys: KeysCollection, prob: float, spacing: float = 1.0, allow_missing_keys: bool = False):
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.spacing = spacing

    def __call__(self, data: Mapping) -> dict:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            signals = plain(image)
            edges = spacing_of(image, self.spacing, signals.ndim - 1)
            result[key] = like(image, torch.stack([self._one(signal, edges, result) for signal in signals]))
        return result

    def _one(self, signal: Tensor, spacing: list[float], data: Mapping) -> Tensor:
        self.randomize(None)
        if not self._do_transform:
            return self.unchanged(signal)
        drawn, mask = self.nuisances(signal, spacing, data), self.mask(signal, data)
        return apply_nuisances(signal, drawn, spacing, mask, mask)

    def nuisances(self, signal: Tensor, spacing: list[float], data: Mapping) -> Nuisances:
        """Random parameters for one contrast."""
        raise NotImplementedError

    def mask(self, signal: Tensor, data: Mapping) -> Tensor | None:
        """Where the reference tissue of a contrast is; None for everywhere."""
        return None

    def unchanged(self, signal: Tensor) -> Tensor:
        """A contrast to which nothing happens."""
        return signal


def interval(name: str, limits: Pair, lowest: float = -math.inf, highest: float = math.inf) -> tuple[float, float]:
    """A pair of numbers between ``lowest`` and ``highest``, the first not above the second.

    Raises:
        UserError: for anything else.
    """
    if isinstance(limits, (int, float)) or len(limits) != 2 or not lowest <= limits[0] <= limits[1] <= highest:
        raise UserError(name, f"{limits}", f"give the lowest and the highest value, between {lowest:g} and {highest:g}")
    return float(limits[0]), float(limits[1])

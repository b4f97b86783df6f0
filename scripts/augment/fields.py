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

"""Random gain, receive field and transmit field."""

from collections.abc import Hashable, Mapping

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from ..acquisition.families import log_uniform
from ..nuisance import Nuisances, polynomial_terms, transmit_field
from .base import Pair, RandNuisanced, interval
from .meta import like, plain


class RandGaind(RandNuisanced):
    """:func:`scripts.nuisance.apply_gain` with a log-uniform gain: the unknown unit of a scan.

    Args:
        gain: of the gain, positive.
    """

    def __init__(self, keys: KeysCollection, gain: Pair = (0.5, 2.0), prob: float = 0.1, **kwargs) -> None:
        super().__init__(keys, prob, **kwargs)
        self.gain = interval("gain", gain, 1e-12)

    def nuisances(self, signal: Tensor, spacing: list[float], data: Mapping) -> Nuisances:
        return Nuisances(gain=log_uniform(self.R, *self.gain))


class RandReceiveFieldd(RandNuisanced):
    """:func:`scripts.nuisance.bias_field` with coefficients of a random direction.

    Args:
        strength: of the standard deviation of ln b over the field of view, uniform.
        degree: highest total degree of the polynomials, 1 to 3.
        mask_key: key of a mask (1, X, Y[, Z]) over which ln b has mean 0; None for the whole field of view.
    """

    def __init__(
        self,
        keys: KeysCollection,
        strength: Pair = (0.0, 0.2),
        degree: int = 3,
        mask_key: Hashable | None = None,
        prob: float = 0.1,
        **kwargs,
    ) -> None:
        super().__init__(keys, prob, **kwargs)
        self.strength, self.mask_key = interval("strength", strength, 0.0), mask_key
        self.degree = int(interval("degree", (degree, degree), 1, 3)[0])

    def nuisances(self, signal: Tensor, spacing: list[float], data: Mapping) -> Nuisances:
        direction = self.R.normal(size=len(polynomial_terms(signal.ndim, self.degree)))
        coefficients = self.R.uniform(*self.strength) * direction / np.linalg.norm(direction)
        return Nuisances(bias=coefficients.tolist())

    def mask(self, signal: Tensor, data: Mapping) -> Tensor | None:
        return None if self.mask_key is None else plain(data[self.mask_key])[0]


class RandTransmitFieldd(RandomizableTransform, MapTransform):
    """Adds a map of B1+ (1, X, Y[, Z]), :func:`scripts.nuisance.transmit_field`; without a draw it is 1 everywhere.

    Args:
        keys: the one key whose grid and affine it gets, for example that of the maps.
        output_key: key of the map, the ``b1_key`` of :class:`RandRenderContrastd`.
        centre: of b1 at its brightest point, uniform.
        edge: of b1 in the middle of the faces of the field of view, uniform.
        shift: farthest shift of the brightest point along each axis, in half fields of view.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_key: Hashable = "b1",
        centre: Pair = (1.0, 1.3),
        edge: Pair = (0.7, 1.0),
        shift: float = 0.2,
        prob: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.output_key, self.shift = output_key, interval("shift", (-shift, shift), -1.0, 1.0)
        self.centre, self.edge = interval("centre", centre, 1e-3), interval("edge", edge, 1e-3)

    def __call__(self, data: Mapping) -> dict:
        result = dict(data)
        for key in self.key_iterator(data):
            maps = plain(data[key])
            self.randomize(None)
            centre, edge = self.R.uniform(*self.centre), self.R.uniform(*self.edge)
            shift = self.R.uniform(*self.shift, size=maps.ndim - 1).tolist()
            if not self._do_transform:
                centre = edge = 1.0
            field = transmit_field(maps.shape[1:], centre, edge, shift).to(maps.device)
            result[self.output_key] = like(data[key], field[None])
        return result

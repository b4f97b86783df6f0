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

"""Random noise, and the magnitude that a scanner stores."""

from collections.abc import Hashable, Mapping, Sequence

from monai.config import KeysCollection
from torch import Tensor

from ..acquisition.families import log_uniform
from ..errors import UserError
from ..nuisance import Nuisances
from .base import Pair, RandNuisanced, interval
from .meta import plain

BRIGHT = 0.1
"""Part of the 99th percentile above which a voxel counts as tissue where no reference is given."""


class RandNoisyMagnituded(RandNuisanced):
    """:func:`scripts.nuisance.noisy_magnitude`: always the magnitude, with probability ``prob`` that of a noisy signal.

    Args:
        snr: of the signal-to-noise ratio of the reference tissue, log-uniform.
        coils: numbers of receive coils to choose from; 1 is Rician.
        mask_key: key of the mask (1, X, Y[, Z]) of the reference tissue; None for all voxels brighter than a tenth of
            the image's 99th percentile.
    """

    def __init__(
        self,
        keys: KeysCollection,
        snr: Pair = (10.0, 60.0),
        coils: Sequence[int] = (1,),
        mask_key: Hashable | None = None,
        prob: float = 0.1,
        **kwargs,
    ) -> None:
        super().__init__(keys, prob, **kwargs)
        self.snr, self.mask_key, self.coils = interval("snr", snr, 1e-12), mask_key, tuple(coils)
        if not self.coils or min(self.coils) < 1:
            raise UserError("coils", f"{coils}", "give numbers of coils, at least 1")

    def nuisances(self, signal: Tensor, spacing: list[float], data: Mapping) -> Nuisances:
        return Nuisances(
            snr=log_uniform(self.R, *self.snr),
            coils=self.coils[self.R.randint(len(self.coils))],
            seed=int(self.R.randint(2**31 - 1)),
        )

    def mask(self, signal: Tensor, data: Mapping) -> Tensor:
        return bright(signal.abs()) if self.mask_key is None else plain(data[self.mask_key])[0] > 0

    def unchanged(self, signal: Tensor) -> Tensor:
        return signal.abs()


def bright(magnitude: Tensor) -> Tensor:
    """Where a magnitude is above :data:`BRIGHT` of its 99th percentile: a stand-in for a mask of tissue."""
    # kthvalue, since quantile refuses large volumes.
    top = magnitude.flatten().kthvalue(max(1, round(0.99 * magnitude.numel()))).values
    return magnitude >= BRIGHT * top

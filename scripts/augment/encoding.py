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

"""Random resolution and motion: what the scanner encodes, and what moved meanwhile."""

from collections.abc import Mapping

from monai.config import KeysCollection
from torch import Tensor

from ..nuisance import Nuisances, slice_profiles
from .base import Pair, RandNuisanced, interval


class RandKSpaceCropd(RandNuisanced):
    """:func:`scripts.nuisance.crop_kspace` with uniform parameters; a complex result where Fourier is partial.

    Args:
        fraction: of the part of k-space that is acquired, drawn for each axis.
        taper: of the tapered part of it.
        partial_fourier: of the part acquired along a random axis; below 1 it needs :class:`RandNoisyMagnituded` after.
    """

    def __init__(
        self,
        keys: KeysCollection,
        fraction: Pair = (0.5, 1.0),
        taper: Pair = (0.0, 0.5),
        partial_fourier: Pair = (1.0, 1.0),
        prob: float = 0.1,
        **kwargs,
    ) -> None:
        super().__init__(keys, prob, **kwargs)
        self.fraction = interval("fraction", fraction, 1e-3, 1.0)
        self.taper = interval("taper", taper, 0.0, 1.0)
        self.partial_fourier = interval("partial_fourier", partial_fourier, 0.5, 1.0)

    def nuisances(self, signal: Tensor, spacing: list[float], data: Mapping) -> Nuisances:
        fractions = [self.R.uniform(*self.fraction) for _ in range(signal.ndim)]
        axis = self.R.randint(signal.ndim)
        return Nuisances(
            fraction=fractions,
            taper=self.R.uniform(*self.taper),
            partial_fourier=self.R.uniform(*self.partial_fourier),
            phase_axis=axis,
        )


class RandThickSlicesd(RandNuisanced):
    """:func:`scripts.nuisance.thick_slices` with uniform parameters, back on the grid of the image.

    Args:
        thickness: of the thickness [mm]; a voxel at least.
        gap: of the gap [mm].
        axis: across the slices, from 0; None for a random one.
        profile: ``boxcar`` or ``gaussian``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        thickness: Pair = (2.0, 6.0),
        gap: Pair = (0.0, 1.0),
        axis: int | None = None,
        profile: str = "boxcar",
        prob: float = 0.1,
        **kwargs,
    ) -> None:
        super().__init__(keys, prob, **kwargs)
        self.thickness, self.gap = interval("thickness", thickness, 1e-3), interval("gap", gap, 0.0)
        slice_profiles(2, 1.0, 1.0, 0.0, profile)
        self.axis, self.profile = axis, profile

    def nuisances(self, signal: Tensor, spacing: list[float], data: Mapping) -> Nuisances:
        axis = self.R.randint(signal.ndim) if self.axis is None else self.axis
        thickness, gap = max(self.R.uniform(*self.thickness), spacing[axis]), self.R.uniform(*self.gap)
        return Nuisances(thickness=thickness, gap=gap, slice_axis=axis, profile=self.profile)


class RandRigidMotiond(RandNuisanced):
    """:func:`scripts.nuisance.rigid_motion`: the head between two contrasts; the affine does not know of it.

    Args:
        rotation: largest angle either way [degrees].
        translation: longest way along each axis, either way [mm].
    """

    def __init__(
        self, keys: KeysCollection, rotation: float = 2.0, translation: float = 2.0, prob: float = 0.1, **kwargs
    ) -> None:
        super().__init__(keys, prob, **kwargs)
        self.rotation = interval("rotation", (-rotation, rotation), -180.0, 180.0)
        self.translation = interval("translation", (-translation, translation))

    def nuisances(self, signal: Tensor, spacing: list[float], data: Mapping) -> Nuisances:
        angles = self.R.uniform(*self.rotation, size=2 * signal.ndim - 3).tolist()
        return Nuisances(rotation=angles, translation=self.R.uniform(*self.translation, size=signal.ndim).tolist())

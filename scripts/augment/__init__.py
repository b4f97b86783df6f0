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

"""Random twins of :mod:`scripts.nuisance`, as dictionary transforms: they draw parameters, its functions do the rest.

Every channel of every key is one contrast (X, Y) or (X, Y, Z) with a draw of its own, since only what differs between
contrasts reaches the maps. Affines are kept. As in MONAI, ``prob`` is the probability that anything happens, and
pairs are the lowest and highest value. All raise :class:`scripts.errors.UserError` for impossible ranges, at once.
What a class does not document of its arguments is documented in :class:`.base.RandNuisanced`.
"""

from .encoding import RandKSpaceCropd, RandRigidMotiond, RandThickSlicesd
from .fields import RandGaind, RandReceiveFieldd, RandTransmitFieldd
from .noise import RandNoisyMagnituded
from .render import RandRenderContrastd, RenderContrastd

__all__ = [
    "RandGaind",
    "RandKSpaceCropd",
    "RandNoisyMagnituded",
    "RandReceiveFieldd",
    "RandRenderContrastd",
    "RandRigidMotiond",
    "RandThickSlicesd",
    "RandTransmitFieldd",
    "RenderContrastd",
]

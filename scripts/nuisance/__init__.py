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

"""What comes between a signal equation and the image a scanner stores: plain functions of tensors.

All take one contrast ``(X, Y)`` or ``(X, Y, Z)``, and leave it as it is for neutral arguments. The order is that of
the scanner; the steps do not commute with the magnitude, so that it comes last::

    maps ─ signal equation, with the transmit field B1+ ─► signed signal
      ─ rigid_motion, of the head against the scanner
      ─ bias_field, apply_gain: what the receiver multiplies by
      ─ crop_kspace, thick_slices: what the voxels average, on the signed or complex signal
      ─ noisy_magnitude: complex noise, then the modulus ─► image

:func:`apply_nuisances` does all of it after the signal equation. Nothing here is random by itself: noise comes from a
generator on the CPU, so that equal generators give equal images on any device. :mod:`scripts.augment` draws the
parameters of single nuisances at random, :mod:`scripts.simulate` those of whole scans.
"""

from .chain import Nuisances, apply_nuisances
from .fields import apply_gain, bias_field, polynomial_terms, transmit_field
from .motion import rigid_motion
from .noise import Noise, noise_sigma, noisy_magnitude
from .resolution import crop_kspace, slice_profiles, thick_slices

__all__ = [
    "Noise",
    "Nuisances",
    "apply_gain",
    "apply_nuisances",
    "bias_field",
    "crop_kspace",
    "noise_sigma",
    "noisy_magnitude",
    "polynomial_terms",
    "rigid_motion",
    "slice_profiles",
    "thick_slices",
    "transmit_field",
]

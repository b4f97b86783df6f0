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

"""Extended phase graph: the same physics on the Fourier coefficients of the magnetisation across the dephasing."""

import numpy as np

from .tissues import Tissues


class Configurations:
    """Dephased (F) and longitudinal (Z) configurations of every tissue at once, in thermal equilibrium.

    Column ``order + k`` holds the coefficient of k cycles of dephasing. After Weigel, JMRI 41:266 (2015), on both
    signs of k: the coefficients of a complex F and of a real Z are kept whole.

    Args:
        tissues: proton density and relaxation times.
        order: highest dephasing that is kept [cycles]; what is dephased further is lost. Half the number of gradients
            between excitation and echo is enough: what goes further cannot come back in time.
    """

    def __init__(self, tissues: Tissues, order: int) -> None:
        self.tissues, self.order = tissues, order
        self.f = np.zeros((len(tissues.pd), 2 * order + 1), complex)
        self.z = np.zeros_like(self.f)
        self.z[:, order] = tissues.pd

    def pulse(self, angle: float, phase: float = 0.0) -> None:
        """Instantaneous pulse of ``angle`` about the axis at ``phase`` in the transverse plane [degrees]."""
        angle, turn = np.deg2rad(angle), np.exp(1j * np.deg2rad(phase))
        f, z, mirrored = self.f, self.z, self.f[:, ::-1].conj()
        cos, sin = np.cos(angle / 2) ** 2, np.sin(angle / 2) ** 2
        self.f = cos * f + turn**2 * sin * mirrored - 1j * turn * np.sin(angle) * z
        self.z = np.cos(angle) * z - 0.5j * np.sin(angle) * (f / turn - turn * mirrored)

    def wait(self, seconds: float) -> None:
        """Relaxation, on resonance; only the undephased longitudinal configuration recovers."""
        tissues = self.tissues
        self.f = self.f * np.exp(-seconds / tissues.t2)[:, None]
        self.z = self.z * np.exp(-seconds / tissues.t1)[:, None]
        self.z[:, self.order] -= tissues.pd * np.expm1(-seconds / tissues.t1)

    def dephase(self, cycles: int = 1) -> None:
        """Gradient of ``cycles`` > 0 full turns across the voxel."""
        self.f = np.pad(self.f[:, :-cycles], ((0, 0), (cycles, 0)))

    def spoil(self) -> None:
        """Ideal spoiling: the mean longitudinal magnetisation is all that is left."""
        self.f = np.zeros_like(self.f)
        rest = self.z[:, self.order].copy()
        self.z = np.zeros_like(self.z)
        self.z[:, self.order] = rest

    def invert(self, efficiency: float = 1.0) -> None:
        """Spoiled inversion, Mz to ``-efficiency`` Mz."""
        self.spoil()
        self.z *= -efficiency

    def saturate(self) -> None:
        """Perfect, spoiled saturation."""
        self.f, self.z = np.zeros_like(self.f), np.zeros_like(self.z)

    def transverse(self) -> np.ndarray:
        """Complex transverse magnetisation of the voxel, shape (tissues,)."""
        return self.f[:, self.order]

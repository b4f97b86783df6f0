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

"""Bloch equation for isochromats that precess differently under the gradients: rotations and relaxation, float64."""

from functools import lru_cache

import numpy as np

from .tissues import Tissues


@lru_cache
def rotation(angle: float, phase: float) -> np.ndarray:
    """Right-handed rotation by ``angle`` about the transverse axis at ``phase`` [degrees], after Rodrigues."""
    x, y = np.cos(np.deg2rad(phase)), np.sin(np.deg2rad(phase))
    cross = np.array([[0.0, 0.0, y], [0.0, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(np.deg2rad(angle)) * cross + (1 - np.cos(np.deg2rad(angle))) * cross @ cross


class Isochromats:
    """Magnetisation vectors evenly spread over one dephasing cycle, of every tissue at once, in thermal equilibrium.

    The mean over the isochromats is the voxel. It equals the continuum while nothing is dephased by ``count`` cycles.

    Args:
        tissues: proton density and relaxation times.
        count: number of isochromats; 1 suffices where no gradient acts.
    """

    def __init__(self, tissues: Tissues, count: int = 1) -> None:
        self.tissues = tissues
        self.vectors = np.zeros((len(tissues.pd), count, 3))
        self.vectors[..., 2] = tissues.pd[:, None]

    def pulse(self, angle: float, phase: float = 0.0) -> None:
        """Instantaneous pulse of ``angle`` about the axis at ``phase`` in the transverse plane [degrees]."""
        self.vectors = self.vectors @ rotation(angle, phase).T

    def wait(self, seconds: float) -> None:
        """Relaxation, on resonance."""
        tissues = self.tissues
        self.vectors[..., :2] *= np.exp(-seconds / tissues.t2)[:, None, None]
        equilibrium = tissues.pd[:, None]
        self.vectors[..., 2] += (equilibrium - self.vectors[..., 2]) * -np.expm1(-seconds / tissues.t1)[:, None]

    def dephase(self, cycles: int = 1) -> None:
        """Gradient that turns the isochromats through ``cycles`` full turns across the voxel."""
        count = self.vectors.shape[1]
        turn = np.exp(2j * np.pi * cycles * np.arange(count) / count)
        transverse = (self.vectors[..., 0] + 1j * self.vectors[..., 1]) * turn
        self.vectors[..., 0], self.vectors[..., 1] = transverse.real, transverse.imag

    def spoil(self) -> None:
        """Ideal spoiling: a gradient unlike any other leaves the mean longitudinal magnetisation only."""
        self.vectors[..., :2] = 0.0
        self.vectors[..., 2] = self.vectors[..., 2].mean(axis=1, keepdims=True)

    def invert(self, efficiency: float = 1.0) -> None:
        """Spoiled inversion, Mz to ``-efficiency`` Mz."""
        self.spoil()
        self.vectors[..., 2] *= -efficiency

    def saturate(self) -> None:
        """Perfect, spoiled saturation."""
        self.vectors[:] = 0.0

    def transverse(self) -> np.ndarray:
        """Complex transverse magnetisation of the voxel, shape (tissues,)."""
        return (self.vectors[..., 0] + 1j * self.vectors[..., 1]).mean(axis=1)

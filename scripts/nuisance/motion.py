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

"""Motion of the head between two contrasts."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError


def rigid_motion(
    signal: Tensor, rotation: Sequence[float], translation: Sequence[float], spacing: Sequence[float]
) -> Tensor:
    """``S'(x) = S(R^T (x - t))``: the head turned by R about the centre of the field of view, then moved by t.

    ``R = R_z R_y R_x`` in 3D, right-handed about the array's axes; linear interpolation in millimetres, so that it is
    rigid for any voxel size; 0 enters from outside. Use it on the signed signal: a magnitude has kinks where tissues of
    opposite sign meet. It blurs as every linear interpolation does.

    Args:
        signal: ``(X, Y)`` or ``(X, Y, Z)``, real or complex.
        rotation: angles [degrees]: one in 2D (first axis towards the second), three in 3D. 0 is neutral.
        translation: t along each axis [mm]; 0 is neutral.
        spacing: edges of a voxel [mm].

    Raises:
        UserError: for a wrong number of angles, or of lengths along the axes.
    """
    axes = signal.ndim
    if (len(rotation), len(translation), len(spacing)) != (2 * axes - 3, axes, axes):
        found = f"{len(rotation)} angles, {len(translation)} translations, {len(spacing)} edges of a voxel"
        raise UserError("motion", found, f"give {2 * axes - 3}, {axes} and {axes} for an image with {axes} axes")
    if not any(rotation) and not any(translation):
        return signal
    if signal.is_complex():
        parts = [rigid_motion(part, rotation, translation, spacing) for part in (signal.real, signal.imag)]
        return torch.complex(*parts)
    # Half the field of view along each axis: from millimetres to grid_sample's coordinates.
    half = torch.tensor([n * d / 2 for n, d in zip(signal.shape, spacing)], dtype=torch.float64)
    back = _rotation(rotation).T
    matrix = back * half / half[:, None]
    offset = -back @ torch.tensor(translation, dtype=torch.float64) / half
    # grid_sample orders its coordinates last axis first.
    theta = torch.cat([matrix.flip(0, 1), offset.flip(0)[:, None]], 1).to(signal)
    grid = F.affine_grid(theta[None], [1, 1, *signal.shape], align_corners=False)
    return F.grid_sample(signal[None, None], grid, align_corners=False)[0, 0]


def _rotation(degrees: Sequence[float]) -> Tensor:
    """Rotation matrix of one angle in the plane, or of three about the axes, the first axis first."""
    planes = [(0, 1)] if len(degrees) == 1 else [(1, 2), (2, 0), (0, 1)]
    matrix = torch.eye(2 if len(degrees) == 1 else 3, dtype=torch.float64)
    for angle, (a, b) in zip(torch.tensor(degrees, dtype=torch.float64).deg2rad(), planes):
        turn = torch.eye(len(matrix), dtype=torch.float64)
        turn[a, a] = turn[b, b] = angle.cos()
        turn[a, b], turn[b, a] = -angle.sin(), angle.sin()
        matrix = turn @ matrix
    return matrix

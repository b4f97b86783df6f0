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

"""Smooth fields over the field of view: gain and bias of the receiver, B1+ of the transmitter.

Coordinates run from -1 to 1 between the faces of the field of view, along every axis; voxels lie at their centres.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from ..errors import UserError

MAX_DEGREE = 3


def apply_gain(signal: Tensor, gain: float) -> Tensor:
    """``S' = g S``: the scanner's unit, another one for every scan.

    Args:
        signal: any shape, real or complex.
        gain: g > 0, stored units per unit of PD; 1 is neutral.

    Raises:
        UserError: for a gain that is not positive.
    """
    if not gain > 0:
        raise UserError("gain", f"{gain:g}", "give a positive number")
    return signal * gain


def bias_field(coefficients: Tensor | Sequence[float], shape: Sequence[int], mask: Tensor | None = None) -> Tensor:
    """Smooth sensitivity of the receiver: ``b(x) = exp(sum_k c_k phi_k(x) - mean)``, ``S' = b S``.

    ``phi_k`` are products of Legendre polynomials, ``sqrt(2p + 1) P_p`` along each axis, of total degree 1 to 3. They
    are orthonormal over the field of view, so ln b has the standard deviation ``sqrt(sum_k c_k^2)`` there. The mean of
    ln b over the mask is removed: an overall scale belongs to the gain. A field common to all contrasts cannot be told
    from PD; only what differs between contrasts reaches T1 and T2.

    Args:
        coefficients: c_k in the order of :func:`polynomial_terms`; their number gives the degree (2, 5 or 9 in 2D, 3,
            9 or 19 in 3D). All 0 is neutral.
        shape: ``(X, Y)`` or ``(X, Y, Z)``.
        mask: where ln b has mean 0, of this shape; None for everywhere.

    Returns:
        b, of this shape, on the device of the coefficients.

    Raises:
        UserError: for another number of coefficients, or a mask that is empty or of another shape.

    Source: polynomial log-bias of Van Leemput et al. 1999, doi:10.1109/42.811270.
    """
    coefficients = torch.as_tensor(coefficients, dtype=torch.float32)
    counts = {len(polynomial_terms(len(shape), degree)): degree for degree in range(1, MAX_DEGREE + 1)}
    if len(coefficients) not in counts:
        raise UserError("bias field", f"{len(coefficients)} coefficients", f"give one of {', '.join(map(str, counts))}")
    degree = counts[len(coefficients)]
    log = coefficients.new_zeros([degree + 1] * len(shape))
    for term, coefficient in zip(polynomial_terms(len(shape), degree), coefficients):
        log[term] = coefficient
    for size in shape:
        # Contracts the first axis, a degree, and appends a spatial one: after the last of them the order is right.
        log = torch.tensordot(log, _legendre(size, degree, log.device), dims=([0], [0]))
    inside = log if mask is None else log[_boolean(mask, log)]
    return (log - float(inside.double().mean())).exp()


def polynomial_terms(dimensions: int, degree: int) -> list[tuple[int, ...]]:
    """Degree along each axis of every term of :func:`bias_field`, without the constant."""
    return [powers for powers in product(range(degree + 1), repeat=dimensions) if 0 < sum(powers) <= degree]


def transmit_field(
    shape: Sequence[int], centre: float = 1.15, edge: float = 0.85, shift: Sequence[float] | None = None
) -> Tensor:
    """B1+ of a body coil in a head, relative to nominal: ``b1(x) = centre (edge / centre)^(r^2)``.

    r is the distance from the bright centre, 1 in the middle of each face of the field of view. This is no bias field:
    B1+ scales flip angles, so it belongs into the signal equation as ``b1``. At 3 tesla the middle of a head is bright
    and its rim dark by some 15 to 30 %, from interference.

    Args:
        shape: ``(X, Y)`` or ``(X, Y, Z)``.
        centre: b1 at its brightest point; 1 with ``edge`` 1 is neutral.
        edge: b1 where r = 1.
        shift: of the brightest point from the middle, in the coordinates above; None for 0 along every axis.

    Raises:
        UserError: for a value that is not positive, or a shift of another length than the shape.

    Source: central brightening of Collins et al. 2005, J Magn Reson Imaging 21:192; the parabola in ln b1 is a
    stand-in for it.
    """
    if not (centre > 0 and edge > 0):
        raise UserError("transmit field", f"centre {centre:g}, edge {edge:g}", "give positive numbers, about 1")
    shift = [0.0] * len(shape) if shift is None else shift
    if len(shift) != len(shape):
        raise UserError("transmit field", f"a shift of {len(shift)} numbers", f"give one per axis, {len(shape)}")
    squares = torch.zeros(())
    for size, offset in zip(shape, shift):
        squares = squares[..., None] + (_coordinates(size, squares.device) - offset).square()
    return centre * (edge / centre) ** squares


def _coordinates(size: int, device: torch.device) -> Tensor:
    return (2 * torch.arange(size, device=device) + 1) / size - 1


def _legendre(size: int, degree: int, device: torch.device) -> Tensor:
    """``sqrt(2p + 1) P_p(x)``, ``(degree + 1, size)``."""
    x = _coordinates(size, device)
    polynomials = [torch.ones_like(x), x]
    for p in range(1, degree):
        polynomials.append(((2 * p + 1) * x * polynomials[p] - p * polynomials[p - 1]) / (p + 1))
    return torch.stack([(2 * p + 1) ** 0.5 * polynomials[p] for p in range(degree + 1)])


def _boolean(mask: Tensor, field: Tensor) -> Tensor:
    if mask.shape != field.shape or not (mask > 0).any():
        found = f"{int((mask > 0).sum())} voxels in a mask {tuple(mask.shape)}"
        raise UserError("bias field", found, f"give a mask {tuple(field.shape)} that is not empty")
    return (mask > 0).to(field.device)

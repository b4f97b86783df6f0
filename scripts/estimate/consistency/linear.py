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

"""Algebra of many small matrices at once: ``(I, J, N)``, the voxels last, so that every operation runs along them."""

import torch
from torch import Tensor


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """``(I, K, N) (K, J, N) -> (I, J, N)``."""
    return sum(a[:, k, None] * b[None, k] for k in range(a.shape[1]))


def apply(a: Tensor, x: Tensor) -> Tensor:
    """``(I, K, N) (K, N) -> (I, N)``."""
    return sum(a[:, k] * x[k] for k in range(a.shape[1]))


def transpose(a: Tensor) -> Tensor:
    """``(I, J, N) -> (J, I, N)``."""
    return a.transpose(0, 1)


def invert_lower(a: Tensor) -> Tensor:
    """Inverse of lower-triangular matrices ``(K, K, N)`` with a positive diagonal, by forward substitution."""
    size, zero = len(a), torch.zeros_like(a[0, 0])
    inverse = [[zero] * size for _ in range(size)]
    for i in range(size):
        inverse[i][i] = a[i, i].reciprocal()
        for j in range(i):
            inverse[i][j] = -inverse[i][i] * sum(a[i, k] * inverse[k][j] for k in range(j, i))
    return torch.stack([torch.stack(row) for row in inverse])


def cholesky(a: Tensor) -> Tensor:
    """Lower-triangular L of symmetric positive definite matrices ``a = L L^T`` ``(K, K, N)``.

    A pivot is at least 1e-7 of its diagonal element: what rounding made singular stays finite.
    """
    size, zero = len(a), torch.zeros_like(a[0, 0])
    lower = [[zero] * size for _ in range(size)]
    for j in range(size):
        pivot = a[j, j] - sum(lower[j][k].square() for k in range(j))
        lower[j][j] = torch.maximum(pivot, 1e-7 * a[j, j]).sqrt()
        for i in range(j + 1, size):
            lower[i][j] = (a[i, j] - sum(lower[i][k] * lower[j][k] for k in range(j))) / lower[j][j]
    return torch.stack([torch.stack(row) for row in lower])


def invert(a: Tensor) -> Tensor:
    """Inverse of symmetric positive definite matrices ``(K, K, N)``."""
    half = invert_lower(cholesky(a))
    return multiply(transpose(half), half)


def cholesky_of_inverse(a: Tensor) -> Tensor:
    """Lower-triangular L of ``a^-1 = L L^T`` ``(K, K, N)``, without the inverse and its rounding.

    With the order of the unknowns reversed ``a = U U^T``, U upper-triangular, so that ``L = U^-T``.
    """
    return transpose(invert_lower(cholesky(a.flip(0, 1)))).flip(0, 1)


def unpack(cholesky: Tensor) -> Tensor:
    """Factors ``(6, N)`` in the order L00, L10, L11, L20, L21, L22 -> matrices ``(3, 3, N)``."""
    zero = torch.zeros_like(cholesky[0])
    rows = [cholesky[0], zero, zero], [cholesky[1], cholesky[2], zero], [*cholesky[3:]]
    return torch.stack([torch.stack(list(row)) for row in rows])


def pack(factor: Tensor) -> Tensor:
    """Lower-triangular ``(3, 3, N)`` -> ``(6, N)``, the inverse of :func:`unpack`."""
    return torch.stack([factor[i, j] for i in range(3) for j in range(i + 1)])

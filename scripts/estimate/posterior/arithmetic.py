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

"""Exponential and logarithm that the processor computes for many numbers at once, and how functions are compiled.

Source: the polynomials are those of the Cephes library (S. L. Moshier), ``expf`` and ``logf``, to about 1e-7.
"""

from collections.abc import Callable

import numpy as np
from numba import njit


def compiled(function: Callable) -> Callable:
    """The function compiled on its first call, and kept on disk for the next run where that is possible.

    What is kept is for the file of the function alone: change a function that it inlines from another file, and the old
    code runs until the folder ``__pycache__`` is removed.
    """
    options = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return njit(**options, cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(**options)(function)


@njit(fastmath=True, error_model="numpy", inline="always")
def fast_exp(x):
    """exp(x) in float32; 0 below -88."""
    x = max(x, np.float32(-88.0))
    n = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    y = p * r * r + r + np.float32(1.0)
    return y * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(fastmath=True, error_model="numpy", inline="always")
def fast_log(x):
    """ln(x) of a positive normal float32."""
    bits = np.float32(x).view(np.int32)
    # Mantissa between sqrt(1/2) and sqrt(2).
    n = (bits - np.int32(0x3F3504F3)) >> np.int32(23)
    m = np.int32(bits - (n << np.int32(23))).view(np.float32) - np.float32(1.0)
    p = np.float32(7.0376836292e-2)
    p = p * m - np.float32(1.1514610310e-1)
    p = p * m + np.float32(1.1676998740e-1)
    p = p * m - np.float32(1.2420140846e-1)
    p = p * m + np.float32(1.4249322787e-1)
    p = p * m - np.float32(1.6668057665e-1)
    p = p * m + np.float32(2.0000714765e-1)
    p = p * m - np.float32(2.4999993993e-1)
    p = p * m + np.float32(3.3333331174e-1)
    z = m * m
    return m - np.float32(0.5) * z + p * m * z + np.float32(n) * np.float32(0.69314718)

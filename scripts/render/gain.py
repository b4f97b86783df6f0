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

"""The gain of a measured contrast against a rendered one."""

from torch import Tensor

from ..acquisition import present


def profile_gain(target: Tensor, signal: Tensor, rows: Tensor) -> Tensor:
    """Least-squares gain of each contrast, ``g = <target, signal> / <signal, signal>``, not below 0.

    Args:
        target: measured contrasts ``(B, M, ...)``.
        signal: rendered contrasts ``(B, M, ...)`` for unit gain.
        rows: acquisitions ``(B, M, A)``; the gain of an absent contrast is 0.

    Returns:
        Gains ``(B, M)`` in float32.
    """
    signal = signal.float()
    over = tuple(range(2, signal.ndim))
    gain = (signal * target).sum(over) / signal.square().sum(over).clamp_min(1e-12)
    return gain.clamp_min(0) * present(rows)

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

"""Factors of standard deviations that depend on what a voxel looks like, since no label says what it is."""

import torch
from torch import Tensor

KNOTS = {"WM": 1.0, "GM": 1.6, "CSF": 4.0}
"""Tissue -> its T1 over that of white matter, about the same at 1.5 and 3 tesla."""


def recalibrate(spread: Tensor, t1: Tensor, white_matter_t1: float | None, factors: Tensor) -> Tensor:
    """The factor of a covariance with its rows scaled, and so the standard deviation of each map; correlations stay.

    Between the tissues of :data:`KNOTS` factors are interpolated linearly in ln T1, beyond them they stay.

    Args:
        spread: L00, L10, L11, L20, L21, L22 ``(B, 6, ...)``.
        t1: estimated T1 [s] ``(B, ...)``.
        white_matter_t1: of this head [s]; None where it is not known: each map then gets its largest factor.
        factors: of each map in each of these tissues ``(3, 3)``.
    """
    factors = factors.to(spread)
    if white_matter_t1 is None:
        rows = factors.amax(1).view(1, 3, *[1] * (t1.ndim - 1))
    else:
        low, middle, high = torch.tensor(list(KNOTS.values())).log().tolist()
        x = (t1.clamp_min(1e-6) / white_matter_t1).log()
        past_low, past_middle = ((x - low) / (middle - low)).clamp(0, 1), ((x - middle) / (high - middle)).clamp(0, 1)
        rows = torch.stack([f[0] + (f[1] - f[0]) * past_low + (f[2] - f[1]) * past_middle for f in factors], 1)
    return spread * rows[:, [0, 1, 1, 2, 2, 2]]

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

"""Factors of standard deviations that depend on the estimated T1 of a voxel, as its tissue is not known."""

import torch
from torch import Tensor

from ...tissue import Estimate

KNOTS = {"WM": 1.0, "GM": 1.6, "CSF": 4.0}
"""Tissue -> its T1 over that of white matter, about the same at 1.5 and 3 tesla."""


def recalibrate(estimate: Estimate, white_matter_t1: float | None, factors: Tensor) -> Estimate:
    """The estimate with its standard deviations multiplied by factors that depend on T1; correlations stay.

    The factors of a voxel are interpolated linearly in ln T1 between the tissues of :data:`KNOTS`. Beyond the first
    and the last of them they are constant.

    Args:
        estimate: of any number of heads.
        white_matter_t1: T1 of the white matter of this head [s]; None where it is not known: each map then gets its
            largest factor.
        factors: factor of each map (PD, T1, T2) in each tissue of :data:`KNOTS` ``(3, 3)``.
    """
    factors = factors.to(estimate.cholesky)
    if white_matter_t1 is None:
        of_voxels = factors.amax(1).view(1, 3, *[1] * (estimate.log_maps.ndim - 2))
    else:
        t1 = estimate.maps[:, 1]
        low, middle, high = torch.tensor(list(KNOTS.values())).log().tolist()
        x = (t1.clamp_min(1e-6) / white_matter_t1).log()
        past_low, past_middle = ((x - low) / (middle - low)).clamp(0, 1), ((x - middle) / (high - middle)).clamp(0, 1)
        of_voxels = torch.stack([f[0] + (f[1] - f[0]) * past_low + (f[2] - f[1]) * past_middle for f in factors], 1)
    return estimate.widened(of_voxels)

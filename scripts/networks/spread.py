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

"""The covariance of the log maps of every voxel."""

import torch
import torch.nn.functional as F
from monai.networks.layers import Conv
from torch import Tensor, nn

INITIAL_SD = 0.3
LOG_SD = (-5.0, 1.5)
"""Range of the logarithm of the diagonal of the factor."""


class SpreadHead(nn.Module):
    """The Cholesky factor L of the covariance ``L L^T`` of ln PD, ln T1, ln T2, see :class:`scripts.tissue.Estimate`.

    Its buffer ``calibration (3,)`` multiplies the standard deviation of each map. It is fitted after training, on
    subjects that were not trained on.

    Args:
        spatial_dims: 2 or 3.
        channels: width of the decoder's last features.
    """

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.conv = Conv[Conv.CONV, spatial_dims](channels, 6, 3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)
        self.register_buffer("calibration", torch.ones(3))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args) -> None:
        # Weights of versions before 0.6 have factors of another data consistency.
        state_dict.pop(f"{prefix}after_consistency", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, h: Tensor) -> Tensor:
        """L00, L10, L11, L20, L21, L22 ``(B, 6, ...)`` in float32, from the decoder's last features ``(B, C, ...)``."""
        raw = self.conv(F.silu(h)).float()
        rows = self.calibration.view(-1, *[1] * (raw.ndim - 2))
        base = torch.tensor(INITIAL_SD).log()
        d0, d1, d2 = ((base + raw[:, i]).clamp(*LOG_SD).exp() for i in (0, 2, 5))
        # Elements off the diagonal are in units of it, so that correlations do not depend on the scale.
        return torch.stack(
            [
                d0 * rows[0],
                raw[:, 1] * d1 * rows[1],
                d1 * rows[1],
                raw[:, 3] * d2 * rows[2],
                raw[:, 4] * d2 * rows[2],
                d2 * rows[2],
            ],
            1,
        )

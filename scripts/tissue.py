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

"""Tissue maps and their prior. Maps are ordered PD, T1 [s], T2 [s] along the channel axis, everywhere."""

import torch
from torch import Tensor, nn

MAPS = ("PD", "T1", "T2")


class TissuePrior(nn.Module):
    """Exponential bias of Lüpke et al. 2024, Eq. 6-7: ``log map = o + b`` with ``b = ln median``.

    With the L2 penalty on ``o`` this is a log-normal prior with the given medians.

    Args:
        pd_median: median of PD, in the unit of the images where gains are fixed, else relative to water.
        t1_median: median of T1 [s].
        t2_median: median of T2 [s].
    """

    def __init__(self, pd_median: float = 0.8, t1_median: float = 1.0, t2_median: float = 0.1) -> None:
        super().__init__()
        self.register_buffer("bias", torch.tensor([pd_median, t1_median, t2_median]).log(), persistent=False)

    def forward(self, o: Tensor) -> Tensor:
        """Decoder output ``(B, 3, ...)`` -> log maps ``(B, 3, ...)`` in float32."""
        return o.float() + self.bias.view(1, 3, *[1] * (o.ndim - 2))

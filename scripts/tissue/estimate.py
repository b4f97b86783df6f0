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

"""The one type of an estimate: a Gaussian of the log maps in every voxel."""

from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """Tissue maps and what is uncertain about them: ``(ln PD, ln T1, ln T2) ~ N(log_maps, L L^T)`` in every voxel.

    Attributes:
        log_maps: ln PD, ln T1 [s], ln T2 [s] ``(B, 3, ...)``.
        cholesky: the lower-triangular factor L of their covariance: L00, L10, L11, L20, L21, L22 ``(B, 6, ...)``.
    """

    log_maps: Tensor
    cholesky: Tensor

    @classmethod
    def independent(cls, log_maps: Tensor, sd: Tensor) -> "Estimate":
        """The estimate without correlations that has these standard deviations ``(B, 3, ...)``."""
        zero = torch.zeros_like(sd[:, 0])
        return cls(log_maps, torch.stack([sd[:, 0], zero, sd[:, 1], zero, zero, sd[:, 2]], 1))

    @property
    def maps(self) -> Tensor:
        """PD, T1 [s], T2 [s] ``(B, 3, ...)``: medians, as the maps are log-normal."""
        return self.log_maps.exp()

    @property
    def sd(self) -> Tensor:
        """Standard deviations of ln PD, ln T1, ln T2 ``(B, 3, ...)``."""
        l00, l10, l11, l20, l21, l22 = self.cholesky.unbind(1)
        return torch.stack([l00.abs(), torch.hypot(l10, l11), (l20**2 + l21**2 + l22**2).sqrt()], 1)

    @property
    def covariance(self) -> Tensor:
        """Of ln PD, ln T1, ln T2: elements 00, 01, 02, 11, 12, 22 ``(B, 6, ...)``."""
        l00, l10, l11, l20, l21, l22 = self.cholesky.unbind(1)
        rows = l00**2, l00 * l10, l00 * l20, l10**2 + l11**2, l10 * l20 + l11 * l21, l20**2 + l21**2 + l22**2
        return torch.stack(rows, 1)

    @property
    def correlations(self) -> Tensor:
        """Correlations PD-T1, PD-T2, T1-T2 between the log maps ``(B, 3, ...)``."""
        sd = self.sd.clamp_min(torch.finfo(self.cholesky.dtype).tiny ** 0.5)
        pd, t1, t2 = self.cholesky[:, :1], self.cholesky[:, 1:3], self.cholesky[:, 3:]
        products = (pd * t1[:, :1]).sum(1), (pd * t2[:, :1]).sum(1), (t1 * t2[:, :2]).sum(1)
        pairs = sd[:, 0] * sd[:, 1], sd[:, 0] * sd[:, 2], sd[:, 1] * sd[:, 2]
        return torch.stack(products, 1) / torch.stack(pairs, 1)

    def widened(self, factors: Tensor) -> "Estimate":
        """The estimate with standard deviations times ``factors (B, 3, ...)``; the correlations stay."""
        return self._replace(cholesky=self.cholesky * factors[:, [0, 1, 1, 2, 2, 2]])

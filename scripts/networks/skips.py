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

"""Skips from the encoder to the decoder that weigh each contrast by its precision."""

import torch
from monai.networks.layers import Conv
from torch import Tensor, nn

from .fusion import product_of_experts


class PrecisionSkip(nn.Module):
    """Fuses one level of the encoder's features over contrasts and brings them to the decoder.

    Each contrast i gives a Gaussian expert ``N(m_i, 1/p_i)`` for each of S features in every voxel. They are multiplied
    with a standard normal prior: ``mean = sum_i p_i m_i / (1 + sum_i p_i)``. The decoder gets this mean and the
    logarithm of its precision. Where a skip is dropped, it gets those of the prior, and works from the latent alone.

    Args:
        spatial_dims: 2 or 3.
        encoder_channels: width of the encoder's features.
        decoder_channels: width of the decoder's features at this level.
        channels: S.
    """

    def __init__(self, spatial_dims: int, encoder_channels: int, decoder_channels: int, channels: int) -> None:
        super().__init__()
        self.expert = Conv[Conv.CONV, spatial_dims](encoder_channels, 2 * channels, 1)
        self.inject = Conv[Conv.CONV, spatial_dims](2 * channels, decoder_channels, 1)
        # Zero at the start, so that training begins with the plain VAE.
        nn.init.zeros_(self.inject.weight)
        nn.init.zeros_(self.inject.bias)

    def forward(self, features: Tensor, exists: Tensor, with_skips: Tensor) -> Tensor:
        """What to add to the decoder's features ``(B, decoder_channels, ...)``.

        Args:
            features: of the contrasts that exist ``(N, encoder_channels, ...)``.
            exists: which of each subject's contrasts these are ``(B, M)``.
            with_skips: 1 where a subject's skip is used, 0 where it is dropped ``(B,)``.
        """
        mean, log_var = self.expert(features).chunk(2, 1)
        with torch.autocast(features.device.type, enabled=False):
            mean, sd = product_of_experts(mean.float(), log_var.float().clamp(-10.0, 10.0), exists, prior=True)
            used = with_skips.float().view(-1, *[1] * (mean.ndim - 1))
            fused = torch.cat([mean, -2 * sd.log()], 1) * used
        return self.inject(fused)

    def dropped(self) -> Tensor:
        """What a dropped skip adds, equal for all subjects and voxels: ``(1, decoder_channels, 1, ...)``."""
        bias = self.inject.bias
        return bias.view(1, -1, *[1] * (self.inject.weight.ndim - 2))

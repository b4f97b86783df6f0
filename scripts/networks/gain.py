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


"""The gain of each contrast by a small network, a variant in the ablation of Lüpke et al. 2024."""

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import Pool
from torch import Tensor, nn


class GainRegressor(nn.Module):
    """Contrasts -> their gains: strided convolutions, the mean over space, one linear layer, an exponential.

    The paper says no more than "a convolutional neural network". It starts at gain 1.

    Args:
        spatial_dims: 2 or 3.
        channels: width of each convolution, which halves the image.
    """

    def __init__(self, spatial_dims: int = 2, channels: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        widths = (1, *channels)
        convolutions = [
            Convolution(spatial_dims, before, after, strides=2, adn_ordering="A", act="GELU")
            for before, after in zip(widths, channels)
        ]
        pool = Pool["ADAPTIVEAVG", spatial_dims](1)
        self.features = nn.Sequential(*convolutions, pool, nn.Flatten())
        self.last = nn.Linear(channels[-1], 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Gains ``(B, M)`` in float32 of contrasts ``(B, M, ...)`` scaled to about [-1, 1]."""
        features = self.features(image.flatten(0, 1).unsqueeze(1))
        with torch.autocast(image.device.type, enabled=False):
            return self.last(features.float()).exp().view(image.shape[:2])

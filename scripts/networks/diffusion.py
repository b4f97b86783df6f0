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

"""The diffusion network."""

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor

from .group_norm import use_fast_group_norm


class LatentDiffusionUNet(DiffusionModelUNet):
    """MONAI's diffusion network; its weights also say which latents it was trained on.

    ``scale_factor`` multiplies latents before diffusion; samples are divided by it before decoding. ``vae_digest`` is
    the :func:`scripts.networks.weights.weights_digest` of the VAE whose latents they were, zeros where it is not known.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(include_fc=False, **kwargs)
        use_fast_group_norm(self)
        self.register_buffer("scale_factor", torch.tensor(1.0))
        self.register_buffer("vae_digest", torch.zeros(32, dtype=torch.uint8))


def position_planes(position: Tensor, known: Tensor, size: tuple[int, ...]) -> Tensor:
    """Condition ``(B, 2, *size)``: position [100 mm above the head's centre] and 1; zeros where it is not known."""
    planes = torch.stack([position.float() / 100 * known, known.float()], 1)
    return planes.view(-1, 2, *[1] * len(size)).expand(-1, -1, *size)

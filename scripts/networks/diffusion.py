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

from collections.abc import Sequence

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor

from .group_norm import use_fast_group_norm


class LatentDiffusionUNet(DiffusionModelUNet):
    """MONAI's diffusion network; its weights also say which latents it was trained on. Defaults are the shipped one.

    ``scale_factor`` multiplies latents before diffusion; samples are divided by it before decoding. ``vae_digest`` is
    the :func:`scripts.networks.weights.weights_digest` of the VAE whose latents they were, zeros where it is not known.

    Args:
        spatial_dims: 2 or 3.
        latent_channels: L.
        condition_channels: 2 (slice position and whether it is known, see :func:`position_planes`) or 0 (nothing).
        channels: width of each level.
        attention_levels: whether each level has self-attention.
        num_head_channels: channels of each attention head, by level.
        num_res_blocks: residual blocks per level, one number for all or one for each.
        resblock_updown: resample by residual blocks.
        norm_num_groups: groups of every GroupNorm.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        latent_channels: int = 6,
        condition_channels: int = 2,
        channels: Sequence[int] = (64, 128, 192),
        attention_levels: Sequence[bool] = (False, True, True),
        num_head_channels: int | Sequence[int] = (0, 64, 64),
        num_res_blocks: int | Sequence[int] = 2,
        resblock_updown: bool = True,
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=latent_channels + condition_channels,
            out_channels=latent_channels,
            channels=channels,
            attention_levels=attention_levels,
            num_head_channels=num_head_channels,
            num_res_blocks=num_res_blocks,
            resblock_updown=resblock_updown,
            norm_num_groups=norm_num_groups,
            include_fc=False,
        )
        use_fast_group_norm(self)
        self.factor = 2 ** (len(channels) - 1)
        self.conditions = ("position",) if condition_channels else ()
        self.register_buffer("scale_factor", torch.tensor(1.0))
        self.register_buffer("vae_digest", torch.zeros(32, dtype=torch.uint8))

    @property
    def mode(self) -> str:
        """How MONAI's inferers hand the conditions on."""
        return "concat" if self.conditions else "crossattn"

    unasked = 0.0
    """What stands for no condition in the result of :meth:`condition`."""

    def condition(self, asked: Tensor, size: tuple[int, ...]) -> Tensor | None:
        """Conditions ``(B, C)``, NaN where nothing is asked, as the call takes them for latents of this size."""
        if not self.conditions:
            return None
        return position_planes(asked[:, 0].nan_to_num(), ~asked[:, 0].isnan(), size)


class PublishedDiffusionUNet(LatentDiffusionUNet):
    """The diffusion network of Lüpke et al. 2024 (arXiv:2409.13532): wider, and told nothing.

    Args:
        spatial_dims: 2 or 3.
        channels: width of each level.
        num_head_channels: channels of each attention head, by level.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        channels: Sequence[int] = (256, 512, 768),
        num_head_channels: int | Sequence[int] = (0, 512, 768),
    ) -> None:
        super().__init__(
            spatial_dims=spatial_dims, condition_channels=0, channels=channels, num_head_channels=num_head_channels
        )


def position_planes(position: Tensor, known: Tensor, size: tuple[int, ...]) -> Tensor:
    """Condition ``(B, 2, *size)``: position [100 mm above the head's centre] and 1; zeros where it is not known."""
    planes = torch.stack([position.float() / 100 * known, known.float()], 1)
    return planes.view(-1, 2, *[1] * len(size)).expand(-1, -1, *size)

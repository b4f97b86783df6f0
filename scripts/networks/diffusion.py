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
from types import MappingProxyType

import torch
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor

from .conditioned import Conditioned
from .group_norm import use_fast_group_norm


class LatentDiffusionUNet(Conditioned, DiffusionModelUNet):
    """MONAI's diffusion network, told conditions by constant planes beside the latent. Defaults are the shipped one.

    The planes are all standardised values, then whether each is known; the ``position`` enters in units of 100 mm.

    Args:
        spatial_dims: 2 or 3.
        latent_channels: L.
        condition_channels: 2 (slice position [mm above the head's centre] and whether it is known) or 0 (neither).
        channels: width of each level.
        attention_levels: whether each level has self-attention.
        num_head_channels: channels of each attention head, by level.
        num_res_blocks: residual blocks per level, one number for all or one for each.
        resblock_updown: resample by residual blocks.
        norm_num_groups: groups of every GroupNorm.
        columns: names of conditions that are columns of a ``participants.tsv``, two more planes each.
        cross_attention: tell the conditions by cross-attention besides, as Pinaya et al. 2022 (arXiv:2209.07162) do.
    """

    FIXED = MappingProxyType({"position": (0.0, 100.0)})
    unasked = 0.0
    """What stands for no condition in the result of :meth:`condition`."""

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
        columns: Sequence[str] = (),
        cross_attention: bool = False,
    ) -> None:
        planes = condition_channels + 2 * len(columns)
        self.cross_attention = cross_attention and planes > 0
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=latent_channels + planes,
            out_channels=latent_channels,
            channels=channels,
            attention_levels=attention_levels,
            num_head_channels=num_head_channels,
            num_res_blocks=num_res_blocks,
            resblock_updown=resblock_updown,
            norm_num_groups=norm_num_groups,
            include_fc=False,
            with_conditioning=self.cross_attention,
            cross_attention_dim=planes if self.cross_attention else None,
        )
        use_fast_group_norm(self)
        self.factor = 2 ** (len(channels) - 1)
        self.register_conditions(("position",) if condition_channels else (), columns)

    @property
    def mode(self) -> str:
        """How MONAI's inferers hand the conditions on."""
        return "concat" if self.conditions and not self.cross_attention else "crossattn"

    def condition(self, asked: Tensor, size: tuple[int, ...]) -> Tensor | None:
        """Conditions ``(B, C)``, NaN where nothing is asked, as the call takes them for latents of this size."""
        if not self.conditions:
            return None
        standardised = self.standardise(asked.to(self.scale_factor))
        return standardised[:, None] if self.cross_attention else _planes(standardised, size)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        """The prediction ``(B, L, ...)`` for noisy latents.

        Args:
            x: noisy latents ``(B, L, ...)``, with the planes of the conditions unless there is cross-attention.
            timesteps: of each ``(B,)``, or of all ``(1,)``.
            context: with cross-attention what :meth:`condition` returned ``(B, 1, 2C)``; None for nothing asked.
        """
        if not self.cross_attention:
            return super().forward(x, timesteps, context)
        context = x.new_zeros(len(x), 1, 2 * len(self.conditions)) if context is None else context.to(x)
        return super().forward(torch.cat([x, _planes(context[:, 0], x.shape[2:])], 1), timesteps, context)


def _planes(values: Tensor, size: Sequence[int]) -> Tensor:
    """Values ``(B, C)`` as constant planes ``(B, C, ...)``."""
    return values.view(*values.shape, *[1] * len(size)).expand(-1, -1, *size)


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


class PinayaDiffusionUNet(LatentDiffusionUNet):
    """The diffusion network of Pinaya et al. 2022 (arXiv:2209.07162), told columns by planes and by cross-attention.

    It differs from theirs in that any condition may be missing.

    Args:
        spatial_dims: 2 or 3.
        latent_channels: L.
        columns: names of conditions that are columns of a ``participants.tsv``.
        channels: width of each level.
        num_head_channels: channels of each attention head, by level.
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        latent_channels: int = 3,
        columns: Sequence[str] = ("CSF_ml", "GM_ml", "WM_ml"),
        channels: Sequence[int] = (256, 512, 768),
        num_head_channels: int | Sequence[int] = (0, 512, 768),
    ) -> None:
        super().__init__(
            spatial_dims=spatial_dims,
            latent_channels=latent_channels,
            condition_channels=0,
            channels=channels,
            num_head_channels=num_head_channels,
            columns=columns,
            cross_attention=True,
        )

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
    ) -> None:
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=latent_channels + condition_channels + 2 * len(columns),
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
        self.register_conditions(("position",) if condition_channels else (), columns)

    @property
    def mode(self) -> str:
        """How MONAI's inferers hand the conditions on."""
        return "concat" if self.conditions else "crossattn"

    def condition(self, asked: Tensor, size: tuple[int, ...]) -> Tensor | None:
        """Conditions ``(B, C)``, NaN where nothing is asked, as the call takes them for latents of this size."""
        if not self.conditions:
            return None
        planes = self.standardise(asked.to(self.scale_factor))
        return planes.view(*planes.shape, *[1] * len(size)).expand(-1, -1, *size)


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

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

"""DLDM, the disentangled latent diffusion model of Na et al. 2023 (MIDL 2023), to compare with: no physics, no maps.

Shapes: n contrasts, L latent channels; ``h, w`` are an eighth of ``H, W``.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets import DiffusionModelUNet
from monai.networks.nets.autoencoderkl import Decoder, Encoder
from monai.networks.schedulers import Scheduler
from torch import Tensor, nn

from ..acquisition import load_render

FINEST = 2
"""Voxels along each axis that the finest level of encoder and decoder takes as one, with a channel for each."""


class DisentangledLDM(nn.Module):
    """n contrasts of a slice -> n + 1 latents: one structure, and a style of each contrast; and a diffusion model.

    The decoder reads the structure and one style. The diffusion model makes (structure, style) pairs, told the contrast
    as a class. A contrast that was not trained on has no style: it cannot be made.

    Args:
        render: the contrasts, see :func:`scripts.acquisition.load_render`; their acquisitions are part of the weights.
        channels: width of each level of encoder and decoder, the finest first; that one has voxels of 2 mm.
        latent_channels: L.
        unet_channels: width of each level of the diffusion model.
        norm_num_groups: groups of every GroupNorm.
    """

    def __init__(
        self,
        render: object = "oasis3",
        channels: Sequence[int] = (16, 32, 64),
        latent_channels: int = 4,
        unet_channels: Sequence[int] = (64, 128),
        norm_num_groups: int = 8,
    ) -> None:
        super().__init__()
        acquisitions = torch.stack([one.acquisition.to_row() for one in load_render(render)])
        count, levels = len(acquisitions), len(channels)
        self.register_buffer("acquisitions", acquisitions)
        same = {
            "spatial_dims": 2,
            "channels": channels,
            "num_res_blocks": [1] * levels,
            "norm_num_groups": norm_num_groups,
            "norm_eps": 1e-6,
            "attention_levels": [False] * levels,
            "with_nonlocal_attn": False,
            "include_fc": False,
        }
        self.encoder = Encoder(in_channels=FINEST**2 * count, out_channels=(count + 1) * latent_channels, **same)
        self.decoder = Decoder(in_channels=2 * latent_channels, out_channels=FINEST**2, **same)
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=2 * latent_channels,
            out_channels=2 * latent_channels,
            num_res_blocks=1,
            channels=unet_channels,
            attention_levels=[False] * (len(unet_channels) - 1) + [True],
            num_head_channels=unet_channels[-1] // 4,
            norm_num_groups=norm_num_groups,
            num_class_embeds=count,
        )
        self.register_buffer("mean", torch.zeros(2 * latent_channels, 1, 1))
        self.register_buffer("sd", torch.ones(2 * latent_channels, 1, 1))

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Structure ``(B, L, h, w)`` and styles ``(B, n, L, h, w)`` of contrasts ``(B, n, H, W)`` from 0 to 1."""
        blocks = F.pixel_unshuffle(2 * image - 1, FINEST)
        structure, *styles = self.encoder(blocks).chunk(len(self.acquisitions) + 1, 1)
        return structure, torch.stack(styles, 1)

    def decode(self, structure: Tensor, style: Tensor) -> Tensor:
        """One contrast ``(B, H, W)`` of a structure and a style ``(B, L, h, w)``."""
        blocks = self.decoder(torch.cat([structure, style], 1))
        return (F.pixel_shuffle(blocks, FINEST)[:, 0] + 1) / 2

    def pairs(self, structure: Tensor, styles: Tensor, labels: Tensor) -> Tensor:
        """Structure and the styles of these contrasts ``(B,)``, standardised for the diffusion ``(B, 2L, h, w)``."""
        style = styles[torch.arange(len(labels), device=labels.device), labels]
        return (torch.cat([structure, style], 1) - self.mean) / self.sd

    def measure(self, pairs: Tensor) -> None:
        """Standardises the latents as those of these pairs ``(B, 2L, h, w)``, which are not standardised yet."""
        self.mean.copy_(pairs.mean((0, 2, 3)).view_as(self.mean))
        self.sd.copy_(pairs.std((0, 2, 3)).clamp_min(1e-6).view_as(self.sd))

    @torch.no_grad()
    def sample(self, noise: Tensor, scheduler: Scheduler) -> Tensor:
        """All contrasts ``(n, H, W)`` of one new brain, from 0 to 1.

        A pair is made for each contrast; the structure of the first one is kept, and each gives its style.

        Args:
            noise: standard normal ``(n, 2L, h, w)``.
            scheduler: one of MONAI's, whose time steps are set.
        """
        latent, labels = noise, torch.arange(len(noise), device=noise.device)
        times = [*scheduler.timesteps, torch.zeros(())]
        for time, following in zip(times, times[1:]):
            predicted = self.unet(latent, time.to(latent).expand(len(latent)), class_labels=labels)
            latent = scheduler.step(predicted, float(time), latent, float(following))[0]
        structure, style = (latent * self.sd + self.mean).chunk(2, 1)
        return self.decode(structure[:1].expand_as(style), style).clamp(0, 1)

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

"""The physics VAE and the diffusion network.

Shapes: B batch, M contrasts, A acquisition fields, L latent channels, N contrasts that exist in the batch.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.blocks import SpatialAttentionBlock
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from monai.networks.nets.autoencoderkl import AEKLResBlock
from torch import Tensor, nn

from .acquisition import load_render, present
from .conditioning import AcquisitionConditioning, adaptive_group_norm
from .errors import UserError
from .fusion import product_of_experts
from .tissue import MAPS, TissuePrior

DEFAULT_PROTOCOL = tuple(request.acquisition for request in load_render("oasis3"))
"""What three scans without stated acquisition are taken for: T1w, T2w, FLAIR of OASIS-3."""


class PhysicsVAE(AutoencoderKL):
    """Scans and their acquisitions -> latent Gaussian -> tissue maps.

    One encoder, conditioned on the acquisition, reads each contrast alone; a product of experts fuses whatever
    contrasts exist; the decoder's three channels ``o`` become log maps under the tissue prior. Layers and weight names
    are MONAI's :class:`AutoencoderKL`; defaults are those of Lüpke et al. 2024.

    Args:
        spatial_dims: 2 or 3.
        channels: width of each level; the latent is smaller by ``2 ** (levels - 1)``.
        num_res_blocks: residual blocks per level.
        latent_channels: L.
        norm_num_groups: groups of every GroupNorm.
        adagn: how the acquisition enters the encoder, see :class:`AcquisitionConditioning`.
        pd_median: median of the PD prior.
        num_draws: posterior draws behind the standard deviations of ``forward``.

    Raises:
        UserError: for widths that are no multiples of the groups.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        channels: Sequence[int] = (64, 128, 128, 128),
        num_res_blocks: int = 3,
        latent_channels: int = 6,
        norm_num_groups: int = 32,
        adagn: str = "per_channel",
        pd_median: float = 0.8,
        num_draws: int = 4,
    ) -> None:
        if any(width % norm_num_groups for width in channels):
            raise UserError("vae_channels", str(list(channels)), f"use multiples of vae_groups ({norm_num_groups})")
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=1,
            out_channels=len(MAPS),
            channels=channels,
            num_res_blocks=num_res_blocks,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            attention_levels=[False] * len(channels),
            include_fc=False,
        )
        self.factor = 2 ** (len(channels) - 1)
        self.prior = TissuePrior(pd_median=pd_median)
        norms = [m for m in self.encoder.modules() if isinstance(m, nn.GroupNorm)]
        self.conditioning = AcquisitionConditioning([norm.num_channels for norm in norms], mode=adagn)
        default = torch.stack([acquisition.to_row() for acquisition in DEFAULT_PROTOCOL])
        self.register_buffer("default_acquisition", default, persistent=False)
        # Fixed noise, tiled over any latent size: forward stays deterministic on every device, and traceable.
        noise = torch.randn(
            num_draws, latent_channels, *[16] * spatial_dims, generator=torch.Generator().manual_seed(0)
        )
        self.register_buffer("noise", noise, persistent=False)

    def encode(self, image: Tensor, acquisition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation ``(B, L, ...)`` of scaled contrasts ``(B, M, ...)``.

        Args:
            image: contrasts scaled to about [-1, 1], any size.
            acquisition: rows ``(B, M, A)``, zero for an absent contrast; None for the default protocol.

        Raises:
            ValueError: when acquisition is None and M is not 3, or when a subject has no contrast.
        """
        if acquisition is None:
            if image.shape[1] != len(self.default_acquisition):
                raise ValueError(f"{image.shape[1]} contrasts without acquisitions: only 3 have a default protocol")
            rows = self.default_acquisition.repeat(image.shape[0], 1)
            exists = torch.ones(image.shape[:2], dtype=torch.bool, device=image.device)
            contrasts = image.flatten(0, 1)
        else:
            exists = present(acquisition)
            if not exists.any(1).all():
                raise ValueError("a subject of the batch has no contrast")
            rows, contrasts = acquisition[exists], image[exists]
        h = self._encode_contrasts(self._pad(contrasts.unsqueeze(1)), rows)
        with torch.autocast(h.device.type, enabled=False):
            mean, log_var = self.quant_conv_mu(h.float()), self.quant_conv_log_sigma(h.float())
            return product_of_experts(mean, log_var.clamp(-30.0, 20.0), exists)

    def decode(self, z: Tensor) -> Tensor:
        """Log maps ``(B, 3, ...)`` of latents ``(B, L, ...)``; the size is ``factor`` times the latent's."""
        return self.prior(super().decode(z))

    def forward(self, image: Tensor, acquisition: Tensor | None = None, noise: Tensor | None = None):
        """Log maps and their standard deviations, ``pred (B, 6, ...)``: ln PD, ln T1, ln T2, then the sd of each.

        Deterministic: maps are decoded from the posterior mean, standard deviations from ``num_draws`` draws with
        fixed noise. They tell the spread of the latent posterior and are not calibrated.

        Args:
            image: contrasts ``(B, M, ...)`` scaled to about [-1, 1].
            acquisition: rows ``(B, M, A)``; None for the default three-scan protocol.
            noise: a training step gives standard normal noise ``(B, L, ...)`` and gets log maps of that draw, mean
                and standard deviation of the latent instead.
        """
        size = image.shape[2:]
        mean, sd = self.encode(image, acquisition)
        if noise is not None:
            return self._crop(self.decode(mean + sd * noise), size), mean, sd
        log_maps = self._crop(self.decode(mean), size)
        draws = torch.stack([self._crop(self.decode(mean + sd * self._tile(n, mean)), size) for n in self.noise])
        return torch.cat([log_maps, (draws - log_maps).square().mean(0).sqrt()], 1)

    def encode_stage_2_inputs(self, image: Tensor, acquisition: Tensor | None = None) -> Tensor:
        """Posterior mean ``(B, L, ...)``, for MONAI's LatentDiffusionInferer."""
        return self.encode(image, acquisition)[0]

    def decode_stage_2_outputs(self, z: Tensor) -> Tensor:
        """Log maps ``(B, 3, ...)``, for MONAI's LatentDiffusionInferer."""
        return self.decode(z)

    def latent_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Spatial size of the latent of an image of this size."""
        return tuple(-(-s // self.factor) for s in size)

    def _encode_contrasts(self, h: Tensor, rows: Tensor) -> Tensor:
        """MONAI's encoder, block by block, with every GroupNorm made adaptive: ``(N, 1, ...)`` -> ``(N, L, ...)``."""
        conditions = self.conditioning(rows)
        for block in self.encoder.blocks:
            if isinstance(block, AEKLResBlock):
                x = block.nin_shortcut(h)
                h = block.conv1(F.silu(adaptive_group_norm(block.norm1, h, next(conditions))))
                h = x + block.conv2(F.silu(adaptive_group_norm(block.norm2, h, next(conditions))))
            elif isinstance(block, SpatialAttentionBlock):
                tokens = adaptive_group_norm(block.norm, h, next(conditions)).flatten(2).transpose(1, 2)
                h = h + block.attn(tokens).transpose(1, 2).reshape(h.shape)
            elif isinstance(block, nn.GroupNorm):
                h = adaptive_group_norm(block, h, next(conditions))
            else:
                h = block(h)
        return h

    def _pad(self, image: Tensor) -> Tensor:
        """Edge-pad the end of each axis to a multiple of the factor."""
        pad = [p for size in reversed(image.shape[2:]) for p in (0, -size % self.factor)]
        return F.pad(image, pad, mode="replicate")

    @staticmethod
    def _crop(maps: Tensor, size: Sequence[int]) -> Tensor:
        return maps[(..., *[slice(s) for s in size])]

    @staticmethod
    def _tile(noise: Tensor, like: Tensor) -> Tensor:
        for axis in range(1, noise.ndim):
            noise = noise.index_select(axis, torch.arange(like.shape[axis + 1], device=noise.device) % 16)
        return noise


class LatentDiffusionUNet(DiffusionModelUNet):
    """MONAI's diffusion network; its weights also say which latents it was trained on.

    ``scale_factor`` multiplies latents before diffusion; samples are divided by it before decoding. ``vae_digest`` is
    the :func:`scripts.checkpoints.weights_digest` of the VAE whose latents they were, zeros where it is not known.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(include_fc=False, **kwargs)
        self.register_buffer("scale_factor", torch.tensor(1.0))
        self.register_buffer("vae_digest", torch.zeros(32, dtype=torch.uint8))

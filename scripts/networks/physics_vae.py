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

"""The physics VAE: scans and their acquisitions -> tissue maps."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.networks.blocks import Upsample
from monai.networks.nets import AutoencoderKL
from monai.networks.nets.autoencoderkl import AEKLResBlock
from torch import Tensor, nn

from ..acquisition import load_render, present
from ..errors import UserError
from ..tissue import MAPS, Estimate, TissuePrior
from . import slabs
from .conditioning import AcquisitionConditioning
from .encoder import encode_contrasts, recomputed
from .fusion import product_of_experts
from .gain import GainRegressor
from .group_norm import use_fast_group_norm
from .skips import PrecisionSkip
from .spread import SpreadHead

DEFAULT_PROTOCOL = tuple(request.acquisition for request in load_render("oasis3"))
"""What three scans without stated acquisition are taken for: T1w, T2w, FLAIR of OASIS-3."""


class PosteriorSample(NamedTuple):
    """What is decoded from one sample of the latent posterior, as training sees it.

    Attributes:
        estimate: the log maps and their covariance.
        mean: mean of the latent posterior ``(B, L, ...)``.
        sd: its standard deviation ``(B, L, ...)``.
        gain: of each contrast ``(B, M)``, where the network regresses it.
    """

    estimate: Estimate
    mean: Tensor
    sd: Tensor
    gain: Tensor | None = None


class PhysicsVAE(AutoencoderKL):
    """Scans and their acquisitions -> latent Gaussian -> tissue maps.

    One encoder, conditioned on the acquisition, reads each contrast alone; a product of experts fuses whatever
    contrasts exist; the decoder's three channels ``o`` become log maps under the tissue prior. Layers and weight names
    are MONAI's :class:`AutoencoderKL`; the defaults are those of the shipped weights. Two options make it an estimator:
    skips at finer scales, which generation does without, and a head for the covariance of the log maps.

    Args:
        spatial_dims: 2 or 3.
        channels: width of each level; the latent is smaller by ``2 ** (levels - 1)``.
        num_res_blocks: residual blocks per level.
        latent_channels: L.
        norm_num_groups: groups of every GroupNorm.
        adagn: how the acquisition enters the encoder, see :class:`AcquisitionConditioning`.
        condition: what of the acquisition enters, likewise.
        skip_channels: features of the skip of each level but the coarsest, the finest first; 0 for no skip there.
        covariance: predict the covariance of the log maps; else the spread of posterior draws stands for it.
        pd_median: median of the PD prior.
        prior: the maps that the prior is over, see :class:`scripts.tissue.TissuePrior`.
        gain_regressor: have a network for the gain of each contrast; the paper's ablation has one.
        num_draws: posterior draws behind the standard deviations of ``forward`` without ``covariance``.
        checkpointing: training keeps images and the inputs of the decoder's blocks alone, and encodes contrasts
            one after another. It takes longer, for far less memory.

    Raises:
        UserError: for widths that are no multiples of the groups, or more skips than levels.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        channels: Sequence[int] = (24, 48, 96, 128),
        num_res_blocks: int = 1,
        latent_channels: int = 6,
        norm_num_groups: int = 8,
        adagn: str = "per_channel",
        condition: str = "fingerprint",
        skip_channels: Sequence[int] = (8, 16, 32),
        covariance: bool = True,
        pd_median: float = 0.8,
        prior: str = "all",
        gain_regressor: bool = False,
        num_draws: int = 4,
        checkpointing: bool = False,
    ) -> None:
        if any(width % norm_num_groups for width in channels):
            raise UserError("channels", str(list(channels)), f"use multiples of norm_num_groups ({norm_num_groups})")
        if len(skip_channels) >= len(channels):
            raise UserError("skip_channels", str(list(skip_channels)), f"give {len(channels) - 1} numbers at most")
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
        use_fast_group_norm(self)
        self.factor, self.checkpointing = 2 ** (len(channels) - 1), checkpointing
        self.pd_median, self.prior = pd_median, TissuePrior(pd_median=pd_median, over=prior)
        norms = [m for m in self.encoder.modules() if isinstance(m, nn.GroupNorm)]
        self.conditioning = AcquisitionConditioning([n.num_channels for n in norms], mode=adagn, condition=condition)
        self.skips = nn.ModuleDict(
            {
                str(level): PrecisionSkip(spatial_dims, channels[level], channels[level + 1], width)
                for level, width in enumerate(skip_channels)
                if width
            }
        )
        self.spread = SpreadHead(spatial_dims, channels[0]) if covariance else None
        self.gain_regressor = GainRegressor(spatial_dims) if gain_regressor else None
        default = torch.stack([acquisition.to_row() for acquisition in DEFAULT_PROTOCOL])
        self.register_buffer("default_acquisition", default, persistent=False)
        # Known beforehand, so that a traced network need not render signals.
        self.register_buffer("default_features", self.conditioning.features(default), persistent=False)
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
        return self._encode(image, acquisition, None)[:2]

    def decode(self, z: Tensor) -> Tensor:
        """Log maps ``(B, 3, ...)`` of latents ``(B, L, ...)`` alone; the size is ``factor`` times the latent's."""
        return self._decode(z, self._dropped()).log_maps

    def estimate(self, image: Tensor, acquisition: Tensor | None = None) -> Estimate:
        """The log maps and their covariance, see :class:`SpreadHead`.

        Without ``covariance`` the maps are uncorrelated: their standard deviations are those of samples from the
        latent posterior with fixed noise, which are not calibrated.

        Args:
            image: contrasts ``(B, M, ...)`` scaled to about [-1, 1].
            acquisition: rows ``(B, M, A)``; None for the default three-scan protocol.
        """
        size = image.shape[2:]
        mean, sd, skipped = self._encode(image, acquisition, image.new_ones(image.shape[0]))
        estimate = self._decode(mean, skipped)
        if self.spread is None:
            samples = torch.stack([self._decode(mean + sd * self._tile(n, mean), skipped).log_maps for n in self.noise])
            estimate = Estimate.independent(estimate.log_maps, (samples - estimate.log_maps).square().mean(0).sqrt())
        return Estimate(*(self._crop(x, size) for x in estimate))

    def forward(self, image: Tensor, acquisition: Tensor | None = None) -> Tensor:
        """Log maps and their standard deviations, ``pred (B, 6, ...)``: ln PD, ln T1, ln T2, then the sd of each.

        Deterministic: maps are decoded from the posterior mean. See :meth:`estimate` for the whole covariance.

        Args:
            image: contrasts ``(B, M, ...)`` scaled to about [-1, 1].
            acquisition: rows ``(B, M, A)``; None for the default three-scan protocol.
        """
        estimate = self.estimate(image, acquisition)
        return torch.cat([estimate.log_maps, estimate.sd], 1)

    def sample_posterior(
        self, image: Tensor, acquisition: Tensor, noise: Tensor, with_skips: Tensor
    ) -> PosteriorSample:
        """The estimate decoded from ``mean + sd * noise`` instead of the mean: the forward pass of training.

        Args:
            image: contrasts ``(B, M, ...)`` scaled to about [-1, 1].
            acquisition: rows ``(B, M, A)``.
            noise: standard normal ``(B, L, ...)``.
            with_skips: 1 where a sample is decoded with its skips, 0 where from its latent alone ``(B,)``.
        """
        mean, sd, skipped = self._encode(image, acquisition, with_skips)
        estimate = self._decode(mean + sd * noise, skipped)
        estimate = Estimate(*(self._crop(x, image.shape[2:]) for x in estimate))
        return PosteriorSample(estimate, mean, sd, self.regress_gain(image))

    def regress_gain(self, image: Tensor) -> Tensor | None:
        """Gain of each contrast ``(B, M)`` from contrasts ``(B, M, ...)``; None of a network that regresses none."""
        return None if self.gain_regressor is None else self.gain_regressor(image)

    def encode_stage_2_inputs(self, image: Tensor, acquisition: Tensor | None = None) -> Tensor:
        """Posterior mean ``(B, L, ...)``, for MONAI's LatentDiffusionInferer."""
        return self.encode(image, acquisition)[0]

    def decode_stage_2_outputs(self, z: Tensor) -> Tensor:
        """Log maps ``(B, 3, ...)``, for MONAI's LatentDiffusionInferer."""
        return self.decode(z)

    def latent_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Spatial size of the latent of an image of this size."""
        return tuple(-(-s // self.factor) for s in size)

    def _encode(
        self, image: Tensor, acquisition: Tensor | None, with_skips: Tensor | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Latent mean and standard deviation, and what the skips add to the decoder's features, by level."""
        default = acquisition is None
        if default and image.shape[1] != len(self.default_acquisition):
            raise ValueError(f"{image.shape[1]} contrasts without acquisitions: only 3 have a default protocol")
        if default:
            acquisition = self.default_acquisition.expand(image.shape[0], -1, -1)
        exists = present(acquisition)
        if not exists.any(1).all():
            raise ValueError("a subject of the batch has no contrast")
        if default:
            acquisition_features = self.default_features.expand(image.shape[0], -1, -1)[exists]
        else:
            acquisition_features = self.conditioning.features(acquisition[exists])
        contrasts = self._pad(image[exists].unsqueeze(1))
        h, features = encode_contrasts(
            self.encoder, contrasts, self.conditioning(acquisition_features), self.skips, self.checkpointing
        )
        with torch.autocast(h.device.type, enabled=False):
            mean, log_var = self.quant_conv_mu(h.float()), self.quant_conv_log_sigma(h.float())
            mean, sd = product_of_experts(mean, log_var.clamp(-30.0, 20.0), exists)
        if with_skips is None:
            return mean, sd, self._dropped()
        return mean, sd, {level: skip(features[level], exists, with_skips) for level, skip in self.skips.items()}

    def _dropped(self) -> dict[str, Tensor]:
        return {level: skip.dropped() for level, skip in self.skips.items()}

    def _decode(self, z: Tensor, skipped: dict[str, Tensor]) -> Estimate:
        """MONAI's decoder, block by block, with the skips; without ``covariance`` the Cholesky factor is zero."""
        h, level = self.post_quant_conv(z), len(self.decoder.channels) - 1
        *blocks, norm, last = self.decoder.blocks
        lean = self.checkpointing and slabs.usable(h)
        slabwise = {AEKLResBlock: slabs.residual, Upsample: slabs.upsample} if lean else {}
        for block in blocks:
            if type(block) in slabwise:
                h = slabwise[type(block)](block, h)
            else:
                h = recomputed(block, h, enabled=self.checkpointing)
            if isinstance(block, Upsample):
                level -= 1
                h = h + skipped[str(level)] if str(level) in skipped else h
        together = lean and self.spread is None
        h = h if together else norm(h)
        log_maps = self.prior(slabs.convolution(last, h, norm) if together else last(h))
        cholesky = log_maps.new_zeros(h.shape[0], 6, *h.shape[2:]) if self.spread is None else self.spread(h)
        return Estimate(log_maps, cholesky)

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


class PublishedVAE(PhysicsVAE):
    """The physics VAE of Lüpke et al. 2024 (arXiv:2409.13532): told TE, TR and TI, without skips and covariance.

    Args:
        spatial_dims: 2 or 3.
        channels: width of each level.
        num_res_blocks: residual blocks per level.
        latent_channels: L.
        norm_num_groups: groups of every GroupNorm.
        adagn: ``per_channel`` as in the paper's Eq. 2; the weights that the authors released have ``shared_scalar``.
        pd_median: median of the PD prior.
        prior: the maps that the prior is over; the paper's text has ``relaxation``.
        gain_regressor: regress the gain of each contrast.
        checkpointing: see :class:`PhysicsVAE`.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        channels: Sequence[int] = (64, 128, 128, 128),
        num_res_blocks: int = 3,
        latent_channels: int = 6,
        norm_num_groups: int = 32,
        adagn: str = "per_channel",
        pd_median: float = 50.0,
        prior: str = "all",
        gain_regressor: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(
            spatial_dims=spatial_dims,
            channels=channels,
            num_res_blocks=num_res_blocks,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            adagn=adagn,
            condition="parameters",
            skip_channels=(),
            covariance=False,
            pd_median=pd_median,
            prior=prior,
            gain_regressor=gain_regressor,
            checkpointing=checkpointing,
        )

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

"""Networks on whole images: volumes of contrasts -> estimate, noise -> log maps."""

from hashlib import sha256

import torch
from monai.inferers import Inferer, LatentDiffusionInferer
from monai.networks.schedulers import DDPMScheduler, Scheduler
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from tqdm import tqdm

from ..acquisition import is_number
from ..errors import UserError
from ..parallel import in_parallel
from ..randomness import generator
from ..tissue import Estimate
from .device import bf16
from .diffusion import position_planes
from .guidance import PerturbedAttentionGuidance


class MapInferer(Inferer):
    """The network's estimate of a volume.

    A 2D network sees axial slices, each by itself, a 3D network the whole volume. Slices run side by side on a CPU, one
    after the other elsewhere, and only what a network call needs is on its device, so memory does not grow with their
    number. (MONAI's SliceInferer knows no side by side.) Slices without foreground are skipped.

    Args:
        spatial_dims: those of the network.
        amp: bfloat16 autocast. It changes T1 by about a percent, so exported maps are made without.
    """

    def __init__(self, spatial_dims: int = 2, amp: bool = False) -> None:
        self.spatial_dims, self.amp = spatial_dims, amp

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: nn.Module, rows: Tensor, mask: Tensor | None = None) -> Estimate:
        """The estimate ``(1, 3, X, Y, Z)``, on the CPU in float32.

        Args:
            inputs: contrasts ``(1, M, X, Y, Z)`` scaled to about [-1, 1].
            network: a physics VAE, see :meth:`scripts.networks.PhysicsVAE.estimate`; it is used in eval mode.
            rows: acquisitions ``(1, M, A)``.
            mask: foreground ``(1, 1, X, Y, Z)``; slices without it are 0 in the result.
        """
        device = next(network.parameters()).device
        mask = torch.ones_like(inputs[:, :1]) if mask is None else mask.to(inputs)

        def estimate(image: Tensor, inside: Tensor) -> Estimate:
            if not inside.any():
                return Estimate(*(torch.zeros(len(image), channels, *image.shape[2:]) for channels in (3, 6)))
            with bf16(device, self.amp):
                found = network.estimate(image.to(device), rows.to(device))
            return Estimate(*(part.float().cpu() for part in found))

        with eval_mode(network):
            if self.spatial_dims == 3:
                return estimate(inputs, mask)
            count = inputs.shape[-1]
            slices = in_parallel(lambda z: estimate(inputs[..., z], mask[..., z]), range(count), device)
            parts = zip(*tqdm(slices, "network", count, unit=" slices"))
            return Estimate(*(torch.stack(part, -1) for part in parts))


class MapSampler(Inferer):
    """New log maps from noise: diffusion in the latent space of the VAE, then its decoder.

    Args:
        scheduler: one of MONAI's noise schedulers.
        num_inference_steps: network calls a sample.
        latent_size: spatial size of a latent.
        guidance: scale of :class:`.guidance.PerturbedAttentionGuidance`; above 0 a step takes twice as long.

    Raises:
        UserError: for a negative guidance; for DDPM with fewer steps than it was trained with, which MONAI's does not
            support.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        num_inference_steps: int = 50,
        latent_size: tuple[int, ...] = (24, 28),
        guidance: float = 0.0,
    ) -> None:
        if not (is_number(guidance) and guidance >= 0):
            raise UserError("guidance", repr(guidance), "use 0 for none, or a scale of about 1")
        if isinstance(scheduler, DDPMScheduler) and num_inference_steps != scheduler.num_train_timesteps:
            do = f"use {scheduler.num_train_timesteps} with DDPM, or another scheduler"
            raise UserError("num_inference_steps", str(num_inference_steps), do)
        self.scheduler, self.num_inference_steps, self.guidance = scheduler, num_inference_steps, guidance
        self.latent_size = tuple(latent_size)

    @property
    def settings(self) -> dict:
        """What a sample depends on besides its address, its position and the weights."""
        scheduler = self.scheduler
        return {
            "scheduler": type(scheduler).__name__,
            "prediction_type": scheduler.prediction_type,
            "noise_schedule": sha256(scheduler.alphas_cumprod.numpy().tobytes()).hexdigest(),
            "clip_sample": getattr(scheduler, "clip_sample", False),
            "num_inference_steps": self.num_inference_steps,
            "latent_size": self.latent_size,
            "guidance": self.guidance,
        }

    @torch.no_grad()
    def __call__(
        self, inputs: tuple[int, ...], network: nn.Module, diffusion: nn.Module, position: float | None = None
    ) -> Tensor:
        """Log maps ``(1, 3, ...)`` of one sample on the CPU, float32.

        Args:
            inputs: address of the sample's noise, ``(seed, index)``.
            network: the physics VAE.
            diffusion: the diffusion network, a :class:`.diffusion.LatentDiffusionUNet`.
            position: slice position [mm above the centre of the cerebrum], None where it is free.
        """
        device = next(diffusion.parameters()).device
        stream = generator(*inputs)
        noise = torch.randn(1, network.latent_channels, *self.latent_size, generator=stream)
        condition = None
        if diffusion.condition_channels:
            known = torch.tensor([position is not None])
            condition = position_planes(torch.tensor([position or 0.0]), known, self.latent_size).to(device)
        self.scheduler.set_timesteps(self.num_inference_steps)
        inferer = LatentDiffusionInferer(self.scheduler, scale_factor=float(diffusion.scale_factor))
        # Schedulers with noise of their own draw it from the global generator.
        with torch.random.fork_rng(devices=[]), eval_mode(network, diffusion):
            torch.manual_seed(stream.initial_seed())
            return inferer.sample(
                input_noise=noise.to(device),
                autoencoder_model=network,
                diffusion_model=PerturbedAttentionGuidance(diffusion, self.guidance),
                conditioning=condition,
                mode="concat" if diffusion.condition_channels else "crossattn",
                verbose=False,
            ).cpu()

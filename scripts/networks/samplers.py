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

"""New latents and log maps from noise."""

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from functools import partial
from hashlib import sha256
from math import prod
from types import MappingProxyType

import torch
from monai.inferers import DiffusionInferer, Inferer
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler, Scheduler
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from ..acquisition import is_number
from ..errors import UserError
from ..randomness import generator
from ..tissue.fractions import AREAS, measure_areas
from .codec import FractionCodec
from .device import bf16

SLOPE = (0.5, 2.0)
"""Lowest and highest change of what is made by what is told, in units of each other, that a correction counts with."""
LOWEST, HIGHEST = 2.0, 8.0
"""How far below what is usual or asked, and above what is asked, a network is told to go, in standard deviations of the
conditions. Further below, what it makes is no brain."""


class MapSampler(Inferer):
    """New latents from noise by diffusion, and log maps by the network that reads latents.

    Args:
        scheduler: one of MONAI's noise schedulers.
        num_inference_steps: steps of the sampler.
        latent_size: spatial size of a latent.
        guidance: scale ``w`` of classifier-free guidance, ``u + w (v - u)`` with the predictions ``v`` told the
            conditions and ``u`` told nothing (Ho and Salimans 2022, arXiv:2207.12598). 1 leaves it out, and with any
            other a step takes twice as long.
        corrections: how often what can be measured is asked for again, at most, see :meth:`closest`.

    Raises:
        UserError: for a negative guidance; for DDPM with fewer steps than it was trained with, which MONAI's does not
            support.
    """

    near: float = 0.03
    """Distance from what is asked that is as good as none, in standard deviations of the conditions."""
    centre: float | None = None
    """Height of the middle of what is made, above the centre of the cerebrum [mm]; None where that is asked for."""
    parts: Mapping[str, tuple[nn.Module, str]] = MappingProxyType({})
    """Networks of its own by name, and the file of the weights of each."""
    stages: Mapping[str, str] = MappingProxyType({"diffusion": "ldm"})
    """Name of a network -> the training that makes it, ``configs/train_ldm.json``."""

    def __init__(
        self,
        scheduler: Scheduler,
        num_inference_steps: int = 24,
        latent_size: tuple[int, ...] = (22, 28),
        guidance: float = 1.0,
        corrections: int = 4,
    ) -> None:
        if not (is_number(guidance) and guidance >= 0):
            raise UserError("guidance", repr(guidance), "use 1 for none, or a scale of 1 to 3")
        if isinstance(scheduler, DDPMScheduler) and num_inference_steps != scheduler.num_train_timesteps:
            do = f"use {scheduler.num_train_timesteps} with DDPM, or another scheduler"
            raise UserError("num_inference_steps", str(num_inference_steps), do)
        self.scheduler, self.num_inference_steps, self.guidance = scheduler, num_inference_steps, guidance
        self.latent_size, self.corrections = tuple(latent_size), corrections

    @property
    def settings(self) -> dict:
        """What a sample depends on besides its address, its conditions and the weights."""
        scheduler, noise = deepcopy(self.scheduler), {}
        if isinstance(scheduler, RFlowScheduler):
            self._set_timesteps(scheduler)
            noise["timesteps"] = [round(float(time), 1) for time in scheduler.timesteps]
        else:
            noise["noise_schedule"] = sha256(scheduler.alphas_cumprod.numpy().tobytes()).hexdigest()
            noise["clip_sample"] = getattr(scheduler, "clip_sample", False)
        return {
            "scheduler": type(scheduler).__name__,
            "prediction_type": scheduler.prediction_type,
            **noise,
            "num_inference_steps": self.num_inference_steps,
            "latent_size": self.latent_size,
            "guidance": self.guidance,
            "corrections": self.corrections,
        }

    def __call__(
        self,
        inputs: tuple[int, ...],
        network: nn.Module,
        diffusion: nn.Module,
        asked: Mapping[str, float | None] = MappingProxyType({}),
    ) -> Tensor:
        """Log maps ``(1, 3, ...)`` of one sample on the CPU, float32.

        Args:
            inputs: address of the sample's noise, ``(seed, index)``.
            network: whatever reads latents: the physics VAE, or a :class:`.codec.FractionCodec`.
            diffusion: the diffusion network.
            asked: name of a condition -> its value, None where nothing is asked.
        """
        with torch.no_grad(), eval_mode(network):
            return network.decode_stage_2_outputs(self.latent(inputs, network, diffusion, asked)).cpu()

    @torch.no_grad()
    def latent(
        self,
        inputs: tuple[int, ...],
        network: nn.Module,
        diffusion: nn.Module,
        asked: Mapping[str, float | None] = MappingProxyType({}),
    ) -> Tensor:
        """The latent ``(1, L, ...)`` of one sample on the device of the diffusion network; arguments likewise."""
        draw = partial(self.draw, inputs, network.latent_channels, diffusion)
        if not isinstance(network, FractionCodec):
            return draw(asked)
        return self.closest(draw, lambda latent: measure_areas(network.decode(latent)), AREAS, diffusion, asked)

    def draw(
        self, inputs: tuple[int, ...], channels: int, diffusion: nn.Module, told: Mapping[str, float | None]
    ) -> Tensor:
        """The latent ``(1, channels, ...)`` that the diffusion network, told some conditions, makes of noise."""
        stream = generator(*inputs)
        noise = torch.randn(1, channels, *self.latent_size, generator=stream)
        values = [told.get(name) for name in diffusion.conditions]
        asked = torch.tensor([[float("nan") if value is None else value for value in values]])
        # Samples may be made side by side: each has the time steps, and the scheduler's noise, for itself.
        scheduler = deepcopy(self.scheduler)
        self._set_timesteps(scheduler)
        if isinstance(scheduler, (DDPMScheduler, DDIMScheduler)):
            own = torch.Generator().manual_seed(stream.initial_seed())
            scheduler.step = partial(scheduler.step, generator=own)
        return denoise(scheduler, diffusion, noise, asked, guidance=self.guidance) / diffusion.scale_factor

    def closest(
        self,
        draw: Callable[[Mapping[str, float | None]], Tensor],
        measure: Callable[[Tensor], Mapping[str, Tensor]],
        measurable: Collection[str],
        diffusion: nn.Module,
        asked: Mapping[str, float | None],
    ) -> Tensor:
        """What comes closest to what is asked, in standard deviations of the conditions.

        Areas and volumes that are asked for can be measured. So the network is asked again, with the same noise, for
        more of what came out too small and less of what came out too large, and the best answer counts. How much more
        follows from the last two answers (secant method), or is halfway between too little and too much where these do
        not enclose it. What is :attr:`near` enough is not asked for again.

        Args:
            draw: conditions -> what is made.
            measure: that -> its areas or volumes by name.
            measurable: their names.
            diffusion: the network that is asked.
            asked: name of a condition -> its value, None where nothing is asked.
        """
        own = self.measurable(measurable, diffusion, asked)
        if not own or self.guidance == 0:
            return draw(asked)
        numbers = [diffusion.conditions.index(name) for name in own]
        mean, sd = diffusion.condition_mean.cpu()[numbers], diffusion.condition_sd.cpu()[numbers]
        wanted = told = torch.tensor([float(asked[name]) for name in own])
        little, much = torch.minimum(wanted, mean) - LOWEST * sd, wanted + HIGHEST * sd
        answers, slope, last = [], torch.ones(len(own)), None
        for _ in range(1 + self.corrections):
            made = draw({**asked, **dict(zip(own, told.tolist()))})
            measured = measure(made)
            found = torch.tensor([float(measured[name]) for name in own])
            answers.append((float(((found - wanted) / sd).norm()), made))
            if answers[-1][0] < self.near:
                break
            if last is not None:
                slope = ((found - last[1]) / (told - last[0])).nan_to_num(1.0).clamp(*SLOPE)
            little, much = torch.where(found < wanted, told, little), torch.where(found > wanted, told, much)
            last, told = (told, found), told + (wanted - found) / slope
            told = torch.where((told >= little) & (told <= much), told, (little + much) / 2)
        return min(answers, key=lambda answer: answer[0])[1]

    @staticmethod
    def measurable(names: Collection[str], diffusion: nn.Module, asked: Mapping[str, float | None]) -> list[str]:
        """Which conditions of a diffusion network are among some names and are asked for."""
        return [name for name in diffusion.conditions if name in names and asked.get(name) is not None]

    def pairs(self, network: nn.Module, diffusion: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
        """Each diffusion network with what decodes its latents."""
        return [(diffusion, network)]

    def _set_timesteps(self, scheduler: Scheduler) -> None:
        # A flow may spend more steps on much noise the larger the latent is.
        size = {"input_img_size_numel": prod(self.latent_size)} if isinstance(scheduler, RFlowScheduler) else {}
        scheduler.set_timesteps(self.num_inference_steps, **size)


@torch.no_grad()
def denoise(
    scheduler: Scheduler,
    diffusion: nn.Module,
    noise: Tensor,
    asked: Tensor,
    guidance: float = 1.0,
    amp: bool = False,
    **known: Tensor,
) -> Tensor:
    """Latents from noise ``(B, L, ...)``, on the device of the diffusion network, in its scale.

    Args:
        scheduler: one of MONAI's, whose time steps are set.
        diffusion: the diffusion network.
        noise: the noise.
        asked: conditions ``(B, C)``, NaN where nothing is asked.
        guidance: see :class:`MapSampler`.
        amp: the network computes in bfloat16.
        known: what the network takes by name besides.
    """

    def predict(*inputs: Tensor, **named: Tensor) -> Tensor:
        with bf16(device, amp):
            return diffusion(*inputs, **named, **known).float()

    device = next(diffusion.parameters()).device
    condition = diffusion.condition(asked, tuple(noise.shape[2:]))
    with eval_mode(diffusion):
        return DiffusionInferer(scheduler).sample(
            input_noise=noise.to(device),
            diffusion_model=predict,
            conditioning=None if condition is None else condition.to(device),
            mode=diffusion.mode,
            cfg=None if condition is None or guidance == 1 else guidance,
            cfg_fill_value=diffusion.unasked,
            verbose=False,
        )

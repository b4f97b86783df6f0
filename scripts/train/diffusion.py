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
"""Training and validation iterations of the latent diffusion model.

Every random number of a sample is drawn from its own generator, addressed by (seed, epoch, index).
"""

import ignite.distributed as idist
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..errors import UserError
from ..networks.device import bf16, unwrap
from ..networks.diffusion import position_planes
from ..randomness import generator
from .common import descend

PREDICTIONS = ("epsilon", "v_prediction")


class DiffusionStep:
    """One training iteration of the latent diffusion model on cached latent posteriors.

    Latents are drawn anew each epoch; the slice position is hidden at random, so that sampling works with and without.
    With ``x_t = a_t x_0 + s_t n``, the network predicts the noise ``n``, or the velocity ``a_t n - s_t x_0`` (Salimans
    and Ho 2022, arXiv:2202.00512), which also says something where ``x_t`` is nearly all noise.

    Args:
        network: the diffusion network, or the same wrapped for data-parallel training.
        optimizer: its optimizer.
        inferer: MONAI's DiffusionInferer, which adds the noise; its scheduler's ``prediction_type`` is ``epsilon``
            or ``v_prediction``.
        seed: of all random numbers.
        amp: bfloat16 autocast.
        max_norm: largest gradient norm.
        condition_dropout: probability of hiding the position from a network that is told it.

    Raises:
        UserError: for another prediction type.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        inferer,
        seed: int,
        amp: bool,
        max_norm: float = 1.0,
        condition_dropout: float = 0.1,
    ) -> None:
        if inferer.scheduler.prediction_type not in PREDICTIONS:
            found = repr(str(inferer.scheduler.prediction_type))
            raise UserError("prediction_type", found, f"use one of {', '.join(PREDICTIONS)}")
        self.network, self.unet, self.optimizer, self.inferer = network, unwrap(network), optimizer, inferer
        self.seed, self.amp, self.condition_dropout = seed, amp, condition_dropout
        self.max_norm = max_norm

    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> dict[str, float]:
        """Updates the network; returns the loss."""
        self.network.train()
        loss = self.errors(self.network, batch, engine.state.epoch, engine.state.device).mean()
        descend(loss, self.optimizer, self.unet, self.max_norm)
        return {"loss": float(loss.detach())}

    def errors(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, device: torch.device) -> Tensor:
        """Mean squared error of the predicted noise or velocity of each sample ``(B,)``."""
        scheduler = self.inferer.scheduler
        latents, noises, timesteps, known = [], [], [], []
        for mean, sd, index in zip(batch["mean"], batch["sd"], batch["index"].tolist()):
            draw = generator(self.seed, epoch, index)
            latents.append(mean + sd * torch.randn(mean.shape, generator=draw))
            noises.append(torch.randn(mean.shape, generator=draw))
            timesteps.append(torch.randint(scheduler.num_train_timesteps, (), generator=draw))
            known.append(torch.rand((), generator=draw) >= self.condition_dropout)
        latent, noise, timestep = (torch.stack(x).to(device) for x in (latents, noises, timesteps))
        latent = latent * self.unet.scale_factor
        condition = None
        if self.unet.condition_channels:
            condition = position_planes(batch["position"], torch.stack(known), latent.shape[2:]).to(device)
        with bf16(device, self.amp):
            predicted = self.inferer(
                inputs=latent,
                diffusion_model=network,
                noise=noise,
                timesteps=timestep,
                condition=condition,
                mode="concat" if self.unet.condition_channels else "crossattn",
            )
        velocity = scheduler.prediction_type == "v_prediction"
        target = scheduler.get_velocity(latent, noise, timestep) if velocity else noise
        return F.mse_loss(predicted.float(), target, reduction="none").flatten(1).mean(1)


class DiffusionValidationStep:
    """Validation of the diffusion model: the training error, with the same draws each time.

    Args:
        network: whose error is measured, usually the moving average of the trained one.
        step: the training step, which knows how.
    """

    def __init__(self, network: nn.Module, step: DiffusionStep) -> None:
        self.network, self.step = network, step

    @torch.no_grad()
    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> list[dict]:
        """One dictionary with ``val_loss`` a sample."""
        self.network.eval()
        return [{"val_loss": float(error)} for error in self.step.errors(self.network, batch, 0, engine.state.device)]


class MovingAverage(AveragedModel):
    """Exponential moving average of a network's weights, quick at first: ``decay = min(limit, (1 + n) / (10 + n))``.

    Args:
        model: the trained network on its device, or the same wrapped for data-parallel training.
        limit: decay after many updates.
    """

    def __init__(self, model: nn.Module, limit: float = 0.999) -> None:
        def average(averaged: Tensor, current: Tensor, n: Tensor) -> Tensor:
            return torch.lerp(current, averaged, min(limit, (1 + int(n)) / (10 + int(n))))

        super().__init__(unwrap(model), avg_fn=average)
        self.trained = [unwrap(model)]

    def attach(self, engine: Engine) -> None:
        """Updates after every iteration."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: self.update_parameters(self.trained[0]))


class LatentScale:
    """Sets the network's ``scale_factor`` to 1 / sd of the latents when training starts. Attach it before resuming.

    Args:
        network: the diffusion network, not wrapped.
        data: latents of the training samples, a :class:`scripts.train.data.LatentDataset`.
        samples: how many of them to measure.
    """

    def __init__(self, network: nn.Module, data, samples: int = 256) -> None:
        self.network, self.data, self.samples = network, data, samples

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer's start."""
        engine.add_event_handler(Events.STARTED, self.measure)
        engine.add_event_handler(Events.EPOCH_STARTED, self.check)

    def measure(self) -> None:
        """Encodes the samples, with a progress bar, and stores the scale."""
        first = range(min(self.samples, len(self.data)))
        items = [self.data[i] for i in tqdm(first, "encoding latents for their scale", disable=idist.get_rank() > 0)]
        mean, sd = (torch.stack([item[name] for item in items]) for name in ("mean", "sd"))
        variance = mean.var(correction=0) + sd.square().mean()
        self.network.scale_factor.fill_(variance.rsqrt())
        self.network.vae_digest.copy_(self.data.encoder.digest())

    def check(self) -> None:
        """Refuses to go on, after a resume, with latents of another VAE.

        Raises:
            UserError: in that case.
        """
        if not torch.equal(self.network.vae_digest.cpu(), self.data.encoder.digest()):
            do = "resume with the weights the run was started with, or start anew"
            raise UserError(self.data.encoder.weights, "another VAE than the one the run was started with", do)

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

from collections.abc import Sequence
from functools import partial

import ignite.distributed as idist
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.networks.schedulers import RFlowScheduler, Scheduler
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset
from tqdm import tqdm

from ..errors import UserError
from ..networks.device import bf16, unwrap
from ..randomness import generator
from .common import descend

PREDICTIONS = ("epsilon", "v_prediction")


class DiffusionStep:
    """One training iteration of the latent diffusion model on cached latent posteriors.

    Latents are drawn anew each epoch; conditions are hidden at random, all at once and each by itself, so that sampling
    works with and without. With ``x_t = a_t x_0 + s_t n``, the network predicts the noise ``n``, or the velocity
    ``a_t n - s_t x_0`` (Salimans and Ho 2022, arXiv:2202.00512), which also says something where ``x_t`` is nearly all
    noise. With MONAI's RFlowScheduler, ``x_t = (1 - t) x_0 + t n``, it predicts ``x_0 - n`` (Liu et al. 2023,
    arXiv:2209.03003), and the scheduler says how times are drawn.

    Args:
        network: the diffusion network, or the same wrapped for data-parallel training.
        optimizer: its optimizer.
        inferer: MONAI's DiffusionInferer, which adds the noise; its scheduler's ``prediction_type`` is ``epsilon``
            or ``v_prediction``.
        seed: of all random numbers.
        amp: bfloat16 autocast.
        max_norm: largest gradient norm.
        condition_dropout: probability of hiding all conditions from a network that is told some.
        each_dropout: probability of hiding each of them besides.

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
        condition_dropout: float = 0.15,
        each_dropout: float = 0.2,
    ) -> None:
        if inferer.scheduler.prediction_type not in PREDICTIONS:
            found = repr(str(inferer.scheduler.prediction_type))
            raise UserError("prediction_type", found, f"use one of {', '.join(PREDICTIONS)}")
        self.network, self.plain, self.optimizer, self.inferer = network, unwrap(network), optimizer, inferer
        self.seed, self.amp = seed, amp
        self.condition_dropout, self.each_dropout = condition_dropout, each_dropout
        self.max_norm = max_norm

    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> dict[str, float]:
        """Updates the network; returns the loss."""
        self.network.train()
        loss = self.errors(self.network, batch, engine.state.epoch, engine.state.device).mean()
        descend(loss, self.optimizer, self.plain, self.max_norm)
        return {"loss": float(loss.detach())}

    def errors(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, device: torch.device) -> Tensor:
        """Mean squared error of the predicted noise or velocity of each sample ``(B,)``."""
        scheduler = self.inferer.scheduler
        names = self.plain.conditions
        latents, noises, timesteps, hidden = [], [], [], []
        for mean, sd, index in zip(batch["mean"], batch["sd"], batch["index"].tolist()):
            draw = generator(self.seed, epoch, index)
            latents.append(mean + sd * torch.randn(mean.shape, generator=draw))
            noises.append(torch.randn(mean.shape, generator=draw))
            timesteps.append(draw_time(scheduler, mean.shape, draw))
            all_of_them = torch.rand((), generator=draw) < self.condition_dropout
            hidden.append(all_of_them | (torch.rand(len(names), generator=draw) < self.each_dropout))
        latent, noise, timestep = (torch.stack(x).to(device) for x in (latents, noises, timesteps))
        latent = latent * self.plain.scale_factor
        asked = (
            torch.stack([batch[name].float().cpu() for name in names], 1) if names else latent.new_empty(len(latent), 0)
        )
        condition = self.plain.condition(asked.masked_fill(torch.stack(hidden), float("nan")), latent.shape[2:])
        noise, known = self.begin(noise, batch, epoch)
        with bf16(device, self.amp):
            predicted = self.inferer(
                inputs=latent,
                diffusion_model=partial(network, **known) if known else network,
                noise=noise,
                timesteps=timestep,
                condition=None if condition is None else condition.to(device),
                mode=self.plain.mode,
            )
        target = _target(scheduler, latent, noise, timestep)
        return F.mse_loss(predicted.float(), target, reduction="none").flatten(1).mean(1)

    def begin(self, noise: Tensor, batch: dict[str, Tensor], epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """What is mixed with the latents, and what the network takes by name besides that, time and conditions."""
        return noise, {}


def draw_time(scheduler: Scheduler, size: torch.Size, draw: torch.Generator) -> Tensor:
    """A random time ``()`` for a latent of this size, as the scheduler has them."""
    if not isinstance(scheduler, RFlowScheduler):
        return torch.randint(scheduler.num_train_timesteps, (), generator=draw)
    # MONAI's draws from the global generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=draw)))
        return scheduler.sample_timesteps(torch.empty(1, *size))[0]


def _target(scheduler: Scheduler, latent: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """What the network is to predict."""
    if isinstance(scheduler, RFlowScheduler):
        return latent - noise
    return scheduler.get_velocity(latent, noise, timestep) if scheduler.prediction_type == PREDICTIONS[1] else noise


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

    def __init__(self, model: nn.Module, limit: float = 0.9995) -> None:
        def average(averaged: Tensor, current: Tensor, n: Tensor) -> Tensor:
            return torch.lerp(current, averaged, min(limit, (1 + int(n)) / (10 + int(n))))

        super().__init__(unwrap(model), avg_fn=average)
        self.trained = [unwrap(model)]

    def attach(self, engine: Engine) -> None:
        """Updates after every iteration."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: self.update_parameters(self.trained[0]))


class ColumnScale:
    """Measures the columns of ``participants.tsv`` over all training samples, before any of them is made.

    Attach it before what makes samples, and before resuming.

    Args:
        network: the diffusion network, not wrapped.
        data: latents of the training samples, from :func:`scripts.train.data.latents`.
        columns: names of the columns.
    """

    def __init__(self, network: nn.Module, data: Dataset, columns: Sequence[str]) -> None:
        self.network, self.data, self.columns = network, data, tuple(columns)

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer's start."""
        engine.add_event_handler(Events.STARTED, self.measure)

    def measure(self) -> None:
        """Reads the columns and tells the network.

        Raises:
            UserError: for columns that cannot be used, or that the network is not told.
        """
        if self.columns != self.network.columns:
            found = (
                f"{', '.join(self.columns) or 'none'}, and a network told {', '.join(self.network.columns) or 'none'}"
            )
            raise UserError("columns", found, "name the same, or use a network that takes columns")
        if self.columns:
            self.network.measure(self.data.all_values())


class LatentScale:
    """Sets the network's ``scale_factor`` to 1 / sd of the latents when training starts, and what standardises its
    own conditions. Attach it before resuming.

    Args:
        network: the diffusion network, not wrapped.
        data: latents of the training samples, a latent dataset of :mod:`scripts.train.data`.
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
        own = [name for name in self.network.conditions if name not in self.network.columns]
        self.network.measure({name: torch.stack([item[name].float() for item in items]) for name in own})

    def check(self) -> None:
        """Refuses to go on, after a resume, with latents of another VAE.

        Raises:
            UserError: in that case.
        """
        if not torch.equal(self.network.vae_digest.cpu(), self.data.encoder.digest()):
            do = "resume with the weights the run was started with, or start anew"
            raise UserError(self.data.encoder.weights, "other latents than those the run was started with", do)

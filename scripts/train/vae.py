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
"""Training and validation iterations of the physics VAE.

Every random number of a sample is drawn from its own generator, addressed by (seed, epoch, index).
"""

from typing import NamedTuple

import torch
from ignite.engine import Engine
from monai.losses import PatchAdversarialLoss
from torch import Tensor, nn

from ..acquisition import present
from ..networks import PhysicsVAE, PosteriorSample
from ..networks.device import bf16, unwrap
from ..networks.fusion import kl_divergence
from ..randomness import generator
from .common import descend, to_device
from .metrics import map_errors, reconstruction_metrics
from .objective import Compared, VAEObjective


class TrainingForward(nn.Module):
    """The forward pass of training, :meth:`scripts.networks.PhysicsVAE.sample_posterior`, as a module of its own.

    ``DistributedDataParallel`` averages the gradients of whatever went through the ``forward`` of the module that it
    wraps. It wraps this one, so that ``PhysicsVAE.forward`` is the estimate alone.

    Args:
        network: the VAE.
    """

    def __init__(self, network: PhysicsVAE) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, acquisition: Tensor, noise: Tensor, with_skips: Tensor) -> PosteriorSample:
        """Maps decoded from one sample of the posterior of each subject."""
        return self.network.sample_posterior(image, acquisition, noise, with_skips)


class Randomness(NamedTuple):
    """Everything random in one training iteration.

    Attributes:
        noise: of the latent ``(B, L, ...)``, standard normal.
        seen: contrasts that the encoder is shown ``(B, M)``.
        with_skips: 1 for samples decoded with skips, 0 for those decoded from the latent alone ``(B,)``.
    """

    noise: Tensor
    seen: Tensor
    with_skips: Tensor


def judged_samples(with_skips: Tensor, has_skips: bool) -> tuple[Tensor, float]:
    """Which samples of a batch the discriminator judges, and how much its verdict weighs.

    It judges samples decoded without skips, because an estimate is no guess at what it cannot know; of a network that
    has no skips it judges all. Under data-parallel training all ranks must run the discriminator in the same
    iterations. Where a batch has nothing to judge, it is therefore shown everything, and its verdict weighs 0.

    Args:
        with_skips: 1 for samples decoded with skips ``(B,)``.
        has_skips: whether the network has any.

    Returns:
        Mask ``(B,)``, and a weight of 1 or 0.
    """
    everything = torch.ones_like(with_skips, dtype=torch.bool)
    judged = with_skips == 0 if has_skips else everything
    return (judged, 1.0) if judged.any() else (everything, 0.0)


class VAEStep:
    """One training iteration of the physics VAE, against a patch discriminator with least-squares loss where it counts.

    Args:
        training_forward: :class:`TrainingForward` of the VAE, or the same wrapped for data-parallel training.
        optimizer: of the VAE.
        objective: the loss.
        discriminator: its network, or the same wrapped; None where the adversarial loss weighs 0.
        discriminator_optimizer: likewise.
        adversarial_start: epochs before the adversarial loss and the discriminator's training set in.
        modality_dropout: probability with which a contrast is hidden from the encoder; one always stays. Hidden ones
            are still rendered and compared.
        skip_dropout: probability with which a sample is decoded from its latent alone, without the skips.
        seed: of all random numbers.
        amp: bfloat16 autocast; maps, signals and losses stay in float32.
        max_norm: largest gradient norm; steps with a gradient that is not finite are left out.
    """

    def __init__(
        self,
        training_forward: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: VAEObjective,
        discriminator: nn.Module | None,
        discriminator_optimizer: torch.optim.Optimizer | None,
        adversarial_start: int,
        modality_dropout: float,
        skip_dropout: float,
        seed: int,
        amp: bool,
        max_norm: float = 1.0,
    ) -> None:
        self.training_forward, self.vae = training_forward, unwrap(training_forward).network
        self.discriminator, self.judge = discriminator, unwrap(discriminator)
        self.optimizer, self.discriminator_optimizer, self.objective = optimizer, discriminator_optimizer, objective
        self.adversarial_start, self.modality_dropout = adversarial_start, modality_dropout
        self.skip_dropout = skip_dropout
        self.seed, self.amp, self.max_norm = seed, amp, max_norm
        self.adversarial = PatchAdversarialLoss(criterion="least_squares")

    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> dict[str, float]:
        """Updates VAE and discriminator; returns the losses."""
        device = engine.state.device
        noise, seen, with_skips = (x.to(device) for x in self.randomness(batch, engine.state.epoch))
        batch = to_device(batch, device)
        self.vae.train()
        with bf16(device, self.amp):
            sample = self.training_forward(batch["image"], batch["acquisition"] * seen.unsqueeze(-1), noise, with_skips)
        compared, prior = Compared.of(batch), self.vae.prior
        log_maps, spread = sample.estimate
        signal = self.objective.render(log_maps, compared, sample.gain)
        terms = self.objective.terms(log_maps, spread, signal, compared, batch, prior, with_skips)
        terms["kl"] = kl_divergence(sample.mean, sample.sd)
        weights = self.objective.weights
        adversarial = weights["adversarial"] and engine.state.epoch > self.adversarial_start
        if adversarial:
            judged, weight = judged_samples(with_skips, bool(self.vae.skips))
            made, real = self.objective.pair(log_maps, signal, compared, batch, prior.bias, judged)
            self.judge.requires_grad_(False)
            with bf16(device, self.amp):
                verdict = self.judge(made)[-1]
            term = self.adversarial(verdict.float(), target_is_real=True, for_discriminator=False)
            terms["adversarial"] = weight * term
            self.judge.requires_grad_(True)
        loss = sum(weights[name] * term for name, term in terms.items())
        descend(loss, self.optimizer, self.vae, self.max_norm)
        if adversarial:
            terms["discriminator"] = self._train_discriminator(device, made.detach(), real, weight)
        return {"loss": float(loss.detach()), **{name: float(term.detach()) for name, term in terms.items()}}

    def randomness(self, batch: dict[str, Tensor], epoch: int) -> Randomness:
        """What is random for the samples of a batch, on the CPU."""
        shape = (self.vae.latent_channels, *self.vae.latent_size(batch["image"].shape[2:]))
        noise, seen, with_skips = [], [], []
        for index, exists in zip(batch["index"].tolist(), present(batch["acquisition"])):
            draw = generator(self.seed, epoch, index)
            noise.append(torch.randn(shape, generator=draw))
            score = torch.rand(len(exists), generator=draw).masked_fill(~exists, -1.0)
            seen.append((score >= self.modality_dropout) | (score == score.max()))
            with_skips.append(torch.rand((), generator=draw) >= self.skip_dropout)
        return Randomness(torch.stack(noise), torch.stack(seen), torch.stack(with_skips).float())

    def _train_discriminator(self, device: torch.device, made: Tensor, real: Tensor, weight: float) -> Tensor:
        with bf16(device, self.amp):
            verdicts = [self.discriminator(images)[-1].float() for images in (made, real)]
        loss = weight * sum(
            self.adversarial(verdict, target_is_real=is_real, for_discriminator=True) / 2
            for verdict, is_real in zip(verdicts, (False, True))
        )
        descend(loss, self.discriminator_optimizer, self.judge, self.max_norm)
        return loss


class VAEValidationStep:
    """One validation iteration: metrics of every sample, from the posterior mean.

    Args:
        network: the VAE.
        objective: renders, and gives the loss terms :data:`JUDGED` behind ``val_loss``.
        amp: bfloat16 autocast.
    """

    JUDGED = ("maps", "reconstruction")

    def __init__(self, network: nn.Module, objective: VAEObjective, amp: bool = True) -> None:
        self.network, self.objective, self.amp = network, objective, amp

    @torch.no_grad()
    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> list[dict]:
        """One dictionary of metrics a sample; the first also holds ``maps``, ``signal`` and ``target`` to look at."""
        self.network.eval()
        batch = to_device(batch, engine.state.device)
        with bf16(engine.state.device, self.amp):
            log_maps, spread = self.network.estimate(batch["image"], batch["acquisition"])
        compared = Compared.of(batch)
        signal = self.objective.render(log_maps, compared, self.network.regress_gain(batch["image"]))
        outputs = []
        for i in range(len(log_maps)):
            one = {key: value[i : i + 1] for key, value in batch.items()}
            mine = Compared.of(one)
            terms = self.objective.terms(
                log_maps[i : i + 1], spread[i : i + 1], signal[i : i + 1], mine, one, self.network.prior
            )
            weights = self.objective.weights
            loss = sum(weights[name] * float(terms[name]) for name in self.JUDGED if name in terms)
            metrics = reconstruction_metrics(signal[i : i + 1], mine.target, mine.acquisition)
            if "maps" in one:
                metrics |= map_errors(log_maps[i : i + 1], one["maps"], one["labels"])
            outputs.append({"val_loss": loss, **metrics})
        outputs[0] |= {"log_maps": log_maps[0].cpu(), "signal": signal[0].cpu(), "target": compared.target[0].cpu()}
        return outputs

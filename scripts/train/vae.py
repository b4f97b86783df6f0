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

import torch
from ignite.engine import Engine
from monai.losses import PatchAdversarialLoss
from torch import Tensor, nn

from ..acquisition import present
from ..networks.device import bf16, unwrap
from ..networks.fusion import kl_divergence
from ..randomness import generator
from .common import descend, to_device
from .metrics import map_errors, reconstruction_metrics
from .objective import Compared, VAEObjective


class VAEStep:
    """One training iteration of the physics VAE against a patch discriminator with least-squares loss.

    Args:
        network: the VAE, or the same wrapped for data-parallel training.
        discriminator: likewise. It sees what is made without skips: an estimate is no guess at what it cannot know.
        optimizer: of the VAE.
        discriminator_optimizer: of the discriminator.
        objective: the loss.
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
        network: nn.Module,
        discriminator: nn.Module,
        optimizer: torch.optim.Optimizer,
        discriminator_optimizer: torch.optim.Optimizer,
        objective: VAEObjective,
        adversarial_start: int = 0,
        modality_dropout: float = 0.0,
        skip_dropout: float = 0.5,
        seed: int = 0,
        amp: bool = True,
        max_norm: float = 1.0,
    ) -> None:
        self.network, self.vae = network, unwrap(network)
        self.discriminator, self.judge = discriminator, unwrap(discriminator)
        self.optimizer, self.discriminator_optimizer, self.objective = optimizer, discriminator_optimizer, objective
        self.adversarial_start, self.modality_dropout = adversarial_start, modality_dropout
        self.skip_dropout = skip_dropout
        self.seed, self.amp, self.max_norm = seed, amp, max_norm
        self.adversarial = PatchAdversarialLoss(criterion="least_squares")

    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> dict[str, float]:
        """Updates VAE and discriminator; returns the losses."""
        noise, keep, skip = self._draw(batch, engine.state.epoch)
        batch = to_device(batch, engine.state.device)
        seen = batch["acquisition"] * keep.to(engine.state.device).unsqueeze(-1)
        self.network.train()
        with bf16(engine.state.device, self.amp):
            log_maps, spread, mean, sd = self.network(
                batch["image"], seen, noise.to(engine.state.device), skip.to(engine.state.device)
            )
        compared = Compared.of(batch)
        signal = self.objective.render(log_maps, compared)
        kept = skip.to(log_maps.device)
        terms = self.objective.terms(log_maps, spread, signal, compared, batch, self.vae.prior.bias, kept)
        terms["kl"] = kl_divergence(mean, sd)
        weights = self.objective.weights
        adversarial = weights["adversarial"] and engine.state.epoch > self.adversarial_start
        if adversarial:
            alone = kept == 0 if self.vae.skips else kept >= 0
            # All ranks must train the discriminator in the same steps; from a batch with nothing to judge none learns.
            counts = float(alone.any())
            alone = alone if counts else ~alone
            fake, real = self.objective.pair(log_maps, signal, compared, batch, self.vae.prior.bias, alone)
            self.judge.requires_grad_(False)
            with bf16(engine.state.device, self.amp):
                verdict = self.judge(fake)[-1]
            term = self.adversarial(verdict.float(), target_is_real=True, for_discriminator=False)
            terms["adversarial"] = counts * term
            self.judge.requires_grad_(True)
        loss = sum(weights[name] * term for name, term in terms.items())
        descend(loss, self.optimizer, self.vae, self.max_norm)
        if adversarial:
            terms["discriminator"] = self._train_discriminator(engine, fake.detach(), real, counts)
        return {"loss": float(loss.detach()), **{name: float(term.detach()) for name, term in terms.items()}}

    def _train_discriminator(self, engine: Engine, fake: Tensor, real: Tensor, weight: float) -> Tensor:
        with bf16(engine.state.device, self.amp):
            verdicts = [self.discriminator(images)[-1].float() for images in (fake, real)]
        loss = weight * sum(
            self.adversarial(verdict, target_is_real=is_real, for_discriminator=True) / 2
            for verdict, is_real in zip(verdicts, (False, True))
        )
        descend(loss, self.discriminator_optimizer, self.judge, self.max_norm)
        return loss

    def _draw(self, batch: dict[str, Tensor], epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latent noise ``(B, L, ...)``, which contrasts the encoder sees ``(B, M)``, who keeps the skips ``(B,)``."""
        shape = (self.vae.latent_channels, *self.vae.latent_size(batch["image"].shape[2:]))
        noise, keep, skip = [], [], []
        for index, exists in zip(batch["index"].tolist(), present(batch["acquisition"])):
            draw = generator(self.seed, epoch, index)
            noise.append(torch.randn(shape, generator=draw))
            score = torch.rand(len(exists), generator=draw).masked_fill(~exists, -1.0)
            keep.append((score >= self.modality_dropout) | (score == score.max()))
            skip.append(torch.rand((), generator=draw) >= self.skip_dropout)
        return torch.stack(noise), torch.stack(keep), torch.stack(skip).float()


class VAEValidationStep:
    """One validation iteration: metrics of every sample, from the posterior mean.

    Args:
        network: the VAE, not wrapped.
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
        signal = self.objective.render(log_maps, compared)
        outputs = []
        for i in range(len(log_maps)):
            one = {key: value[i : i + 1] for key, value in batch.items()}
            mine = Compared.of(one)
            terms = self.objective.terms(
                log_maps[i : i + 1], spread[i : i + 1], signal[i : i + 1], mine, one, self.network.prior.bias
            )
            weights = self.objective.weights
            loss = sum(weights[name] * float(terms[name]) for name in self.JUDGED if name in terms)
            metrics = reconstruction_metrics(signal[i : i + 1], mine.target, mine.acquisition)
            if "maps" in one:
                metrics |= map_errors(log_maps[i : i + 1], one["maps"], one["labels"])
            outputs.append({"val_loss": loss, **metrics})
        outputs[0] |= {"log_maps": log_maps[0].cpu(), "signal": signal[0].cpu(), "target": compared.target[0].cpu()}
        return outputs

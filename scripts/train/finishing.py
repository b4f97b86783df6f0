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
"""The codec's decoder is finished on latents that the diffusion model makes, which no true slice belongs to."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.networks.schedulers import RFlowScheduler
from torch import Tensor, nn

from ..networks.codec import BLOCK
from ..networks.device import bf16
from ..networks.samplers import denoise
from ..networks.weights import load_weights
from ..randomness import generator
from ..tissue import FRACTIONS
from .codec import CodecStep, fraction_loss
from .common import descend

OFFSETS = ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (2, 2), (0, 4), (4, 0))
"""From one voxel of a pair to the other."""
RARE = 5e-4
"""Share of a pair of classes below which its error counts less."""


def class_pairs(fractions: Tensor) -> Tensor:
    r"""Expected share of each pair of classes among the pairs of voxels some way apart ``(B, O, K, K)``.

    :math:`\sum_v (p_k(v) p_l(v + d) + p_l(v) p_k(v + d)) / 2 N`, with one of :data:`OFFSETS` as :math:`d`.

    Args:
        fractions: ``(B, K, H, W)``, p.
    """
    shares = []
    height, width = fractions.shape[2:]
    for down, right in OFFSETS:
        one = fractions[:, :, : height - down, : width - right].flatten(2)
        other = fractions[:, :, down:, right:].flatten(2)
        share = one @ other.transpose(1, 2) / one.shape[2]
        shares.append((share + share.transpose(1, 2)) / 2)
    return torch.stack(shares, 1)


class PairBalance(nn.Module):
    """How far the pairs of classes in samples are from those in slices, by running means of both.

    Args:
        decay: of the running means, a batch.
    """

    def __init__(self, decay: float = 0.95) -> None:
        super().__init__()
        size = (len(OFFSETS), len(FRACTIONS), len(FRACTIONS))
        self.decay = decay
        for name in ("made", "wanted", "squares"):
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """The loss, whose gradient is that of half the squared relative error of the running mean.

        Args:
            made: pairs in samples ``(B, O, K, K)``.
            wanted: pairs in slices, likewise.
        """
        made = made.mean(0)
        for mean, value in (
            (self.made, made.detach()),
            (self.wanted, wanted.mean(0)),
            (self.squares, wanted.square().mean(0)),
            (self.weight, torch.ones_like(self.weight)),
        ):
            mean.lerp_(value, 1 - self.decay)
        wanted = self.wanted / self.weight
        spread = (self.squares / self.weight - wanted.square()).clamp_min(0).sqrt()
        scale = wanted + 0.3 * spread + RARE
        error = (self.made / self.weight - wanted) / scale
        return (error * (made / scale)).mean() * len(FRACTIONS)


class FinishingStep(CodecStep):
    """One training iteration that also sees samples: classes shall touch each other in them as they do in slices.

    For each slice of a batch a latent is sampled, told the position and the areas of the slice. To the cross-entropy of
    the slices two terms are added: the :class:`PairBalance` of samples and slices, and what changes in the tissue of
    blocks of the samples, which shall stay what it was before.

    Args:
        network: the codec, with trained weights.
        optimizer: its optimizer.
        seed: of the noise.
        amp: bfloat16 autocast.
        diffusion: the diffusion network.
        weights: its file.
        scheduler: MONAI's flow.
        num_inference_steps: of the sampler.
        pairs: weight of the balance of pairs.
        blocks: weight of the change of blocks.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        seed: int,
        amp: bool,
        diffusion: nn.Module,
        weights: str,
        scheduler: RFlowScheduler,
        num_inference_steps: int = 14,
        pairs: float = 2.0,
        blocks: float = 3.0,
    ) -> None:
        super().__init__(network, optimizer, seed, amp)
        self.diffusion, self.weights, self.scheduler = diffusion, weights, scheduler
        self.num_inference_steps, self.pairs, self.blocks = num_inference_steps, pairs, blocks
        self.balance = PairBalance()

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer's start: attach it after the weights, and before resuming."""
        engine.add_event_handler(Events.STARTED, self.start)

    def start(self) -> None:
        """Loads the diffusion network and remembers the decoder.

        Raises:
            UserError: when the weights are missing, broken, not finite or made for another architecture.
        """
        load_weights(self.diffusion, self.weights, "name an existing file with --diffusion_weights")
        self.balance.to(self.codec.mean.device)
        self.before = deepcopy(self.codec).eval().requires_grad_(False)

    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> dict[str, float]:
        """Updates the decoder; returns the loss."""
        self.codec.train()
        epoch, device = engine.state.epoch, engine.state.device
        logits, target = self.logits(batch, device, epoch)
        z = self.sample(batch, epoch)
        with bf16(device, self.amp):
            made = self.codec.crisp(z)
            with torch.no_grad():
                before = self.before.crisp(z)
        loss = (
            fraction_loss(logits, target)
            + self.pairs * self.balance(class_pairs(made), class_pairs(target))
            + self.blocks * (F.avg_pool2d(made - before, BLOCK)).abs().sum(1).mean()
        )
        descend(loss, self.optimizer, self.codec, self.max_norm)
        return {"loss": float(loss.detach())}

    def sample(self, batch: dict[str, Tensor], epoch: int) -> Tensor:
        """A latent for each slice ``(B, L, ...)``."""
        size = [self.codec.latent_channels, *(n // BLOCK for n in batch["fractions"].shape[2:])]
        self.scheduler.set_timesteps(self.num_inference_steps, input_img_size_numel=size[1] * size[2])
        draws = (generator(self.seed, epoch, index, 1) for index in batch["index"].tolist())
        noise = torch.stack([torch.randn(size, generator=draw) for draw in draws])
        asked = torch.stack([batch[name].float().cpu() for name in self.diffusion.conditions], 1)
        z = denoise(self.scheduler, self.diffusion, noise, asked, amp=self.amp)
        return (z / self.diffusion.scale_factor).contiguous(memory_format=torch.channels_last)

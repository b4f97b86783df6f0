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

"""Training of the codec: its transform is computed when training starts, its decoder learns by cross-entropy."""

import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from ..networks import FractionCodec, bf16, unwrap
from ..randomness import generator
from ..tissue import FRACTIONS
from .common import descend

LOSS_WEIGHTS = {
    "air": 0.6,
    "ventricle": 1.5,
    "caudate and putamen": 3.0,
    "thalamus": 3.0,
    "pallidum": 5.0,
    "brain stem": 3.0,
    "lesion": 4.0,
    "vessel": 1.5,
    "other soft tissue": 1.5,
    "marrow": 1.5,
}
"""Class -> its weight in the loss; 1 for the others. Rare ones would be lost among many."""


def fraction_loss(logits: Tensor, target: Tensor) -> Tensor:
    r"""Class-weighted cross-entropy that is least where ``softmax(logits)`` are the fractions, whatever the weights.

    Weights :math:`w` alone would be learned as well: the least loss of fractions :math:`p` is at :math:`w p`, up to a
    factor, and rare tissue comes out too large. So the loss is that of the logits plus :math:`\ln w` (Menon et al.
    2021, Long-tail learning via logit adjustment, arXiv:2007.07314).

    Args:
        logits: ``(B, K, H, W)``.
        target: fractions ``(B, K, H, W)``.
    """
    weights = torch.tensor([LOSS_WEIGHTS.get(name, 1.0) for name in FRACTIONS], device=logits.device)
    return F.cross_entropy(logits + weights.log()[:, None, None], target, weights)


class CodecTransform:
    """Computes the codec's transform when training starts. Attach it before resuming, which brings its own.

    Args:
        network: the codec, not wrapped.
        data: the training slices, a :class:`scripts.train.data.FractionSlices`.
        samples: how many of them it is computed from, evenly spread.
    """

    def __init__(self, network: FractionCodec, data: Dataset, samples: int = 700) -> None:
        self.network, self.data, self.samples = network, data, samples

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer's start."""
        engine.add_event_handler(Events.STARTED, self.fit)

    def fit(self) -> None:
        """Reads the samples, with a progress bar, and sets the transform."""
        step = max(1, len(self.data) // self.samples)
        numbers = tqdm(range(0, len(self.data), step), "transform of the codec")
        device = self.network.mean.device
        # In float64 sums on the CPU: the same transform on every machine.
        codec = self.network.cpu()
        codec.fit(self.data[number]["fractions"][None] for number in numbers)
        codec.to(device)


class CodecStep:
    """One training iteration of the decoder: class-weighted cross-entropy with the fractions as soft targets.

    Latents get a little noise, so that the decoder also reads those that diffusion makes.

    Args:
        network: the codec, or the same wrapped for data-parallel training.
        optimizer: its optimizer.
        seed: of the noise.
        amp: bfloat16 autocast.
        noise: standard deviation of the noise on latents, whose variance is 1 on average.
        max_norm: largest gradient norm.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        seed: int,
        amp: bool,
        noise: float = 0.1,
        max_norm: float = 1.0,
    ) -> None:
        self.codec, self.optimizer, self.seed, self.amp = unwrap(network), optimizer, seed, amp
        self.noise, self.max_norm = noise, max_norm

    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> dict[str, float]:
        """Updates the decoder; returns the loss."""
        self.codec.train()
        epoch, device = engine.state.epoch, engine.state.device
        logits, target = self.logits(batch, device, epoch)
        loss = fraction_loss(logits, target)
        descend(loss, self.optimizer, self.codec, self.max_norm)
        return {"loss": float(loss.detach())}

    def logits(self, batch: dict[str, Tensor], device: torch.device, epoch: int | None) -> tuple[Tensor, Tensor]:
        """Logits and the fractions themselves ``(B, K, H, W)``; latents without noise where there is no epoch."""
        target = batch["fractions"].to(device)
        with torch.no_grad():
            z = self.codec.encode(target)
            if epoch is not None:
                draws = (generator(self.seed, epoch, index) for index in batch["index"].tolist())
                z = z + self.noise * torch.stack([torch.randn(z.shape[1:], generator=draw) for draw in draws]).to(z)
        with bf16(device, self.amp):
            logits = self.codec.logits(z.contiguous(memory_format=torch.channels_last))
        return logits.float(), target


class CodecValidationStep:
    """What is lost from fractions to latent and back.

    Args:
        step: the training step.
    """

    def __init__(self, step: CodecStep) -> None:
        self.step = step

    @torch.no_grad()
    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> list[dict]:
        """A sample each: ``val_loss``, and ``accuracy`` of the likeliest class."""
        self.step.codec.eval()
        logits, target = self.step.logits(batch, engine.state.device, None)
        found, true = logits.argmax(1), target.argmax(1)
        return [
            {
                "val_loss": float(fraction_loss(logits[k : k + 1], target[k : k + 1])),
                "accuracy": float((found[k] == true[k]).float().mean()),
            }
            for k in range(len(target))
        ]

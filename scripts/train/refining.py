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

"""Training of the network that refines a coarse volume."""

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from ..networks import RefiningTransformer, Surroundings, at_levels
from ..randomness import generator
from .data import FrozenEncoder, RefiningLatents
from .diffusion import DiffusionStep

REFINING = 1
"""Last address of the noise on what is known, beside that of diffusion."""


class RefiningStep(DiffusionStep):
    """One training iteration of a :class:`scripts.networks.RefiningTransformer`.

    What it is told in training is true; in sampling it was made. So noise of a random strength is added to the latents
    of the coarse volume and of the slices below and above, these are hidden at times, and sometimes everything is.

    Args:
        network: as the following of :class:`DiffusionStep`.
        optimizer: its optimizer.
        inferer: MONAI's DiffusionInferer.
        seed: of all random numbers.
        amp: bfloat16 autocast.
        coarse: the encoder of coarse volumes.
        coarse_noise: largest standard deviation of the noise on their latents, whose variance is 1.
        slice_noise: likewise of slices.
        alone: probability that a slice is hidden, and that everything is.
        others: of :class:`DiffusionStep`.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        inferer,
        seed: int,
        amp: bool,
        coarse: FrozenEncoder,
        coarse_noise: float = 0.25,
        slice_noise: float = 0.2,
        alone: float = 0.05,
        **others: float,
    ) -> None:
        super().__init__(network, optimizer, inferer, seed, amp, **others)
        self.coarse, self.coarse_noise, self.slice_noise, self.alone = coarse, coarse_noise, slice_noise, alone

    @torch.no_grad()
    def begin(self, noise: Tensor, batch: dict[str, Tensor], epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Where the flows begin, and what lies around the slices."""
        draws = [generator(self.seed, epoch, index, REFINING) for index in batch["index"].tolist()]
        scale = float(self.plain.scale_factor)
        volume = self.coarse.load().decode(self._noisy(batch["coarse"], self.coarse_noise, draws).to(noise))
        below, above = (
            self._noisy(batch[name] * scale, self.slice_noise, draws).to(noise) for name in ("below", "above")
        )
        hidden = torch.stack([torch.rand(3, generator=draw) < self.alone for draw in draws])
        distance = batch["distance"].masked_fill(hidden[:, :2], torch.inf).to(noise)
        known = Surroundings.of(volume, batch["position"].to(noise), below, above, distance)
        nothing = hidden[:, 2, None, None, None].to(noise.device)
        begin = torch.where(nothing, noise, self.plain.begin(noise, known))
        return begin, {"around": known.channels.masked_fill(nothing, 0)}

    @staticmethod
    def _noisy(latents: Tensor, largest: float, draws: list[torch.Generator]) -> Tensor:
        noise = [largest * torch.rand((), generator=d) * torch.randn(latents.shape[1:], generator=d) for d in draws]
        return latents + torch.stack(noise)


class BeginningScale:
    """Measures what a coarse volume and other slices say of a slice, for where flows begin. Attach it before resuming,
    after what sets the scale of latents.

    Args:
        network: the refining network, not wrapped.
        data: latents of training slices, a :class:`scripts.train.data.RefiningLatents`.
        heads: how many heads to measure.
    """

    def __init__(self, network: RefiningTransformer, data: RefiningLatents, heads: int = 100) -> None:
        self.network, self.data, self.heads = network, data, heads

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer's start."""
        engine.add_event_handler(Events.STARTED, self.measure)

    def measure(self) -> None:
        """Reads the heads and tells the network."""
        # Columns of participants.tsv are laid around latents.
        data = getattr(self.data, "latents", self.data)
        volumes, positions, latents = data.pairs(self.heads)
        codec, size = data.coarse.load(), latents.shape[3:]
        volumes = codec.decode(volumes.to(data.coarse.device)).cpu()
        coarse = torch.stack([at_levels(volumes, level, size) for level in positions.unbind(1)], 1)
        distance = float(positions[0].diff())
        self.network.fit_beginning(coarse, latents * self.network.scale_factor.cpu(), distance)

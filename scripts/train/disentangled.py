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

"""Training of DLDM (Na et al. 2023): its contrasts, first the autoencoder, then diffusion on what it makes of them."""

import math

import torch
import torch.nn.functional as F
from ignite.engine import Engine
from monai.networks.schedulers import RFlowScheduler
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from ..networks.disentangled import DisentangledLDM
from ..randomness import generator
from ..simulate.drawn import sample_contrasts
from .common import descend
from .data import FractionSlices
from .diffusion import draw_time

KNOWS_NOTHING = 2.0
"""Error of a flow whose network predicts 0: the variance of a standardised latent and that of the noise."""


class ContrastSlices(Dataset):
    """Contrasts of simulated slices: ``contrasts (n, H, W)`` from 0 to 1, half precision in memory, and ``index``.

    Args:
        data: the slices, whose tissue and texture are drawn as the generator of this project draws them.
        acquisitions: rows of the contrasts ``(n, A)``.
    """

    def __init__(self, data: FractionSlices, acquisitions: Tensor) -> None:
        self.data, self.acquisitions = data, acquisitions
        self._cache: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict:
        if index not in self._cache:
            seed = self.data.slices.slices.seed
            images = sample_contrasts(self.data[index]["fractions"], self.acquisitions, seed, index)
            self._cache[index] = torch.from_numpy(images).half()
        return {"contrasts": self._cache[index].float(), "index": index}

    def preload(self) -> None:
        """Simulates a first sample; raises as :meth:`.data.FractionSlices.preload`."""
        self.data.preload()


def two_cosines(optimizer: torch.optim.Optimizer, first: int, epochs: int) -> LambdaLR:
    """The rate falls to 0 along a cosine in the first epochs, and again from its full value in the others."""

    def factor(epoch: int) -> float:
        start, end = (0, first) if epoch < first else (first, max(epochs, first + 1))
        return (1 + math.cos(math.pi * min((epoch - start) / (end - start), 1))) / 2

    return LambdaLR(optimizer, factor)


class DisentangledStep:
    """One training iteration: of the autoencoder in the first epochs, then of the diffusion model.

    Autoencoder: styles are those of another slice of the batch for half of the slices; the loss is the mean absolute
    error of a randomly chosen contrast of each. Diffusion: a flow from noise to (structure, style) of a random contrast
    each, ``x_t = (1 - t) x_0 + t n`` with ``x_0 - n`` as target.

    Args:
        network: the DLDM on its device.
        optimizer: its optimizer.
        scheduler: MONAI's RFlowScheduler, which says how times are drawn.
        seed: of all random numbers.
        autoencoder_epochs: epochs of the autoencoder.
        max_norm: largest gradient norm.
    """

    def __init__(
        self,
        network: DisentangledLDM,
        optimizer: torch.optim.Optimizer,
        scheduler: RFlowScheduler,
        seed: int,
        autoencoder_epochs: int,
        max_norm: float = 1.0,
    ) -> None:
        self.network, self.optimizer, self.scheduler = network, optimizer, scheduler
        self.seed, self.autoencoder_epochs, self.max_norm = seed, autoencoder_epochs, max_norm

    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> dict[str, float]:
        """Updates the network; returns the loss."""
        self.network.train()
        epoch, image = engine.state.epoch, batch["contrasts"].to(engine.state.device)
        if epoch <= self.autoencoder_epochs:
            loss = self.reconstruction(image, generator(self.seed, epoch, *batch["index"].tolist()))
        else:
            loss = self.diffusion(self.network, image, batch["index"], epoch).mean()
        descend(loss, self.optimizer, self.network, self.max_norm)
        return {"loss": float(loss.detach())}

    def reconstruction(self, image: Tensor, draw: torch.Generator) -> Tensor:
        """Mean absolute error of a chosen contrast of each slice, styles mixed within the batch."""
        structure, styles = self.network.encode(image)
        every = torch.arange(len(image))
        mixed = torch.rand(len(image), generator=draw) < 0.5
        order = torch.where(mixed, torch.randperm(len(image), generator=draw), every)
        chosen = torch.randint(image.shape[1], (len(image),), generator=draw)
        error = (self.network.decode(structure, styles[order, chosen]) - image[every, chosen]).abs().mean()
        # Standardising at the end of this stage takes any scale of the latents but one that runs away.
        return error + 1e-6 * (structure.square().mean() + styles.square().mean())

    def diffusion(self, network: DisentangledLDM, image: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Squared error of each sample ``(B,)``."""
        draws = [generator(self.seed, epoch, number) for number in index.tolist()]
        labels = torch.stack([torch.randint(image.shape[1], (), generator=draw) for draw in draws]).to(image.device)
        with torch.no_grad():
            structure, styles = network.encode(image)
            if network.sd.eq(1).all():
                network.measure(network.pairs(structure, styles, labels))
            latent = network.pairs(structure, styles, labels)
        noise = torch.stack([torch.randn(latent.shape[1:], generator=draw) for draw in draws]).to(latent)
        times = torch.stack([draw_time(self.scheduler, latent.shape[1:], draw) for draw in draws]).to(latent.device)
        mixed = self.scheduler.add_noise(original_samples=latent, noise=noise, timesteps=times)
        predicted = network.unet(mixed, times, class_labels=labels)
        return F.mse_loss(predicted, latent - noise, reduction="none").flatten(1).mean(1)


class DisentangledValidationStep:
    """Validation: the error of the reconstruction with a slice's own styles, plus that of the diffusion.

    As long as the autoencoder is trained, the latter is :data:`KNOWS_NOTHING`, so that any diffusion model is better.

    Args:
        network: whose error is measured, usually the moving average of the trained one.
        step: the training step.
    """

    def __init__(self, network: DisentangledLDM, step: DisentangledStep) -> None:
        self.network, self.step = network, step

    @torch.no_grad()
    def __call__(self, engine: Engine, batch: dict[str, Tensor]) -> list[dict]:
        """One dictionary with ``val_loss``, ``reconstruction`` and ``diffusion`` a sample."""
        self.network.eval()
        image = batch["contrasts"].to(engine.state.device)
        structure, styles = self.network.encode(image)
        made = torch.stack([self.network.decode(structure, style) for style in styles.unbind(1)], 1)
        reconstruction = (made - image).abs().flatten(1).mean(1)
        diffusion = torch.full_like(reconstruction, KNOWS_NOTHING)
        if engine.state.epoch > self.step.autoencoder_epochs:
            diffusion = self.step.diffusion(self.network, image, batch["index"], 0)
        return [
            {"val_loss": float(r + d), "reconstruction": float(r), "diffusion": float(d)}
            for r, d in zip(reconstruction, diffusion)
        ]

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


"""How well a physics VAE reconstructs scans of a folder: as published, and by sound measures beside them."""

import math
from collections.abc import Iterable, Iterator
from statistics import fmean

import torch
from torch import Tensor

from ..bids import Session
from ..networks import PhysicsVAE, PosteriorSample
from ..networks.device import unwrap
from ..randomness import generator
from ..train import VAEObjective
from ..train.common import to_device
from ..train.data import TrainingDataset, collate
from ..train.metrics import map_errors
from ..train.objective import Compared
from .contrasts import nrmse, published_scores, ssim


@torch.no_grad()
def posterior_samples(
    network: PhysicsVAE, batches: Iterable[dict[str, Tensor]], seed: int
) -> Iterator[tuple[dict[str, Tensor], PosteriorSample]]:
    """Every batch on the network's device, and maps decoded from one sample of the posterior of each of its samples.

    Args:
        network: the VAE.
        batches: of scans.
        seed: of the samples.
    """
    network = unwrap(network).eval()
    for batch in batches:
        batch = to_device(batch, network.prior.bias.device)
        image = batch["image"]
        noise = [torch.randn(_latent(network, image), generator=generator(seed, 0, i)) for i in batch["index"].tolist()]
        ones = image.new_ones(len(image))
        yield batch, network.sample_posterior(image, batch["acquisition"], torch.stack(noise).to(image), ones)


@torch.no_grad()
def published_metrics(
    network: PhysicsVAE, objective: VAEObjective, batches: Iterable[dict[str, Tensor]], seed: int
) -> dict[str, float]:
    """Means over batches of :func:`.contrasts.published_scores`, with maps decoded from a sample of the posterior.

    Args:
        network: the VAE.
        objective: renders.
        batches: of the validation data.
        seed: of the samples.
    """
    scores = []
    for batch, sample in posterior_samples(network, batches, seed):
        compared = Compared.of(batch)
        signal = objective.render(sample.estimate.log_maps, compared, sample.gain)
        scores.append(published_scores(signal, compared.target, compared.acquisition))
    return means(scores)


@torch.no_grad()
def sound_metrics(network: PhysicsVAE, objective: VAEObjective, dataset: TrainingDataset) -> dict[str, float]:
    """Means over the slices that show the head, with maps decoded from the mean of the posterior.

    ``SSIM T1w`` and ``NRMSE T1w`` are of one scan, see :func:`scan_names`, inside the head; ``SSIM`` and ``NRMSE`` are
    means over the scans. Where true maps exist, ``T1 error WM`` and the like are median relative errors; PD has a free
    unit.

    Args:
        network: the VAE.
        objective: renders.
        dataset: of the validation data, whose sessions name the contrasts.
    """
    network = unwrap(network).eval()
    scores = []
    for index in range(len(dataset)):
        batch = to_device(collate([dataset[index]]), network.prior.bias.device)
        inside = batch["mask"][0, 0] > 0
        if not inside.any():
            continue
        image = batch["image"]
        # Without noise a sample is the mean.
        noise = image.new_zeros(1, *_latent(network, image))
        sample = network.sample_posterior(image, batch["acquisition"], noise, image.new_ones(1))
        log_maps, compared = sample.estimate.log_maps, Compared.of(batch)
        signal = objective.render(log_maps, compared, sample.gain)
        names = scan_names(dataset.record(index)["session"])
        score = {}
        for name, rendered, target in zip(names, signal[0], compared.target[0]):
            if target[inside].any():
                images = [image[..., None] if image.ndim == 2 else image for image in (target, rendered, inside)]
                score |= {f"SSIM {name}": ssim(*images), f"NRMSE {name}": nrmse(*images)}
        for name in ("SSIM", "NRMSE"):
            found = [value for key, value in score.items() if key.startswith(f"{name} ")]
            score |= {name: fmean(found)} if found else {}
        if "maps" in batch:
            errors = map_errors(log_maps, batch["maps"], batch["labels"])
            score |= {key: value for key, value in errors.items() if not key.startswith("PD")}
        scores.append(score)
    return means(scores)


def scan_names(session: Session) -> list[str]:
    """Names of the scans of a session: their suffixes, or the ends of their BIDS names where these are not unique."""
    suffixes = [contrast.suffix for contrast in session.contrasts]
    names = [contrast.path.name.split(".")[0].removeprefix(f"{session.name}_") for contrast in session.contrasts]
    return suffixes if len(set(suffixes)) == len(suffixes) else names


def _latent(network: PhysicsVAE, image: Tensor) -> tuple[int, ...]:
    """Size of the latent of an image, with its channels."""
    return (network.latent_channels, *network.latent_size(image.shape[2:]))


def means(scores: Iterable[dict[str, float]]) -> dict[str, float]:
    """Mean of every score over those that have it and know it."""
    columns: dict[str, list[float]] = {}
    for score in scores:
        for name, value in score.items():
            if not math.isnan(value):
                columns.setdefault(name, []).append(value)
    return {name: fmean(values) for name, values in columns.items()}

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

"""The network: trained for a fixed number of iterations, and what it finds."""

from collections.abc import Callable

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.networks.utils import eval_mode
from torch import Tensor

from scripts.randomness import generator

from .samples import LESION, TISSUES

BATCH, RATE = 8, 2e-3
CHANNELS = (16, 32, 64, 128)


def train(images: Tensor, labels: Tensor, iterations: int, seed: int, report: Callable[[str], object] = print) -> UNet:
    """A U-Net of MONAI on images ``(N, 3, H, W)`` and labels ``(N, H, W)``, mirrored and rescaled at random."""
    torch.manual_seed(seed)
    network = UNet(2, 3, len(TISSUES), CHANNELS, [2] * (len(CHANNELS) - 1), num_res_units=1)
    # Of the whole batch: most slices have no lesion, whose Dice alone would say nothing.
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    for iteration in range(iterations):
        draw = generator(seed, iteration)
        chosen = torch.randint(len(images), (BATCH,), generator=draw)
        x, y = images[chosen], labels[chosen]
        mirrored = torch.rand(BATCH, generator=draw) < 0.5
        x, y = (torch.where(mirrored.view(-1, *[1] * (one.ndim - 1)), one.flip(-2), one) for one in (x, y))
        x = x * (1 + 0.3 * (torch.rand(BATCH, 3, 1, 1, generator=draw) - 0.5))
        loss = loss_of(network(x), y[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if iteration % 50 == 0 or iteration + 1 == iterations:
            report(f"iteration {iteration + 1} of {iterations}: loss {loss.item():.3f}")
    return network


@torch.no_grad()
def shares(network: UNet, images: Tensor) -> Tensor:
    """Probability of each tissue ``(N, T, H, W)``."""
    with eval_mode(network):
        return torch.cat([network(one).softmax(1) for one in images.split(BATCH)])


def dice(found: Tensor, true: Tensor) -> float:
    """``2 |A ∩ B| / (|A| + |B|)`` of masks; NaN where both are empty."""
    total = found.sum() + true.sum()
    return float(2 * (found & true).sum() / total) if total else float("nan")


def average_precision(score: Tensor, true: Tensor) -> float:
    """Area under precision over recall of voxels: of a random score it is the share of true ones."""
    order = score.argsort(descending=True)
    hits = true[order].double()
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / hits.sum())


def lesion_scores(probability: Tensor, true: Tensor, brain: Tensor) -> dict[str, float]:
    """Dice of voxels that are most likely lesion, their precision and recall, average precision, within the brain.

    Args:
        probability: of each tissue ``(N, T, H, W)``.
        true: lesions ``(N, H, W)``.
        brain: where it counts ``(N, H, W)``.
    """
    found = (probability.argmax(1) == LESION) & brain
    true = true & brain
    return {
        "Dice": dice(found, true),
        "precision": float((found & true).sum() / found.sum().clamp_min(1)),
        "recall": float((found & true).sum() / true.sum().clamp_min(1)),
        "average precision": average_precision(probability[:, LESION][brain], true[brain]),
    }

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

"""From datasets to batches: reading ahead, order, batches of samples with fewer and more contrasts."""

from collections.abc import Iterator
from itertools import cycle, islice

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ...randomness import rng

RAGGED = ("image", "acquisition", "window")
"""What a sample has once per contrast."""
STRETCH = 64
"""Samples that are shuffled among each other in the first epoch, see :class:`EpochSampler`."""


class Preload:
    """Prepares the training and validation data when training starts: damaged files end the run before any work.

    Args:
        datasets: whatever has ``preload``.
    """

    def __init__(self, datasets: list) -> None:
        self.datasets = datasets

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer's start."""
        engine.add_event_handler(Events.STARTED, lambda: [dataset.preload() for dataset in self.datasets])


class EpochSampler(Sampler):
    """Samples of one rank in an order that is a function of (seed, epoch). Attach it to the trainer.

    Every rank gets equally many; the last ones of an uneven epoch are repeated. In the first epoch only samples of one
    stretch of :data:`STRETCH` are shuffled among each other, and the stretches keep their order: samples that are
    simulated meanwhile are needed about in the order in which they are made.

    Args:
        data: the dataset, whose length may not be known yet.
        seed: seed of the order.
        shuffle: False keeps the dataset's order.
    """

    def __init__(self, data: Dataset, seed: int = 0, shuffle: bool = True) -> None:
        self.data, self.seed, self.shuffle, self.epoch = data, seed, shuffle, 0

    def __len__(self) -> int:
        return -(-len(self.data) // idist.get_world_size())

    def __iter__(self) -> Iterator[int]:
        order = list(range(len(self.data)))
        if self.shuffle:
            stretch = STRETCH if self.epoch <= 1 else len(order)
            draws = rng(self.seed, self.epoch)
            parts = [order[start : start + stretch] for start in range(0, len(order), stretch)]
            order = [index for part in parts for index in draws.permutation(part).tolist()]
        world = idist.get_world_size()
        return islice(cycle(order), idist.get_rank(), len(self) * world, world)

    def attach(self, engine: Engine) -> None:
        """Follows the trainer's epochs."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: setattr(self, "epoch", engine.state.epoch))


def collate(samples: list[dict]) -> dict[str, Tensor]:
    """Batches samples; contrasts and acquisitions of a sample with fewer contrasts are padded with zeros.

    ``maps`` and ``labels`` of samples without truth are zero, which stands for undefined, where others have them.
    """
    most = max(len(sample.get("acquisition", ())) for sample in samples)
    batch = {}
    for key in sorted(set().union(*samples)):
        like = next(sample[key] for sample in samples if key in sample)
        values = [torch.as_tensor(sample[key]) if key in sample else torch.zeros_like(like) for sample in samples]
        if key in RAGGED:
            values = [torch.cat([v, v.new_zeros(most - len(v), *v.shape[1:])]) for v in values]
        batch[key] = torch.stack(values)
    return batch

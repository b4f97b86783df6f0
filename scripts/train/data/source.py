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

"""Where training and validation samples come from: scans of a folder, or simulated slices; and their batches.

Building these reads nothing.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from ignite.engine import Engine
from torch.utils.data import DataLoader, Dataset

from ...simulate import LabelMaps, Scanner, SimulatedSlices, Slices
from .batches import EpochSampler, collate
from .sessions import SessionDataset, TrainingDataset


class Scans:
    """Samples from the scans of a folder: those of some of its subjects train, those of the others validate.

    Args:
        dataset_dir: BIDS folder, or one sub-folder per subject.
        transform: record -> volume, see :mod:`scripts.preprocess`.
        protocol: named protocol or file for images without a sidecar.
        equations: ``exact``, or ``paper`` for the published ones.
        validation_fraction: share of the subjects held out, at least one.
        seed: seed of the split.
        spatial_dims: 2 for slices, 3 for whole volumes.
        num_slices: axial slices per session.
        slice_step: distance between them [voxels].
        held_out: ``subjects`` or ``sessions``, see :class:`.sessions.SessionDataset`.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        transform: Callable,
        protocol: str | None,
        equations: str,
        validation_fraction: float,
        seed: int,
        spatial_dims: int,
        num_slices: int,
        slice_step: int,
        held_out: str = "subjects",
    ) -> None:
        self.sessions = {
            split: SessionDataset(dataset_dir, protocol, split, validation_fraction, seed, equations, held_out)
            for split in ("train", "validation")
        }
        self.transform, self.slices = transform, (spatial_dims, num_slices, slice_step)

    @cached_property
    def train(self) -> TrainingDataset:
        """Samples to train on."""
        return TrainingDataset(self.sessions["train"], self.transform, *self.slices)

    @cached_property
    def validation(self) -> TrainingDataset:
        """Samples to validate on."""
        return TrainingDataset(self.sessions["validation"], self.transform, *self.slices)

    def attach(self, engine: Engine) -> None:
        """Nothing: these samples are the same in every epoch."""


class Stream:
    """Simulated slices: training and validation ones differ in their heads and in their seed.

    Args:
        slices: what slices are like; heads and seed come from here.
        scanner: what makes samples of them.
        label_maps: folder of label maps; None for the embedded head.
        train_heads: first label map to train on and how many, None for all that follow.
        validation_heads: likewise, to validate on.
        length: slices to train on.
        validation_length: slices to validate on.
        cache_dir: folder where they are kept.
        seed: seed of training slices; the next one is that of validation slices.
        spatial_dims: those of the networks. Three are refused when training starts: no volumes are simulated.
        workers: processes that simulate ahead of the training.
    """

    def __init__(
        self,
        slices: Slices,
        scanner: Scanner,
        label_maps: str | None,
        train_heads: tuple[int, int | None],
        validation_heads: tuple[int, int | None],
        length: int,
        validation_length: int,
        cache_dir: str,
        seed: int,
        spatial_dims: int,
        workers: int = 1,
    ) -> None:
        self.slices, self.scanner, self.label_maps = slices, scanner, label_maps
        self.train_heads, self.validation_heads = train_heads, validation_heads
        self.length, self.validation_length = length, validation_length
        self.cache_dir, self.seed, self.spatial_dims, self.workers = cache_dir, seed, spatial_dims, workers

    @cached_property
    def train(self) -> SimulatedSlices:
        """Slices to train on.

        Raises:
            UserError: for heads or a length that cannot be.
        """
        return self._make(self.train_heads, self.seed, self.length)

    @cached_property
    def validation(self) -> SimulatedSlices:
        """Slices to validate on; raises likewise."""
        return self._make(self.validation_heads, self.seed + 1, self.validation_length)

    def attach(self, engine: Engine) -> None:
        """Lets the training slices follow the trainer's epochs; the validation slices stay those of epoch 0."""
        self.train.attach(engine)

    def _make(self, heads: tuple[int, int | None], seed: int, length: int) -> SimulatedSlices:
        first, count = heads
        slices = replace(self.slices, anatomies=LabelMaps(self.label_maps, first, count), seed=seed)
        return SimulatedSlices(
            slices, self.scanner, self.cache_dir, length, workers=self.workers, spatial_dims=self.spatial_dims
        )


def loader(dataset: Dataset, batch_size: int, seed: int = 0, shuffle: bool = True, workers: int = 0) -> DataLoader:
    """Batches of a dataset in an order that is a function of (seed, epoch), see :class:`.batches.EpochSampler`.

    Args:
        dataset: samples that are functions of (seed, epoch, index).
        batch_size: samples of a batch.
        seed: of the order.
        shuffle: False keeps the dataset's order.
        workers: processes that make samples, on a CPU; 0 makes them in this one. Results do not depend on it.
    """
    sampler = EpochSampler(dataset, seed, shuffle)
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, collate_fn=collate, num_workers=workers)

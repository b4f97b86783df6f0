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


"""Training samples from tars of subjects: a large data set, of which neither files are opened nor voxels are kept."""

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch.utils.data import IterableDataset

from ...bids.tars import Tar, find_tars, read_tar, unpack
from ...errors import UserError
from ...randomness import rng
from .sessions import SessionDataset, TrainingDataset

MEMORY = "/dev/shm"
"""A folder in main memory, where Linux has it."""


class TarSamples(IterableDataset):
    """Samples of the subjects of a folder of tars, equal to those that :class:`TrainingDataset` makes of their files.

    The tars of an epoch are read in an order that is a function of (seed, epoch), each from start to end; samples of
    several subjects are mixed in a buffer. A subject's files are unpacked in main memory, and from there on the way of
    all scans is theirs. Every rank and every worker has tars of its own. All ranks give equally many samples; one
    whose tars hold fewer begins with them again.

    Args:
        tar_dir: the folder, as ``configs/pack.json`` writes it.
        transform: record -> volume, see :mod:`scripts.preprocess`.
        protocol: named protocol or file for images without a sidecar.
        equations: ``exact``, or ``paper`` for the published ones.
        spatial_dims: 2 for slices, 3 for whole volumes.
        num_slices: axial slices per session.
        slice_step: distance between them [voxels].
        seed: of the order.
        buffer: samples that are mixed.
    """

    def __init__(
        self,
        tar_dir: str | None,
        transform,
        protocol: str | None = None,
        equations: str = "exact",
        spatial_dims: int = 2,
        num_slices: int = 8,
        slice_step: int = 1,
        seed: int = 0,
        buffer: int = 256,
    ) -> None:
        self.tar_dir, self.transform, self.protocol, self.equations = tar_dir, transform, protocol, equations
        self.spatial_dims, self.num_slices, self.slice_step = spatial_dims, num_slices, slice_step
        self.seed, self.buffer, self.epoch = seed, buffer, 0

    def __len__(self) -> int:
        """Samples of a rank in an epoch, where each subject is one session."""
        count = sum(len(tar.subjects) for tar in self._tars()) * self._per_session
        return -(-count // idist.get_world_size())

    def __iter__(self) -> Iterator[dict]:
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        tars, parts = self._tars(), idist.get_world_size() * workers
        if len(tars) < parts:
            do = "pack fewer subjects into a tar, or use fewer workers"
            raise UserError(self.tar_dir, f"{len(tars)} tars for {parts} ranks and workers", do)
        part = idist.get_rank() * workers + number
        order = rng(self.seed, self.epoch).permutation(len(tars))[part::parts]
        quota = len(range(number, len(self), workers))
        return islice(self._mixed([tars[index] for index in order], part), quota)

    def preload(self) -> None:
        """Looks for the tars.

        Raises:
            UserError: where there are none.
        """
        self._tars()

    def attach(self, engine: Engine) -> None:
        """Follows the trainer's epochs."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: setattr(self, "epoch", engine.state.epoch))

    @property
    def _per_session(self) -> int:
        return self.num_slices if self.spatial_dims == 2 else 1

    def _tars(self) -> list[Tar]:
        if self.tar_dir is None:
            raise UserError("tar_dir", "no folder", "name one with --tar_dir")
        return find_tars(self.tar_dir)

    def _mixed(self, tars: list[Tar], part: int) -> Iterator[dict]:
        """Samples without end, each drawn from a buffer that the next one refills."""
        draws, held = rng(self.seed, self.epoch, part), []
        while True:
            for sample in self._samples(tars):
                held.append(sample)
                if len(held) >= self.buffer:
                    place = int(draws.integers(len(held)))
                    held[place], held[-1] = held[-1], held[place]
                    yield held.pop()
            # What is left belongs to this round: no sample comes twice before all came once.
            for place in draws.permutation(len(held)):
                yield held[place]
            held = []

    def _samples(self, tars: list[Tar]) -> Iterator[dict]:
        for tar in tars:
            there = []
            for number, (name, content) in enumerate(read_tar(tar.path), tar.first):
                there.append(name)
                with tempfile.TemporaryDirectory(dir=MEMORY if Path(MEMORY).is_dir() else None) as folder:
                    unpack(content, Path(folder))
                    sessions = SessionDataset(folder, self.protocol, equations=self.equations)
                    data = TrainingDataset(
                        sessions, self.transform, self.spatial_dims, self.num_slices, self.slice_step
                    )
                    samples = [data[index] for index in range(len(data))]
                for sample in samples:
                    yield sample | {"index": number * self._per_session + sample["index"]}
            if (*there,) != tar.subjects:
                found = f"files of {len(there)} subjects, where its list names {len(tar.subjects)}"
                raise UserError(tar.path, found, "look for empty folders sub-* in the data set, then pack it again")

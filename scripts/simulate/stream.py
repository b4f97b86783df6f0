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

"""The stream of training samples: a bounded number of clean slices, scanned anew in every epoch."""

import json
import logging
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from math import prod
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from shutil import disk_usage
from zipfile import is_zipfile

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from ..files import lock_folder, make_folder, remove_leftovers, replacing
from ..parallel import forks
from .scanner import Scanner
from .slices import Slices

logger = logging.getLogger(__name__)
VERSION = 4
"""Counts the changes after which equal seeds give other slices."""
HALF = ("signal", "maps")
"""What is kept in half precision."""
TIMED = 8
"""Slices whose simulation is timed to estimate that of all."""


@dataclass(eq=False)
class SimulatedSlices(Dataset):
    """Random slices for training: a bounded number of clean ones, with another scanner's work each epoch.

    Each slice is a function of (seed, index), each sample of (seed, epoch, index): for any number of workers, ranks
    and restarts, and whichever process simulates the slice. A slice that is not in the cache when it is asked for is
    simulated on the spot and kept, so training never waits for the processes that :meth:`preload` starts. A cache
    that was made with other settings is left alone.

    Args:
        slices: where clean slices come from.
        scanner: what makes samples of them.
        cache_dir: folder of the clean slices; None keeps them in the memory of the device that computes them.
        length: how many there are, about 0.9 MB each.
        first: index of the first of them.
        workers: processes that simulate ahead of the training, with one thread each; 0 for none. Where a GPU computes
            the slices there are none.
        spatial_dims: 2. Any other number is refused by :meth:`preload`: the stream has no volumes.

    Raises:
        UserError: for a length, first or workers that is no such number.
    """

    slices: Slices
    scanner: Scanner
    cache_dir: str | Path | None
    length: int
    first: int = 0
    workers: int = 1
    spatial_dims: int = 2
    epoch: int = field(default=0, init=False)
    _memory: dict[int, dict[str, Tensor]] = field(default_factory=dict, init=False, repr=False)
    _processes: list[BaseProcess] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        for option, least in (("length", 1), ("first", 0), ("workers", 0)):
            value = getattr(self, option)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(option, repr(value), f"use a whole number of at least {least}")

    def __getstate__(self) -> dict:
        # Workers of a DataLoader get a copy. Processes belong to the one that started them.
        return self.__dict__ | {"_processes": []}

    @cached_property
    def folder(self) -> Path | None:
        """Folder of this cache, named after everything its slices depend on; None for memory.

        Raises:
            UserError: for 3 dimensions.
        """
        if self.spatial_dims != 2:
            do = "simulate scans with configs/simulate.json, or use others, and name their folder with --dataset_dir"
            raise UserError("spatial_dims", f"{self.spatial_dims} without a folder of scans", do)
        if self.cache_dir is None:
            return None
        files = {name: getattr(self.slices, name).names for name in ("anatomies", "lesion_masks")}
        settings = asdict(self.slices) | files | {"version": VERSION}
        del settings["device"]
        digest = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        return Path(self.cache_dir) / f"slices-{digest}"

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The sample of this epoch.

        Raises:
            UserError: for unusable label maps, or a slice that cannot be written.
        """
        if not 0 <= index < self.length:
            raise IndexError(index)
        number = self.first + index
        kept = self._memory.get(number) if self.folder is None else self._kept(number)
        clean = {key: value.to(self.slices.device) for key, value in (kept or self._simulate(number)).items()}
        clean["maps"] = clean["maps"].float()
        return {**self.scanner(clean, self.epoch, number), "index": index}

    def preload(self) -> None:
        """Starts the processes that simulate what is missing, after saying how long it takes and what it fills.

        The first slices are simulated here, to measure the time. A complete cache is only read.

        Raises:
            UserError: for 3 dimensions, a folder that cannot be written or has too little room, or unusable label maps.
        """
        if self.folder is None or idist.get_local_rank() > 0:
            return
        missing = self._missing()
        if not missing:
            return
        make_folder(self.cache_dir)
        remove_leftovers(make_folder(self.folder))
        self._require_room(missing)
        # The first one also loads the head, which takes long and happens once.
        self._simulate(missing[0])
        timed, rest = missing[1 : 1 + TIMED], missing[1 + TIMED :]
        start = time.perf_counter()
        for number in timed:
            self._simulate(number)
        if rest:
            self._start(rest, (time.perf_counter() - start) / len(timed))

    def attach(self, engine: Engine) -> None:
        """Follows the trainer's epochs."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: setattr(self, "epoch", engine.state.epoch))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:07d}.npz"

    def _missing(self) -> list[int]:
        """Slices that are not there, or not whole: a truncated file lacks the directory at its end."""
        numbers = range(self.first, self.first + self.length)
        return [number for number in numbers if not is_zipfile(self._path(number))]

    def _bytes(self, count: int) -> int:
        return count * prod(self.slices.size) * (2 * (3 + len(self.slices.contrasts)) + 2)

    def _require_room(self, missing: list[int]) -> None:
        room, needed = disk_usage(self.folder).free, self._bytes(len(missing))
        if room < needed:
            found = f"{room / 1e9:.1f} GB of room for {len(missing)} slices of together {needed / 1e9:.1f} GB"
            raise UserError(self.cache_dir, found, "choose another cache_dir, or ask for fewer slices")

    def _simulate(self, number: int) -> dict[str, Tensor]:
        """Simulates a slice and keeps it."""
        if any((process.exitcode or 0) < 0 for process in self._processes):
            raise UserError("workers", "a process that the system ended", "use fewer; each needs 1 GB")
        clean = _halved(self.slices[number])
        if self.folder is None:
            self._memory[number] = clean
        else:
            make_folder(self.folder)
            _write(self._path(number), clean)
        return clean

    def _kept(self, number: int) -> dict[str, Tensor] | None:
        """A slice of the cache; None where it is missing or damaged, which is said."""
        path = self._path(number)
        existed = path.exists()  # asked first: a process ahead may write it in between
        clean = _read(path)
        if clean is None and existed:
            logger.warning(f"{path}: damaged, simulated anew")
        return clean

    def _start(self, missing: list[int], seconds: float) -> None:
        """Starts the processes; each has every n-th head, and the heads in their order."""
        workers = self.workers if torch.device(self.slices.device).type == "cpu" else 0
        minutes = seconds * len(missing) / max(1, workers) / 60
        size = self._bytes(len(missing)) / 1e9
        how = f"ahead in {workers} process{'es' * (workers > 1)}" if workers else "when they are needed"
        print(
            f"simulating {len(missing)} of {self.length} slices while the training runs, {how}: "
            f"about {max(1, round(minutes))} min, {size:.2g} GB in {self.folder}",
            flush=True,
        )
        heads: dict[int, list[int]] = {}
        for number in missing:
            heads.setdefault(number // self.slices.per_head, []).append(number)
        for worker in range(workers):
            paths = {number: self._path(number) for head in list(heads)[worker::workers] for number in heads[head]}
            arguments = (self.slices, paths, f".lock-{worker}")
            process = forks().Process(target=_simulate_ahead, args=arguments, daemon=True)
            process.start()
            self._processes.append(process)


def _simulate_ahead(slices: Slices, paths: dict[int, Path], lock: str) -> None:
    """Simulates the slices that are missing in their order, until all are there or the training has ended.

    Args:
        slices: where they come from.
        paths: number of each slice -> its file.
        lock: name of a lock in their folder, held meanwhile, so that a second job with the same cache waits, then finds
            the work done.
    """
    # Ctrl-C reaches the training, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    training = parent_process()
    try:
        with lock_folder(next(iter(paths.values())).parent, lock, wait=True):
            for number, path in paths.items():
                if training is not None and not training.is_alive():
                    return
                if not is_zipfile(path):
                    _write(path, _halved(slices[number]))
    except (UserError, OSError):
        # The training simulates the slice when it needs it, meets the same error and explains it.
        sys.exit(1)


def _halved(clean: dict[str, Tensor]) -> dict[str, Tensor]:
    return clean | {key: clean[key].half() for key in HALF}


def _read(path: Path) -> dict[str, Tensor] | None:
    """A slice of the cache; None where it is missing or damaged: the archive has a checksum of each array."""
    try:
        with np.load(path) as file:
            return {key: torch.from_numpy(file[key]) for key in file.files}
    except Exception:  # There is no end to what a changed byte of an archive may raise.
        return None


def _write(path: Path, clean: dict[str, Tensor]) -> None:
    """Writes a slice whole, under its final name only when it is."""
    with replacing(path) as file:
        np.savez(file, **{key: value.cpu().numpy() for key, value in clean.items()})

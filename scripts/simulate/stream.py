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
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from hashlib import sha256
from math import prod
from multiprocessing import get_context
from pathlib import Path
from shutil import disk_usage
from zipfile import BadZipFile, is_zipfile

import ignite.distributed as idist
import numpy as np
import torch
from filelock import FileLock
from ignite.engine import Engine, Events
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ..errors import UserError
from .scanner import Scanner
from .slices import Slices

VERSION = 2
"""Counts the changes after which equal seeds give other slices."""
HALF = ("signal", "maps")
"""What is kept in half precision."""


class SimulatedSlices(Dataset):
    """Random slices for training: a bounded number of clean ones, with another scanner's work each epoch.

    Each is a function of (seed, index), each sample of (seed, epoch, index): for any number of workers, ranks, or
    restarts. Building this object reads and writes nothing; a cache that was made with other settings is left alone.

    Args:
        slices: where clean slices come from.
        scanner: what makes samples of them.
        cache_dir: folder of the clean slices; None keeps them in the memory of the device that computes them.
        length: how many there are, about 0.9 MB each.
        first: index of the first of them.
        workers: processes that fill the folder; 0 for this one, which also fills it where a GPU computes the slices.

    Raises:
        UserError: for a length, first or workers that is no such number.
    """

    def __init__(
        self, slices: Slices, scanner: Scanner, cache_dir: str | None, length: int, first: int = 0, workers: int = 2
    ) -> None:
        for option, value, least in (("length", length, 1), ("first", first, 0), ("workers", workers, 0)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(option, repr(value), f"use a whole number of at least {least}")
        self.slices, self.scanner, self.length, self.first, self.workers = slices, scanner, length, first, workers
        self.cache_dir, self.epoch = None if cache_dir is None else Path(cache_dir), 0
        self._memory: dict[int, dict[str, Tensor]] = {}
        self._folder: Path | None = None

    @property
    def folder(self) -> Path | None:
        """Folder of this cache, named after everything its slices depend on; None for memory."""
        if self._folder is None and self.cache_dir is not None:
            settings = asdict(self.slices) | {"anatomies": self.slices.anatomies.names, "version": VERSION}
            del settings["device"]
            digest = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
            self._folder = self.cache_dir / f"slices-{digest}"
        return self._folder

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The sample of this epoch. A slice that :meth:`preload` did not leave, or that is damaged, is simulated.

        Raises:
            UserError: for unusable label maps.
        """
        if not 0 <= index < self.length:
            raise IndexError(index)
        number = self.first + index
        clean = self._memory.get(number) or (self.folder and _read(self._path(number)))
        if not clean:
            clean = _halved(self.slices[number])
            if self.folder is None:
                self._memory[number] = clean
        clean = {key: value.to(self.slices.device) for key, value in clean.items()}
        clean["maps"] = clean["maps"].float()
        return {**self.scanner(clean, self.epoch, number), "index": index}

    def preload(self) -> None:
        """Simulates what is missing, head by head, with a progress bar. Other ranks of a job wait.

        Raises:
            UserError: for a folder that cannot be written or has too little room, unusable label maps, or processes
                that the system ends.
        """
        if self.folder is None:
            absent = [number for number in self._numbers() if number not in self._memory]
            for number in self._bar(absent, "slice", len(absent)):
                self._memory[number] = _halved(self.slices[number])
            return
        if idist.get_local_rank() == 0 and self._missing():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                # Jobs of several users may share the folder; the second waits, then finds the work done.
                with FileLock(self.folder / ".lock"):
                    for left in self.folder.glob(".*.npz"):
                        left.unlink()
                    if missing := self._missing():
                        self._fill(missing)
            except OSError as error:
                found = f"a folder that cannot be written ({error.strerror or error})"
                raise UserError(self.cache_dir, found, "choose another cache_dir, or make room there") from error
        idist.barrier()

    def attach(self, engine: Engine) -> None:
        """Follows the trainer's epochs."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: setattr(self, "epoch", engine.state.epoch))

    def _numbers(self) -> range:
        return range(self.first, self.first + self.length)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:07d}.npz"

    def _missing(self) -> list[int]:
        """Slices that are not there, or not whole: a truncated file lacks the directory at its end."""
        return [number for number in self._numbers() if not is_zipfile(self._path(number))]

    def _fill(self, missing: list[int]) -> None:
        """Writes these slices."""
        room = disk_usage(self.folder).free
        needed = len(missing) * prod(self.slices.size) * (2 * (3 + len(self.slices.contrasts)) + 2)
        if room < needed:
            found = f"{room / 1e9:.1f} GB of room for {len(missing)} slices of together {needed / 1e9:.1f} GB"
            raise UserError(self.cache_dir, found, "choose another cache_dir, or ask for fewer slices")
        heads: dict[int, dict[int, Path]] = {}
        for number in missing:
            heads.setdefault(number // self.slices.per_head, {})[number] = self._path(number)
        if not self.workers or torch.device(self.slices.device).type != "cpu":
            for paths in self._bar(heads.values(), "head", len(heads)):
                _write(self.slices, paths)
            return
        with ProcessPoolExecutor(min(self.workers, len(heads)), get_context("spawn"), _one_thread) as pool:
            try:
                work = [pool.submit(_write, self.slices, paths) for paths in heads.values()]
                for done in self._bar(as_completed(work), "head", len(work)):
                    done.result()
            except BrokenProcessPool as error:
                raise UserError("workers", "a process that was ended", "use fewer; each needs 1 GB") from error
            finally:
                pool.shutdown(cancel_futures=True)

    def _bar(self, work: Iterable, unit: str, total: int) -> tqdm:
        return tqdm(work, f"simulating {self.length} slices", total, unit=unit, disable=not total)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _halved(clean: dict[str, Tensor]) -> dict[str, Tensor]:
    return clean | {key: clean[key].half() for key in HALF}


def _read(path: Path) -> dict[str, Tensor] | None:
    """A slice of the cache; None where it is missing or damaged."""
    try:
        with np.load(path) as file:
            return {key: torch.from_numpy(file[key]) for key in file.files}
    except (OSError, ValueError, EOFError, BadZipFile):
        return None


def _write(slices: Slices, paths: dict[int, Path]) -> None:
    """Simulates slices of one head and writes each whole, under its final name only when it is."""
    for number, path in paths.items():
        temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
        np.savez(temporary, **{key: value.cpu().numpy() for key, value in _halved(slices[number]).items()})
        os.replace(temporary, path)

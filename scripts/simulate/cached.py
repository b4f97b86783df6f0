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

"""Random heads on disk: a file each, made when it is first asked for."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from json import dumps
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from ..files import make_folder, remove_leftovers, replacing

REMEMBERED = 16
"""So many heads stay in memory: those that are read next to each other."""


class HeadCache:
    """What is simulated of random heads, by number.

    Args:
        folder: where the files lie; it is named after everything that they depend on, see :func:`folder_name`.
        names: names of the arrays of a head.
        make: number of a head -> its arrays by name.
    """

    def __init__(self, folder: Path, names: Sequence[str], make: Callable[[int], dict[str, Tensor]]) -> None:
        self.folder, self.names, self.make = folder, tuple(names), make
        self._heads: dict[int, dict[str, Tensor]] = {}

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """A head.

        Raises:
            UserError: for a file that cannot be written, and whatever ``make`` raises.
        """
        if number in self._heads:
            return self._heads[number]
        path = self.folder / f"{number:05d}.npz"
        kept = self._read(path)
        if kept is None:
            kept = self.make(number)
            remove_leftovers(make_folder(self.folder))
            with replacing(path) as file:
                np.savez_compressed(file, **{name: kept[name].numpy() for name in self.names})
        if len(self._heads) >= REMEMBERED:
            del self._heads[next(iter(self._heads))]
        self._heads[number] = kept
        return kept

    def _read(self, path: Path) -> dict[str, Tensor] | None:
        """A head that is kept; None where it is missing or damaged."""
        try:
            with np.load(path) as kept:
                return {name: torch.from_numpy(kept[name]) for name in self.names}
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None


def folder_name(kind: str, settings: dict) -> str:
    """Name of the folder of what depends on these settings."""
    return f"{kind}-{sha256(dumps(settings, sort_keys=True).encode()).hexdigest()[:12]}"

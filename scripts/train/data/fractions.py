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

"""Tissue fractions of simulated slices and their latents: what codec and generator learn from."""

from itertools import chain
from pathlib import Path

import ignite.distributed as idist
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ...errors import UserError
from ...simulate import CachedSlices, LabelledHeads
from ...tissue.fractions import count_fractions, measure_areas
from .latents import FrozenEncoder

MIRRORED = 2
"""Every slice counts twice: as it is and mirrored."""


class Simulated:
    """Samples of simulated heads, whatever they consist of.

    Args:
        slices: the slices or heads, whose ``slices`` are the :class:`scripts.simulate.LabelledSlices` behind them.
        dataset_dir: None; a folder of scans is refused, as it says nothing of tissue fractions.
    """

    def __init__(self, slices: CachedSlices | LabelledHeads, dataset_dir: str | None = None) -> None:
        self.slices, self.dataset_dir = slices, dataset_dir

    @property
    def participants_dir(self) -> Path | None:
        """Folder of ``participants.tsv``, that of the label maps; None for the embedded head."""
        return self.slices.slices.anatomies.folder

    def refuse_scans(self) -> None:
        """Says that a folder of scans is of no use here.

        Raises:
            UserError: in that case.
        """
        if self.dataset_dir is not None:
            do = "name label maps with --label_maps, or lay configs/vae_latents.json over this config"
            raise UserError("dataset_dir", f"{self.dataset_dir!r} with latents of tissue fractions", do)


class FractionSlices(Simulated, Dataset):
    """Slices and their mirror images: ``fractions (K, H, W)``, ``position`` [mm], areas [cm²] by name, ``index``."""

    def __len__(self) -> int:
        return MIRRORED * len(self.slices)

    def __getitem__(self, index: int) -> dict:
        number, mirrored = divmod(index, MIRRORED)
        slice_ = self.slices[number]
        fractions = count_fractions(slice_["numbers"][None])
        areas = {name: area[0] for name, area in measure_areas(fractions).items()}
        fractions = fractions.flip(2) if mirrored else fractions
        return {"fractions": fractions[0], "position": slice_["position"].float(), **areas, "index": index}

    @property
    def per_file(self) -> int:
        """Samples of a head, which is one file: a process reads them together."""
        return MIRRORED * self.slices.slices.per_head

    def participants(self, index: int) -> dict[str, float]:
        """Name of each anatomy of a sample -> its share."""
        return self.slices.slices.participants(index // MIRRORED)

    def preload(self) -> None:
        """Looks whether there are label maps and masks, and simulates a first sample.

        Raises:
            UserError: where there are none, or they are unusable; for a folder of scans.
        """
        self.refuse_scans()
        self[0]


class FractionLatents(Dataset):
    """Latents of slices: ``mean (L, ...)``, ``sd`` 0, ``position``, areas, ``index``; kept in memory at half precision.

    Args:
        data: the slices.
        encoder: a :class:`.latents.FrozenEncoder` of a codec.
        workers: processes that simulate all slices before the training starts; 0 simulates each when it is needed.
    """

    def __init__(self, data: FractionSlices, encoder: FrozenEncoder, workers: int = 0) -> None:
        self.data, self.encoder, self.workers = data, encoder, workers
        self._cache: dict[int, dict] = {}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict:
        if index not in self._cache:
            self._encode(self.data[index])
        item = self._cache[index]
        return item | {"mean": item["mean"].float(), "sd": torch.zeros(())}

    def preload(self) -> None:
        """As :meth:`FractionSlices.preload`, after loading the codec; then all latents, where ``workers`` simulate."""
        self.encoder.load()
        self.data.preload()
        if self.workers:
            batches = DataLoader(self.data, self.data.per_file, collate_fn=list, num_workers=self.workers)
            for sample in chain.from_iterable(tqdm(batches, "simulating heads", disable=idist.get_rank() > 0)):
                self._encode(sample)

    def _encode(self, sample: dict) -> None:
        """Keeps the latent of a sample."""
        fractions = sample.pop("fractions").to(self.encoder.device)
        with torch.no_grad():
            mean = self.encoder.load().encode(fractions[None])[0].half().cpu()
        # Copies: what another process made would keep a file open.
        kept = {name: value.clone() if isinstance(value, Tensor) else value for name, value in sample.items()}
        self._cache[sample["index"]] = {"mean": mean, **kept}

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

"""What the diffusion model learns from: latents of samples, and numbers of their participants."""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...bids import Participants
from ...errors import UserError
from ...tissue.fractions import VOLUMES
from .fractions import FractionLatents, Simulated
from .heads import HeadSections, RefiningLatents
from .latents import KEPT, FrozenEncoder, LatentDataset

TAKEN = {*KEPT, *VOLUMES, "index"}
"""What latents have already."""
MOST_TOLD = 3
"""So many names of participants are shown."""


def latents(
    data: Dataset,
    encoder: FrozenEncoder,
    drawn: bool,
    columns: Sequence[str] = (),
    workers: int = 0,
    coarse: FrozenEncoder | None = None,
) -> Dataset:
    """Latents of samples, whichever they are.

    Args:
        data: :class:`FractionSlices`, :class:`.heads.HeadVolumes`, :class:`.heads.HeadSections`, or samples of scans.
        encoder: of a codec, or of a VAE.
        drawn: for a VAE, see :class:`.latents.LatentDataset`.
        columns: see :class:`ColumnLatents`.
        workers: for a codec, see :class:`.fractions.FractionLatents`.
        coarse: of the coarse volumes around sections.
    """
    if isinstance(data, HeadSections):
        made = RefiningLatents(data, encoder, coarse)
    elif isinstance(data, Simulated):
        made = FractionLatents(data, encoder, workers)
    else:
        made = LatentDataset(data, encoder, drawn)
    return ColumnLatents(made, columns) if columns else made


class ColumnLatents(Dataset):
    """Latents, and with each the numbers of its participant in ``participants.tsv`` by column, NaN where unknown.

    A head between two anatomies gets a value between theirs. Nothing of it is kept with the latents, so the columns
    may change.

    Args:
        latents: the latents; their ``data`` says whose they are.
        columns: names of the columns.
    """

    def __init__(self, latents: FractionLatents | LatentDataset, columns: Sequence[str]) -> None:
        self.latents, self.columns, self.encoder = latents, tuple(columns), latents.encoder
        self._values: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> dict:
        return self.latents[index] | dict(zip(self.columns, self.values(index)))

    @cached_property
    def table(self) -> Participants:
        """The table, read once.

        Raises:
            UserError: as :class:`Participants`; for samples without such a table, and for the name of something else.
        """
        taken = next((name for name in self.columns if name in TAKEN), None)
        if taken is not None:
            raise UserError("columns", f"{taken!r}, which stands for something else", "rename the column")
        folder = getattr(self.latents.data, "participants_dir", None)
        if folder is None:
            do = "name scans with configs/vae_latents.json and --dataset_dir, or label maps with --label_maps alone"
            raise UserError("columns", "samples of no participant: heads without a table", do)
        return Participants(folder, self.columns)

    def values(self, index: int) -> Tensor:
        """The columns of a sample; raises as :attr:`table`."""
        if index not in self._values:
            shares = self.latents.data.participants(index)
            self._values[index] = sum(share * self.table[name] for name, share in shares.items())
        return self._values[index]

    def all_values(self) -> dict[str, Tensor]:
        """Each column of all samples, before any of them is made.

        Raises:
            UserError: as :attr:`table`; for a column of which nothing is known of any sample.
        """
        table = self.table
        values = dict(zip(self.columns, torch.stack([self.values(index) for index in range(len(self))]).T))
        for name, of_samples in values.items():
            if of_samples.isnan().all():
                names = list(dict.fromkeys(one for i in range(len(self)) for one in self.latents.data.participants(i)))
                told = ", ".join(names[:MOST_TOLD]) + (", …" if len(names) > MOST_TOLD else "")
                found = f"no known value in the column {name!r} of those to train on ({told})"
                raise UserError(table.path, found, "let participant_id have these names, or leave the column out")
        return values

    def preload(self) -> None:
        """As that of the latents."""
        self.latents.preload()

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

"""Whole simulated heads: coarse volumes, and slices with what is known around them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import UserError
from ...files import save_atomically
from ...simulate import HeadCache, LabelledHeads, folder_name
from ...simulate.sections import CELL_MM, POINTS
from ...tissue.fractions import count_fractions, measure_areas, measure_volumes
from .fractions import MIRRORED, Simulated
from .latents import FrozenEncoder

ARRAYS = ("counts", "numbers", "position")


class KeptHeads(Simulated):
    """Heads that are simulated once and kept on disk, :attr:`per_file` samples of each.

    Args:
        heads: the heads.
        cache_dir: folder below which they are kept.
        length: how many there are.
        dataset_dir: as of :class:`Simulated`.

    Raises:
        UserError: for a length that is no such number.
    """

    per_file = MIRRORED

    def __init__(
        self, heads: LabelledHeads, cache_dir: str | Path, length: int, dataset_dir: str | None = None
    ) -> None:
        if not isinstance(length, int) or isinstance(length, bool) or length < 1:
            raise UserError("slices", repr(length), "use a whole number of at least 1")
        super().__init__(heads, dataset_dir)
        folder = Path(cache_dir) / folder_name("heads", heads.settings)
        self.cache, self.length = HeadCache(folder, ARRAYS, heads.__getitem__), length

    def __len__(self) -> int:
        return self.per_file * self.length

    def volume(self, number: int) -> Tensor:
        """Fractions of a head in cells of 8 mm ``(K, X, Y, Z)``."""
        return self.cache[number]["counts"] / POINTS**3

    def preload(self) -> None:
        """Looks whether there are label maps and masks, and simulates a first head.

        Raises:
            UserError: where there are none, or they are unusable; for a folder of scans.
        """
        self.refuse_scans()
        self.volume(0)

    def participants(self, index: int) -> dict[str, float]:
        """Name of each anatomy of a sample -> its share."""
        slices = self.slices.slices
        return slices.participants(index // self.per_file * slices.per_head)


class HeadVolumes(KeptHeads, Dataset):
    """Coarse heads and their mirror images: ``fractions (K, X, Y, Z)``, volumes [mL] by name, ``index``."""

    def __getitem__(self, index: int) -> dict:
        number, mirrored = divmod(index, MIRRORED)
        fractions = self.volume(number)
        volumes = {name: one[0] for name, one in measure_volumes(fractions[None], CELL_MM**3 / 1000).items()}
        return {"fractions": fractions.flip(1) if mirrored else fractions, **volumes, "index": index}


class HeadSections(KeptHeads):
    """Slices of heads: alone, or with one below and one above at the same distance; all mirrored, too.

    They are read by :class:`RefiningLatents`, a head at a time.
    """

    @property
    def triples(self) -> list[tuple[int, int | None, int | None]]:
        """Numbers of a slice among those of its head, and of the ones below and above; None for slices alone."""
        offsets = self.slices.offsets
        found = [
            (number, offsets.index(offset - distance), offsets.index(offset + distance))
            for distance in self.slices.distances
            for number, offset in enumerate(offsets)
            if {offset - distance, offset + distance} <= {*offsets}
        ]
        return [(number, None, None) for number in range(len(offsets))] + found

    @property
    def per_file(self) -> int:
        """Samples of a head."""
        return MIRRORED * len(self.triples)


class RefiningLatents(Dataset):
    """What a refining network learns from, kept in memory at half precision by head.

    A sample has ``mean (L, H, W)``, ``sd`` 0, ``position``, areas, ``index``; ``coarse``, the latent of the coarse
    volume; ``below`` and ``above (L, H, W)``, and their ``distance (2,)`` [mm], infinite where they are not known.

    Args:
        data: the slices.
        encoder: of slices.
        coarse: of coarse volumes.
    """

    def __init__(self, data: HeadSections, encoder: FrozenEncoder, coarse: FrozenEncoder) -> None:
        self.data, self.encoder, self.coarse = data, encoder, coarse
        self._heads: dict[int, dict] = {}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict:
        number, inside = divmod(index, self.data.per_file)
        which, mirrored = divmod(inside, MIRRORED)
        head, (slice_, below, above) = self._head(number), self.data.triples[which]
        latents = head["latents"][mirrored].float()
        known = below is not None
        distance = abs(float(head["position"][below] - head["position"][slice_])) if known else torch.inf
        return {
            "mean": latents[slice_],
            "sd": torch.zeros(()),
            "position": head["position"][slice_],
            **{name: areas[slice_] for name, areas in head["areas"].items()},
            "coarse": head["coarse"][mirrored].float(),
            "below": latents[below if known else slice_],
            "above": latents[above if known else slice_],
            "distance": torch.full((2,), distance),
            "index": index,
        }

    def pairs(self, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        """Two slices of each of the first heads: latents of the coarse volumes ``(N, L, X, Y, Z)``, levels of the
        slices [mm] ``(N, 2)``, their latents ``(N, 2, L, H, W)``.
        """
        offsets, distances = self.data.slices.offsets, sorted(self.data.slices.distances)
        both = [offsets.index(offset) for offset in (0, distances[len(distances) // 2])]
        kept = [self._head(number) for number in range(min(heads, self.data.length))]
        coarse, latents = (torch.stack([head[name][0] for head in kept]).float() for name in ("coarse", "latents"))
        return coarse, torch.stack([head["position"][both] for head in kept]), latents[:, both]

    def preload(self) -> None:
        """Loads both codecs, and looks as :meth:`KeptHeads.preload` does."""
        self.encoder.load(), self.coarse.load()
        self.data.preload()

    @torch.no_grad()
    def _head(self, number: int) -> dict:
        if number not in self._heads:
            kept, volume = self.data.cache[number], self.data.volume(number)[None]
            fractions = count_fractions(kept["numbers"])
            encode, device = self.encoder.load().encode, self.encoder.device
            both = [encode(one.to(device)).half().cpu() for one in (fractions, fractions.flip(2))]
            coarse = [self.coarse.load().encode(one.to(device))[0].half().cpu() for one in (volume, volume.flip(2))]
            self._heads[number] = {
                "latents": torch.stack(both),
                "coarse": torch.stack(coarse),
                "position": kept["position"],
                "areas": measure_areas(fractions),
            }
        return self._heads[number]


class FittedEncoder(FrozenEncoder):
    """A codec that is nothing but a transform: computed from samples where its file is missing, and kept there.

    Args:
        network: the codec.
        weights: its file.
        data: the samples.
        device: where it runs.
        samples: how many of them it is computed from, evenly spread.
    """

    def __init__(
        self, network: torch.nn.Module, weights: str, data: Dataset, device: torch.device | str, samples: int = 200
    ) -> None:
        super().__init__(network, weights, device)
        self.data, self.samples = data, samples

    def load(self) -> torch.nn.Module:
        """The network, in eval mode."""
        if not self._loaded and not Path(self.weights).is_file():
            numbers: Sequence[int] = range(0, len(self.data), max(1, len(self.data) // self.samples))
            self.network.fit(self.data[number]["fractions"][None] for number in numbers)
            save_atomically(self.network.state_dict(), self.weights)
        return super().load()

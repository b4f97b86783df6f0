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

"""From latents to what is written of a generated slice or head: maps, and where latents are of fractions, more."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...acquisition import is_number
from ...bids import Session, output_path, write_image, write_segmentation
from ...errors import UserError
from ...networks import FractionCodec
from ...parallel import in_parallel
from ...render import share_beside_fluid
from ...simulate.drawn import sample_texture, sample_tissue
from ...simulate.population import FIELD_STRENGTHS, Tissue
from ...tissue import CLASSES, FRACTIONS, REGIONS, class_values
from ...tissue.fractions import measure_areas, measure_volumes

FLUID = ("CSF", "ventricle")
REGION_OF = torch.tensor([REGIONS.index(CLASSES[name].region) for name in FRACTIONS])
DRAWN, LITERATURE = "drawn", "literature"


class Brain(NamedTuple):
    """A generated slice, or a whole head.

    Attributes:
        maps: PD, T1 [s], T2 [s] ``(3, X, Y, Z)``.
        fractions: of :data:`scripts.tissue.FRACTIONS` ``(K, X, Y, Z)``; None where the latent knows none.
        measured: name -> area of a slice [cm²], volume of a head [mL].
        tissue: class -> PD, T1 [s], T2 [s].
    """

    maps: np.ndarray
    fractions: np.ndarray | None = None
    measured: dict[str, float] = {}
    tissue: dict[str, list[float]] = {}

    @property
    def options(self) -> dict[str, np.ndarray]:
        """Share of fluid of each voxel ``(X, Y, Z)``, as :class:`scripts.render.SignalModel` takes it."""
        if self.fractions is None:
            return {}
        return {"fluid": share_beside_fluid(sum(self.fractions[FRACTIONS.index(name)] for name in FLUID))}


class Brains:
    """Latents -> brains. Tissue values and texture of a sample are functions of its address.

    Args:
        network: reads latents: a :class:`scripts.networks.FractionCodec`, or whatever gives log maps, for which the
            other arguments do not count.
        field_strength: whose tissue values [T]: 1.5, 3 or 7.
        tissue: ``drawn`` as subjects differ, ``literature``, or a JSON file, class -> PD, T1 [s], T2 [s], of some of
            :data:`scripts.tissue.FRACTIONS`; the others are of the literature.
        spatial_dims: 2 for slices, 3 for heads, whose latents are those of their slices.

    Raises:
        UserError: for another field strength, or an unusable table.
    """

    def __init__(
        self, network: nn.Module, field_strength: float = 3.0, tissue: str = DRAWN, spatial_dims: int = 2
    ) -> None:
        if field_strength not in FIELD_STRENGTHS:
            known = ", ".join(f"{one:g}" for one in FIELD_STRENGTHS)
            raise UserError("field_strength", repr(field_strength), f"use one of {known} [T]")
        self.network, self.field_strength, self.tissue = network, float(field_strength), tissue
        self.spatial_dims = spatial_dims
        self.table = {} if tissue in (DRAWN, LITERATURE) else read_table(tissue)

    @property
    def unit(self) -> str:
        """Unit of what is measured."""
        return "mL" if self.spatial_dims == 3 else "cm²"

    @property
    def settings(self) -> dict:
        """What a sample depends on besides its address and the weights."""
        if not isinstance(self.network, FractionCodec):
            return {}
        named = self.tissue if self.tissue in (DRAWN, LITERATURE) else self.table
        return {"field_strength": self.field_strength, "tissue": named}

    @torch.no_grad()
    def __call__(self, latent: Tensor, seed: int, index: int) -> Brain:
        """The brain of a latent ``(1, L, ...)``, or of the latents ``(Z, L, H, W)`` of its slices."""
        if not isinstance(self.network, FractionCodec):
            maps = self.network.decode_stage_2_outputs(latent)[0].exp().float().cpu().numpy()
            return Brain(maps if maps.ndim == 4 else maps[..., None])
        decoded = in_parallel(self.network.decode, latent.split(1), latent.device)
        fractions = torch.stack([one[0].cpu() for one in decoded], -1)
        tissue = self._tissue(seed, index)
        if self.spatial_dims == 3:
            texture, measured = sample_texture(fractions.shape[1:], seed, index), measure_volumes(fractions[None], 1e-3)
        else:
            texture = sample_texture(fractions.shape[1:3], seed, index)[..., None]
            measured = measure_areas(fractions[None, ..., 0])
        maps = tissue.mixed(fractions, texture).numpy()
        measured = {name: round(float(value), 2) for name, value in measured.items()}
        values = {name: tissue.values[number].tolist() for number, name in enumerate(CLASSES) if name in FRACTIONS}
        rounded = {name: [round(one, 4) for one in three] for name, three in values.items()}
        return Brain(maps, fractions.numpy(), measured, rounded)

    def _tissue(self, seed: int, index: int) -> Tissue:
        drawn = sample_tissue(seed, index, self.field_strength)
        if self.tissue == DRAWN:
            return drawn
        values = [self.table.get(name) or class_values(name, self.field_strength) for name in CLASSES]
        return drawn._replace(values=torch.tensor(values))


def read_table(path: str | Path) -> dict[str, list[float]]:
    """A user's own table of tissue values.

    Raises:
        UserError: for a file that cannot be read or is no such table.
    """
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        do = f"use {DRAWN}, {LITERATURE}, or a JSON file, class -> [PD, T1, T2]"
        raise UserError("tissue", f"{str(path)!r}, no readable table ({type(error).__name__})", do) from error
    if not isinstance(table, dict) or not table:
        raise UserError(path, "no table", "give class -> [PD, T1 [s], T2 [s]]")
    for name, values in table.items():
        if name not in FRACTIONS:
            raise UserError(path, f"class {name!r}", f"use some of {', '.join(FRACTIONS)}")
        possible = isinstance(values, list) and len(values) == 3 and all(is_number(one) for one in values)
        if not possible or min(values) < 0 or values[2] > values[1]:
            raise UserError(
                f"{path}, {name}", f"{values!r}", "give [PD, T1, T2] from 0, in seconds, with T2 at most T1"
            )
    return table


def write_fractions(folder: Path, session: Session, brain: Brain, affine: np.ndarray, about: dict) -> None:
    """Writes each fraction, that of all fluid, the label map of the likeliest regions, and their volumes.

    Args:
        folder: root of the study.
        session: whose fractions.
        brain: the slice or head.
        affine: voxel to mm.
        about: what every sidecar says about their origin.
    """
    fluid = sum(brain.fractions[FRACTIONS.index(name)] for name in FLUID)
    shares = {label_of(name): (name, share) for name, share in zip(FRACTIONS, brain.fractions)}
    shares["CSF"] = "all fluid", fluid
    for label, (name, share) in shares.items():
        sidecar = {"Units": "1", "Description": f"Share of {name} in each voxel.", **about}
        path = output_path(folder, session, "probseg", label=label)
        write_image(path, share.astype(np.float32), affine, sidecar)
    regions = np.zeros((len(REGIONS), *fluid.shape), np.float32)
    np.add.at(regions, REGION_OF.numpy(), brain.fractions)
    sidecar = {"Description": "Region with the largest share of each voxel.", **about}
    sums = dict(enumerate(regions.sum((1, 2, 3), dtype=float)))
    path = output_path(folder, session, "dseg")
    write_segmentation(path, regions.argmax(0), affine, dict(enumerate(REGIONS)), sidecar, sums)


def label_of(name: str) -> str:
    """BIDS label of a class: ``whiteMatter``; that of fluid outside the ventricles is ``outerCSF``."""
    if name == "CSF":
        return "outerCSF"
    first, *others = name.split()
    return first + "".join(word.capitalize() for word in others)

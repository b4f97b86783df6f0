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

"""One random head as whole volumes: its tissue maps, labels and contrasts, all a function of (seed, index)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from ..acquisition import FAMILIES, FIELDS, Acquisition, check, draw_acquisition, is_number, to_sidecar, values
from ..errors import UserError
from ..nuisance import Nuisances, apply_nuisances, slice_profiles
from ..randomness import rng
from ..tissue import CLASSES, REGIONS
from .contrasts import at_field, draw_hidden
from .labels import LabelMaps
from .lesions import LesionMasks
from .nuisances import NuisanceRanges, draw_nuisances
from .population import FIELD_STRENGTHS, draw_tissue
from .scanner import misstate
from .shape import draw_shape
from .volume import Volume, clean_volume

TRAIN = {"echo_train_length": [16, 16], "echo_spacing": [0.0095, 0.0105]}
READOUT = {"echo_train_length": [176, 176], "echo_spacing": [0.0068, 0.0076], "echoes_before_centre": [88, 88]}
SCANS = {
    "T1w": {"sequence": "mprage", "te": [0.0028, 0.0033], "tr": [2.3, 2.4], "ti": [0.9, 1.0], "flip_angle": [8, 9]}
    | READOUT,
    "T2w": {"sequence": "turbo_spin_echo", "te": [0.08, 0.11], "tr": [3.0, 6.0]} | TRAIN,
    "FLAIR": {"sequence": "inversion_recovery_turbo_spin_echo", "te": [0.08, 0.1], "tr": [9.0, 9.0], "ti": [2.5, 2.5]}
    | TRAIN,
}
"""Name of a file -> family of acquisitions, see :func:`scripts.acquisition.draw_acquisition`."""
FIELD_OF_VIEW = ((-100, 100), (-120, 120), (-84, 92))
"""From where to where along each axis [mm from the centre of the cerebrum, RAS]: most of a head, without the neck."""
NUISANCES = NuisanceRanges(snr=(20.0, 60.0), gain=(5000.0, 20000.0), bias_sd=0.1)
"""Nuisances of a contrast; :class:`Heads` adds the probabilities. The reference of the SNR is white matter."""
THICKEST = 20
"""Slices [mm] beyond which a scan shows no anatomy."""
TRIES = 100


@dataclass(frozen=True)
class Heads:
    """What random heads are drawn from. The defaults are healthy subjects at 3 tesla, well scanned.

    Args:
        anatomies: heads to take shapes from.
        contrasts: end of a file's BIDS name -> family: its name in :data:`scripts.acquisition.FAMILIES`, or ranges;
            None for :data:`SCANS`.
        skull: False for skull-stripped heads: images, maps and labels of the brain and its fluid alone.
        wide: probability of tissue far from the literature, see :func:`scripts.simulate.population.draw_tissue`.
        lesions: probability of white-matter lesions.
        masses: probability of an infarct or tumour.
        lesion_masks: real lesions to take shapes and places from.
        field_strengths: one of these is drawn [T]: 1.5, 3, 7.
        moved: probability that a contrast moved against the others, by about half a millimetre and degree.
        thick: probability that a contrast has axial slices of 2 to 6 mm, brought back to the grid of the head.
        slice_thickness: of the axial slices that every contrast consists of [mm]; None for the grid of the head.
        coarse: probability that a contrast has a larger voxel in the plane, on the same grid.
        misstated: sidecars say what was prescribed, up to some per cent off what was played out.
        gain: lowest and highest of the gains of contrasts, log-uniform: units of a file per unit of PD. Equal ones are
            those of a scanner whose scale is fixed.

    Raises:
        UserError: for what is no probability, no truth value, or no field strength that tissue is known at.
    """

    anatomies: LabelMaps = field(default_factory=LabelMaps)
    contrasts: Mapping[str, str | Mapping] | None = None
    skull: bool = True
    wide: float = 0.0
    lesions: float = 0.0
    masses: float = 0.0
    lesion_masks: LesionMasks = field(default_factory=LesionMasks)
    field_strengths: tuple[float, ...] = (3.0,)
    moved: float = 0.0
    thick: float = 0.0
    slice_thickness: float | None = None
    coarse: float = 0.0
    misstated: bool = False
    gain: tuple[float, float] = NUISANCES.gain

    def __post_init__(self) -> None:
        for option in ("wide", "lesions", "masses", "moved", "thick", "coarse"):
            if not is_number(chance := getattr(self, option)) or not 0 <= chance <= 1:
                raise UserError(option, repr(chance), "use a probability, from 0 to 1")
        if (edge := self.slice_thickness) is not None and (not is_number(edge) or not 1 <= edge <= THICKEST):
            raise UserError("slice_thickness", repr(edge), f"use a number from 1 to {THICKEST} [mm], or null")
        for option in ("skull", "misstated"):
            if not isinstance(getattr(self, option), bool):
                raise UserError(option, repr(getattr(self, option)), "use True or False")
        if (
            len(self.gain) != 2
            or not all(is_number(one) and one > 0 for one in self.gain)
            or self.gain[0] > self.gain[1]
        ):
            raise UserError("gain", repr(self.gain), "use two numbers above 0, the lower one first")
        if not self.field_strengths or not set(self.field_strengths) <= set(FIELD_STRENGTHS):
            known = ", ".join(f"{field:g}" for field in FIELD_STRENGTHS)
            raise UserError("field_strengths", f"{self.field_strengths}", f"use some of {known} [T]")


def simulate_head(heads: Heads, seed: int, index: int, resolution: float = 1) -> dict:
    """One random head. Equal arguments give equal tensors, whatever was simulated before.

    Signals are averaged over a voxel as a scanner does. In maps PD and, weighted with it, the rates 1/T1 and 1/T2 are,
    as if water exchanged fast: no single T1 or T2 describes a voxel of several tissues, and FLAIR shows the borders of
    CSF darker than these maps make them.

    Args:
        heads: what to draw from.
        seed: seed of the study.
        index: number of the head in the study, from 0.
        resolution: voxel size [mm].

    Returns:
        ``maps (3, X, Y, Z)`` PD, T1 [s], T2 [s], zero in air and bone; ``labels (X, Y, Z)`` uint8, numbers of
        :data:`scripts.simulate.REGIONS`; ``contrasts`` name -> ``(X, Y, Z)`` int16 magnitudes; ``acquisitions`` name ->
        acquisition as its sidecar states it; ``affine (4, 4)`` of maps and labels, voxel to mm from the centre of the
        cerebrum, RAS; ``scan_affine`` that of the contrasts; ``causes`` what was drawn: field strength [T], T2* over
        T2, class -> PD, T1 [s], T2 [s], and of each contrast the acquisition that was played out and its nuisances.

    Raises:
        UserError: for unusable label maps or families.
    """
    stream = partial(rng, seed, index)
    random = stream(0)
    anatomy = heads.anatomies[int(random.integers(len(heads.anatomies)))]
    shape = draw_shape(random, anatomy, heads.lesions, heads.masses, heads.lesion_masks)
    tissue = draw_tissue(random, heads.wide, heads.field_strengths)
    played = {
        name: at_field(_draw(stream(2, number), name, family), tissue.field_strength)
        for number, (name, family) in enumerate((heads.contrasts or SCANS).items())
    }
    rows = torch.stack([acquisition.to_row() for acquisition in played.values()])
    grid = [round((high - low) / resolution) for low, high in FIELD_OF_VIEW]
    corner = [(low + high - (n - 1) * resolution) / 2 for n, (low, high) in zip(grid, FIELD_OF_VIEW)]
    hidden = draw_hidden(stream(1), grid, list(played.values()))
    head = clean_volume(shape, tissue, hidden, rows, corner, resolution)
    contrasts, acquisitions, causes = {}, {}, {}
    for number, (name, acquisition) in enumerate(played.items()):
        random = stream(3, number)
        contrasts[name], nuisances = scan(random, head, number, heads, resolution)
        causes[name] = {"Played": to_sidecar(acquisition), "Nuisances": asdict(nuisances)}
        acquisitions[name] = prescribed(random, acquisition) if heads.misstated else acquisition
    shown = torch.ones_like(head.brain) if heads.skull else head.brain
    affine = np.diag([resolution] * 3 + [1.0])
    affine[:3, 3] = corner
    scan_affine = affine.copy()
    if heads.slice_thickness is not None:
        centres = slice_profiles(grid[2], heads.slice_thickness, resolution)[1]
        scan_affine[2, 2:] = heads.slice_thickness, corner[2] + resolution * float(centres[0])
    return {
        "maps": head.maps * shown,
        "labels": head.labels * shown,
        "contrasts": contrasts,
        "acquisitions": acquisitions,
        "affine": affine,
        "scan_affine": scan_affine,
        "causes": {
            "FieldStrength": tissue.field_strength,
            "T2StarRatio": tissue.t2_star_ratio,
            "Tissue": dict(zip(CLASSES, tissue.values.tolist())),
            "Contrasts": causes,
        },
    }


def _draw(random: Generator, name: str, family: str | Mapping) -> Acquisition:
    if isinstance(family, str) and family not in FAMILIES:
        raise UserError(f"contrast {name}", repr(family), f"use one of {', '.join(FAMILIES)}, or ranges")
    return draw_acquisition(FAMILIES[family] if isinstance(family, str) else family, random, name)


def scan(random: Generator, head: Volume, number: int, heads: Heads, resolution: float) -> tuple[Tensor, Nuisances]:
    """What a scanner stores of one contrast ``(X, Y, Z)``, as int16, and the nuisances in it.

    Air shows the noise floor of a magnitude image.

    Args:
        random: source of the random numbers.
        head: the head without noise.
        number: of the contrast.
        heads: the probabilities.
        resolution: edge of a voxel [mm].
    """
    signal = head.signal[number] if heads.skull else head.signal[number] * head.brain
    ranges = replace(NUISANCES, gain=heads.gain, moved=heads.moved, thick=heads.thick, coarse=heads.coarse)
    nuisances = draw_nuisances(random, ranges, axes=3, voxel_mm=resolution)
    if heads.slice_thickness is not None:
        nuisances = replace(nuisances, thickness=heads.slice_thickness, regrid=False)
    white = head.labels == REGIONS.index("WM")
    image = apply_nuisances(signal, nuisances, [resolution] * 3, head.brain, white)
    return image.round().clamp_max(torch.iinfo(torch.int16).max).to(torch.int16), nuisances


def prescribed(random: Generator, acquisition: Acquisition) -> Acquisition:
    """What a sidecar says of an acquisition: by :data:`scripts.simulate.scanner.NOMINAL_SD` off, yet possible."""
    for _ in range(TRIES):
        row = misstate(random, acquisition.to_row()[None])[0]
        stated = {name: values(row, name).item() for name in FIELDS if getattr(acquisition, name) is not None}
        stated |= {name: float(round(stated[name])) for name in ("echo_train_length",) if name in stated}
        candidate = replace(acquisition, **stated)
        try:
            check(candidate, "sidecar")
        except UserError:
            continue
        return candidate
    return acquisition

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

"""The files of one session: tissue maps with their standard deviations, rendered contrasts, sidecars, the picture."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from scipy import ndimage

from ...acquisition import RenderRequest, to_sidecar
from ...bids import MAP_UNITS, Session, load_image, output_path, write_image, write_segmentation
from ...errors import UserError
from ...estimate.maps import Maps
from ...estimate.posterior import CLASSES
from ...nuisance import Noise
from ...randomness import generator
from ...render import T2_STAR_RATIO, SignalModel, share_beside_fluid
from ...signal import SEQUENCES
from ...signal import Sequence as SignalEquation
from ...tissue import REGIONS

CORRELATIONS = ("PDT1", "PDT2", "T1T2")
"""Pairs of maps, as :func:`scripts.tissue.correlations` orders them."""
SPECK = 0.05
"""A region smaller than this part of the largest is not foreground."""
OPTIONS = {"T2starmap": "t2_star", "TB1map": "b1", "probseg": "fluid"}
"""Suffix of an optional map -> its name in :class:`scripts.render.SignalModel`."""
REGION_OF = tuple("soft tissue" if tissue == "other" else tissue for tissue in CLASSES)
"""Region of a label map that each of the classes counts as. Most of what is no tissue of the brain is scalp."""
FLUID = "CSF"
"""Label of the share of fluid among the probseg."""
ADDED = "Signals of fluid and tissue in a voxel add up."
"""What is said about a contrast that was rendered with the share of fluid."""
ASSUMED = {
    "t2_star": f"T2* is taken for {T2_STAR_RATIO:g} T2.",
    "b1": "B1+ is taken for nominal.",
    "inversion_efficiency": "Inversions are taken for complete.",
}
"""What a signal equation assumes about an option without a map."""


def fingerprints(root: str | Path, paths: Iterable[Path]) -> dict[str, str]:
    """What results are made from: BIDS URI -> sha256 of each of these files below ``root``.

    Raises:
        UserError: for a file that cannot be read.
    """
    found = {}
    for path in paths:
        name = f"bids:raw:{path.relative_to(root).as_posix()}"
        try:
            with open(path, "rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(path, f"no readable file ({error.strerror or error})", "see its permissions") from error
    return found


def foreground_from_pd(pd: np.ndarray) -> np.ndarray:
    """Where a generated map is not air: regions with PD above 6 % of its bright level, holes filled, specks left out.

    Bone has hardly any PD: a hole in the scalp, and where that is not closed, the brain is a region by itself.
    """
    # In a volume of one slice every hole would be open to the outside.
    filled = ndimage.binary_fill_holes(pd.squeeze() > 0.06 * np.quantile(pd, 0.99))
    regions, _ = ndimage.label(filled)
    sizes = np.bincount(regions.flat)
    sizes[0] = 0
    return (sizes > SPECK * sizes.max())[regions].reshape(pd.shape)


def render(
    maps: Maps, requests: Sequence[RenderRequest], noise: Noise | None = None, seed: Sequence[int] = (0,)
) -> np.ndarray:
    """The requested contrasts ``(M, ...)`` of a volume or slice in the unit of PD, magnitudes where no sign belongs to
    them.

    Args:
        maps: the maps.
        requests: the contrasts.
        noise: what is added to magnitudes; None for nothing. Images with a sign are ratios and stay free of noise.
        seed: address of the noise; that of a contrast depends on its name besides.
    """
    if not requests:
        return np.empty((0, *maps.mask.shape), np.float32)
    rows = torch.stack([request.acquisition.to_row() for request in requests])
    options = {name: torch.from_numpy(array)[None] for name, array in {"mask": maps.mask, **maps.all_options}.items()}
    images = SignalModel()(torch.from_numpy(maps.values)[None], rows[None], **options)[0]
    if noise is not None:
        foreground = torch.from_numpy(maps.mask)
        for image, request in zip(images, requests):
            if not SEQUENCES[request.acquisition.sequence].signed:
                image[:] = noise(image, foreground, generator(*seed, crc32(request.name.encode())))
    return images.numpy()


def write_maps(folder: Path, session: Session, maps: Maps, about: dict, sd_note: str = "") -> None:
    """Writes maps, standard deviations, correlations and foreground with sidecars.

    Args:
        folder: root of the study.
        session: whose maps.
        maps: the maps.
        about: what every sidecar says about their origin.
        sd_note: what the standard deviations are.
    """
    about = {**about, "SkullStripped": session.skull_stripped}
    for i, (suffix, unit) in enumerate(MAP_UNITS.items()):
        note = "Relative, 0 in air." if suffix == "PDmap" else "0 where undefined: in air."
        sidecar = {"Units": unit, "Description": f"{suffix.removesuffix('map')} map. {note}", **about}
        write_image(output_path(folder, session, suffix), maps.values[i], maps.affine, sidecar)
        if maps.sd is not None:
            sidecar = {"Units": "1", "Description": sd_note, **about}
            write_image(output_path(folder, session, suffix, desc="sd"), maps.sd[i], maps.affine, sidecar)
    for pair, values in zip(CORRELATIONS, () if maps.correlations is None else maps.correlations):
        note = f"Correlation between the errors of ln {pair[:2]} and ln {pair[2:]}."
        sidecar = {"Units": "1", "Description": note, **about}
        write_image(output_path(folder, session, "map", desc=f"corr{pair}"), values, maps.affine, sidecar)
    if maps.fractions is not None:
        _write_fractions(folder, session, maps, about)
    sidecar = {"Description": "1 where the maps are defined, 0 in air.", **about}
    mask = output_path(folder, session, "mask", desc="foreground")
    write_image(mask, maps.mask.astype(np.uint8), maps.affine, sidecar)


def _write_fractions(folder: Path, session: Session, maps: Maps, about: dict) -> None:
    """Shares of tissues, the tissue with the largest of each voxel, and the volumes."""
    for tissue, share in zip(CLASSES, maps.fractions):
        sidecar = {"Units": "1", "Description": f"Share of {tissue} in each voxel, by the posterior.", **about}
        write_image(output_path(folder, session, "probseg", label=tissue), share, maps.affine, sidecar)
    numbers = np.array([REGIONS.index(region) for region in REGION_OF])
    largest = numbers[maps.fractions.argmax(0)] * maps.mask
    shares = dict(zip(numbers.tolist(), maps.fractions.sum((1, 2, 3), dtype=float)))
    sidecar = {"Description": f"Tissue with the largest share of each voxel; other counts as {REGION_OF[-1]}.", **about}
    regions = dict(zip(numbers.tolist(), REGION_OF))
    write_segmentation(output_path(folder, session, "dseg"), largest, maps.affine, regions, sidecar, shares)


def read_maps(folder: Path, session: Session) -> Maps:
    """The maps that :func:`write_maps` wrote.

    Raises:
        UserError: for damaged files.
    """

    def read(suffix: str, **entities: str) -> tuple[np.ndarray, np.ndarray]:
        return load_image(output_path(folder, session, suffix, **entities), uniform=True)

    values, affines = zip(*(read(suffix) for suffix in MAP_UNITS))
    known = output_path(folder, session, "T1map", desc="sd").exists()
    sd = np.stack([read(suffix, desc="sd")[0] for suffix in MAP_UNITS]) if known else None
    options = {}
    if output_path(folder, session, "probseg", label=FLUID).exists():
        options["fluid"] = share_beside_fluid(read("probseg", label=FLUID)[0])
    return Maps(np.stack(values), sd, read("mask", desc="foreground")[0] > 0, affines[0], options)


def image_note(sequence: SignalEquation, given: Iterable[str], noise: Noise | str | None = None) -> str:
    """What the sidecar of a rendered contrast says of it.

    Args:
        sequence: its signal equation.
        given: optional maps that there are, by their names in :class:`scripts.render.SignalModel`.
        noise: what was added.
    """
    assumed = [ASSUMED[name] for name in sequence.options if name in ASSUMED and name not in given]
    if "fluid" in given and not sequence.signed:
        assumed.append(ADDED)
    kind = "Image" if sequence.signed else "Magnitude image"
    added = "without noise" if noise is None or sequence.signed else f"with noise, {noise}"
    return " ".join([f"{kind} rendered from the maps by the signal equation, {added}.", *assumed])


def write_contrasts(
    folder: Path,
    session: Session,
    maps: Maps,
    requests: Sequence[RenderRequest],
    sources: Mapping[str, str] | None = None,
    noise: Noise | None = None,
    seed: Sequence[int] = (0,),
    **entities: str,
) -> None:
    """Renders and writes contrasts with sidecars.

    Args:
        folder: root of the study.
        session: whose contrasts.
        maps: its maps.
        requests: the contrasts.
        sources: BIDS URIs of the maps by suffix; None for those that :func:`write_maps` wrote.
        noise: what is added, see :func:`render`.
        seed: its address.
        entities: BIDS entities of the files besides ``acq``, which is the request's name.
    """
    given = maps.all_options
    if sources is None:
        sources = {suffix: f"bids::{output_path('', session, suffix)}" for suffix in MAP_UNITS}
        if "fluid" in given:
            sources["probseg"] = f"bids::{output_path('', session, 'probseg', label=FLUID)}"
    for request, image in zip(requests, render(maps, requests, noise, seed)):
        sequence = SEQUENCES[request.acquisition.sequence]
        known = sequence.options if sequence.signed else (*sequence.options, "fluid")
        used = [name for name in sources if name in MAP_UNITS or OPTIONS[name] in known]
        sidecar = {
            **to_sidecar(request.acquisition),
            "Units": "arbitrary",
            "Description": image_note(sequence, given, noise),
            "SkullStripped": session.skull_stripped,
            "Sources": [sources[name] for name in used],
        }
        path = output_path(folder, session, request.suffix, **entities, acq=request.name)
        write_image(path, image, maps.affine, sidecar)

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

"""The scans of a request as a session: a file, more files, or one file of several contrasts."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from ...acquisition import SEQUENCE_KEYS, UNKNOWN, load_protocol, read_json
from ...bids import Contrast, Session, parse_name
from ...bids.images import UNREADABLE, read_voxels
from ...bids.names import ENTITIES, SUFFIXES, stem
from ...errors import UserError
from .request import HOW_TO_TELL, MOST_SCANS, NUMBERS, check_entry
from .server import sidecar_of

MOST_VOXELS = 2**28
"""Of all contrasts of a request, as they are sent; sixteen heads of 256 x 256 x 256."""
MOST_CELLS = 2**27
"""Of one contrast at 1 mm, on which grid maps are estimated: a cube of half a metre."""


def read_scans(
    files: Sequence[Path], acquisitions: Sequence[Mapping] | None, protocol: str | None, folder: Path
) -> tuple[Session, nib.spatialimages.SpatialImage]:
    """The session that a request describes, and the image whose grid the answer gets.

    What is known of a scan is, in this order: its entry in ``acquisitions``; the suffix in its file's name and the
    sidecar beside it; the protocol's scans in their order, where names tell nothing and there are as many.

    Args:
        files: of one contrast ``(X, Y, Z)`` or of several ``(X, Y, Z, M)`` each.
        acquisitions: one for each contrast, see :func:`.request.read_acquisitions`; None to go by names and protocol.
        protocol: see :func:`scripts.acquisition.load_protocol`; None for none.
        folder: where to put the single contrasts of a file.

    Raises:
        UserError: for unreadable files, and where the number of acquisitions is not that of contrasts.
    """
    loaded = [_load(path) for path in files]
    _check_size(files, loaded)
    contrasts = []
    for number, (path, whole) in enumerate(zip(files, loaded), start=1):
        # Files of one name but for the ending, or of other folders, have parts of their own.
        contrasts += _contrasts(path, whole, folder / str(number), acquisitions is not None)
    if acquisitions is None and not any(contrast.suffix for contrast in contrasts):
        acquisitions = _of_protocol(protocol, len(contrasts))
    if acquisitions is not None:
        contrasts = _told(contrasts, acquisitions)
    return Session("request", None, tuple(contrasts)), loaded[0]


def _load(path: Path) -> nib.Nifti1Pair:
    try:
        return nib.Nifti1Image.from_filename(path)
    except UNREADABLE:
        pass
    try:
        return nib.Nifti2Image.from_filename(path)
    except UNREADABLE:
        raise UserError(path.name, "no readable NIfTI image", "send a whole .nii or .nii.gz file") from None


def _check_size(files: Sequence[Path], images: Sequence[nib.Nifti1Pair]) -> None:
    """Refuses by their headers what would not fit into memory: the data may be a few bytes of compressed zeros."""
    contrasts = sum(math.prod(image.shape[3:]) for image in images)
    if contrasts > MOST_SCANS:
        raise UserError(files[0].name, f"{contrasts} contrasts", f"send at most {MOST_SCANS}")
    voxels = sum(math.prod(image.shape) for image in images)
    if voxels > MOST_VOXELS:
        raise UserError(files[0].name, f"{voxels:.3g} voxels", f"send at most {MOST_VOXELS:.3g} in all contrasts")
    for path, image in zip(files, images):
        edges = np.linalg.norm(image.affine[:3, :3], axis=0)
        cells = math.prod(max(1.0, size * edge) for size, edge in zip(image.shape, edges))
        if cells > MOST_CELLS:
            extent = " x ".join(f"{size * edge:.4g}" for size, edge in zip(image.shape, edges))
            raise UserError(path.name, f"a field of view of {extent} mm", "repair the size of voxels in the header")


def _contrasts(path: Path, whole: nib.Nifti1Pair, parts: Path, told: bool) -> list[Contrast]:
    """What a file and, unless it is told, its name tell of its contrasts; those of a 4D file become own files."""
    if len(whole.shape) == 4 and whole.shape[3] > 1:
        parts = parts / stem(path)
        parts.mkdir(parents=True)
        files = [parts / f"volume-{number + 1}.nii" for number in range(whole.shape[3])]
        try:
            # The single volumes would not tell whether the file is damaged at its end.
            read_voxels(path, whole)
            for number, file in enumerate(files):
                nib.save(whole.slicer[..., number], file)
        except UNREADABLE:
            raise UserError(path.name, "a damaged or truncated file", "copy it anew") from None
        return [Contrast(file, "", {}, {}) for file in files]
    entities, suffix = parse_name(stem(path))
    suffix = suffix if suffix in SUFFIXES.values() else SUFFIXES.get(suffix.lower(), "")
    kept = {entity: label for entity, label in entities.items() if entity in ENTITIES}
    return [Contrast(path, suffix, kept, {} if told else _sidecar(path))]


def _sidecar(path: Path) -> dict:
    """The sidecar beside a scan. Its values are a file's content, so no refusal quotes what is not a number."""
    file = sidecar_of(path, stem(path))
    if file is None:
        return {}
    try:
        sidecar = read_json(file)
    except UserError:
        raise UserError(file.name, "no JSON object", "repair the file") from None
    check_entry({key: sidecar[key] for key in (*NUMBERS, *SEQUENCE_KEYS) if key in sidecar}, file.name, quote=False)
    return sidecar


def _of_protocol(protocol: str | None, count: int) -> list[dict]:
    """The protocol's word for each contrast of files whose names tell nothing."""
    table = load_protocol(protocol)
    if table == UNKNOWN:
        return [{SEQUENCE_KEYS[0]: UNKNOWN}] * count
    if table is None or len(table) != count:
        scans = f", which is of {', '.join(table)}" if table else ""
        raise UserError("acquisitions", f"none for {count} contrasts and the protocol {protocol}{scans}", HOW_TO_TELL)
    return [{"suffix": suffix} for suffix in table]


def _told(contrasts: Sequence[Contrast], acquisitions: Sequence[Mapping]) -> list[Contrast]:
    """The contrasts with what the request says of them instead of what their names and sidecars say."""
    if len(acquisitions) != len(contrasts):
        raise UserError("acquisitions", f"{len(acquisitions)} for {len(contrasts)} contrasts", HOW_TO_TELL)
    told = []
    for contrast, entry in zip(contrasts, acquisitions):
        sidecar = {key: value for key, value in entry.items() if key != "suffix"}
        told.append(Contrast(contrast.path, entry.get("suffix", contrast.suffix), contrast.entities, sidecar))
    return told

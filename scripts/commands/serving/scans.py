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

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib

from ...acquisition import SEQUENCE_KEYS, SIDECAR_KEYS, UNKNOWN, load_protocol, read_json
from ...acquisition.keys import READ_KEYS
from ...acquisition.protocols import check_keys
from ...bids import Contrast, Session, parse_name
from ...bids.gains import SAME_KEYS
from ...bids.images import UNREADABLE
from ...bids.names import ENTITIES, SUFFIXES, stem
from ...errors import UserError

ENTRY_KEYS = ("suffix", *SIDECAR_KEYS, *READ_KEYS, *SAME_KEYS)
"""What an acquisition of a request may say: short names (``te``) or BIDS keys, and what tells echoes of one series."""
HOW_TO_TELL = "give acquisitions: for each contrast its suffix (T1w), an object with its parameters, or unknown"


def read_scans(
    image: str, files: object, acquisitions: object, protocol: str | None, folder: Path
) -> tuple[Session, nib.spatialimages.SpatialImage]:
    """The session that a request describes, and the image whose grid the answer gets.

    What is known of a scan is, in this order: its entry in ``acquisitions``; the suffix in its file's name and the
    sidecar beside it; the protocol's scans in their order, where names tell nothing and there are as many.

    Args:
        image: file of one contrast ``(X, Y, Z)`` or of several ``(X, Y, Z, M)``.
        files: names of further such files in its folder; None for none.
        acquisitions: one for each contrast, or comma-separated suffixes; None to go by names and protocol.
        protocol: see :func:`scripts.acquisition.load_protocol`; None for none.
        folder: where to put the single contrasts of a file.

    Raises:
        UserError: for unreadable files, and where the number of acquisitions is not that of contrasts.
    """
    if not isinstance(image, str):
        raise UserError("image", repr(image), "name one file, and further ones as files")
    names = files if isinstance(files, list) else [] if files is None else [files]
    if not all(isinstance(name, str) for name in names):
        raise UserError("files", repr(files), "give a list of file names")
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"files: {name}", "a path that leaves the folder of the image", "name files of that folder")
    paths = [Path(image), *(Path(image).parent / name for name in names)]
    loaded = [_load(path) for path in paths]
    contrasts = [contrast for path, whole in zip(paths, loaded) for contrast in _contrasts(path, whole, folder)]
    if acquisitions is None and not any(contrast.suffix for contrast in contrasts):
        acquisitions = _of_protocol(protocol, len(contrasts))
    if acquisitions is not None:
        contrasts = _told(contrasts, acquisitions)
    return Session("request", None, tuple(contrasts)), loaded[0]


def _load(path: Path) -> nib.spatialimages.SpatialImage:
    try:
        return nib.load(path)
    except UNREADABLE as error:
        raise UserError(path, f"no readable image ({error})", "send a NIfTI file") from None


def _contrasts(path: Path, whole: nib.spatialimages.SpatialImage, folder: Path) -> list[Contrast]:
    """What a file and its name tell of its contrasts; those of a 4D file become files of their own."""
    if len(whole.shape) == 4 and whole.shape[3] > 1:
        parts = folder / stem(path)
        parts.mkdir(exist_ok=True)
        files = [parts / f"volume-{number + 1}.nii" for number in range(whole.shape[3])]
        try:
            for file, part in zip(files, nib.four_to_three(whole)):
                nib.save(part, file)
        except UNREADABLE as error:
            raise UserError(path, f"a damaged or truncated file ({error})", "copy it anew") from None
        return [Contrast(file, "", {}, {}) for file in files]
    entities, suffix = parse_name(stem(path))
    suffix = suffix if suffix in SUFFIXES.values() else SUFFIXES.get(suffix.lower(), "")
    sidecar = path.with_name(f"{stem(path)}.json")
    kept = {entity: label for entity, label in entities.items() if entity in ENTITIES}
    return [Contrast(path, suffix, kept, read_json(sidecar) if sidecar.is_file() else {})]


def _of_protocol(protocol: str | None, count: int) -> list[str]:
    """The protocol's word for each contrast of files whose names tell nothing."""
    table = load_protocol(protocol)
    if table == UNKNOWN:
        return [UNKNOWN] * count
    if table is None or len(table) != count:
        scans = f", which is of {', '.join(table)}" if table else ""
        raise UserError("acquisitions", f"none for {count} contrasts and the protocol {protocol}{scans}", HOW_TO_TELL)
    return [*table]


def _told(contrasts: Sequence[Contrast], acquisitions: object) -> list[Contrast]:
    """The contrasts with what the request says of them instead of what their names and sidecars say."""
    if isinstance(acquisitions, str):
        acquisitions = [word.strip() for word in acquisitions.split(",")]
    entries = acquisitions if isinstance(acquisitions, list) else [acquisitions]
    if len(entries) != len(contrasts):
        raise UserError("acquisitions", f"{len(entries)} for {len(contrasts)} contrasts", HOW_TO_TELL)
    told = []
    for number, (contrast, entry) in enumerate(zip(contrasts, entries), start=1):
        if entry == UNKNOWN:
            entry = {SEQUENCE_KEYS[0]: UNKNOWN}
        elif isinstance(entry, str):
            entry = {"suffix": entry}
        if not isinstance(entry, Mapping):
            raise UserError(f"acquisitions: {number}", repr(entry), HOW_TO_TELL)
        check_keys(entry, ENTRY_KEYS, f"acquisitions: {number}")
        sidecar = {SIDECAR_KEYS.get(key, key): value for key, value in entry.items() if key != "suffix"}
        told.append(Contrast(contrast.path, entry.get("suffix", contrast.suffix), contrast.entities, sidecar))
    return told

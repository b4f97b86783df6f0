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

"""Named protocols: the parameters of known studies, and the user's own, for images without a sidecar."""

import json
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from ..errors import UserError
from .keys import READ_KEYS, SEQUENCE_KEYS, check_values
from .record import UNKNOWN

FOLDER = Path(__file__).parent
PROTOCOLS: dict[str, dict] = json.loads((FOLDER / "protocols.json").read_text(encoding="utf-8"))
NAMES = tuple(PROTOCOLS)
KINDS = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
"""What JSON calls a Python type."""
AUTO = "auto"
"""Word for: the scans say which of the named protocols explains them best."""
REMARKS = ("source", "note", "assumed")
"""What an entry or a render request may say besides; for the reader only."""


def load_protocol(protocol: str | Path | None, auto: bool = False) -> dict[str, dict | str] | str | None:
    """BIDS keys for images without a sidecar, by BIDS suffix.

    Args:
        protocol: one of :data:`NAMES`; a JSON file of one protocol, or of several by name as ``protocols.json`` is;
            ``FILE:NAME`` for one of several; or the word ``unknown``, then scans of which too little is stated become
            :data:`UNKNOWN`; or :data:`AUTO`. In a file, ``unknown`` may stand for the keys of one suffix. None for
            none.
        auto: whether :data:`AUTO` is allowed: where scans choose among the protocols.

    Returns:
        suffix -> keys, or :data:`UNKNOWN`; that word itself, or ``auto``; or None.

    Raises:
        UserError: for a name that is none, an unusable file, or :data:`AUTO` where it is not allowed.
    """
    if protocol is None:
        return None
    name = str(protocol)
    if name == AUTO and not auto:
        raise UserError("protocol", repr(name), "name one: only inference lets the scans choose")
    if name in (AUTO, UNKNOWN):
        return name
    if name in PROTOCOLS:
        where, content = name, PROTOCOLS[name]
    elif Path(name).suffix == ".json" or os.path.isfile(name):
        where, content = name, _one_protocol(read_json(name), name)
    elif ".json:" in name:
        where = name
        file, _, wanted = name.rpartition(":")
        content = _one_protocol(read_json(file), file, wanted)
    else:
        raise UserError("protocol", repr(name), suggest(name, (*NAMES, AUTO, UNKNOWN), "or your own JSON file"))
    table = {suffix: _entry(keys, f"{where}: {suffix}") for suffix, keys in content.items() if suffix not in REMARKS}
    if not table:
        raise UserError(where, "no scans", "give an object of BIDS keys for each suffix, such as T1w")
    return table


def _one_protocol(content: dict, file: str, wanted: str | None = None) -> dict:
    """The protocol of a file that holds one, or that one of several named ones which is wanted.

    Raises:
        UserError: when several are there and none is named, or another one than those there.
    """
    entries = {name: entry for name, entry in content.items() if name not in REMARKS}
    if not entries or not all(_is_protocol(entry) for entry in entries.values()):
        if wanted is None:
            return content
        raise UserError(file, "one protocol without a name", f"leave out :{wanted}")
    if wanted is None and len(entries) > 1:
        names = ", ".join(entries)
        raise UserError(
            file, f"{len(entries)} protocols", f"name one of them, as in {file}:{next(iter(entries))} ({names})"
        )
    if wanted is not None and wanted not in entries:
        raise UserError(f"{file}:{wanted}", "no such protocol in the file", suggest(wanted, entries))
    return entries[wanted] if wanted is not None else next(iter(entries.values()))


def _is_protocol(entry: object) -> bool:
    """Whether this is a protocol (suffix -> keys), not the keys of one suffix."""
    if not isinstance(entry, Mapping):
        return False
    scans = {suffix: keys for suffix, keys in entry.items() if suffix not in REMARKS}
    if not scans or any(key in READ_KEYS for key in scans):
        return False
    return all(isinstance(keys, Mapping) or keys == UNKNOWN for keys in scans.values())


def read_json(path: str | Path, kinds: tuple[type, ...] = (dict,)) -> dict | list:
    """What a JSON file holds: an object, or another of ``kinds``.

    Text that is not Unicode is taken for Latin-1, which older converters wrote: at worst a name is misspelt.

    Raises:
        UserError: when the file is absent, unreadable, broken, or holds something else.
    """
    try:
        content = json.loads(_decode(Path(path).read_bytes()))
    except OSError as error:
        raise UserError(
            path, error.strerror.lower() if error.strerror else str(error), "name a readable file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(path, f"broken JSON ({error})", "repair the file") from None
    if not isinstance(content, kinds):
        found = KINDS.get(type(content), "number")
        raise UserError(path, f"a JSON {found}", f"give a JSON {' or '.join(KINDS[kind] for kind in kinds)}")
    return content


def _decode(content: bytes) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:
        return content.decode("latin-1")


def suggest(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """What to do about a name that is none of ``names``: the nearest one first."""
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    choices = ", ".join(names) + (f", {otherwise}" if otherwise else "")
    return f"use {near[0]}, if that is what you mean, or another of: {choices}" if near else f"use one of: {choices}"


def check_keys(given: Mapping, known: Iterable[str], where: object) -> None:
    """Refuses the first key of ``given`` that is not in ``known``, with the nearest name."""
    for key in given:
        if key not in known:
            raise UserError(where, f"the key {key!r}", suggest(str(key), known))


def _entry(keys: object, where: str) -> dict | str:
    if keys == UNKNOWN:
        return UNKNOWN
    if not isinstance(keys, Mapping):
        raise UserError(where, repr(keys), f'give an object of BIDS keys per suffix, or "{UNKNOWN}"')
    check_keys(keys, (*READ_KEYS, *REMARKS), where)
    for key in SEQUENCE_KEYS:
        if keys.get(key) == UNKNOWN:
            raise UserError(f"{where}: {key}", repr(UNKNOWN), f'give "{UNKNOWN}" instead of the keys of this suffix')
    check_values(keys, where)
    return {key: value for key, value in keys.items() if key not in REMARKS}

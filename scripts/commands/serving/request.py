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

"""What a request asks for, by one strict schema: nothing of a request is a path to elsewhere, code, or a reference.

The values come from strangers. They are compared with lists of words, read as numbers within limits, or are plain names
of files; whatever else they are is refused before a file is opened.
"""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import NamedTuple

from ...acquisition import SEQUENCE_KEYS, SIDECAR_KEYS, UNKNOWN, RenderRequest, load_render
from ...acquisition.keys import EXCITATION_KEY, PREPARATION_KEYS, READ_KEYS, SHOTS_KEY
from ...acquisition.protocols import NAMES, check_keys, suggest
from ...acquisition.record import check_value, is_number
from ...bids.gains import SAME_KEYS
from ...bids.names import SUFFIXES
from ...errors import UserError
from ...signal import SEQUENCES
from ...tissue import MAPS

WANTED = ("te", "tr", "ti", "flip_angle")
"""Parameters of the contrast to render, beside ``sequence`` [s, degrees]."""
PARAMETERS = ("output", "sequence", *WANTED, "seed", "protocol", "acquisitions", "files")
OUTPUTS = (*map(str.lower, MAPS), *(f"{name.lower()}_sd" for name in MAPS), "signal")
DEFAULT_OUTPUT = "t1"
CONTRASTS = tuple(dict.fromkeys(SUFFIXES.values()))
"""Suffixes of which an equation follows from the times."""
ENTRY_KEYS = ("suffix", *SIDECAR_KEYS, *READ_KEYS, *SAME_KEYS)
"""What an acquisition of a request may say: short names (``te``) or BIDS keys, and what tells echoes of one series."""
NUMBERS = (*SIDECAR_KEYS.values(), *PREPARATION_KEYS, EXCITATION_KEY, SHOTS_KEY)
"""The keys of it whose values are numbers, in their units."""
HOW_TO_TELL = "give acquisitions: for each contrast its suffix (T1w), an object with its parameters, or unknown"
LARGEST_SEED = 2**63 - 1
MOST_PARAMETERS, MOST_SCANS, MOST_VALUES, LONGEST_TEXT, LONGEST_QUOTE = 256, 16, 32, 256, 60
"""Parameters of a request, scans of it, values of a list, letters of a text, and letters that a refusal quotes."""
NUMBER = re.compile(r"[+-]?(\d{1,20}(\.\d{0,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?", re.ASCII)
FILE_NAME = re.compile(r"[^/\\\x00]{1,247}\.nii(\.gz)?", re.IGNORECASE)


class Request(NamedTuple):
    """A request whose parameters were checked.

    Attributes:
        output: one of :data:`OUTPUTS`.
        contrast: what to render; None unless the output is ``signal``.
        seed: of a draw from the posterior of the maps; None for the estimate itself.
        protocol: a protocol's name, or :data:`UNKNOWN`; None for none.
        acquisitions: an object for each contrast, in BIDS keys and ``suffix``; None to go by files and protocol.
        files: names of further files in the folder of the image.
    """

    output: str
    contrast: RenderRequest | None = None
    seed: int | None = None
    protocol: str | None = None
    acquisitions: tuple[dict, ...] | None = None
    files: tuple[str, ...] = ()


def read_request(parameters: Mapping) -> Request:
    """The request in the parameters of a call; what belongs to the server itself is passed over.

    Forms of user interfaces send text for numbers and empty text for nothing; both are read as they are meant.

    Args:
        parameters: those of :data:`PARAMETERS` that were given, among others.

    Raises:
        UserError: for whatever the schema does not allow, and a contrast that cannot be rendered.
    """
    _check_names(parameters)
    output = stated(parameters, "output")
    output = DEFAULT_OUTPUT if output is None else _word("output", output, OUTPUTS)
    # What this output does not need is checked too: a mistake in it should not wait for the next request.
    wanted = _wanted(parameters)
    protocol, acquisitions = stated(parameters, "protocol"), stated(parameters, "acquisitions")
    return Request(
        output,
        _contrast(wanted) if output == "signal" else None,
        _seed(stated(parameters, "seed")),
        None if protocol is None else _word("protocol", protocol, (*NAMES, UNKNOWN)),
        None if acquisitions is None else read_acquisitions(acquisitions),
        _files(stated(parameters, "files")),
    )


def stated(parameters: Mapping, name: str) -> object:
    """A parameter's value; None where it is absent or empty."""
    value = parameters.get(name)
    return None if value == "" else value


def shown(value: object) -> str:
    """A value as a refusal quotes it: short, on one line, in letters that any terminal prints."""
    if isinstance(value, (Mapping, list, tuple)):
        return "an object" if isinstance(value, Mapping) else "a list"
    text = ascii(value[: 2 * LONGEST_QUOTE] if isinstance(value, str) else value)
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def number(value: object) -> object:
    """The number that a text stands for; anything else as it is, to be refused where numbers are checked."""
    return float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value


def read_acquisitions(acquisitions: object) -> tuple[dict, ...]:
    """The acquisitions of a request as objects of BIDS keys and ``suffix``.

    Args:
        acquisitions: a suffix, an object or :data:`UNKNOWN`, or a list of such; suffixes also as ``"T1w,T2w"``.

    Raises:
        UserError: for other keys, keys that mean the same, and values that no such key has.
    """
    if isinstance(acquisitions, str) and len(acquisitions) <= LONGEST_TEXT:
        acquisitions = [word.strip() for word in acquisitions.split(",")]
    entries = acquisitions if isinstance(acquisitions, (list, tuple)) else [acquisitions]
    if len(entries) > MOST_SCANS:
        raise UserError("acquisitions", f"{len(entries)} contrasts", f"give at most {MOST_SCANS}")
    return tuple(_acquisition(entry, f"acquisitions: {place}") for place, entry in enumerate(entries, start=1))


def _check_names(parameters: Mapping) -> None:
    """Refuses names that are meant for ours; any other may be one that a server or a viewer knows."""
    if len(parameters) > MOST_PARAMETERS:
        raise UserError("params", f"{len(parameters)} parameters", f"send at most {MOST_PARAMETERS}")
    short = {key.lower(): name for name, key in SIDECAR_KEYS.items()}
    for name in parameters:
        if name in PARAMETERS or len(name) > LONGEST_QUOTE:
            continue
        if name.lower() in short:
            raise UserError(shown(name), "a BIDS key among the parameters", f"use {short[name.lower()]}")
        near = get_close_matches(name.lower(), PARAMETERS, 1, cutoff=0.75)
        if near:
            raise UserError(shown(name), "a parameter of no such name", f"use {near[0]}")


def _word(where: str, value: object, words: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in words:
        nearest = value if isinstance(value, str) and len(value) <= LONGEST_QUOTE else ""
        raise UserError(where, shown(value), suggest(nearest, words))
    return value


def _wanted(parameters: Mapping) -> dict:
    """What is said of the contrast to render: its numbers by BIDS key, and ``sequence``."""
    sequence = stated(parameters, "sequence")
    wanted = {} if sequence is None else {"sequence": _word("sequence", sequence, (*CONTRASTS, *SEQUENCES))}
    for name in WANTED:
        value = number(stated(parameters, name))
        if value is not None and not is_number(value):
            do = f"give one number in {'degrees' if name == 'flip_angle' else 'seconds'}"
            raise UserError(f"{name} ({SIDECAR_KEYS[name]})", shown(value), do)
        if value is not None:
            check_value(name, value, name)
            wanted[SIDECAR_KEYS[name]] = value
    return wanted


def _contrast(wanted: dict) -> RenderRequest:
    """The contrast to render; its equation is named, or follows from a suffix and the times."""
    sequence = wanted.pop("sequence", None)
    if sequence is None:
        raise UserError("sequence", "nothing", f"name a signal equation, or one of {', '.join(CONTRASTS)}")
    # A named equation leaves nothing for the suffix to tell.
    kind = {"suffix": sequence} if sequence in CONTRASTS else {"suffix": "T1w", "sequence": sequence}
    return load_render([{"name": "signal", **kind, **wanted}])[0]


def _seed(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\d{1,19}", value, re.ASCII):
        value = int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_SEED):
        do = f"use a whole number from 0 to {LARGEST_SEED}, or none for the estimate itself"
        raise UserError("seed", shown(value), do)
    return value


def _files(value: object) -> tuple[str, ...]:
    names = [] if value is None else value if isinstance(value, list) else [value]
    if len(names) > MOST_SCANS:
        raise UserError("files", f"{len(names)} files", f"name at most {MOST_SCANS}")
    for name in names:
        if not isinstance(name, str) or not FILE_NAME.fullmatch(name) or not name.isprintable():
            do = "give names of .nii or .nii.gz files in the folder of the image, without a path"
            raise UserError("files", shown(name), do)
        if names.count(name) > 1:
            raise UserError("files", f"{shown(name)} twice", "list each scan once")
    return tuple(names)


def _acquisition(entry: object, where: str) -> dict:
    if isinstance(entry, str):
        entry = {SEQUENCE_KEYS[0]: UNKNOWN} if entry == UNKNOWN else {"suffix": entry}
    if not isinstance(entry, Mapping):
        raise UserError(where, shown(entry), HOW_TO_TELL)
    if any(len(key) > LONGEST_QUOTE for key in entry):
        raise UserError(where, f"a key of more than {LONGEST_QUOTE} letters", f"use {', '.join(SIDECAR_KEYS)}")
    check_keys(entry, ENTRY_KEYS, where)
    names: dict[str, str] = {}
    for name in entry:
        key = SEQUENCE_KEYS[0] if name in SEQUENCE_KEYS else SIDECAR_KEYS.get(name, name)
        if key in names:
            raise UserError(where, f"{names[key]} and {name}, which mean the same", "give one of them")
        names[key] = name
    keys = {key: entry[name] for key, name in names.items()}
    check_entry(keys, where)
    return keys


def check_entry(keys: Mapping, where: str, quote: bool = True) -> None:
    """Refuses values of a kind that their keys never have; :func:`from_sidecar` checks the numbers themselves.

    Args:
        keys: BIDS keys, and ``suffix``.
        where: for the message.
        quote: whether the message may quote the value.
    """
    for key, value in keys.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        found = shown(value) if quote else "a value of another kind"
        if key == "suffix":
            if not isinstance(value, str) or not re.fullmatch("[A-Za-z0-9]{1,32}", value):
                raise UserError(f"{where}: suffix", found, f"use one of {', '.join(CONTRASTS)}")
        elif key in SEQUENCE_KEYS:
            if value is not None and (not isinstance(value, str) or value not in (*SEQUENCES, UNKNOWN)):
                raise UserError(f"{where}: {key}", found, f"use one of {', '.join((*SEQUENCES, UNKNOWN))}")
        elif key in NUMBERS:
            if len(values) > 2 or not all(one is None or is_number(one) for one in values):
                raise UserError(f"{where}: {key}", found, "give one number, times in seconds")
        elif len(values) > MOST_VALUES or not all(map(_is_plain, values)):
            raise UserError(f"{where}: {key}", found, f"give a number, or a text of at most {LONGEST_TEXT} letters")


def _is_plain(value: object) -> bool:
    return value is None or is_number(value) or (isinstance(value, str) and len(value) <= LONGEST_TEXT)

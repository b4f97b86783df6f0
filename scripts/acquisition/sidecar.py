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

"""Acquisitions from and to the keys of BIDS sidecars."""

import re
from collections.abc import Mapping

from ..errors import UserError
from ..signal import SEQUENCES
from .protocols import NAMES
from .record import FIELDS, PROVENANCE, SIDECAR_KEYS, Acquisition, check, check_value

PREPARATION_KEYS = ("RepetitionTimePreparation", "RepetitionTimePreperation")
"""Time from inversion to inversion; the second spelling stands in a table of the BIDS specification."""
SEQUENCE_KEYS = ("SignalModel", "sequence")
"""Name the signal equation: the first in sidecars, the second in requests; both are read everywhere."""
SHORTEST_SHOT = 0.05
"""Shortest believable TR of an inversion-prepared scan [s]: below, it is the time between two excitations."""
MPRAGE_TR, MPRAGE_TE = 1.4, 0.008
"""A T1w scan with a longer TR and a shorter TE [s] than these is an MPRAGE, whatever its sidecar omits."""


def from_sidecar(
    suffix: str, sidecar: Mapping, where: object, protocol: Mapping[str, Mapping] | None = None
) -> Acquisition:
    """The acquisition that a BIDS sidecar describes; a protocol fills what the sidecar lacks.

    The sidecar's values are ``given`` (or what its own ``ParameterProvenance`` says), those of the protocol
    ``assumed``. A T1w image whose TR is the time between excitations (GE, Philips) takes its TR from
    ``RepetitionTimePreparation``: ``derived``.

    Args:
        suffix: BIDS suffix of the image, such as ``T1w``.
        sidecar: BIDS keys and values.
        where: the file, for the message.
        protocol: suffix -> BIDS keys and values, see :func:`load_protocol`; empty where none can be named.

    Raises:
        UserError: for unknown suffixes, missing fields (all of them named) and whatever :func:`check` refuses.
    """
    for name, key in SIDECAR_KEYS.items():
        if sidecar.get(key) is not None:
            check_value(name, sidecar[key], where)
    entry = (protocol or {}).get(suffix, {})
    sequence = _sequence(suffix, sidecar, entry, where)
    inversion = sequence is not None and "ti" in SEQUENCES[sequence].fields
    found = {name: _find(SIDECAR_KEYS[name], sidecar, entry) for name in FIELDS if name != "ti" or inversion}
    found["tr"] = _find_repetition_time(sidecar, entry, inversion)
    found = {name: pair for name, pair in found.items() if pair is not None}

    fields = SEQUENCES[sequence].fields if sequence else ("te", "tr")
    if protocol != {} and "te" not in fields:
        # The network is told the TE of every scan; a contrast to be rendered needs what its equation needs.
        fields = ("te", *fields)
    missing = [name for name in fields if name not in found]
    if missing:
        keys = ["InversionTime (MPRAGE only)"] if sequence is None else []
        keys = [SIDECAR_KEYS[name] for name in missing] + keys
        if "tr" in missing and sidecar.get("RepetitionTime") is not None:
            keys[missing.index("tr")] = f"{PREPARATION_KEYS[0]} (RepetitionTime is between excitations, not inversions)"
        elif missing == ["ti"] and suffix == "T1w":
            keys = ["InversionTime (the other parameters are those of an MPRAGE)"]
        do = f"add them to the sidecar or to the protocol's {suffix} entry" if protocol else "add them"
        if protocol is None:
            do = f"add them to the sidecar or name a protocol with --protocol ({', '.join(NAMES)})"
        raise UserError(where, "no " + ", ".join(keys), do)
    fields, provenance = ({name: pair[i] for name, pair in found.items()} for i in (0, 1))
    acquisition = Acquisition(sequence, **fields, provenance=provenance)
    check(acquisition, where)
    return acquisition


def to_sidecar(acquisition: Acquisition) -> dict:
    """BIDS keys of an acquisition, the name of its signal equation and the origin of every value."""
    known = {key: name for name, key in SIDECAR_KEYS.items() if getattr(acquisition, name) is not None}
    return {
        **{key: getattr(acquisition, name) for key, name in known.items()},
        "SignalModel": acquisition.sequence,
        "ParameterProvenance": {key: acquisition.provenance.get(name, "unknown") for key, name in known.items()},
    }


def _sequence(suffix: str, sidecar: Mapping, entry: Mapping, where: object) -> str | None:
    """Name of the signal equation; None for a T1w image of which nothing is known."""
    for key in SEQUENCE_KEYS:
        name = sidecar.get(key, entry.get(key))
        if name is not None:
            if not isinstance(name, str) or name not in SEQUENCES:
                raise UserError(f"{where}: {key}", repr(name), f"use one of {', '.join(SEQUENCES)}")
            return name
    inverted = sidecar.get("InversionTime") is not None
    if suffix == "FLAIR":
        return "paper_flair"
    if suffix in ("T2w", "PDw"):
        # A dark-fluid scan stored as T2w: a spin echo after an inversion.
        return "paper_flair" if inverted else "paper_spin_echo"
    if suffix != "T1w":
        do = f"use T1w, T2w, PDw or FLAIR, or name the equation as {SEQUENCE_KEYS[0]} ({', '.join(SEQUENCES)})"
        raise UserError(where, f"the suffix {suffix}, which no signal equation belongs to", do)

    words = " ".join(str(sidecar.get(key)) for key in ("SequenceName", "PulseSequenceDetails", "ScanningSequence"))
    codes = re.split("[^A-Z]+", str(sidecar.get("ScanningSequence")).upper())
    inverted = inverted or "IR" in codes or any(sidecar.get(key) is not None for key in PREPARATION_KEYS)
    if inverted or re.search("mp-?rage|tfl", words, re.IGNORECASE):
        return "paper_flair" if "SE" in codes else "paper_mprage"
    source = entry if sidecar.get("RepetitionTime") is None else sidecar
    te, tr = source.get("EchoTime"), source.get("RepetitionTime")
    if source is entry and entry.get("InversionTime") is not None:
        return "paper_mprage"
    if tr is None:
        return None
    gradient_echo = tr < SHORTEST_SHOT or (tr >= MPRAGE_TR and (te is None or te <= MPRAGE_TE))
    return "paper_mprage" if gradient_echo else "paper_spin_echo"


def _find(key: str, sidecar: Mapping, entry: Mapping) -> tuple[float, str] | None:
    """Value and origin of one BIDS key; the sidecar comes before the protocol."""
    if sidecar.get(key) is not None:
        origins = sidecar.get("ParameterProvenance")
        origin = origins.get(key) if isinstance(origins, Mapping) else None
        return sidecar[key], origin if origin in PROVENANCE else "given"
    return None if entry.get(key) is None else (entry[key], "assumed")


def _find_repetition_time(sidecar: Mapping, entry: Mapping, inversion: bool) -> tuple[float, str] | None:
    """As :func:`_find`, for the TR; after an inversion only a time from inversion to inversion counts."""
    for given, assumed, origin in ((sidecar, {}, "derived"), ({}, entry, "assumed")):
        pair = _find("RepetitionTime", given, assumed)
        if pair is not None and not (inversion and pair[0] < SHORTEST_SHOT):
            return pair
        preparation = [value for key in PREPARATION_KEYS if (value := {**given, **assumed}.get(key)) is not None]
        if preparation:
            return preparation[0], origin
    return None

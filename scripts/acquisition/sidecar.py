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

from collections.abc import Mapping

from ..errors import UserError
from ..signal import SEQUENCES
from .defaults import complete, refocusing_angle
from .identify import WAYS_OUT, identify
from .keys import (
    EXCITATION_KEY,
    PREPARATION_KEYS,
    SEQUENCE_KEYS,
    SHORTEST_SHOT,
    SHOTS_KEY,
    Found,
    Keys,
    check_values,
    said,
)
from .protocols import AUTO, NAMES, load_protocol
from .record import FIELDS, SIDECAR_KEYS, UNKNOWN, Acquisition, check, required
from .timing import check_timing

EQUATIONS = ("exact", "paper")
LINES = {"te": 0.003, "tr": 2.3, "ti": 0.9}
"""Usual times [s] of an inversion-prepared scan, for a line that a user pastes and completes."""
TIMES = ("te", "tr", "ti", "ti2")
ALIKE = (*TIMES, "field_strength")
"""Fields that mean the same in any sequence; an angle may be of a refocusing pulse, a train follow an inversion."""


def from_sidecar(
    suffix: str,
    sidecar: Mapping,
    where: object,
    protocol: Mapping[str, Mapping | str] | str | None = None,
    equations: str = "exact",
) -> Acquisition:
    """The acquisition that a BIDS sidecar describes; a protocol fills what the sidecar of a scan with its times lacks.

    TE, TR and TI have to be known. Everything else that the signal equation needs is ``given``, ``derived`` from what
    is known, or ``assumed``; the values of a protocol are ``assumed`` too. The record's ``remarks`` say from what, its
    ``evidence`` why it is this sequence. A sidecar written by :func:`to_sidecar` gives the same record again.

    Where the protocol is :data:`UNKNOWN`, as a whole or for this suffix, a scan of which too little is stated gets that
    for its sequence. Its record keeps the stated times and field strength and says what is missing; nothing is assumed.
    What is stated must be possible all the same. A sidecar may say so itself, as its ``SignalModel``.

    Args:
        suffix: BIDS suffix of the image, such as ``T1w``.
        sidecar: BIDS keys and values.
        where: the file, for the message.
        protocol: suffix -> BIDS keys and values, or :data:`UNKNOWN`, or that word alone, see :func:`load_protocol`;
            empty where none can be named.
        equations: ``exact``, or ``paper`` for the published equation that stands for the sequence.

    Raises:
        UserError: for unknown suffixes, missing fields (all of them named) and whatever :func:`check` refuses.
    """
    if equations not in EQUATIONS:
        raise UserError("equations", repr(equations), f"use one of {', '.join(EQUATIONS)}")
    sidecar = said(sidecar)
    check_values(sidecar, where)
    entry = UNKNOWN if protocol in (AUTO, UNKNOWN) else (protocol or {}).get(suffix, {})
    keys = Keys(sidecar, {} if entry == UNKNOWN else entry)
    sequence, confidence, evidence = identify(suffix, keys, where)
    if sequence in SEQUENCES and equations == "paper":
        sequence = SEQUENCES[sequence].paper or sequence

    fields = ("te", "tr") if sequence is None else required(sequence)
    found = _times(fields if sequence in SEQUENCES else _stated_times(keys), keys)
    if sequence in SEQUENCES:
        explicit = any(keys.get(key) is not None for key in SEQUENCE_KEYS)
        try:
            found |= {name: one for name, one in complete(sequence, fields, keys, found, explicit).items() if one}
        except UserError as error:
            raise UserError(f"{where}: {error.where}", error.found, error.do) from None
    if (strength := keys.find(SIDECAR_KEYS["field_strength"])) is not None:
        found["field_strength"] = strength

    # The network is told the TE of every scan that has an equation; to render one takes what its equation needs.
    asked_for = ("te", *fields) if fields and protocol != {} else fields
    missing = [name for name in dict.fromkeys(asked_for) if name not in found]
    unequated = sequence is None and not missing
    if (missing or unequated) and entry == UNKNOWN:
        return _unidentified(fields, found, _asked(missing, sequence, keys), evidence, where)
    if sequence in SEQUENCES and equations == "paper" and SEQUENCES[sequence].paper is None:
        do = "leave the scan out, or set equations to exact"
        raise UserError(where, f"{sequence}, for which the paper has no equation", do)
    if unequated:
        found = f"{evidence}: a turbo-FLASH without inversion, which no signal equation is for"
        raise UserError(where, found, f"without an inversion {WAYS_OUT}; {_accept(suffix, protocol)}")
    if missing:
        names = _completing(suffix, sidecar, where, equations) if protocol is None else []
        raise _incomplete(suffix, missing, sequence, keys, where, protocol, names)
    acquisition = _record(sequence, found, _unknown(sequence, keys, found), confidence, evidence)
    check(acquisition, where)
    return acquisition


def to_sidecar(acquisition: Acquisition) -> dict:
    """BIDS keys of an acquisition, its signal equation and why, and the origin of every value; nothing is added."""
    fields = required(acquisition.sequence)
    known = {name: value for name in FIELDS if (value := getattr(acquisition, name)) is not None}
    sidecar = {sidecar_key(name, acquisition.sequence): value for name, value in known.items()}
    if "echoes_before_centre" in fields:
        before = sidecar.pop(SIDECAR_KEYS["echoes_before_centre"])
        sidecar[SHOTS_KEY] = [before, acquisition.echo_train_length - before]
    said = [name for name in FIELDS if name in known or name in acquisition.remarks]
    origins = {name: acquisition.provenance.get(name, "unknown") for name in said}
    return {
        **sidecar,
        "SignalModel": acquisition.sequence,
        **(
            {"SignalModelEvidence": f"{acquisition.confidence}: {acquisition.evidence}"} if acquisition.evidence else {}
        ),
        "ParameterProvenance": {
            sidecar_key(name, acquisition.sequence): ": ".join(filter(None, (origin, acquisition.remarks.get(name))))
            for name, origin in origins.items()
        },
    }


def sidecar_key(name: str, sequence: str) -> str:
    """BIDS key of a field; excitations after an inversion have others than echoes after an excitation."""
    readout = {"echo_train_length": SHOTS_KEY, "echo_spacing": EXCITATION_KEY}
    after_inversion = "echoes_before_centre" in required(sequence)
    return readout[name] if after_inversion and name in readout else SIDECAR_KEYS[name]


def _times(fields: tuple[str, ...], keys: Keys) -> dict[str, Found]:
    inversion = "ti" in fields
    found = {"te": keys.find("EchoTime"), "tr": _repetition_time(keys, inversion and "tr" in fields)}
    if inversion:
        found["ti"] = keys.find("InversionTime")
    if "ti2" in fields:
        found["ti2"] = keys.find_second("InversionTime")
    return {name: one for name, one in found.items() if one is not None}


def _stated_times(keys: Keys) -> tuple[str, ...]:
    """The times to look for where no equation tells: those of an inversion where one of them is stated."""
    return TIMES if keys.find("InversionTime") or keys.find_second("InversionTime") else ("te", "tr")


def _repetition_time(keys: Keys, inversion: bool) -> Found | None:
    """The TR; after an inversion the time from inversion to inversion, which RepetitionTime need not be."""
    before, after = (PREPARATION_KEYS, ()) if inversion else ((), (*PREPARATION_KEYS, EXCITATION_KEY))
    for source, origin, remark in ((keys.sidecar, "derived", ""), (keys.entry, "assumed", "the protocol's ")):
        for key in (*before, "RepetitionTime", *after):
            if source.get(key) is None or (inversion and source[key] < SHORTEST_SHOT):
                continue
            return keys.find(key) if key == "RepetitionTime" else Found(source[key], origin, f"{remark}{key}")
    return None


def _unknown(sequence: str, keys: Keys, found: Mapping[str, Found]) -> dict[str, str]:
    """Remarks on fields that stay unknown, from the sidecar of a scanner or one of ours."""
    remarks = {name: keys.provenance(sidecar_key(name, sequence)) for name in FIELDS if name not in found}
    remarks = {name: remark for name, (origin, remark) in remarks.items() if origin == "unknown" and remark}
    angle = refocusing_angle(required(sequence), keys)
    return remarks | ({"flip_angle": angle} if angle else {})


def _asked(missing: list[str], sequence: str | None, keys: Keys) -> dict[str, str]:
    """Field -> the key to add, of what is missing; what follows from the times is not asked for."""
    named = {name: SIDECAR_KEYS[name] for name in missing}
    if "tr" in missing and keys.sidecar.get("RepetitionTime") is not None:
        named["tr"] = f"{PREPARATION_KEYS[0]} (RepetitionTime is between excitations, not inversions)"
    elif missing == ["ti"] and "mprage" in (sequence or ""):
        named["ti"] = "InversionTime (the other parameters are those of an MPRAGE)"
    if "ti2" in missing:
        named["ti2"] += " (or two values in InversionTime)"
    if missing and sequence is None and keys.find("InversionTime") is None:
        named["ti"] = "InversionTime (MPRAGE only)"
    return {name: key for name, key in named.items() if name in (*TIMES, "flip_angle")}


def _record(
    sequence: str, found: Mapping[str, Found], remarks: Mapping[str, str], confidence: str, evidence: str
) -> Acquisition:
    return Acquisition(
        sequence,
        **{name: one.value for name, one in found.items()},
        provenance={name: one.origin for name, one in found.items()},
        remarks={name: one.remark for name, one in found.items() if one.remark} | remarks,
        confidence=confidence,
        evidence=evidence,
    )


def _unidentified(
    fields: tuple[str, ...], found: Mapping[str, Found], asked: Mapping[str, str], evidence: str, where: object
) -> Acquisition:
    """What is known of a scan whose equation, with these fields, lacks what is asked for."""
    stated = {name: one for name, one in found.items() if one.origin != "assumed"}
    check_timing(_record(UNKNOWN, stated, {}, "low", ""), fields, where)
    remarks = {name: f"no {key}" for name, key in asked.items()}
    evidence = f"too little is stated, no {', '.join(asked.values())}; {evidence}" if asked else evidence
    acquisition = _record(UNKNOWN, {name: stated[name] for name in ALIKE if name in stated}, remarks, "low", evidence)
    check(acquisition, where)
    return acquisition


def _completing(suffix: str, sidecar: Mapping, where: object, equations: str) -> list[str]:
    """The named protocols with which a scan is complete; no other is worth naming."""
    names = []
    for name in NAMES:
        try:
            from_sidecar(suffix, sidecar, where, load_protocol(name), equations)
        except UserError:
            continue
        names.append(name)
    return names


def _accept(suffix: str, protocol: Mapping | str | None) -> str:
    """How to go on without a signal equation."""
    where = f"--protocol {UNKNOWN}" if protocol is None else f'"{suffix}": "{UNKNOWN}" in a protocol file'
    choose = f"let the scans choose one with --protocol {AUTO}; " if protocol is None else ""
    return f"{choose}or accept wider intervals with {where}"


def _incomplete(
    suffix: str,
    missing: list[str],
    sequence: str | None,
    keys: Keys,
    where: object,
    protocol: Mapping | None,
    names: list[str],
) -> UserError:
    """What is missing, all of it, and what to do about it; ``names`` are the protocols that would complete it."""
    between = "tr" in missing and keys.between_excitations
    if between:
        lines = ", ".join(f'"{SIDECAR_KEYS[name]}": {usual}' for name, usual in LINES.items() if name in missing)
        lines = lines.replace(SIDECAR_KEYS["tr"], PREPARATION_KEYS[0])
        do = f"add {lines} to the sidecar, with the scanner's own seconds from one inversion to the next"
        do += ", which Philips calls shot interval"
    else:
        do = "add them to the sidecar" if protocol is None or keys.differing else "add them"
    if keys.differing:
        differing = [key for key in keys.differing if not (between and key == "RepetitionTime")]
        other = ", ".join(f"{key} {protocol[suffix][key]}" for key in differing)
        other = f"is of another scan: {other}" if other else "is for scans that state its EchoTime and InversionTime"
        do += f", since the protocol's {suffix} entry {other}"
    elif protocol and not between:
        do += f" to the sidecar or to the protocol's {suffix} entry"
    if names:
        do += f", or name a protocol with --protocol ({', '.join(names)})"
    if sequence == "mprage" and "ti" in missing and between:
        angle = "" if keys.get("FlipAngle") else " and FlipAngle"
        do += f'; without inversion: add "{SEQUENCE_KEYS[0]}": "spoiled_gradient_echo"{angle}'
    if protocol != {}:
        do += f"; {_accept(suffix, protocol)}"
    return UserError(where, "no " + ", ".join(_asked(missing, sequence, keys).values()), do)

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

"""The acquisition of one contrast: its sequence and parameters, where each came from, and its tensor row.

A row has :data:`ROW_SIZE` numbers: the sequence code, the values of :data:`FIELDS` (SI seconds, degrees; 0 where a
value is unknown or does not apply) and one provenance code per value. A row of zeros stands for an absent contrast.
"""

import math
from dataclasses import dataclass, field
from numbers import Real
from textwrap import shorten

import torch
from torch import Tensor

from ..errors import UserError
from ..signal import SEQUENCES
from .timing import check_timing

SIDECAR_KEYS = {
    "te": "EchoTime",
    "tr": "RepetitionTime",
    "ti": "InversionTime",
    "flip_angle": "FlipAngle",
    "echo_train_length": "EchoTrainLength",
    "echo_spacing": "EchoSpacing",
    "echoes_before_centre": "EchoesBeforeCentre",
    "te_equivalent": "ContrastEquivalentEchoTime",
    "ti2": "InversionTime2",
    "flip_angle2": "FlipAngle2",
    "field_strength": "MagneticFieldStrength",
}
FIELDS = tuple(SIDECAR_KEYS)
PROVENANCE = ("unknown", "assumed", "derived", "given")
ROW_SIZE = 1 + 2 * len(FIELDS)
UNKNOWN = "unknown"
"""Stands for the sequence of a contrast of which too little is known for an equation: the network may read it, with
the fields that are known, no equation renders it. As a protocol, or an entry of one, it accepts such."""
CONFIDENCE = ("low", "medium", "high")
"""Of the sequence: from the suffix alone, from parameters, named in the sidecar."""
LIMITS = {"te": 1.0, "tr": 100.0, "ti": 20.0, "ti2": 20.0, "echo_spacing": 0.2, "te_equivalent": 1.0}
"""Longest believable times [s]: a larger number is in milliseconds."""
ANGLES, COUNTS = ("flip_angle", "flip_angle2"), ("echo_train_length", "echoes_before_centre")
SHORTEST, MOST_ECHOES = 1e-5, 1000
"""Shortest believable time [s], and the longest believable train."""
HIGHEST_FIELD = 25.0
"""Strongest believable field [T]: a larger number is in gauss."""


@dataclass(frozen=True)
class Acquisition:
    """One acquisition in SI seconds and degrees.

    Args:
        sequence: a name of :data:`scripts.signal.SEQUENCES`, or :data:`UNKNOWN`.
        te: echo time [s].
        tr: repetition time [s].
        ti: inversion time [s].
        flip_angle: excitation flip angle [degrees].
        echo_train_length: refocusing pulses after one excitation; excitations after one inversion for MPRAGE.
        echo_spacing: time between two of them [s].
        echoes_before_centre: how many of them come before the centre of k-space.
        te_equivalent: contrast-equivalent echo time of a variable-flip-angle train [s], see
            :func:`scripts.signal.vfa_turbo_spin_echo`.
        ti2: time from the second inversion to the excitation [s]; for MP2RAGE from the inversion to the centre of the
            second readout.
        flip_angle2: flip angle of the second readout of MP2RAGE [degrees].
        field_strength: static field [T].
        provenance: field -> ``given``, ``derived``, ``assumed``; a field that is missing here is ``unknown``.
        remarks: field -> what its value was derived from, which default was assumed, why it is unknown.
        confidence: in the sequence, one of :data:`CONFIDENCE`.
        evidence: for the sequence.
        alternatives: named protocols and what the scan would be by each, this one among them, where the scans are to
            say which; see :func:`scripts.bids.resolve_contrast`.
    """

    sequence: str
    te: float | None = None
    tr: float | None = None
    ti: float | None = None
    flip_angle: float | None = None
    echo_train_length: float | None = None
    echo_spacing: float | None = None
    echoes_before_centre: float | None = None
    te_equivalent: float | None = None
    ti2: float | None = None
    flip_angle2: float | None = None
    field_strength: float | None = None
    provenance: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    confidence: str = "high"
    evidence: str = ""
    alternatives: tuple[tuple[str, "Acquisition"], ...] = ()

    @property
    def volume(self) -> bool:
        """Whether the sequence excites a volume, see :class:`scripts.signal.Sequence`."""
        return self.sequence != UNKNOWN and SEQUENCES[self.sequence].volume

    def to_row(self) -> Tensor:
        """Tensor row ``(ROW_SIZE,)``: code, values, provenance codes."""
        values = [getattr(self, name) for name in FIELDS]
        origins = [PROVENANCE.index(self.provenance.get(name, "unknown")) for name in FIELDS]
        return torch.tensor([sequence_code(self.sequence), *[value or 0.0 for value in values], *origins])


def sequence_code(sequence: str) -> float:
    """Code of a sequence in a row; 0 is kept for an absent contrast.

    Raises:
        UserError: when no signal equation has this name.
    """
    if sequence == UNKNOWN:
        return float(len(SEQUENCES) + 1)
    if sequence not in SEQUENCES:
        raise UserError("sequence", repr(sequence), f"use one of {', '.join(SEQUENCES)}")
    return float(list(SEQUENCES).index(sequence) + 1)


def required(sequence: str) -> tuple[str, ...]:
    """The fields that the equation of a sequence needs; none where the sequence is :data:`UNKNOWN`."""
    return () if sequence == UNKNOWN else SEQUENCES[sequence].fields


def present(rows: Tensor) -> Tensor:
    """Which contrasts exist: ``(..., ROW_SIZE)`` -> boolean ``(...)``."""
    return rows[..., 0] > 0


def has_sequence(rows: Tensor, sequence: str) -> Tensor:
    """Which rows are of a sequence, or of an :data:`UNKNOWN` one: ``(..., ROW_SIZE)`` -> boolean ``(...)``."""
    return rows[..., 0] == sequence_code(sequence)


def sequence_name(row: Tensor) -> str | None:
    """The sequence of one row ``(ROW_SIZE,)``, or :data:`UNKNOWN`; None of an absent contrast."""
    return (None, *SEQUENCES, UNKNOWN)[int(row[0])]


def values(rows: Tensor, name: str) -> Tensor:
    """One field of all rows: ``(..., ROW_SIZE)`` -> ``(...)`` in SI seconds or degrees; a view of ``rows``."""
    return rows[..., _value(name)]


def known(rows: Tensor, name: str) -> Tensor:
    """Which rows have a value of one field, given, derived or assumed: ``(..., ROW_SIZE)`` -> boolean ``(...)``."""
    return rows[..., _origin(name)] > 0


def assumed(rows: Tensor, name: str) -> Tensor:
    """Which rows have an assumed value of one field: ``(..., ROW_SIZE)`` -> boolean ``(...)``."""
    return rows[..., _origin(name)] == PROVENANCE.index("assumed")


def forget_sequence(row: Tensor) -> None:
    """Makes the sequence of one row ``(ROW_SIZE,)`` :data:`UNKNOWN`, in place."""
    row[0] = sequence_code(UNKNOWN)


def forget_field(row: Tensor, name: str) -> None:
    """Makes one field of one row ``(ROW_SIZE,)`` unknown, in place."""
    row[[_value(name), _origin(name)]] = 0


def _value(name: str) -> int:
    """Place of a field's value in a row."""
    return 1 + FIELDS.index(name)


def _origin(name: str) -> int:
    """Place of a field's provenance code in a row."""
    return 1 + len(FIELDS) + FIELDS.index(name)


def check(acquisition: Acquisition, where: object) -> None:
    """Refuses what cannot be an acquisition: missing, non-numeric or misscaled values, impossible timing.

    Args:
        acquisition: what to check.
        where: the file or request it comes from, for the message.

    Raises:
        UserError: naming ``where`` and the BIDS key.
    """
    fields = required(acquisition.sequence)
    missing = [name for name in fields if getattr(acquisition, name) is None]
    if missing:
        keys = ", ".join(SIDECAR_KEYS[name] for name in missing)
        raise UserError(where, f"no {keys}", f"give what {acquisition.sequence} needs, in seconds and degrees")
    for name in FIELDS:
        if getattr(acquisition, name) is not None:
            check_value(name, getattr(acquisition, name), where)
    check_timing(acquisition, fields, where)


def check_value(name: str, value: object, where: object, key: str | None = None) -> None:
    """Refuses a value that is no number, not positive, or in another unit.

    Args:
        name: one of :data:`FIELDS`.
        value: its value.
        where: the file or request it comes from, for the message.
        key: the BIDS key there, if not that of the field.

    Raises:
        UserError: naming ``where``, the key and what to do.
    """
    key, unit = f"{where}: {key or SIDECAR_KEYS[name]}", "seconds"
    if name in ANGLES:
        unit = "degrees"
    elif name in COUNTS:
        unit = "echoes"
    elif name == "field_strength":
        unit = "tesla"
    if not is_number(value):
        raise UserError(key, shorten(repr(value), 80), f"give one number in {unit}")
    if value < 0 or (value == 0 and name != "echoes_before_centre"):
        raise UserError(key, f"{value:g}", f"give a positive number of {unit}")
    if name in COUNTS and value != round(value):
        raise UserError(key, f"{value:g}", f"give a whole number of {unit}")
    if name in COUNTS and value > MOST_ECHOES:
        raise UserError(key, f"{value:g}", f"give the length of one train, at most {MOST_ECHOES}")
    if name in LIMITS and value < SHORTEST:
        raise UserError(key, f"{value:g}", "give seconds")
    if name in ANGLES and value > 360:
        raise UserError(key, f"{value:g}", "give degrees, at most 360")
    if name == "field_strength" and value > HIGHEST_FIELD:
        raise UserError(key, f"{value:g}", f"give tesla ({value / 10000:g}, if that is gauss)")
    if value > LIMITS.get(name, math.inf):
        raise UserError(key, f"{value:g}", f"give seconds ({value / 1000:g})")


def is_number(value: object) -> bool:
    """Whether a value of a JSON file is a number that a float can hold."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False

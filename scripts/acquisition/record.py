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

import torch
from torch import Tensor

from ..errors import UserError
from ..signal import SEQUENCES

FIELDS = ("te", "tr", "ti", "flip_angle")
PROVENANCE = ("unknown", "assumed", "derived", "given")
ROW_SIZE = 1 + 2 * len(FIELDS)
SIDECAR_KEYS = {"te": "EchoTime", "tr": "RepetitionTime", "ti": "InversionTime", "flip_angle": "FlipAngle"}
LIMITS = {"te": 1.0, "tr": 100.0, "ti": 20.0}
"""Longest believable times [s]: a larger number is in milliseconds."""


@dataclass(frozen=True)
class Acquisition:
    """One acquisition in SI seconds and degrees.

    Args:
        sequence: a name of :data:`scripts.signal.SEQUENCES`.
        te: echo time [s].
        tr: repetition time [s].
        ti: inversion time [s].
        flip_angle: excitation flip angle [degrees].
        provenance: field -> ``given``, ``derived``, ``assumed``; a field that is missing here is ``unknown``.
    """

    sequence: str
    te: float | None = None
    tr: float | None = None
    ti: float | None = None
    flip_angle: float | None = None
    provenance: dict[str, str] = field(default_factory=dict)

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
    if sequence not in SEQUENCES:
        raise UserError("sequence", repr(sequence), f"use one of {', '.join(SEQUENCES)}")
    return float(list(SEQUENCES).index(sequence) + 1)


def present(rows: Tensor) -> Tensor:
    """Which contrasts exist: ``(..., ROW_SIZE)`` -> boolean ``(...)``."""
    return rows[..., 0] > 0


def values(rows: Tensor, name: str) -> Tensor:
    """One field of all rows: ``(..., ROW_SIZE)`` -> ``(...)`` in SI seconds or degrees."""
    return rows[..., 1 + FIELDS.index(name)]


def check(acquisition: Acquisition, where: object) -> None:
    """Refuses what cannot be an acquisition: missing, non-numeric or misscaled values, impossible timing.

    Args:
        acquisition: what to check.
        where: the file or request it comes from, for the message.

    Raises:
        UserError: naming ``where`` and the BIDS key.
    """
    missing = [name for name in SEQUENCES[acquisition.sequence].fields if getattr(acquisition, name) is None]
    if missing:
        keys = ", ".join(SIDECAR_KEYS[name] for name in missing)
        raise UserError(where, f"no {keys}", f"give what {acquisition.sequence} needs, in seconds")
    for name in FIELDS:
        if getattr(acquisition, name) is not None:
            check_value(name, getattr(acquisition, name), where)
    te, tr, ti = acquisition.te or 0.0, acquisition.tr or math.inf, acquisition.ti or 0.0
    if te >= tr:
        raise UserError(f"{where}: EchoTime", f"TE {te:g} s ≥ TR {tr:g} s", "give an echo time below RepetitionTime")
    if ti >= tr:
        reason = f"TI {ti:g} s ≥ TR {tr:g} s, but the next inversion follows TR after the last"
        raise UserError(f"{where}: InversionTime", reason, "give an inversion time below RepetitionTime")
    if ti + te >= tr:
        reason = f"TI + TE = {ti + te:g} s ≥ TR {tr:g} s, but the echo comes before the next inversion"
        raise UserError(f"{where}: InversionTime", reason, "give times that fit into RepetitionTime")


def check_value(name: str, value: object, where: object) -> None:
    """Refuses a value that is no number, not positive, or in milliseconds; ``name`` is one of :data:`FIELDS`."""
    key, unit = f"{where}: {SIDECAR_KEYS[name]}", "degrees" if name == "flip_angle" else "seconds"
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise UserError(key, repr(value), f"give one number in {unit}")
    if value <= 0:
        raise UserError(key, f"{value:g}", f"give a positive number of {unit}")
    if name == "flip_angle" and value > 360:
        raise UserError(key, f"{value:g}", "give degrees, at most 360")
    if value > LIMITS.get(name, math.inf):
        raise UserError(key, f"{value:g}", f"give seconds ({value / 1000:g})")

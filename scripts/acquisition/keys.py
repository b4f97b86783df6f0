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

"""What sidecar and protocol say about one scan: each value with its origin, the sidecar before the protocol."""

from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

from ..errors import UserError
from .record import LIMITS, PROVENANCE, SIDECAR_KEYS, check_value, is_number

PREPARATION_KEYS = ("RepetitionTimePreparation", "RepetitionTimePreperation", "RepetitionTimeInversion")
"""Time from inversion to inversion; the second spelling stands in a table of the BIDS specification, the third key is
written by dcm2niix."""
EXCITATION_KEY, SHOTS_KEY = "RepetitionTimeExcitation", "NumberShots"
"""Time between two excitations of a readout, and how many there are; see :mod:`scripts.acquisition.defaults`."""
SEQUENCE_KEYS = ("SignalModel", "sequence")
"""Name the signal equation: the first in sidecars, the second in requests; both are read everywhere."""
NAME_KEYS = ("SequenceName", "PulseSequenceName", "PulseSequenceType")
"""Where scanners name the pulse sequence."""
DETAILS_KEY = "PulseSequenceDetails"
"""One word from a scanner, or anybody's prose."""
CODE_KEYS = ("ScanningSequence", "SequenceVariant", "ScanOptions")
"""DICOM's codes of it."""
LABEL_KEYS = ("ProtocolName", "SeriesDescription")
"""What the operator typed: weak evidence."""
OTHER_KEYS = ("MRAcquisitionType", "Manufacturer", "PartialFourier", "PartialFourierDirection", "EchoNumber")
READ_KEYS = (
    *SIDECAR_KEYS.values(),
    *PREPARATION_KEYS,
    EXCITATION_KEY,
    SHOTS_KEY,
    *SEQUENCE_KEYS,
    *NAME_KEYS,
    DETAILS_KEY,
    *CODE_KEYS,
    *LABEL_KEYS,
    *OTHER_KEYS,
)
"""All that is read of a sidecar; what a protocol's entry or a render request may say."""
PAIRS = {"InversionTime": "ti2", "FlipAngle": "flip_angle2"}
"""Keys that may hold two values, and the field of the second one."""
EMPTY_AS_ZERO = (
    *("InversionTime", "InversionTime2", "EchoTrainLength", "EchoSpacing", "MagneticFieldStrength"),
    *(*PREPARATION_KEYS, EXCITATION_KEY),
)
"""Keys where converters write 0 for none."""
TIMES = ("EchoTime", "RepetitionTime", "InversionTime")
SAME = 0.1
"""Relative difference of times up to which a protocol's entry describes a scan."""
SHORTEST_SHOT = 0.05
"""Shortest believable TR of an inversion-prepared scan [s]: below, it is the time between two excitations."""


class Found(NamedTuple):
    """A value, its provenance, and a remark on that."""

    value: float
    origin: str = "given"
    remark: str = ""


def derived(value: float, remark: str, *sources: Found) -> Found:
    """A value that follows from others: it is no better than the worst of them."""
    worst = any(source.origin in ("assumed", "unknown") for source in sources)
    return Found(value, "assumed" if worst else "derived", remark)


class Keys:
    """The keys of one scan.

    A protocol fills what a sidecar lacks only where the sidecar's own times are those of the protocol: half of another
    scan's parameters would make one that nobody acquired. Of a scan whose RepetitionTime is between excitations, while
    TE and TI are those of the protocol, it fills the time between inversions and nothing else.

    Args:
        sidecar: BIDS keys and values, none of them empty: see :func:`said`.
        entry: the protocol's, for scans of this suffix; may be empty.
    """

    def __init__(self, sidecar: Mapping, entry: Mapping) -> None:
        self.sidecar = sidecar
        both = [key for key in TIMES if key in sidecar and entry.get(key) is not None]
        self.differing = [key for key in both if not _close(sidecar[key], entry[key])]
        self.entry = {} if self.differing else entry
        shot = _time_of_shot(entry)
        if self.differing == ["RepetitionTime"] and shot and self.between_excitations and {*both} == {*TIMES}:
            self.differing, self.entry = [], {PREPARATION_KEYS[0]: shot}

    @property
    def between_excitations(self) -> bool:
        """Whether the sidecar's RepetitionTime is too short to be that of an inversion-prepared scan."""
        return self.sidecar.get("RepetitionTime", SHORTEST_SHOT) < SHORTEST_SHOT

    def get(self, key: str) -> object:
        """Value of a key, None where nothing says it."""
        found = self.find(key)
        return None if found is None else found.value

    def find(self, key: str) -> Found | None:
        """Value of a key and where it is from; of two values the first."""
        if key in self.sidecar:
            value, origin = self.sidecar[key], self.provenance(key)
        elif self.entry.get(key) is not None:
            value, origin = self.entry[key], ("assumed", "the protocol")
        else:
            return None
        return Found(_list(value)[0] if key in PAIRS else value, *origin)

    def find_second(self, key: str) -> Found | None:
        """The second value of a key of :data:`PAIRS`: in a list, or under a key of its own."""
        source = self.sidecar if key in self.sidecar else self.entry
        first = self.find(key)
        if first is not None and isinstance(source.get(key), list):
            return first._replace(value=source[key][1])
        return self.find(SIDECAR_KEYS[PAIRS[key]])

    def provenance(self, key: str) -> tuple[str, str]:
        """Origin and remark that the sidecar itself records of a key; ``given`` where it records none."""
        recorded = self.sidecar.get("ParameterProvenance")
        word, _, remark = str(recorded.get(key, "") if isinstance(recorded, Mapping) else "").partition(": ")
        return (word, remark) if word in PROVENANCE else ("given", "")

    def named_by(self, key: str) -> str:
        """``SequenceName *tfl3d1``, for the reader."""
        value = self.sidecar.get(key, self.entry.get(key))
        text = "\\".join(f"{one:g}" if isinstance(one, float) else str(one) for one in _list(value))
        text = "".join(letter for letter in text if letter.isprintable())
        return f"{key} {text}" + ("" if key in self.sidecar else " of the protocol")


def said(sidecar: Mapping) -> dict:
    """A sidecar without empty values, without zeros for none, without the TR of a volume beside that of inversions."""
    kept = {key: value for key, value in sidecar.items() if value is not None}
    kept = {key: value for key, value in kept.items() if not (key in EMPTY_AS_ZERO and value == 0)}
    volume = kept.get("RepetitionTime")
    if isinstance(volume, Real) and volume > LIMITS["tr"] and any(key in kept for key in PREPARATION_KEYS):
        del kept["RepetitionTime"]
    return kept


def check_values(keys: Mapping, where: object) -> None:
    """Refuses values of the keys in ``keys`` that are no numbers, impossible, or in another unit.

    Raises:
        UserError: naming ``where``, the key and what to do.
    """
    for name, key in SIDECAR_KEYS.items():
        value = keys.get(key)
        if isinstance(value, list) and len(value) == 2 and key in PAIRS:
            for one in value:
                check_value(name, one, where)
        elif value is not None:
            check_value(name, value, where)
    for key in (*PREPARATION_KEYS, EXCITATION_KEY):
        if keys.get(key) is not None:
            check_value("tr", keys[key], where, key)
    shots = keys.get(SHOTS_KEY)
    counts = _list(shots)
    if shots is not None and (len(counts) > 2 or not all(_count(count) for count in counts) or sum(counts) < 1):
        raise UserError(f"{where}: {SHOTS_KEY}", repr(shots), "give a number, or [before, after] the centre of k-space")


def _time_of_shot(entry: Mapping) -> float | None:
    """The time between inversions in a protocol's entry; None where it has none."""
    times = (entry.get(key) for key in (*PREPARATION_KEYS, "RepetitionTime"))
    return next((time for time in times if time is not None and time >= SHORTEST_SHOT), None)


def _list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _count(value: object) -> bool:
    return is_number(value) and value >= 0


def _close(own: object, other: object) -> bool:
    first, second = _list(own)[0], _list(other)[0]
    return abs(first - second) <= SAME * second

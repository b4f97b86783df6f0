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

"""What a signal equation needs besides the times: given, derived from what is known, or assumed, with a remark.

Only the fields of the equation are looked for. A remark says what a value follows from or that it is the usual one.
"""

import math
import re
from collections.abc import Mapping
from numbers import Real

from ..signal.epg import equivalent_te
from .identify import LARGEST_EXCITATION, LONGEST_PLAIN_TE
from .keys import EXCITATION_KEY, NAME_KEYS, SHORTEST_SHOT, SHOTS_KEY, Found, Keys, derived
from .timing import SHORTEST_EQUIVALENT, readout_room

FLIP_ANGLES = {"spin_echo": 90.0, "saturation_recovery": 90.0, "mprage": 8.0, "mp2rage": 4.0}
"""Usual excitation angles [degrees]; a gradient echo without preparation has none, its contrast depends on it."""
SECOND_FLIP_ANGLE = 5.0
READOUT_LENGTH = 176
"""Usual number of excitations after one inversion, of all of k-space."""
MULTI_ECHO_SPACING = 0.010
"""Usual time [s] between excitations that are followed by several echoes each."""
MULTI_ECHO_NAME = re.compile(r"tfl[a-z_]*3d[2-9]", re.IGNORECASE)
"""``tfl3d4_16ns``: 4 echoes."""
TRAIN_LENGTH, ECHO_SPACING = 16, 0.010
"""Usual turbo spin echo; the spacing [s] is adjusted so that an echo lies at TE."""
VFA_ECHO_SPACING = 0.0035
"""Usual spacing [s] in a train of variable flip angles."""
VFA_SPACINGS = (0.002, 0.008)
"""Believable ones."""
EQUIVALENT_SHARE = 0.25
"""Contrast-equivalent over nominal echo time of a usual train."""
CENTRAL = 0.4
"""A nominal echo time is usual from this share of the train's duration on."""
NAMED_LENGTH = re.compile(
    r"(?:tse|tir|(?<![a-z])h)[a-z]*\dd(\d)[a-z]*_?(\d+)|spc[a-z]*(?:\dd\d[a-z]*)?_(\d+)", re.IGNORECASE
)
"""``tse2d2_5``: 2 contrasts of 5 echoes; ``spc_314ns`` and, of older software, ``spc3d1_314ns``: 314 echoes."""


def complete(sequence: str, fields: tuple[str, ...], keys: Keys, times: Mapping[str, Found], explicit: bool) -> dict:
    """The secondary fields of an acquisition, as far as they can be known: field -> :class:`Found`.

    Args:
        sequence: name of the signal equation.
        fields: of it.
        keys: sidecar and protocol.
        times: te, tr, ti and ti2 that are known.
        explicit: whether the user named the equation, and so means what the keys say.
    """
    found = {}
    if "flip_angle" in fields:
        found |= _flip_angles(sequence, fields, keys, explicit)
    if "echoes_before_centre" in fields:
        found |= _readout(keys, times)
    elif "te_equivalent" in fields:
        found |= _vfa_train(keys, times, _length(keys, explicit))
    elif "echo_train_length" in fields:
        found |= _turbo_train(keys, times, _length(keys, explicit))
    return found


def refocusing_angle(fields: tuple[str, ...], keys: Keys) -> str:
    """The remark on an angle in the sidecar that is not the excitation's; nothing for other sequences."""
    angle = keys.get("FlipAngle")
    if not angle or "echo_train_length" not in fields or "flip_angle" in fields:
        return ""
    if angle <= LARGEST_EXCITATION:
        return f"FlipAngle {angle:g} is taken for the excitation angle, which is 90 in this signal equation"
    return f"FlipAngle {angle:g} is not used: of a train it is the refocusing angle"


def _flip_angles(sequence: str, fields: tuple[str, ...], keys: Keys, explicit: bool) -> dict[str, Found]:
    first, usual = keys.find("FlipAngle"), FLIP_ANGLES.get(sequence)
    remark = "usual"
    if first is not None and sequence == "spin_echo" and not explicit and first.value > LARGEST_EXCITATION:
        first, remark = None, f"usual; FlipAngle {first.value:g} is that of the refocusing pulse"
    found = {"flip_angle": first or (Found(usual, "assumed", remark) if usual else None)}
    if "flip_angle2" in fields:
        same = None if first is None else Found(first.value, "assumed", "that of the first readout")
        second = keys.find_second("FlipAngle")
        found["flip_angle2"] = second or same or Found(SECOND_FLIP_ANGLE, "assumed", "usual")
    return found


def _readout(keys: Keys, times: Mapping[str, Found]) -> dict[str, Found]:
    """Number, spacing and centre of the excitations after an inversion.

    ``EchoTrainLength`` is not looked at: in sidecars of these sequences it is 1, or counts something else.
    """
    spacing, shots = _excitation_spacing(keys, times), keys.find(SHOTS_KEY)
    found = {"echo_spacing": spacing}
    if shots is not None and isinstance(shots.value, list) and len(shots.value) == 2:
        before, after = map(round, shots.value)
        centre = Found(before, *(keys.provenance("EchoesBeforeCentre") if SHOTS_KEY in keys.sidecar else shots[1:]))
        return found | {"echo_train_length": shots._replace(value=before + after), "echoes_before_centre": centre}
    if shots is not None:
        number = shots.value[0] if isinstance(shots.value, list) else shots.value
        length = shots._replace(value=round(number))
    elif spacing is None or not {"tr", "ti"} <= times.keys():
        return found
    else:
        length = _usual_readout(keys, times, spacing.value)
    return found | {
        "echo_train_length": length,
        "echoes_before_centre": keys.find("EchoesBeforeCentre") or _centre(keys, times, length.value, spacing),
    }


def _excitation_spacing(keys: Keys, times: Mapping[str, Found]) -> Found | None:
    for key in (EXCITATION_KEY, "EchoSpacing"):
        found = keys.find(key)
        if found is not None:
            return found if key == EXCITATION_KEY or found.remark else found._replace(remark=key)
    tr = keys.find("RepetitionTime")
    if tr is not None and "tr" in times and tr.value < SHORTEST_SHOT:
        return derived(tr.value, "RepetitionTime, which is between excitations", tr)
    if "te" not in times:
        return None
    if keys.get("EchoNumber") is not None or any(MULTI_ECHO_NAME.search(str(keys.get(key))) for key in NAME_KEYS):
        return Found(max(MULTI_ECHO_SPACING, times["te"].value), "assumed", "usual of several echoes per excitation")
    return Found(round(2 * times["te"].value, 9), "assumed", "2 x EchoTime")


def _usual_readout(keys: Keys, times: Mapping[str, Found], spacing: float) -> Found:
    """The usual number of excitations, or as many as fit around the centres of all readouts."""
    ti, tr, last = (times[name].value for name in ("ti", "tr", "ti2" if "ti2" in times else "ti"))
    share = _partial_fourier(keys)
    before, after = readout_room(tr, ti, spacing)[0], readout_room(tr, last, spacing)[1]
    whole = min(READOUT_LENGTH, before / (share - 0.5), 2 * after)
    most = min(share * whole, (last - ti) / spacing) if last > ti else share * whole
    usual = round(share * READOUT_LENGTH)
    remark = "usual" if share == 1 else f"usual with PartialFourier {share:g}"
    length = max(1, min(usual, int(most + 1e-6)))
    return Found(length, "assumed", remark if length == usual else "as many as fit around the centre")


def _centre(keys: Keys, times: Mapping[str, Found], length: float, spacing: Found | None) -> Found:
    """How many excitations come before the centre of k-space: half of them, or as BIDS counts with partial Fourier."""
    share = _partial_fourier(keys)
    before = int(length * (share - 0.5) / share + 1e-6)
    remark = "half of the readout" if share == 1 else f"PartialFourier {share:g}"
    if spacing is None or not {"tr", "ti"} <= times.keys():
        return Found(before, "assumed", remark)
    tr, ti, last = (times[name].value for name in ("tr", "ti", "ti2" if "ti2" in times else "ti"))
    most, least = readout_room(tr, ti, spacing.value)[0], round(length) - readout_room(tr, last, spacing.value)[1]
    fitting = min(max(before, least), most) if least <= min(length, most) else before
    return Found(fitting, "assumed", remark if fitting == before else "as far in the middle as the readout fits")


def _partial_fourier(keys: Keys) -> float:
    """The part of k-space that one readout samples: along the slices; a value without direction may be of the phase."""
    share, along = keys.get("PartialFourier"), keys.get("PartialFourierDirection")
    slices = along in ("SLICE_SELECT", "COMBINATION") and isinstance(share, Real) and 0.5 < share < 1
    return float(share) if slices else 1.0


def _turbo_train(keys: Keys, times: Mapping[str, Found], length: Found | None) -> dict[str, Found]:
    """Length and spacing of a train of refocusing pulses; the effective echo is one of its echoes."""
    spacing = keys.find("EchoSpacing")
    if "te" not in times or "tr" not in times:
        return {"echo_train_length": length, "echo_spacing": spacing}
    te, room = times["te"].value, times["tr"].value - (times["ti"].value if "ti" in times else 0.0)
    if spacing is None:
        number = _echo(te, ECHO_SPACING, room, length)
        spacing = Found(
            round(te / number, 9), "assumed", f"EchoTime is echo {number}, spacing near {1000 * ECHO_SPACING:g} ms"
        )
    if length is None:
        length = _fitting(TRAIN_LENGTH, "usual", te, room, spacing.value)
    return {"echo_train_length": length, "echo_spacing": spacing}


def _vfa_train(keys: Keys, times: Mapping[str, Found], length: Found | None) -> dict[str, Found]:
    """Length, spacing and contrast-equivalent echo time of a train of variable flip angles."""
    spacing, stated = keys.find("EchoSpacing"), keys.find("ContrastEquivalentEchoTime")
    if "te" not in times or "tr" not in times:
        return {"te_equivalent": stated, "echo_spacing": spacing, "echo_train_length": length}
    te, room = times["te"].value, times["tr"].value - (times["ti"].value if "ti" in times else 0.0)
    equivalent = stated or _equivalent(keys, times["te"], room, length, spacing)
    if spacing is None:
        middle = 2 * te / length.value if length is not None else 0.0
        if VFA_SPACINGS[0] <= middle <= VFA_SPACINGS[1] and LONGEST_PLAIN_TE < te < room / 2:
            spacing = Found(round(middle, 9), "assumed", "EchoTime in the middle of the train")
        else:
            number = _echo(te, VFA_ECHO_SPACING, room, length)
            spacing = Found(round(te / number, 9), "assumed", f"usual, near {1000 * VFA_ECHO_SPACING:g} ms")
    if length is None:
        length = _fitting(round(2 * te / spacing.value), "EchoTime in the middle", te, room, spacing.value)
    return {"te_equivalent": equivalent, "echo_spacing": spacing, "echo_train_length": length}


def _equivalent(keys: Keys, te: Found, room: float, length: Found | None, spacing: Found | None) -> Found:
    """The contrast-equivalent echo time: the stated one where that is too early in its train to be the nominal one."""
    train = length.value * spacing.value if length is not None and spacing is not None else 0.0
    if te.value <= LONGEST_PLAIN_TE and re.search(r"\bGE\b", str(keys.get("Manufacturer")), re.IGNORECASE):
        return Found(te.value, "assumed", "EchoTime, of which GE states the effective one")
    if te.value <= LONGEST_PLAIN_TE and not CENTRAL * train < te.value <= train:
        return Found(te.value, "assumed", "EchoTime, too short to be the nominal one of a long train")
    if te.value <= train < room:
        value = equivalent_te(te.value, round(length.value), spacing.value)
        value = round(min(max(value, SHORTEST_EQUIVALENT * te.value), te.value), 6)
        return derived(value, "extended phase graphs of a usual train", te, length, spacing)
    return Found(round(EQUIVALENT_SHARE * te.value, 6), "assumed", f"{EQUIVALENT_SHARE:g} x EchoTime, usual")


def _echo(te: float, spacing: float, room: float, length: Found | None) -> int:
    """Which echo lies at TE with about this spacing, or a smaller one with which a train of known length fits."""
    number = max(1, round(te / spacing))
    if length is None or room <= 0:
        return number
    return min(max(number, int(length.value * te / room + 1e-6) + 1), round(length.value))


def _length(keys: Keys, explicit: bool) -> Found | None:
    """Number of refocusing pulses; a single one in a scanner's sidecar of such a train counts something else."""
    found, named = keys.find("EchoTrainLength"), _named_length(keys)
    if found is None or (found.value <= 1 and not explicit):
        return named
    if named is not None and not explicit and "spc" in named.remark.lower() and named.value / found.value in (2, 3, 4):
        return named._replace(remark=f"{named.remark}; EchoTrainLength {found.value:g} counts one of several shots")
    return found


def _named_length(keys: Keys) -> Found | None:
    """The number of refocusing pulses in the name of the sequence."""
    for key in NAME_KEYS:
        name = keys.find(key)
        match = NAMED_LENGTH.search(str(name.value)) if name is not None else None
        if match is not None:
            length = math.prod(int(number) for number in match.groups() if number is not None)
            return derived(length, keys.named_by(key), name) if length > 1 else None
    return None


def _fitting(usual: int, remark: str, te: float, room: float, spacing: float) -> Found:
    """The usual number of echoes, at least up to TE, at most as many as end before the next excitation or inversion."""
    least, most = max(1, math.ceil(te / spacing - 1e-6)), int(room / spacing - 1e-6)
    length = max(least, min(usual, most))
    if length == usual:
        return Found(length, "assumed", remark)
    return Found(length, "assumed", "as many as reach EchoTime" if length > usual else "as many as fit into the TR")

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
from .keys import EXCITATION_KEY, NAME_KEYS, SHOTS_KEY, Found, Keys, derived
from .timing import SHORTEST_EQUIVALENT, readout_room

FLIP_ANGLES = {"spin_echo": 90.0, "saturation_recovery": 90.0, "mprage": 8.0, "mp2rage": 4.0}
"""Usual excitation angles [degrees]; a gradient echo without preparation has none, its contrast depends on it."""
SECOND_FLIP_ANGLE = 5.0
LARGEST_EXCITATION = 120.0
"""A larger angle [degrees] in the sidecar of a spin echo is that of its refocusing pulse."""
READOUT_LENGTH = 176
"""Usual number of excitations after one inversion."""
TRAIN_LENGTH, ECHO_SPACING = 16, 0.010
"""Usual turbo spin echo; the spacing [s] is adjusted so that an echo lies at TE."""
VFA_ECHO_SPACING = 0.0035
"""Usual spacing [s] in a train of variable flip angles."""
VFA_SPACINGS = (0.002, 0.008)
"""Believable ones."""
EQUIVALENT_SHARE, LONGEST_EQUIVALENT = 0.25, 0.2
"""Contrast-equivalent over nominal echo time of a usual train, and the echo time [s] up to which they are the same:
a scanner that states such a short one for a long train states the contrast-equivalent one."""
NAMED_LENGTH = re.compile(r"(?:tse|tir)[a-z]*\dd(\d)[a-z]*_?(\d+)|spc[a-z]*_(\d+)", re.IGNORECASE)
"""``tse2d2_5``: 2 contrasts of 5 echoes; ``spc_314ns``: 314 echoes."""


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
    train = "echo_train_length" in fields and "flip_angle" not in fields
    return f"FlipAngle {angle:g} is not used: of a train it is the refocusing angle" if train and angle else ""


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
    half = Found(length.value // 2, "assumed", "half of the readout")
    return found | {"echo_train_length": length, "echoes_before_centre": keys.find("EchoesBeforeCentre") or half}


def _excitation_spacing(keys: Keys, times: Mapping[str, Found]) -> Found | None:
    for key in (EXCITATION_KEY, "EchoSpacing"):
        found = keys.find(key)
        if found is not None:
            return found if key == EXCITATION_KEY or found.remark else found._replace(remark=key)
    tr = keys.find("RepetitionTime")
    if tr is not None and "tr" in times and tr.value < times["tr"].value:
        return derived(tr.value, "RepetitionTime, which is between excitations", tr)
    return derived(round(2 * times["te"].value, 9), "2 x EchoTime", times["te"]) if "te" in times else None


def _usual_readout(keys: Keys, times: Mapping[str, Found], spacing: float) -> Found:
    """The usual number of excitations, or as many as fit symmetrically around the centres of all readouts."""
    ti, tr, last = (times[name].value for name in ("ti", "tr", "ti2" if "ti2" in times else "ti"))
    usual, remark = READOUT_LENGTH, "usual"
    share = keys.get("PartialFourier")
    if isinstance(share, Real) and 0.5 < share < 1 and keys.get("PartialFourierDirection") != "PHASE":
        usual, remark = round(usual * share), f"usual with PartialFourier {share:g}"
    room = min(readout_room(tr, ti, spacing)[0], readout_room(tr, last, spacing)[1])
    room = min(2 * room, int((last - ti) / spacing)) if last > ti else 2 * room
    return Found(max(1, min(usual, room)), "assumed", remark if usual <= room else "as many as fit around the centre")


def _turbo_train(keys: Keys, times: Mapping[str, Found], length: Found | None) -> dict[str, Found]:
    """Length and spacing of a train of refocusing pulses; the effective echo is one of its echoes."""
    spacing = keys.find("EchoSpacing")
    if "te" not in times or "tr" not in times:
        return {}
    te, room = times["te"].value, times["tr"].value - (times["ti"].value if "ti" in times else 0.0)
    if spacing is None:
        number = max(1, round(te / ECHO_SPACING))
        number = number if length is None else min(number, round(length.value))
        spacing = Found(
            round(te / number, 9), "assumed", f"EchoTime is echo {number}, spacing near {1000 * ECHO_SPACING:g} ms"
        )
    if length is None:
        length = _fitting(TRAIN_LENGTH, "usual", te, room, spacing.value)
    return {"echo_train_length": length, "echo_spacing": spacing}


def _vfa_train(keys: Keys, times: Mapping[str, Found], length: Found | None) -> dict[str, Found]:
    """Length, spacing and contrast-equivalent echo time of a train of variable flip angles."""
    spacing = keys.find("EchoSpacing")
    if "te" not in times or "tr" not in times:
        return {}
    te, room = times["te"].value, times["tr"].value - (times["ti"].value if "ti" in times else 0.0)
    equivalent = keys.find("ContrastEquivalentEchoTime")
    if equivalent is None and length is not None and spacing is not None and te <= length.value * spacing.value:
        value = equivalent_te(te, round(length.value), spacing.value)
        value = round(min(max(value, SHORTEST_EQUIVALENT * te), te), 6)
        equivalent = derived(value, "extended phase graphs of a usual train", times["te"], length, spacing)
    elif equivalent is None and te > LONGEST_EQUIVALENT:
        equivalent = Found(round(EQUIVALENT_SHARE * te, 6), "assumed", f"{EQUIVALENT_SHARE:g} x EchoTime, usual")
    elif equivalent is None:
        equivalent = Found(te, "assumed", "EchoTime, too short to be the nominal one of a long train")
    if spacing is None:
        middle = 2 * te / length.value if length is not None else 0.0
        if VFA_SPACINGS[0] <= middle <= VFA_SPACINGS[1] and te > LONGEST_EQUIVALENT:
            spacing = Found(round(middle, 9), "assumed", "EchoTime in the middle of the train")
        else:
            number = max(1, round(te / VFA_ECHO_SPACING))
            spacing = Found(round(te / number, 9), "assumed", f"usual, near {1000 * VFA_ECHO_SPACING:g} ms")
    if length is None:
        length = _fitting(round(2 * te / spacing.value), "EchoTime in the middle", te, room, spacing.value)
    return {"te_equivalent": equivalent, "echo_spacing": spacing, "echo_train_length": length}


def _length(keys: Keys, explicit: bool) -> Found | None:
    """Number of refocusing pulses; a single one in a scanner's sidecar of such a train counts something else."""
    found = keys.find("EchoTrainLength")
    if found is not None and (explicit or found.value > 1):
        return found
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

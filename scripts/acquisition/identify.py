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

"""Which signal equation a scan needs: by the name of its pulse sequence, by its parameters, by its suffix."""

import re
from typing import NamedTuple

from ..errors import UserError
from ..signal import SEQUENCES
from .keys import CODE_KEYS, EXCITATION_KEY, NAME_KEYS, PREPARATION_KEYS, SEQUENCE_KEYS, SHORTEST_SHOT, Keys
from .names import INVERTED, KINDS, READOUTS, TWICE_INVERTED, named, read_codes, told
from .record import CONFIDENCE, UNKNOWN

MPRAGE_TR, MPRAGE_TE = 1.4, 0.008
"""A scan with a longer TR and a shorter TE [s] than these is an MPRAGE, whatever its sidecar omits."""
LARGEST_READOUT_ANGLE = 20.0
"""Largest believable flip angle [degrees] of an MPRAGE."""
SHORTEST_SPIN_ECHO = 0.005
"""Shortest believable echo time of a spin echo [s]."""
LONGEST_PLAIN_TE = 0.2
"""Longest believable echo time [s] of a 3D train of refocusing pulses that do not vary; of one whose pulses vary, the
longest that a scanner states contrast-equivalent."""
LONGEST_PLAIN_TRAIN = 60
"""Longest believable train of that kind in a 3D scan."""
LONG_TR = 1.5
"""A T2w or PDw scan with a longer TR [s] is a turbo spin echo on today's scanners."""
LONGEST_PLAIN_TR = 3.0
"""A spin echo with one echo after each excitation takes more than ten minutes from this TR [s] on."""
LARGEST_EXCITATION = 120.0
"""A larger angle [degrees] in the sidecar of a spin echo is that of its refocusing pulse."""
T1_WEIGHTING_ANGLE = 15.0
"""Flip angle [degrees] from which an unprepared gradient echo with a short TR is T1-weighted: twice the Ernst angle."""
EQUATIONS = {
    "vfa": ("vfa_turbo_spin_echo", "inversion_recovery_vfa_turbo_spin_echo", "double_inversion_recovery"),
    "turbo": ("turbo_spin_echo", "inversion_recovery_turbo_spin_echo", "double_inversion_recovery"),
    "spin": ("spin_echo", "inversion_recovery", "double_inversion_recovery"),
    "gradient": ("spoiled_gradient_echo", "mprage", "mp2rage"),
    "mprage": ("mprage", "mprage", "mp2rage"),
    "turbo-FLASH": ("mprage", "mprage", "mp2rage"),
    "mp2rage": ("mp2rage", "mp2rage", "mp2rage"),
    "bssfp": ("bssfp", "bssfp", "bssfp"),
}
"""Kind of sequence -> its equation after no inversion, one, two; kinds that are missing here have none."""
UNSTATED = "EchoTrainLength is not stated"
NO_INVERSION = "no inversion is stated (InversionTime, or DICOM's codes IR or MP)"
WAYS_OUT = f"leave the scan out, or name the equation to use as {SEQUENCE_KEYS[0]} ({UNKNOWN} for none)"


class Identity(NamedTuple):
    """A signal equation's name, UNKNOWN if the sidecar says that, None for a T1w scan of which too little is known and
    for a turbo-FLASH without inversion, which has none; how sure that is, and why."""

    sequence: str | None
    confidence: str
    evidence: str


def identify(suffix: str, keys: Keys, where: object) -> Identity:
    """The signal equation of a scan.

    Raises:
        UserError: for an unknown name of an equation, a suffix that tells nothing, or one that contradicts the times.
    """
    for key in SEQUENCE_KEYS:
        name = keys.get(key)
        if name is not None:
            if not isinstance(name, str) or name not in (*SEQUENCES, UNKNOWN):
                raise UserError(f"{where}: {key}", repr(name), f"use one of {', '.join(SEQUENCES)}")
            sure = "low" if name == UNKNOWN else "high" if key in keys.sidecar else "medium"
            return _recorded(keys) or Identity(name, sure, keys.named_by(key))
    if suffix == "MP2RAGE":
        found = "one of the two images that an MP2RAGE is combined from"
        raise UserError(where, found, "use the combined image (suffix UNIT1)")
    kind, confidence, evidence = named(keys) or _by_code(keys) or _by_times(suffix, keys, where)
    if kind is None:
        return Identity(None, confidence, evidence)
    if kind == "spin echo":
        kind, confidence, evidence = _one_echo_or_more(keys, confidence, evidence)
    if kind not in EQUATIONS:
        raise UserError(where, f"{evidence}: {kind} imaging, which no signal equation is for", WAYS_OUT)
    if suffix == "UNIT1" and kind != "mp2rage":
        kind, confidence, evidence = "mp2rage", "medium", f"{evidence}; the suffix UNIT1"
    if kind == "turbo" and (too_long := _too_long(keys)):
        kind, confidence, evidence = "vfa", "medium", f"{evidence}; {too_long}"
    inversions, reason = _inversions(suffix, kind, keys)
    if kind == "turbo-FLASH" and not inversions:
        codes = read_codes(keys)
        if keys.between_excitations:
            sure = "medium" if codes else "low"
            return Identity("spoiled_gradient_echo", sure, f"{evidence}; {NO_INVERSION}, and a TR between excitations")
        if "GR" in codes and keys.get("RepetitionTime"):
            return Identity(None, "low", f"{evidence}; {NO_INVERSION}")
    if reason and reason not in evidence:
        evidence = f"{evidence}; {reason}"
    te = _time(keys, "EchoTime")
    if inversions == 2 and kind == "vfa" and te > LONGEST_PLAIN_TE:
        found = f"{evidence}; TE {te:g} s: a double inversion recovery with variable flip angles"
        raise UserError(where, f"{found}, which no signal equation is for", WAYS_OUT)
    return Identity(EQUATIONS[kind][inversions], confidence, evidence)


def _recorded(keys: Keys) -> Identity | None:
    """What a sidecar written by this bundle says of the sequence."""
    confidence, _, evidence = str(keys.sidecar.get("SignalModelEvidence", "")).partition(": ")
    recorded = evidence and confidence in CONFIDENCE and SEQUENCE_KEYS[0] in keys.sidecar
    return Identity(keys.sidecar[SEQUENCE_KEYS[0]], confidence, evidence) if recorded else None


def _by_code(keys: Keys) -> tuple[str, str, str] | None:
    """By DICOM's word for the kind of echo."""
    codes, evidence = read_codes(keys, CODE_KEYS[:1]), keys.named_by(CODE_KEYS[0])
    sure = "high" if CODE_KEYS[0] in keys.sidecar else "medium"
    if "EP" in codes:
        return "echo-planar", sure, evidence
    if {"GR", "SE"} <= codes:
        return "turbo", sure, f"{evidence}, gradient and spin echoes"
    if "GR" in codes:
        return "gradient", sure, evidence
    if "SE" not in codes:
        return None
    return _one_echo_or_more(keys, sure, evidence)


def _one_echo_or_more(keys: Keys, sure: str, evidence: str) -> tuple[str, str, str]:
    """A spin echo by its code or in words, which converters write for a turbo spin echo as well."""
    echoes = keys.get("EchoTrainLength")
    if echoes is not None:
        return ("turbo" if echoes > 1 else "spin"), sure, f"{evidence}; EchoTrainLength {echoes:g}"
    return _without_train_length(keys, evidence)


def _without_train_length(keys: Keys, evidence: str) -> tuple[str, str, str]:
    """A spin echo whose sidecar does not state how many echoes follow an excitation: one, or a train of them."""
    tr, angle, variant = _time(keys, "RepetitionTime"), keys.get("FlipAngle"), read_codes(keys, CODE_KEYS[1:2])
    evidence = f"{evidence}; TR {tr:g} s"
    long = "taken for a turbo spin echo of the usual length"
    if tr <= LONG_TR:
        return "spin", "medium", f"{evidence}; {UNSTATED}: taken for one echo, usual at this TR"
    if "SK" in variant:
        return "turbo", "medium", f"{evidence}; {UNSTATED}: {long} because of {keys.named_by(CODE_KEYS[1])}"
    if keys.get("MRAcquisitionType") == "3D":
        return "turbo", "medium", f"{evidence}; {UNSTATED}: {long}, since it is a 3D scan"
    if angle is not None and angle > LARGEST_EXCITATION:
        return "turbo", "medium", f"{evidence}; {UNSTATED}: {long}, since FlipAngle {angle:g} is a refocusing angle"
    if _inversions("", "spin", keys)[0]:
        return "turbo", "medium", f"{evidence}; {UNSTATED}: {long}, since it is inverted"
    if variant - {"NONE", "OTHER"}:
        reason = f"{keys.named_by(CODE_KEYS[1])} is without SK, the code of a train"
        return "spin", "medium", f"{evidence}; {UNSTATED}: taken for one echo, since {reason}"
    if tr < LONGEST_PLAIN_TR:
        reason = f"TR below {LONGEST_PLAIN_TR:g} s" + (f" and FlipAngle {angle:g}" if angle is not None else "")
        other = "it may be a turbo spin echo (then add it)"
        return "spin", "low", f"{evidence}; {UNSTATED}: taken for one echo because of {reason}; {other}"
    other = "it may be a plain spin echo (then add EchoTrainLength 1)"
    return "turbo", "low", f"{evidence}; {UNSTATED}: {long}, since one echo would take too long; {other}"


def _by_times(suffix: str, keys: Keys, where: object) -> tuple[str | None, str, str]:
    """By the times that only one kind of sequence can have, else by the suffix alone."""
    if suffix in ("UNIT1", "T2starw"):
        return ("mp2rage" if suffix == "UNIT1" else "gradient"), "low", f"the suffix {suffix} alone"
    if suffix not in ("T1w", "T2w", "PDw", "FLAIR"):
        do = f"use T1w, T2w, PDw or FLAIR, or name the equation as {SEQUENCE_KEYS[0]} ({', '.join(SEQUENCES)})"
        raise UserError(where, f"the suffix {suffix}, which no signal equation belongs to", do)
    te, echoes = _time(keys, "EchoTime"), keys.get("EchoTrainLength")
    tr = next(filter(None, (_time(keys, key) for key in ("RepetitionTime", *PREPARATION_KEYS, EXCITATION_KEY))), 0.0)
    times = "; ".join(f"{name} {value:g} s" for name, value in (("TE", te), ("TR", tr)) if value)
    evidence = f"the suffix {suffix}; {times}" if times else f"the suffix {suffix} alone"
    if suffix == "T1w":
        readout = te <= MPRAGE_TE and (keys.get("FlipAngle") or 0.0) < LARGEST_READOUT_ANGLE
        if readout and _inversions(suffix, "gradient", keys)[0]:
            return "mprage", "medium", f"the suffix {suffix}"
        if not tr:
            return None, "low", evidence
        if readout and tr >= MPRAGE_TR:
            return "mprage", "medium", evidence
    if suffix == "T2w" and 0 < te <= MPRAGE_TE and tr >= MPRAGE_TR:
        found = f"TE {te:g} s and TR {tr:g} s, the times of an MPRAGE"
        raise UserError(where, found, f"rename the image to T1w, or name its equation as {SEQUENCE_KEYS[0]}")
    if 0 < tr < SHORTEST_SHOT:
        angle = keys.get("FlipAngle") or 0.0
        prepared = suffix == "T1w" and angle < T1_WEIGHTING_ANGLE
        return ("mprage" if prepared else "gradient"), "medium", evidence
    if echoes is not None and echoes >= 1:
        return ("turbo" if echoes > 1 else "spin"), "medium", f"{evidence}; EchoTrainLength {echoes:g}"
    if 0 < te <= SHORTEST_SPIN_ECHO:
        return "gradient", "medium", evidence
    if suffix != "T1w" and _too_long(keys):
        return "turbo", "medium", f"the suffix {suffix}"
    if suffix == "T1w" or 0 < tr <= LONG_TR:
        return "spin", "medium", evidence
    return "turbo", "low", f"the suffix {suffix} alone"


def _inversions(suffix: str, kind: str, keys: Keys) -> tuple[int, str]:
    """How often the magnetisation was inverted before the excitation, and what tells that; nothing where it was not."""
    given = "" if keys.find("InversionTime") is None else keys.named_by("InversionTime")
    if keys.find_second("InversionTime") is not None:
        return 2, given
    if kind not in READOUTS and (twice := told(keys, TWICE_INVERTED)):
        return 2, twice
    once = given or told(keys, INVERTED)
    if not once and "IR" in read_codes(keys):
        once = "DICOM's code IR"
    if not once and kind in ("gradient", "turbo-FLASH") and "MP" in read_codes(keys):
        once = "DICOM's code MP"
    if not once and kind == "turbo-FLASH":
        once = told(keys, KINDS["mprage"])
    once = once or next((key for key in PREPARATION_KEYS if key in keys.sidecar), "")
    if not once and suffix == "FLAIR" and kind not in READOUTS:
        once = "the suffix FLAIR"
    return int(bool(once)), once


def _too_long(keys: Keys) -> str:
    """What tells that the refocusing angles of a train have to vary; nothing where they need not, as in one slice."""
    te, echoes, volume = _time(keys, "EchoTime"), keys.get("EchoTrainLength") or 0, keys.get("MRAcquisitionType")
    if volume == "2D" or any(re.search("[a-z]2d", str(keys.get(key) or ""), re.IGNORECASE) for key in NAME_KEYS):
        return ""
    if te > LONGEST_PLAIN_TE:
        return f"TE {te:g} s, too long for refocusing angles that do not vary"
    many = volume == "3D" and echoes > LONGEST_PLAIN_TRAIN
    return f"a 3D train of {echoes:g} echoes, too many for refocusing angles that do not vary" if many else ""


def _time(keys: Keys, key: str) -> float:
    """A time in seconds, 0 where it is unknown."""
    return keys.get(key) or 0.0

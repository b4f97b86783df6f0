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
from .keys import CODE_KEYS, LABEL_KEYS, NAME_KEYS, PREPARATION_KEYS, SEQUENCE_KEYS, Keys
from .record import CONFIDENCE

SHORTEST_SHOT = 0.05
"""Shortest believable TR of an inversion-prepared scan [s]: below, it is the time between two excitations."""
MPRAGE_TR, MPRAGE_TE = 1.4, 0.008
"""A scan with a longer TR and a shorter TE [s] than these is an MPRAGE, whatever its sidecar omits."""
SHORTEST_SPIN_ECHO = 0.005
"""Shortest believable echo time of a spin echo [s]."""
LONGEST_PLAIN_TE = 0.2
"""Longest believable echo time [s] of a train of refocusing pulses that do not vary."""
LONGEST_PLAIN_TRAIN = 60
"""Longest believable train of that kind in a 3D scan."""
LONG_TR = 1.5
"""A T2w or PDw scan with a longer TR [s] is a turbo spin echo on today's scanners."""
T1_WEIGHTING_ANGLE = 15.0
"""Flip angle [degrees] from which an unprepared gradient echo with a short TR is T1-weighted: twice the Ernst angle."""
KINDS = {
    "mp2rage": r"mp2rage",
    "bssfp": r"fiesta|true-?_?fi|trufi|tfi[23]d|b-?_?ffe|balanced|bssfp|ciss|ci3d",
    "inverted vfa": r"(?<![a-z])spc[a-z]*ir",
    "vfa": r"(?<![a-z])spc|space|tse_?vfl|cube|vista",
    "mprage": r"mp-?_?rage|tfl|tfe|bravo|turbo-?_?flash|ir-?_?f?spgr",
    "inverted turbo": r"(?<![a-z])tir|ir-?_?tse|flair",
    "turbo": r"tse|fse|haste|(?<![a-z])rare|blade|propeller|(?<![a-z])h[23]d|(fast|turbo)[ _-]?spin",
    "gradient": r"(?<![a-z])fl[23]d|flash|spgr|fgre|(?<![a-z])gre(?![a-z])|ffe|medic|vibe|lava|sw(an|i)(?![a-z])",
    "spin": r"(?<![a-z])se(?![a-z])|(?<![a-z])se[23]d|spin[ _-]?echo",
}
"""Kind of sequence -> what its vendors' names contain; the first that fits counts."""
READOUTS = ("mp2rage", "bssfp", "mprage", "gradient")
"""Kinds of gradient echoes; the others are spin echoes."""
EQUATIONS = {
    "vfa": ("vfa_turbo_spin_echo", "inversion_recovery_vfa_turbo_spin_echo", "double_inversion_recovery"),
    "turbo": ("turbo_spin_echo", "inversion_recovery_turbo_spin_echo", "double_inversion_recovery"),
    "spin": ("spin_echo", "inversion_recovery", "double_inversion_recovery"),
    "gradient": ("spoiled_gradient_echo", "mprage", "mp2rage"),
    "mprage": ("mprage", "mprage", "mp2rage"),
    "mp2rage": ("mp2rage", "mp2rage", "mp2rage"),
    "bssfp": ("bssfp", "bssfp", "bssfp"),
}
"""Kind of sequence -> its equation after no inversion, one, two."""


class Identity(NamedTuple):
    """A signal equation's name, None for a T1w scan of which too little is known; how sure that is, and why."""

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
            if not isinstance(name, str) or name not in SEQUENCES:
                raise UserError(f"{where}: {key}", repr(name), f"use one of {', '.join(SEQUENCES)}")
            return _recorded(keys) or Identity(name, "high" if key in keys.sidecar else "medium", keys.named_by(key))
    if suffix == "MP2RAGE":
        found = "one of the two images that an MP2RAGE is combined from"
        raise UserError(where, found, "use the combined image (suffix UNIT1)")
    kind, confidence, evidence = _by_name(keys) or _by_code(keys) or _by_times(suffix, keys, where)
    if kind is None:
        return Identity(None, confidence, evidence)
    inversion = _inversion(suffix, kind, keys)
    kind = kind.removeprefix("inverted ")
    if kind == "turbo" and (too_long := _too_long(keys)):
        kind, evidence = "vfa", f"{evidence}; {too_long}"
    if inversion and inversion not in evidence:
        evidence = f"{evidence}; {inversion}"
    inversions = 2 if keys.find_second("InversionTime") is not None else int(bool(inversion))
    return Identity(EQUATIONS[kind][inversions], confidence, evidence)


def _recorded(keys: Keys) -> Identity | None:
    """What a sidecar written by this bundle says of the sequence."""
    confidence, _, evidence = str(keys.sidecar.get("SignalModelEvidence", "")).partition(": ")
    recorded = evidence and confidence in CONFIDENCE and SEQUENCE_KEYS[0] in keys.sidecar
    return Identity(keys.sidecar[SEQUENCE_KEYS[0]], confidence, evidence) if recorded else None


def _by_name(keys: Keys) -> tuple[str, str, str] | None:
    """By what the scanner calls the pulse sequence or, less surely, what the operator called the scan."""
    codes = _codes(keys, CODE_KEYS[:1])
    for names, confidence in ((NAME_KEYS + CODE_KEYS[:1], "high"), (LABEL_KEYS, "medium")):
        for kind, pattern in KINDS.items():
            if names is LABEL_KEYS and ("GR" if kind in READOUTS else "SE") not in (codes or {"GR", "SE"}):
                continue
            for key in names:
                if re.search(pattern, _text(keys, key), re.IGNORECASE):
                    return kind, confidence if key in keys.sidecar else "medium", keys.named_by(key)
    return None


def _text(keys: Keys, key: str) -> str:
    """What a key says, without DICOM's codes, which are read on their own."""
    text = str(keys.get(key) or "")
    return re.sub(r"(?<![A-Z])(SE|GR|EP|RM|IR)(?![A-Z])", "", text) if key in CODE_KEYS else text


def _by_code(keys: Keys) -> tuple[str, str, str] | None:
    """By DICOM's word for the kind of echo."""
    codes, evidence = _codes(keys, CODE_KEYS[:1]), keys.named_by(CODE_KEYS[0])
    sure = "high" if CODE_KEYS[0] in keys.sidecar else "medium"
    if "GR" in codes:
        return "gradient", sure, evidence
    if "SE" not in codes:
        return None
    echoes = keys.get("EchoTrainLength")
    if echoes is not None:
        return ("turbo" if echoes > 1 else "spin"), sure, f"{evidence}; EchoTrainLength {echoes:g}"
    tr = _time(keys, "RepetitionTime")
    return ("turbo" if tr > LONG_TR else "spin"), "medium", f"{evidence}; TR {tr:g} s"


def _by_times(suffix: str, keys: Keys, where: object) -> tuple[str | None, str, str]:
    """By the times that only one kind of sequence can have, else by the suffix alone."""
    if suffix in ("UNIT1", "T2starw"):
        return ("mp2rage" if suffix == "UNIT1" else "gradient"), "low", f"the suffix {suffix} alone"
    if suffix not in ("T1w", "T2w", "PDw", "FLAIR"):
        do = f"use T1w, T2w, PDw or FLAIR, or name the equation as {SEQUENCE_KEYS[0]} ({', '.join(SEQUENCES)})"
        raise UserError(where, f"the suffix {suffix}, which no signal equation belongs to", do)
    te, tr, echoes = _time(keys, "EchoTime"), _time(keys, "RepetitionTime"), keys.get("EchoTrainLength")
    times = "; ".join(f"{name} {value:g} s" for name, value in (("TE", te), ("TR", tr)) if value)
    evidence = f"the suffix {suffix}; {times}" if times else f"the suffix {suffix} alone"
    if suffix == "T1w":
        if _inversion(suffix, "gradient", keys):
            return "mprage", "medium", f"the suffix {suffix}"
        if not tr:
            return None, "low", evidence
    readout = tr >= MPRAGE_TR and te <= MPRAGE_TE
    if readout and suffix == "T1w":
        return "mprage", "medium", evidence
    if readout and te and suffix == "T2w":
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
    if suffix != "T1w" and te > LONGEST_PLAIN_TE:
        return "turbo", "medium", f"the suffix {suffix}"
    if suffix == "T1w" or 0 < tr <= LONG_TR:
        return "spin", "medium", evidence
    return "turbo", "low", f"the suffix {suffix} alone"


def _inversion(suffix: str, kind: str, keys: Keys) -> str:
    """What tells that the magnetisation was inverted before the excitation; nothing where it was not."""
    if "InversionTime" in keys.sidecar or (keys.described and "InversionTime" in keys.entry):
        return keys.named_by("InversionTime")
    if kind.startswith("inverted "):
        return "a name of inversion recovery"
    if "IR" in _codes(keys, CODE_KEYS):
        return "DICOM's code IR"
    if kind == "gradient" and "MP" in _codes(keys, CODE_KEYS):
        return "DICOM's code MP"
    if any(key in keys.sidecar for key in PREPARATION_KEYS):
        return PREPARATION_KEYS[0]
    return "the suffix FLAIR" if suffix == "FLAIR" and kind not in READOUTS else ""


def _codes(keys: Keys, names: tuple[str, ...]) -> set[str]:
    """``GR\\IR``, ``GR_IR`` or ``["GR", "IR"]`` -> ``{"GR", "IR"}``."""
    return {code for name in names for code in re.findall("[A-Z]+", str(keys.get(name) or "").upper())}


def _too_long(keys: Keys) -> str:
    """What tells that the refocusing angles of a train have to vary; nothing where they need not."""
    te, echoes = _time(keys, "EchoTime"), keys.get("EchoTrainLength") or 0
    if te > LONGEST_PLAIN_TE:
        return f"TE {te:g} s, too long for refocusing angles that do not vary"
    volume = keys.get("MRAcquisitionType") == "3D" and echoes > LONGEST_PLAIN_TRAIN
    return f"a 3D train of {echoes:g} echoes, too many for refocusing angles that do not vary" if volume else ""


def _time(keys: Keys, key: str) -> float:
    """A time in seconds, 0 where it is unknown."""
    return keys.get(key) or 0.0

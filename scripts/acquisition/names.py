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

"""What a pulse sequence is called: by the scanner, by the operator, by DICOM's codes."""

import re

from .keys import CODE_KEYS, DETAILS_KEY, LABEL_KEYS, NAME_KEYS, Keys

KINDS = {
    "echo-planar": r"(?<![a-z])ep(fid|se|[23]d|i(?![a-z]))|echo[ _-]?planar",
    "PSIF": r"(?<![a-z])psif",
    "DESS": r"(?<![a-z])(de3d|dess(?![a-z]))",
    "mp2rage": r"mp2rage",
    "bssfp": r"fiesta|true-?_?fi|trufi|tfi[23]d|b-?_?ffe|balanced|bssfp|(?<![a-z])ciss|ci3d",
    "vfa": r"(?<![a-z])spc|(?<!k)(?<!k[ _-])space(?![a-z])(?![ _-]?occup)|tse_?vfl|cube(?![a-z])|vista|fse_mx"
    r"|iso-?fse|mvox",
    "mprage": r"mp-?_?rage|bravo|ir-?_?f?spgr|magneti[sz]ation[ _-]prepared",
    "turbo-FLASH": r"(?<![a-z])tfl|tfe(?![a-z])|turbo[ _-]?flash|(turbo|fast)[ _-]field[ _-]echo",
    "turbo": r"(?<![a-z])(s?tir|tse|tgse)|[tf]se(?![a-z])|haste(?![a-z])|(?<![a-z])rare(?![a-z])|blade|propeller"
    r"|(?<![a-z])h[23]d|(fast|turbo)[ _-]?spin|grase|gradient[ _-](and|plus)[ _-]spin|fase(?![a-z])|flair",
    "gradient": r"(?<![a-z])fl[23]d|flash|spgr|fgre|(?<![a-z])gre(?![a-z])|ffe(?![a-z])|medic(?![a-z])|vibe"
    r"|lava(?![a-z])|(?<![a-z])sw(an|i)(?![a-z])|(gradient|field)([ _-]recalled)?[ _-]?echo|rssg",
    "spin": r"(?<![a-z])se(?![a-z])|(?<![a-z])se[23]d",
    "spin echo": r"spin[ _-]?echo",
}
"""Kind of sequence -> what its vendors' names contain; the first that fits counts."""
INVERTED = (
    r"(?<![a-z])(spc[a-z]*ir|s?tir[a-z]?(?![a-z])|ir([ _-]?[tf]?se)?(?![a-z]))|flair"
    r"|inversion[ _-]recover|da(rk)?[ _-]?fl(uid)?(?![a-z])"
)
TWICE_INVERTED = r"(?<![a-z])dir(?![a-z\d])(?!-(ap|pa|lr|rl|is|si)(?![a-z]))|double[ _-]?inversion"
"""``dir-AP`` is BIDS's word for the direction of phase encoding."""
READOUTS = ("PSIF", "DESS", "mp2rage", "bssfp", "mprage", "turbo-FLASH", "gradient")
"""Kinds of gradient echoes; the others are spin echoes."""
TOKEN = r"(%\w+%\\)?[\w*-]+"
"""One word, such as ``%SiemensSeq%\\tse_vfl``, is a name; what else stands under its key is anybody's prose."""


def named(keys: Keys) -> tuple[str, str, str] | None:
    """Kind, confidence and evidence by what the scanner calls the sequence or, less surely, what the operator did."""
    codes = read_codes(keys, CODE_KEYS[:1])
    for key, text, scanner in _texts(keys):
        for kind, pattern in KINDS.items():
            if re.search(pattern, text, re.IGNORECASE) and (scanner or _fits(kind, codes)):
                name = keys.named_by(key)
                # An MP2RAGE runs under the name of an MPRAGE, so whoever tells it counts.
                if kind in ("mprage", "turbo-FLASH", "gradient") and (told_so := told(keys, KINDS["mp2rage"])):
                    return "mp2rage", "medium", f"{name}; {told_so}"
                return kind, "high" if scanner and key in keys.sidecar else "medium", name
    return None


def told(keys: Keys, pattern: str) -> str:
    """The first name or label that contains ``pattern``, for the reader; nothing where none does."""
    fitting = (key for key, text, _ in _texts(keys) if re.search(pattern, text, re.IGNORECASE))
    return next(map(keys.named_by, fitting), "")


def read_codes(keys: Keys, names: tuple[str, ...] = CODE_KEYS) -> set[str]:
    """``GR\\IR``, ``GR_IR`` or ``["GR", "IR"]`` -> ``{"GR", "IR"}``."""
    return {code for name in names for code in re.findall("[A-Z]+", str(keys.get(name) or "").upper())}


def _texts(keys: Keys) -> list[tuple[str, str, bool]]:
    """Key, what it says of the sequence, whether the scanner says so or people do; those that count more come first.

    DICOM's codes are read on their own. A label that says FLAIR says it of another scan ("T2 after FLAIR") or repeats
    the suffix.
    """
    texts = {key: str(keys.get(key) or "") for key in (*NAME_KEYS, DETAILS_KEY, *CODE_KEYS[:1], *LABEL_KEYS)}
    scanner = {*NAME_KEYS, CODE_KEYS[0], *([DETAILS_KEY] if re.fullmatch(TOKEN, texts[DETAILS_KEY]) else [])}
    texts[CODE_KEYS[0]] = re.sub(r"(?<![A-Z])(SE|GR|EP|RM|IR)(?![A-Z])", "", texts[CODE_KEYS[0]])
    said = [(key, text, True) for key, text in texts.items() if key in scanner]
    people = [(key, text) for key, text in texts.items() if key not in scanner]
    return said + [(key, re.sub("flair", "", text, flags=re.IGNORECASE), False) for key, text in people]


def _fits(kind: str, codes: set[str]) -> bool:
    """Whether what people call a scan agrees with DICOM's codes of it, where there are any."""
    if not codes & {"SE", "GR", "EP"}:
        return True
    if kind == "echo-planar" or "EP" in codes:
        return kind == "echo-planar" and "EP" in codes
    return ("GR" if kind in READOUTS else "SE") in codes

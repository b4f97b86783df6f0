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

"""What plain file names tell of a scan, whoever named it: vendors, converters, pipelines, people."""

import re

SEPARATOR = "[-_. +]"
START, END = "(?<![a-z0-9])", "(?![a-z0-9])"
LABELS = re.compile(
    rf"{START}[a-z]*(?:mask|msk|seg|label|lesion|roi|parc|pve)s?{SEPARATOR}?\d*{END}"
    rf"|{START}[a-z]*(?:segment|parcellat|annotat)(?:ation|ion|ed)s?{SEPARATOR}?\d*{END}"
    rf"|{START}(?:pveseg|mixeltype|atropos|posteriors|prob(?:abilit(?:y|ies))?|gt|ground{SEPARATOR}?truth|consensus"
    rf"|gtv|ctv|wmh|atlas|aparc|ribbon|(?:gm|wm|csf|tumou?r)$"
    rf"|(?:bias|warp|deformation){SEPARATOR}?field|jacobian|warp|xfm){SEPARATOR}?\d*{END}"
    r"|^m?[rw]?c[1-6](?=[a-z])|^i?y_"
)
"""Masks, segmentations, tissue probabilities and deformations; SPM's are told by how their names begin."""
TARGET = re.compile(
    rf"{SEPARATOR}(?:to|in|on|onto|reg(?:to)?|coreg(?:to)?){SEPARATOR}?(?:t1|t2|pd|flair)(?:w|n|c|ce|gd)?"
    rf"(?:{SEPARATOR}?space)?{END}|(?:t1|t2|pd|flair)w?space{END}|(?<=[a-z])2(?:t1|t2|pd|flair)w?{END}"
)
"""Where a scan was moved to: ``flair_to_t1`` is no T1w."""
FLAIR = rf"(?:flair|tirm|da(?:rk)?{SEPARATOR}?fl(?:uid)?)"
PLANE = rf"(?:{SEPARATOR}?(?:ax(?:ial)?|sag|cor|tra|3d|2d))*"
OTHERS = (
    ("mask", LABELS),
    ("T1rho", re.compile(rf"t1{SEPARATOR}?rho{END}")),
    ("T2starmap", re.compile(rf"{START}(?:t2{SEPARATOR}?(?:star|s|\*)|r2s(?:tar)?){SEPARATOR}?(?:map|fit)")),
    ("T1map", re.compile(rf"{START}(?:q?t1|r1){SEPARATOR}?(?:map|fit{END}|relax)|molli|mp2rage.*t1{SEPARATOR}?im")),
    ("T2map", re.compile(rf"{START}(?:q?t2|r2){SEPARATOR}?(?:map|fit{END}|relax)")),
    ("PDmap", re.compile(rf"{START}pd{SEPARATOR}?map")),
    ("MP2RAGE", re.compile(rf"mp2rage.*{START}inv{SEPARATOR}?[12]{END}")),
    ("UNIT1", re.compile(rf"mp2rage|{START}unit1{END}")),
    (
        "T2starw",
        re.compile(
            rf"{START}t2(?:{SEPARATOR}?(?:star|\*|s{END})"
            rf"|w?{PLANE}{SEPARATOR}?(?:gre|ffe|fl[23]d|ha?emo|medic|swi))"
            rf"|{START}(?:gre|ffe|hemo|fl[23]d){PLANE}{SEPARATOR}?t2w?{END}|{START}sw(?:i|an){END}"
        ),
    ),
    (
        None,
        re.compile(
            rf"{START}(dwi|dti|adc|bold|fmri|asl|dsc|dce|perf(?:usion)?|cb[fv]|localizer|scout|survey|tof|mr[av]|phase"
            rf"|stir|spair){END}"
        ),
    ),
)
"""Suffix -> what tells it; None stands for the word itself. None of these counts for estimation."""
T1_FLAIR = re.compile(rf"{START}t1w?{PLANE}{SEPARATOR}?{FLAIR}{END}")
"""Weighted by T1: a turbo spin echo after an inversion that is shorter than that of a FLAIR."""
CONTRASTS = re.compile(
    rf"{START}(?:[23]d)?(?:(?P<FLAIR>{FLAIR}|t2f)|(?P<T1w>t1w?(?:n|ce|c|gd|gad|post|pre|km)?|mp-?rage)|(?P<T2w>t2w?)"
    rf"|(?P<PDw>pdw?)|(?P<weak>mpr|bravo|f?spgr)){END}"
)
"""``mpr`` and the like are weak: they tell a T1w where nothing else tells a contrast."""
PROCESSED = re.compile(
    rf"(?:{SEPARATOR}|^)(?:brain|bet|bse|hd{SEPARATOR}?bet|ss|no{SEPARATOR}?skull|(?:skull{SEPARATOR}?)?strip(?:ped)?"
    rf"|n3|n4(?:itk)?|nu|bias|unbiased|(?:bias|n4){SEPARATOR}?corr(?:ected)?|corr(?:ected)?"
    r"|norm(?:ali[sz]ed)?|denoised?"
    rf"|orig(?:inal)?|reo(?:rient(?:ed)?)?|std|full{SEPARATOR}?fov|crop(?:ped)?|robust{SEPARATOR}?fov|defaced|anon"
    rf"|reg(?:istered)?|coreg(?:istered)?|res(?:ampled|liced)|warped|to{SEPARATOR}?mni(?:{SEPARATOR}?(?:non)?lin)?|mni"
    rf"|n?nd|dis[23]d){END}"
)
"""What pipelines add to the name of a scan that they store once more."""
STRIPPED = re.compile(
    rf"(?:{SEPARATOR}|^)(?:brain|bet|bse|ss|no{SEPARATOR}?skull|(?:skull{SEPARATOR}?)?strip(?:ped)?){END}"
)
"""What says that a scan shows the brain alone."""
CONTRAST_AGENT = re.compile(
    r"gado|gad(?![a-z])|magnevist|dotarem|multihance|prohance|contrast[ _-]enhanced|post(?!er|[ _-]?proc|[ _-]?op)"
    r"|t1w?[-_. ]?(?:ce|c|gd|km)(?![a-z0-9])|(?<![a-z])(?:gd|km)(?![a-z])|\+ ?c(?![a-z])|(?<![a-z])c\+"
)
"""``km`` is German."""


def told_suffix(name: str) -> str:
    """BIDS suffix of a scan by its plain name: its last word that names a contrast, FLAIR before others.

    Args:
        name: of the file, without its extension.

    Returns:
        ``T1w``, ``T2w``, ``PDw`` or ``FLAIR``; ``mask`` for whatever is no scan; the suffix or word of any other kind;
        nothing where no word tells.
    """
    name = name.lower()
    for suffix, pattern in OTHERS:
        if match := pattern.search(name):
            return suffix or match[1]
    alone = TARGET.sub(" ", name)
    name = alone if CONTRASTS.search(alone) else name
    if T1_FLAIR.search(name):
        return "T1w"
    words = [match.lastgroup for match in CONTRASTS.finditer(name)]
    strong = [word for word in words if word != "weak"]
    if "FLAIR" in strong:
        return "FLAIR"
    return strong[-1] if strong else "T1w" if words else ""


def unprocessed(name: str) -> str:
    """A plain name without the words that pipelines add and without the space it was moved to."""
    name, before = TARGET.sub("", name.lower()), None
    while name != before:
        name, before = PROCESSED.sub("", name), name
    return name.strip("-_. ")


def strangers(names: list[str]) -> list[str]:
    """Names of scans that look as if they were of several people or visits, one of each; empty for those of one.

    Two names tell different people by numbers before the contrast, ``IXI002-Guys-0828-T1``, which are no numbers of a
    series; three by whatever stands before an equal rest, ``anna_t1``, ``ben_t1``, ``clara_t1``.

    Args:
        names: plain names of the scans in one folder.
    """
    by_number: dict[tuple, str] = {}
    by_rest: dict[str, dict[str, str]] = {}
    for name in names:
        low = unprocessed(name)
        match = CONTRASTS.search(low)
        before, rest = (low[: match.start()], low[match.start() :]) if match else (low, "")
        parts = re.split(f"{SEPARATOR}+", before)
        number = tuple(part for part in parts if PERSON.fullmatch(part) and not SETTING.fullmatch(part))
        number += tuple(re.findall("(?<![a-z0-9])(?:sub|ses)-[a-z0-9]+", before))
        if number:
            by_number.setdefault(number, name)
        before = PLANES.sub("", before).strip("-_. ")
        if rest and before:
            by_rest.setdefault(rest, {}).setdefault(before, name)
    most = max(by_rest.values(), key=len, default={})
    groups = [group for group in (by_number, most) if len(group) >= (2 if group is by_number else 3)]
    return [*groups[0].values()] if groups else []


PERSON = re.compile(r"(?:sub|subj|subject|patient|pat|pt|case|id)\d+|[a-z]*\d*[a-z]+\d{2,}[a-z]*|\d{4,}[a-z]*")
SETTING = re.compile(
    r"(?:s|se|ser|series|scan|im|img|e|echo|run|acq|te|tr|fa|ti|b|iso|p|t|fov|mni|icbm|sl|slice|tfl|tse|spc|vol|v|ver)"
    r"\d+[a-z]*|\d*[23]d\d*|\d+(?:mm|ms|ns|um|t)|[a-z]*(?:3d|2d)\d+\w*"
)
"""Series, times and sequences have numbers too."""
PLANES = re.compile(rf"{START}(?:ax(?:ial)?|sag(?:ittal)?|cor(?:onal)?|tra(?:nsversal)?|3d|2d){END}")

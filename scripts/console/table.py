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

"""The one table that the page is built from: sequences, their parameters with ranges and limits, presets, words."""

import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path

from ..acquisition import NAMES, Acquisition, load_render, read_json, sidecar_key
from ..acquisition.protocols import FOLDER, PROTOCOLS
from ..signal import SEQUENCES
from .equations import source
from .limits import limits

SETTINGS = json.loads((Path(__file__).parent / "settings.json").read_text(encoding="utf-8"))
"""Ranges of the sliders, in SI units; ``factor`` turns them into the unit that is shown."""
WORDS = {"mprage": "MPRAGE", "mp2rage": "MP2RAGE", "bssfp": "bSSFP", "vfa": "VFA", "flair": "FLAIR"}
"""Parts of a sequence's name that are not written as they are."""


def table(options: Iterable[str], notes: dict[str, str]) -> dict:
    """All that the page knows of MR physics, as JSON.

    Args:
        options: optional maps that there are, see :func:`scripts.console.equations.source`.
        notes: what a sidecar says of an image of each sequence.
    """
    return {
        "sequences": {name: _sequence(name, options, notes.get(name, "")) for name in SEQUENCES},
        "presets": presets(),
    }


def javascript(options: Iterable[str]) -> str:
    """The equations and limits of all sequences: a JavaScript object of functions and shader sources."""
    parts = []
    for name in SEQUENCES:
        one = source(name, tuple(options))
        rooms = ", ".join(limit.javascript for limit in limits(name))
        shader = json.dumps(one.glsl)
        parts.append(
            f"{name}: {{settings: {one.settings},\nsignal: {one.javascript},\nshader: {shader},\nrooms: [{rooms}]}}"
        )
    return "{" + ",\n".join(parts) + "}"


def presets() -> list[dict]:
    """Groups of settings by name: presets, named protocols, usual settings, the paper's equations."""
    own = read_json(FOLDER / "presets.json")
    groups = [(name, own[name]["source"], load_render(name)) for name in sorted(own, key=_clinical_first)]
    groups += [(name, PROTOCOLS[name]["source"], load_render(name)) for name in NAMES]
    groups.append(("usual", SETTINGS["usual"]["source"], load_render(SETTINGS["usual"]["render"])))
    paper = [request for request in load_render("fig3", "paper") if request.name in SETTINGS["paper"]]
    groups.append(("paper", f"{own['fig3']['source']}; with the published equations", paper))
    return [
        {"name": name, "source": about, "settings": [preset(*request) for request in some]}
        for name, about, some in groups
    ]


def _clinical_first(name: str) -> tuple[bool, str]:
    return name != "clinical", name


def preset(name: str, suffix: str, acquisition: Acquisition) -> dict:
    """Settings that the page can take: those of an acquisition under a name."""
    values = {field: getattr(acquisition, field) for field in SEQUENCES[acquisition.sequence].fields}
    return {"name": name, "suffix": suffix, "sequence": acquisition.sequence, "values": values}


def _sequence(name: str, options: Iterable[str], note: str) -> dict:
    sequence, about = SEQUENCES[name], inspect.getdoc(SEQUENCES[name].signal)
    one = source(name, tuple(options))
    return {
        "title": title(name),
        "equation": _plain(about.split("\n\nArgs:")[0]),
        "known_limits": _plain(re.search(r"Known limits: (.*?)(\n\n|$)", about, re.S)[1]),
        "fields": {field: _field(field, name) for field in sequence.fields},
        "options": one.options,
        "signed": sequence.signed,
        "note": note,
        "limits": [{"fields": limit.fields, "strict": limit.strict, "why": limit.why} for limit in limits(name)],
    }


def _field(field: str, sequence: str) -> dict:
    """Range of a slider and the key of the setting in a sidecar."""
    fields = SEQUENCES[sequence].fields
    row = dict(SETTINGS["fields"][field])
    kinds = [("inverted", "ti" in fields and "tr" in fields), ("readout", "echoes_before_centre" in fields)]
    for kind, applies in kinds:
        if applies:
            row |= SETTINGS["narrower"][kind].get(field, {})
    return {**row, "key": sidecar_key(field, sequence)}


def title(sequence: str) -> str:
    """``inversion_recovery_turbo_spin_echo`` -> ``Inversion recovery turbo spin echo``."""
    words = [WORDS.get(word, word) for word in sequence.split("_")]
    text = " ".join(words)
    return text[0].upper() + text[1:] if words[0] not in WORDS.values() else text


def _plain(text: str) -> str:
    """A docstring's words without its marks."""
    text = re.sub(r":\w+:`~?([^`]*\.)?([^`.]+)`", r"\2", text)
    return " ".join(text.replace("``", "").split())

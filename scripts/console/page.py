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

"""The page: template files, the equations, the table and the data of one session in one HTML text."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .pack import Volume, pack
from .table import javascript, table

TEMPLATE = Path(__file__).parent / "template"
LARGEST = 15_000_000
"""Bytes that a page has at most, unless asked for another number."""
SCRIPTS = (
    "volume",
    "physics",
    "noise",
    "shader",
    "canvas",
    "renderer",
    "settings",
    "planes",
    "readout",
    "exports",
    "main",
)
"""Script files of the template, in their order."""


@dataclass(frozen=True)
class About:
    """What the page says of a session and of the run that made it.

    Attributes:
        name: of the session, such as ``sub-01_ses-02``.
        version: of the bundle.
        command: words of the command line that renders its maps in Python, without ``--render``, quoted for a shell.
        sidecar: what the sidecar of an image rendered from these maps says besides its acquisition and sources.
        sources: BIDS URIs of the maps, by their names in the page.
        notes: what it says of an image of each sequence, by name.
        scans: settings of acquired scans that are known: ``name``, ``suffix``, ``sequence``, ``values`` of its fields,
            and ``scan``, its number among the scans of the volume.
        remarks: sentences about what is shown, such as how scans were brought to this grid.
    """

    name: str
    version: str
    command: str
    sidecar: Mapping[str, object] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    scans: tuple[Mapping[str, object], ...] = ()
    remarks: tuple[str, ...] = ()


def console_page(volume: Volume, about: About, largest: int = LARGEST) -> str:
    """The HTML text of one session. It needs no network, and its own policy allows none.

    Args:
        volume: the maps, RAS.
        about: words. They may be a stranger's: nothing of them is read as HTML or script.
        largest: bytes that the page may have.
    """
    code = _script(volume.options)
    content = {"about": asdict(about), "table": table(volume.options, about.notes)}
    text = (TEMPLATE / "page.html").read_text(encoding="utf-8")
    parts = {
        "title": html.escape(about.name),
        "policy": _policy(code),
        "style": (TEMPLATE / "style.css").read_text(encoding="utf-8"),
        "script": code,
        "content": _data(content),
    }
    room = largest - len(text) - sum(len(part.encode()) for part in parts.values())
    parts["volume"] = _data(pack(volume, room))
    # One pass: what a part contains is not looked at.
    pieces = text.split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def _script(options: tuple[str, ...]) -> str:
    files = "\n".join((TEMPLATE / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    return f'"use strict";\nconst EQUATIONS = {javascript(options)};\n{files}'


def _policy(code: str) -> str:
    """Only this script runs, and nothing is loaded or sent."""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    rules = {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "img-src": "blob: data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _data(content: dict) -> str:
    """JSON that cannot end the element that holds it."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

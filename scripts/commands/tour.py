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
"""The tour of ``docs/tour.md``: its commands run one after the other, and the same page as a notebook.

``python -m scripts.commands.tour`` runs the commands. ``--notebook`` writes ``docs/tour.ipynb`` instead, ``--pictures``
puts the pictures that the commands made into the page.
"""

import argparse
import json
import re
import shlex
import time
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from ..files import replacing, write_atomically
from .demo import ROOT, clock, run

PAGE, NOTEBOOK = ROOT / "docs" / "tour.md", ROOT / "docs" / "tour.ipynb"
PARTS = re.compile(
    r"^```bash\n(?P<commands>.*?)^```\n|^<!-- (?P<source>\S+) -->\n!\[(?P<text>[^]]*)\]\((?P<target>\S+)\)\n",
    re.M | re.S,
)
"""What of the page is more than text: commands, and pictures with the files that commands make."""
ALL = "make tour"
"""The command of the page that is this module."""
START = [
    "import os",
    "import sys",
    "from IPython.display import Image",
    "if not os.path.isdir('configs'):",
    "    os.chdir('..')  # to the bundle's folder",
]
WIDEST = 1600
"""Of a picture in the page [pixels]."""


class Command(NamedTuple):
    """A line of shell."""

    line: str


class Picture(NamedTuple):
    """A picture of the page.

    Attributes:
        source: file that a command makes, below the bundle's folder.
        text: what it shows.
        target: file in ``docs``.
    """

    source: str
    text: str
    target: str


def parts(page: str) -> Iterator[str | Command | Picture]:
    """The page as text, commands and pictures, in their order."""
    end = 0
    for match in PARTS.finditer(page):
        if page[end : match.start()].strip():
            yield page[end : match.start()].strip()
        if match["commands"] is None:
            yield Picture(match["source"], match["text"], match["target"])
        else:
            lines = match["commands"].replace("\\\n", " ").splitlines()
            yield from (Command(line) for line in lines if line.strip())
        end = match.end()
    if page[end:].strip():
        yield page[end:].strip()


def notebook(page: str) -> dict:
    """The page as a notebook (nbformat 4.5) without outputs: commands and pictures are cells of code."""
    cells: list[tuple[str, str]] = []
    for part in parts(page):
        if isinstance(part, Command):
            if part.line != ALL:
                cells.append(("code", "!" + re.sub("^python ", "{sys.executable} ", part.line)))
        elif isinstance(part, Picture):
            cells.append(("code", f"Image({part.source!r})"))
        else:
            cells.append(("markdown", part))
    cells.insert(1, ("code", "\n".join(START)))
    return {
        "cells": [_cell(number, *cell) for number, cell in enumerate(cells, 1)],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, kind: str, source: str) -> dict:
    code = {"execution_count": None, "outputs": []} if kind == "code" else {}
    return {"cell_type": kind, "id": f"cell-{number:02d}", "metadata": {}, **code,
            "source": source.splitlines(keepends=True)}  # fmt: skip


def write_notebook() -> None:
    """Writes the notebook of the page."""
    text = json.dumps(notebook(PAGE.read_text(encoding="utf-8")), indent=1, ensure_ascii=False)
    write_atomically(NOTEBOOK, text + "\n")


def write_pictures() -> None:
    """Puts the pictures that the commands made into the page."""
    for part in parts(PAGE.read_text(encoding="utf-8")):
        if isinstance(part, Picture):
            image = Image.open(ROOT / part.source).convert("RGB")
            image.thumbnail((WIDEST, WIDEST))
            with replacing(PAGE.parent / part.target) as file:
                image.save(file, "JPEG", quality=85, optimize=True)


def take() -> None:
    """Runs the commands of the page, one after the other."""
    found = [part.line for part in parts(PAGE.read_text(encoding="utf-8")) if isinstance(part, Command)]
    commands, start = [line for line in found if line != ALL], time.time()
    for number, line in enumerate(commands, 1):
        print(f"\n{number}/{len(commands)} $ {line}", flush=True)
        begun = time.time()
        run(shlex.split(line)[1:])
        print(f"done in {clock(time.time() - begun)}", flush=True)
    print(f"\nAll done in {clock(time.time() - start)} min. docs/tour.md says what to look at in tour/")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.commands.tour", description=__doc__.splitlines()[0])
    parser.add_argument("--notebook", action="store_true", help="write the notebook of the page")
    parser.add_argument("--pictures", action="store_true", help="put the pictures that were made into the page")
    options = parser.parse_args()
    if options.notebook:
        write_notebook()
    if options.pictures:
        write_pictures()
    if not options.notebook and not options.pictures:
        take()


if __name__ == "__main__":
    main()

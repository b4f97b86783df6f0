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

"""The page of results: tables as Markdown, each part between markers of its own."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results.md"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def percent(share: float, signed: bool = False) -> str:
    """``0.0312`` -> ``3.1``."""
    return f"{100 * share:{'+' if signed else ''}.1f}"


def verdict(met: bool) -> str:
    """How a target is reported."""
    return "met" if met else "**not met**"


def fill(page: Path, part: str, text: str) -> None:
    """Replaces what stands on a page between ``<!-- part: begin -->`` and ``<!-- part: end -->``.

    Raises:
        UserError: when the page or the markers are missing.
    """
    begin, end = f"<!-- {part}: begin -->\n", f"<!-- {part}: end -->"
    content = page.read_text(encoding="utf-8") if page.is_file() else ""
    if not re.search(f"{begin}.*?{end}", content, re.DOTALL):
        raise UserError(page, f"no place for {part}", f"put the lines {begin.strip()} and {end} into it")
    head, rest = content.split(begin)
    page.write_text(f"{head}{begin}\n{text.strip()}\n\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")

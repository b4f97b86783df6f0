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


"""Results of an evaluation: JSON, TSV and PNG files, and one HTML page that holds all of them.

The page needs no network and runs no script. Its colours follow the reader's light or dark setting.
"""

import base64
import csv
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from ..files import make_folder, write_atomically

TEMPLATE = Path(__file__).with_name("page.html")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
"""Names of tables and figures; files are called after them."""
PNG = b"\x89PNG\r\n\x1a\n"
PUBLISHED = "published"
Value = str | float | int | bool | None
Row = Mapping[str, Value]


@dataclass(frozen=True)
class Text:
    """Words between tables and figures.

    Attributes:
        text: paragraphs, with an empty line between them.
        title: heading above them; none where it is empty.
    """

    text: str
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A table; values published elsewhere stand below ours.

    Attributes:
        name: of its file ``NAME.tsv`` and of its entry in the JSON file.
        title: heading above it.
        rows: column -> value, the same columns in every row. The first column names the row. A column that a row lacks
            is empty there, as are None and NaN.
        published: first column of a row -> column -> published value.
        note: what a reader has to know, such as where published values come from.
    """

    name: str
    title: str
    rows: Sequence[Row]
    published: Mapping[Value, Row] = field(default_factory=dict)
    note: str = ""

    @property
    def columns(self) -> list[str]:
        """The columns of all rows, in the order in which they first appear."""
        return list(dict.fromkeys(column for row in self.rows for column in row))

    def published_row(self, row: Row) -> Row:
        """What is published of a row; empty where nothing is."""
        return self.published.get(row.get(self.columns[0]), {})


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: of its file ``NAME.png``.
        title: heading above it.
        png: content of a PNG file.
        caption: what it shows.
    """

    name: str
    title: str
    png: bytes
    caption: str = ""


Part = Text | Table | Picture


def png_of(figure: object, dots_per_inch: int = 120) -> bytes:
    """A matplotlib figure as the content of a PNG file, the same bytes each time."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dots_per_inch, bbox_inches="tight", metadata={"Software": None})
    return content.getvalue()


def write_page(folder: str | Path, name: str, title: str, parts: Sequence[Part], about: Row | None = None) -> Path:
    """Writes ``NAME.html`` with everything in it, ``NAME.json``, a TSV file for each table, a PNG for each figure.

    Args:
        folder: made where it does not exist.
        name: of the page and of the JSON file.
        title: of the page.
        parts: texts, tables and figures, in their order. All words may be a stranger's: nothing is read as HTML.
        about: facts of the run, such as seed, weights and version; they go into the JSON file and below the title.

    Returns:
        The page.

    Raises:
        UserError: for a name that is no file name or stands twice, a figure that is no PNG, or a folder that cannot be
            written.
    """
    _check(name, parts)
    folder, about = make_folder(folder), about or {}
    tables = [part for part in parts if isinstance(part, Table)]
    for part in parts:
        if isinstance(part, Table):
            write_atomically(folder / f"{part.name}.tsv", tsv(part))
        elif isinstance(part, Picture):
            write_atomically(folder / f"{part.name}.png", part.png)
    content = {"title": title, "about": dict(about), "tables": {table.name: _json(table) for table in tables}}
    write_atomically(folder / f"{name}.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    page = folder / f"{name}.html"
    write_atomically(page, page_text(title, parts, about))
    return page


def page_text(title: str, parts: Sequence[Part], about: Row | None = None) -> str:
    """The HTML text; arguments as :func:`write_page`."""
    facts = "".join(f"<br>{html.escape(key)}: {html.escape(shown(value))}" for key, value in (about or {}).items())
    body = [f'<p class="note">{facts.removeprefix("<br>")}</p>'] if facts else []
    body += [_html(part) for part in parts]
    words = {"title": html.escape(title), "body": "\n".join(body)}
    # One pass: what a part contains is not looked at.
    pieces = TEMPLATE.read_text(encoding="utf-8").split("@@")
    return "".join(words[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def tsv(table: Table) -> str:
    """Tab-separated text; a column with published values has them in the next column, ``COLUMN (published)``."""
    known = {column for row in table.rows for column in table.published_row(row)}
    file = io.StringIO()
    writer = csv.writer(file, dialect="excel-tab", lineterminator="\n")
    both = [(column, source) for column in table.columns for source in ("", PUBLISHED)[: 1 + (column in known)]]
    writer.writerow([f"{column} ({source})" if source else column for column, source in both])
    for row in table.rows:
        cells = [(table.published_row(row) if source else row).get(column) for column, source in both]
        writer.writerow(["n/a" if _empty(cell) else cell for cell in cells])
    return file.getvalue()


def text_table(table: Table) -> str:
    """The table for a terminal: columns of equal width, ``ours [published]``."""
    lines = [table.columns]
    for row in table.rows:
        published = table.published_row(row)
        lines.append(
            [
                shown(row.get(column)) + (f" [{shown(published[column])}]" if column in published else "")
                for column in table.columns
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def shown(value: Value) -> str:
    """A value as a reader sees it: four significant digits, a dash for what is not known."""
    if _empty(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _empty(value: Value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _json(table: Table) -> dict:
    def clean(row: Row) -> dict:
        return {column: None if _empty(value) else value for column, value in row.items()}

    published = [clean(table.published_row(row)) or None for row in table.rows]
    content = {"title": table.title, "note": table.note, "rows": [clean(row) for row in table.rows]}
    return content | ({PUBLISHED: published} if any(published) else {})


def _html(part: Part) -> str:
    title = f"<h2>{html.escape(part.title)}</h2>\n" if part.title else ""
    if isinstance(part, Text):
        return title + "\n".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in part.text.split("\n\n"))
    if isinstance(part, Picture):
        source = f"data:image/png;base64,{base64.b64encode(part.png).decode()}"
        image = f'<img src="{source}" alt="{html.escape(part.title)}">'
        return f"{title}<figure>{image}<figcaption>{html.escape(part.caption)}</figcaption></figure>"
    heads = "".join(f'<th scope="col"{_kind(part, c)}>{html.escape(c)}</th>' for c in part.columns)
    rows = "\n".join(f"<tr>{''.join(_cell(part, row, column) for column in part.columns)}</tr>" for row in part.rows)
    note = f'\n<p class="note">{html.escape(part.note)}</p>' if part.note else ""
    return f'{title}<div class="wide"><table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div>{note}'


def _cell(table: Table, row: Row, column: str) -> str:
    published = table.published_row(row)
    beside = f'<span class="{PUBLISHED}">{html.escape(shown(published[column]))}</span>' if column in published else ""
    return f"<td{_kind(table, column)}>{html.escape(shown(row.get(column)))}{beside}</td>"


def _kind(table: Table, column: str) -> str:
    """Words stand on the left of their column, numbers on the right."""
    return ' class="words"' if any(isinstance(row.get(column), str) for row in table.rows) else ""


def _check(name: str, parts: Sequence[Part]) -> None:
    names = [name, *(part.name for part in parts if not isinstance(part, Text))]
    for one in names:
        if not NAME.fullmatch(one):
            raise UserError("name of a result", repr(one), "use small letters, digits, - and _")
        if names.count(one) > 1:
            raise UserError("name of a result", f"{one!r} twice", "give each table and figure a name of its own")
    for part in parts:
        if isinstance(part, Picture) and not part.png.startswith(PNG):
            raise UserError(f"figure {part.name}", "no PNG", "give the content of a PNG file, see png_of")
        if isinstance(part, Table) and not part.rows:
            raise UserError(f"table {part.name}", "no rows", "leave out tables that are empty")

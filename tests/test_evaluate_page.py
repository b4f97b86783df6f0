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


"""Pages of results: nothing is lost, nothing is read as HTML, nothing is fetched."""

import csv
import json
import re

import pytest
from matplotlib.figure import Figure

from scripts.errors import UserError
from scripts.evaluate import Picture, Table, Text, page_text, png_of, text_table, write_page

HOSTILE = "<script>alert('1')</script> @@body@@ & \"quoted\"\ttab"


@pytest.fixture(scope="module")
def png():
    figure = Figure((1, 1))
    figure.subplots().plot([0, 1])
    return png_of(figure)


def rows():
    return [
        {"model": "A", "MSE": 1.23456, "heads": 3},
        {"model": HOSTILE, "MSE": float("nan"), "heads": None, "remark": "x"},
    ]


def test_every_value_is_in_every_file(tmp_path, png):
    table = Table("errors", "Errors", rows(), {"A": {"MSE": 996}}, note="Published on other data.")
    page = write_page(tmp_path, "page", "Title", [Text("One.\n\nTwo."), table, Picture("curve", "Curve", png)])
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "page.json", "errors.tsv", "curve.png"}
    assert (tmp_path / "curve.png").read_bytes() == png
    content = json.loads((tmp_path / "page.json").read_text())["tables"]["errors"]
    assert content["rows"] == [rows()[0], rows()[1] | {"MSE": None}]
    assert content["published"] == [{"MSE": 996}, None]
    with open(tmp_path / "errors.tsv", newline="") as file:
        read = list(csv.DictReader(file, dialect="excel-tab"))
    assert read[0] == {"model": "A", "MSE": "1.23456", "MSE (published)": "996", "heads": "3", "remark": "n/a"}
    assert read[1] == {"model": HOSTILE, "MSE": "n/a", "MSE (published)": "n/a", "heads": "n/a", "remark": "x"}
    text = page.read_text()
    assert "1.235" in text and "996" in text and "<p>One.</p>\n<p>Two.</p>" in text


def test_words_are_no_html_and_nothing_is_fetched(png):
    parts = [Text(HOSTILE, HOSTILE), Table("a", HOSTILE, rows(), note=HOSTILE), Picture("b", HOSTILE, png, HOSTILE)]
    text = page_text(HOSTILE, parts, {HOSTILE: HOSTILE})
    assert "<script" not in text and text.count("@@body@@") >= 9
    assert "default-src 'none'" in text and not re.search(r"https?://|<link|url\(", text)
    assert set(re.findall(r'src="([^,]*),', text)) == {"data:image/png;base64"}
    assert "prefers-color-scheme: dark" in text


def test_the_terminal_shows_published_values_beside_ours():
    lines = text_table(Table("a", "A", [{"row": 1, "MSE": 10.0}, {"row": 2}], {1: {"MSE": 12.5}})).splitlines()
    assert lines == ["row  MSE", "1    10 [12.5]", "2    –"]


@pytest.mark.parametrize(
    "parts, word",
    [
        ([Table("../a", "", [{"x": 1}])], "small letters"),
        ([Table("a", "", [{"x": 1}]), Table("a", "", [{"x": 1}])], "twice"),
        ([Table("page", "", [{"x": 1}])], "twice"),
        ([Table("a", "", [])], "no rows"),
        ([Picture("a", "", b"GIF89a")], "no PNG"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path, parts, word):
    with pytest.raises(UserError, match=word):
        write_page(tmp_path / "out", "page", "Title", parts)
    assert not (tmp_path / "out").exists()

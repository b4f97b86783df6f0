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

"""Literature values: every one has a source, and they obey what physics demands of them."""

import json

import pytest

from scripts import BUNDLE_ROOT
from scripts.errors import UserError
from scripts.tissue import TISSUE_NAMES, TISSUES, known_tissues, tissue_values

CELLS = [(tissue, field) for tissue, cells in TISSUES.items() for field in cells]


@pytest.mark.parametrize("tissue, field", CELLS)
def test_every_value_has_a_source_and_is_physical(tissue, field):
    values = TISSUES[tissue][field]
    known = {name: value for name, value in values._asdict().items() if name != "sources" and value is not None}
    assert known and set(values.sources) == set(known)
    assert all(0 < value <= limit for name, value in known.items() for limit in [{"pd": 1.0}.get(name, 5.0)])
    times = [known[name] for name in ("t2_star", "t2", "t1") if name in known]
    assert times == sorted(times)


def test_every_listed_source_is_used():
    with open(f"{BUNDLE_ROOT}/scripts/tissue/tissues.json", encoding="utf-8") as file:
        listed = json.load(file)["sources"].values()
    used = {source for cells in TISSUES.values() for values in cells.values() for source in values.sources.values()}
    assert {f"{source['citation']} [{source['evidence']}]" for source in listed} == used


@pytest.mark.parametrize("tissue", TISSUES)
def test_t1_grows_with_the_field(tissue):
    times = [values.t1 for _, values in sorted(TISSUES[tissue].items()) if values.t1]
    if tissue == "CSF":
        assert max(times) / min(times) < 1.05  # free water hardly depends on the field
    else:
        assert times == sorted(set(times))


def test_three_tesla_brain():
    assert tissue_values("WM", 3)[:3] == (0.69, 0.83, 0.08)
    assert tissue_values("GM", 3.0)[:3] == (0.84, 1.33, 0.11)
    assert "Wansapura" in tissue_values("GM", 3).sources["t1"]
    assert tissue_values("CSF", 3).t1 > 4 and tissue_values("CSF", 3).pd == 1
    assert set(TISSUE_NAMES) == set(TISSUES)


def test_a_scanner_at_2_89_tesla_counts_as_3():
    assert tissue_values("WM", 2.89362) is tissue_values("WM", 3)


def test_grey_and_white_matter_are_known_everywhere():
    assert all({"WM", "GM"} <= set(known_tissues(field)) for field in (1.5, 3, 7))
    assert known_tissues(0.55) == []


@pytest.mark.parametrize(
    "tissue, field, words",
    [
        ("liver", 3, ["liver", "WM, GM, CSF"]),
        ("CSF", 7, ["CSF", "7 T", "1.5 T and 3 T", "use WM, GM"]),
        ("putamen", 3, ["putamen", "at no field strength"]),
        ("WM", 0.55, ["0.55 T", "1.5, 3 or 7 T"]),
    ],
)
def test_a_missing_combination_says_what_exists(tissue, field, words):
    with pytest.raises(UserError) as error:
        tissue_values(tissue, field)
    assert all(word in str(error.value) for word in words), error.value

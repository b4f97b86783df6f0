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

"""The page of the console without a browser: data and words in it, its table against the rules of Python."""

import re
from dataclasses import replace

import numpy as np
import pytest

from scripts.acquisition.record import Acquisition
from scripts.acquisition.timing import check_timing
from scripts.console import console_page, pack
from scripts.console.limits import limits
from scripts.console.pack import PRECISION, unpack
from scripts.console.page import LARGEST, SCRIPTS, TEMPLATE
from scripts.console.table import SETTINGS, presets, table
from scripts.errors import UserError
from scripts.signal import SEQUENCES

from .consoles import HOSTILE, Elements, about, head


@pytest.fixture(scope="module")
def physics() -> dict:
    return table(("fluid",), {})


def accepted(sequence: str, values: dict[str, float]) -> bool:
    try:
        check_timing(Acquisition(sequence, **values), SEQUENCES[sequence].fields, "test")
    except UserError:
        return False
    return True


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_limits_are_the_rules_of_the_acquisition(sequence, physics):
    """Both accept and refuse the same settings, at random and next to settings that are allowed."""
    random = np.random.default_rng(1)
    fields, rules = physics["sequences"][sequence]["fields"], limits(sequence)
    allowed = [one["values"] for group in presets() for one in group["settings"] if one["sequence"] == sequence]
    verdicts = []
    for number in range(1500):
        start = allowed[number % len(allowed)]
        values = dict(start)
        for field in random.permutation([*fields])[: random.integers(1, len(fields) + 1)]:
            low, high = max(fields[field]["low"], 1e-4), fields[field]["high"]
            drawn = float(np.exp(random.uniform(np.log(low), np.log(high))))
            values[field] = float(round(drawn)) if fields[field]["decimals"] == 0 else drawn
        verdicts.append(accepted(sequence, values))
        assert all(rule.holds(values) for rule in rules) == verdicts[-1], values
    assert any(verdicts) and (not rules or not all(verdicts))


def test_presets_are_inside_ranges_and_limits(physics):
    for group in presets():
        for one in group["settings"]:
            fields = physics["sequences"][one["sequence"]]["fields"]
            assert one["values"].keys() == fields.keys()
            assert all(fields[name]["low"] <= value <= fields[name]["high"] for name, value in one["values"].items())
            assert all(rule.holds(one["values"]) for rule in limits(one["sequence"]))


def test_every_sequence_has_a_preset_and_words(physics):
    assert {one["sequence"] for group in presets() for one in group["settings"]} == set(SEQUENCES)
    assert physics["sequences"].keys() == SEQUENCES.keys()
    for row in physics["sequences"].values():
        assert row["equation"] and row["known_limits"] and "``" not in row["equation"] + row["known_limits"]
    assert set(SETTINGS["fields"]) == {field for one in SEQUENCES.values() for field in one.fields}


@pytest.mark.parametrize("name,step", [("t1", PRECISION[0][0]), ("pd", PRECISION[0][0]), ("sd_t2", PRECISION[0][1])])
def test_maps_are_stored_with_the_stated_precision(name, step):
    volume = head().cropped
    packed = pack.pack(volume, LARGEST)
    assert (packed["precision"]["maps"], packed["precision"]["sd"]) == PRECISION[0]
    [found] = [array for one, array in zip(packed["channels"], unpack(packed)) if one["name"] == name]
    expected = volume.maps[name] * volume.mask
    assert np.array_equal(found > 0, expected > 0)
    inside = expected > 0
    assert np.abs(np.log(found[inside] / expected[inside])).max() <= step / 2 + 1e-6


def test_a_page_that_would_be_too_large_becomes_coarser_loses_scans_and_voxels():
    volume, sizes, found = head((60, 60, 40)), [], []
    for room in (2 * 10**6, 7 * 10**5, 4 * 10**5, 10**5):
        packed = pack.pack(volume, room)
        assert len(packed["mask"]) + sum(len(channel["text"]) for channel in packed["channels"]) <= room
        sizes.append(packed["precision"]["maps"])
        found.append((packed["left_out"], packed["step"]))
    assert sizes[1] > sizes[0] == PRECISION[0][0]
    assert found[0] == ([], 1) and found[-1][1] > 1


def test_only_the_box_around_the_head_is_stored_in_its_place():
    volume = head((40, 40, 12))
    mask = np.zeros_like(volume.mask)
    mask[10:20, 12:30, 3:6] = True
    cropped = replace(volume, mask=mask).cropped
    assert cropped.mask.shape == (14, 22, 7) and cropped.mask.sum() == mask.sum()
    place = cropped.affine @ [2, 2, 2, 1]
    np.testing.assert_allclose(place, volume.affine @ [10, 12, 3, 1])


def test_a_volume_beyond_the_largest_is_thinned_out(monkeypatch):
    monkeypatch.setattr("scripts.console.pack.MOST_VOXELS", 2000)
    volume = head((24, 20, 12))
    packed = pack.pack(volume, LARGEST)
    assert packed["step"] == 2 and np.prod(packed["shape"]) <= 2000
    thin = volume.cropped.thinned(2)
    assert np.array_equal(thin.maps["t1"], volume.cropped.maps["t1"][::2, ::2, ::2])
    np.testing.assert_allclose(packed["affine"], thin.affine)
    np.testing.assert_allclose(thin.affine[:3, :3], 2 * volume.affine[:3, :3])


def test_words_of_strangers_are_words():
    """A name, a title of a scan and a sidecar with markup add no element and no script."""
    volume = head()
    hostile = replace(volume, scans={HOSTILE: volume.scans["T1w"]})
    told = about(HOSTILE, remarks=(HOSTILE,))
    told = replace(told, sidecar={"Note": "</script><b>", HOSTILE: HOSTILE}, sources={"t1": HOSTILE})
    plain, bad = Elements(console_page(volume, about())), Elements(console_page(hostile, told))
    assert [tag for tag, _ in plain.found] == [tag for tag, _ in bad.found]
    assert bad.title == f"{HOSTILE}: contrast console"
    assert bad.json("content")["about"]["sidecar"]["Note"] == "</script><b>"
    assert bad.json("volume")["channels"][-1]["title"] == HOSTILE
    assert plain.scripts[None] == bad.scripts[None]


def test_a_page_asks_for_nothing_from_elsewhere():
    page = Elements(console_page(head(), about()))
    [policy] = [found["content"] for tag, found in page.found if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe-eval" not in policy and "connect-src" not in policy
    assert not any({"src", "href"} & found.keys() for _, found in page.found)
    assert not re.search(r"https?://", page.scripts[None])


def test_every_file_of_the_template_is_used():
    scripts = {path.stem for path in TEMPLATE.glob("*.js")}
    assert scripts == set(SCRIPTS) and {path.suffix for path in TEMPLATE.iterdir()} == {".js", ".css", ".html"}


def test_a_page_without_sd_or_scans_is_smaller_and_whole():
    page = Elements(console_page(head((24, 20, 1), sd=False, options=(), scans=False), about()))
    assert [channel["name"] for channel in page.json("volume")["channels"]] == ["pd", "t1", "t2"]
    assert sum(len(text) for text in page.scripts.values()) < LARGEST

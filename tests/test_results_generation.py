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

"""The measures of generated slices: each rule sees its fault and no other, distances are what they say."""

import json

import numpy as np
import pytest

from benchmarks.results import generation
from benchmarks.results.pictures import LARGEST
from scripts.bids import Session, output_path
from scripts.commands.study.brains import Brain, write_fractions
from scripts.commands.study.products import write_maps
from scripts.errors import UserError
from scripts.estimate.maps import Maps
from scripts.evaluate import anatomy
from scripts.evaluate.layout import (
    COUNT,
    NUMBER,
    Distance,
    areas,
    contact_lengths,
    contacts,
    has_island,
    is_broken,
    is_open,
    layout,
    symmetry,
)
from scripts.simulate import LabelMaps

SIZE = (176, 224)


def head(radius: float = 80.0, shift: float = 0.0) -> np.ndarray:
    """Numbers of a head of nested discs."""
    x, y = np.meshgrid(*[np.arange(n) - n / 2 for n in SIZE], indexing="ij")
    r = np.hypot(x - shift, y) * 80 / radius
    numbers = np.zeros(SIZE, int)
    for limit, name in (
        (80, "scalp"),
        (74, "bone"),
        (68, "CSF"),
        (66, "cortex"),
        (60, "white matter"),
        (12, "ventricle"),
    ):
        numbers[r < limit] = NUMBER[name]
    return numbers


def box(numbers: np.ndarray, x: slice, y: slice, name: str) -> np.ndarray:
    changed = numbers.copy()
    changed[x, y] = NUMBER[name]
    return changed


def faults(numbers: np.ndarray) -> tuple[bool, bool, bool]:
    return is_open(numbers), has_island(numbers), is_broken(numbers)


def test_a_whole_head_has_no_fault():
    assert faults(head()) == (False, False, False) and faults(head(60, 2)) == (False, False, False)


def test_each_fault_is_seen_by_its_rule():
    whole = head()
    gap = whole.copy()
    gap[80:100, :60][np.isin(gap[80:100, :60], [NUMBER["bone"]])] = NUMBER["scalp"]
    assert faults(gap) == (True, False, False), "a gap in the bone"
    assert is_open(box(whole, slice(82, 94), slice(0, 46), "air")), "air up to the brain"
    assert faults(box(whole, slice(60, 70), slice(120, 130), "CSF")) == (False, True, False)
    assert faults(box(whole, slice(60, 64), slice(120, 124), "CSF")) == (False, False, False), "a small one"
    cut = whole.copy()
    cut[:60] = 0
    assert faults(cut)[2]


def test_a_mirror_image_is_what_symmetry_says():
    mask = head() > 0
    assert symmetry(mask) > 0.97 and symmetry(np.zeros(SIZE, bool)) == 0
    mask[20:60, 60:100] = False
    assert symmetry(mask) < 0.95


def test_areas_and_contacts_are_counted():
    whole = head()
    assert areas(whole)["ventricle"] == pytest.approx(np.pi * 1.2**2, rel=0.05)
    lengths = contact_lengths(whole)
    assert lengths.shape == (COUNT, COUNT) and (lengths == lengths.T).all()
    assert lengths[NUMBER["white matter"], NUMBER["CSF"]] == 0 < lengths[NUMBER["white matter"], NUMBER["cortex"]]


def test_the_distance_is_zero_for_the_reference_and_grows():
    heads = [head(60 + k, k % 5) for k in range(20)]
    for features, components in ((layout(heads), 6), (contacts(heads), 4)):
        distance = Distance(features, components)
        assert abs(distance(features)) < 1e-3 and distance.nearest(features).max() < 1e-3
        other = (layout if len(features[0]) > 1000 else contacts)([head(75 + k, k % 5) for k in range(10)])
        assert distance(other) > 0.2


def test_samples_are_compared_with_heads_and_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "HEADS", {"trained": 1, "held-out": 1})
    monkeypatch.setattr(anatomy, "COMPONENTS", {"layout": 2, "contacts": 2})
    monkeypatch.setattr(generation, "LabelMaps", lambda *_: LabelMaps())
    for number, level in enumerate((-12.0, 0.0, 18.0, 33.0)):
        session, affine = Session(f"000{number}", None, ()), np.eye(4)
        fractions = np.moveaxis(np.eye(COUNT)[head(70 + number)], -1, 0)
        maps = np.ones((3, *SIZE, 1), np.float32) * np.array([0.8, 1.0, 0.08], np.float32).reshape(3, 1, 1, 1)
        requested = {"position": level, "ventricle": 4.0 + number, "brain": None, "lesions": None}
        about = {
            "GeneratedFrom": {"requested": requested},
            "Measured": {"ventricle": 4.5 + number, "brain": 150.0, "lesions": 0.0},
        }
        write_maps(tmp_path / "samples", session, Maps(maps, None, maps[0] > 0, affine), about)
        write_fractions(tmp_path / "samples", session, Brain(maps, fractions[..., None]), affine, about)
    text = generation.run(tmp_path / "samples", [tmp_path / "samples"], tmp_path, tmp_path, 0)
    assert "| ventricle | 4 | 4.0–7.0 | 1.000 | 0.50 |" in text and "0 of 4" in text
    for contrast in generation.CONTRASTS:
        assert 0 < (tmp_path / f"results_generation_{contrast}.jpg").stat().st_size <= LARGEST
    with pytest.raises(UserError, match="no samples"):
        generation.read_samples(tmp_path)
    assert json.loads(output_path(tmp_path / "samples", session, "dseg", ".json").read_text())["Labels"]["3"] == "WM"

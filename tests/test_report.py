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

"""Pictures: what a title says, and which panels a picture has."""

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.results.pictures import turned
from scripts.acquisition import Acquisition, RenderRequest
from scripts.commands import report
from scripts.commands.report import AXIAL, comparison, few, format_time, montage, overview, request_title, window

SHAPE = (30, 40)
MASK = np.zeros(SHAPE, bool)
MASK[5:25, 10:38] = True
MAPS = np.random.default_rng(0).uniform(0.1, 1.0, (3, *SHAPE)) * MASK


@pytest.fixture()
def drawn(monkeypatch) -> list[Figure]:
    """Figures in the order they were saved."""
    figures, original = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self) or original(self, *a, **k))
    return figures


def titles(figure: Figure) -> list[str]:
    """Titles of the panels, row by row; colour bars have none."""
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_no_text_is_cut_off_beside_one_panel(drawn):
    comparison("1 of 1 sessions", [("T1w at oasis3:  TE 3.16 ms  TR 2.4 s  TI 1 s", [("sub-01", MAPS[0])])], 3 * AXIAL)
    (figure,) = drawn
    figure.canvas.draw()
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in figure.texts)


@pytest.mark.parametrize("seconds,text", [(0.003, "3 ms"), (0.00316, "3.16 ms"), (0.1, "0.1 s"), (2.4, "2.4 s")])
def test_times_are_short(seconds, text):
    assert format_time(seconds) == text


def test_a_title_has_what_is_known_of_times_and_angles():
    mprage = Acquisition("paper_mprage", te=0.003, tr=2.3, ti=0.9, flip_angle=9.0)
    assert request_title(RenderRequest("a", "T1w", mprage)) == "a (T1w)\nTE 3 ms  TR 2.3 s  TI 0.9 s  FA 9°"
    spin_echo = Acquisition("paper_spin_echo", te=0.1, tr=4.5)
    assert request_title(RenderRequest("b", "T2w", spin_echo)) == "b (T2w)\nTE 0.1 s  TR 4.5 s"
    space = Acquisition("paper_spin_echo", te=0.455, tr=3.2, te_equivalent=0.11)
    assert request_title(RenderRequest("c", "T2w", space)) == "c (T2w)\nTE 0.455 s  TEeq 0.11 s  TR 3.2 s"
    two = Acquisition("paper_mprage", te=0.003, tr=5.0, ti=0.7, ti2=2.5, flip_angle=4.0, flip_angle2=5.0)
    assert request_title(RenderRequest("d", "UNIT1", two)).endswith("TI 0.7 s\nTI2 2.5 s  FA 4°  FA2 5°")


def test_an_overview_shows_scans_maps_contrasts_and_uncertainty_in_this_order(tmp_path, drawn):
    two = {"late": MAPS[1], "early": MAPS[2]}
    overview(tmp_path / "a.png", "sub-01", MAPS, 0.1 * MAPS, MASK, {"T1w": MAPS[0]}, two, count=11)
    overview(tmp_path / "b.png", "sub-02", MAPS, None, MASK, {}, {"late": MAPS[1]}, {"t2_star": MAPS[2], "b1": MAPS[0]})
    maps = ["PD [relative]", "T1 [s]", "T2 [s]"]
    assert titles(drawn[0]) == ["T1w", *maps, "late", "early", "T1 ± [%]", "T2 ± [%]"]
    assert titles(drawn[1]) == [*maps, "T2* [s]", "B1+ / nominal", "late"]
    said = [text.get_text() for text in drawn[0].texts]
    assert "Scans" in said and "2 of 11 new contrasts, rendered from the maps" in said
    image = matplotlib.image.imread(tmp_path / "b.png")
    assert image.shape[0] > 300 and image.std() > 0.1


def test_a_panel_is_cut_to_the_foreground_and_shown_as_radiologists_do(tmp_path, drawn):
    front_right = np.zeros(SHAPE)
    front_right[24, 37] = 1
    overview(tmp_path / "a.png", "sub-01", MAPS, None, MASK, {}, {"corner": front_right})
    panel = [axis for axis in drawn[0].axes if axis.get_title() == "corner"][0]
    shown = panel.get_images()[0].get_array()
    # Front is up, the patient's right is left, with a margin of four voxels, or what there is, around the foreground.
    assert shown.shape == (40 - 6, 20 + 8)
    assert np.argwhere(shown == 1).tolist() == [[2, 4]]
    assert [(text.get_text(), text.get_position()[0] < 0.1) for text in panel.texts] == [("R", True)]


def test_pictures_of_results_are_turned_as_their_footnote_says():
    front_right = np.zeros(SHAPE)
    front_right[-1, -1] = 1
    assert np.argwhere(turned(front_right)).tolist() == [[0, 0]]


def test_the_window_is_that_of_the_brain_whatever_the_scalp_does():
    rows, columns = np.mgrid[-50:51, -40:41]
    radius = np.hypot(rows, columns)
    brain = 1 + 0.2 * np.sin(rows / 3.0)
    scans = [np.where(radius < 28, brain, np.where(radius < 36, scalp, 0.0)) for scalp in (0.5, 9.0)]
    low, high = window(scans[0], radius < 36)
    assert (low, high) == window(scans[1], radius < 36)
    assert 0.5 < low < 0.6 and 1.2 < high < 1.3
    assert window(np.zeros((9, 9)), np.zeros((9, 9), bool))[1] > 0


def test_of_many_contrasts_a_few_are_shown_spread_over_all():
    assert few(range(3)) == [0, 1, 2]
    assert few(range(11)) == [0, 3, 7, 10]


def test_a_picture_without_foreground_is_drawn(tmp_path):
    empty = np.zeros((3, *SHAPE))
    overview(tmp_path / "a.png", "sub-01", empty, None, empty[0] > 0, {}, {"dark": empty[0]})
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_montage_shows_the_first_samples_and_says_how_many_there_are(drawn, monkeypatch):
    monkeypatch.setattr(report, "MOST_SAMPLES", 2)
    samples = {f"sub-{i:02d}": (MAPS, MASK, {"late": MAPS[0]}) for i in range(3)}
    assert montage(samples, 20).startswith(b"\x89PNG")
    assert drawn[0].texts[-1].get_text().startswith("The first 2 of 20 samples. Axial")
    assert len(titles(drawn[0])) == 2 * 4

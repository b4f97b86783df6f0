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

"""The console in headless Chromium: pixels are Python's, limits hold, keys and exports work, nobody's words run."""

import ast
import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.acquisition import from_sidecar, load_render, to_sidecar
from scripts.console import About, Volume, console_page
from scripts.console.pack import unpack
from scripts.render import SignalModel
from scripts.signal import SEQUENCES

from .browser import MISSING, Browser, available
from .consoles import HOSTILE, Elements, about, head, request_of

pytestmark = pytest.mark.skipif(not available(), reason=MISSING)
READ = """
    const slice = viewer.planes[0].slice, look = { ...viewer.look, all: true };
    viewer.planes[0].load();
    const pixels = viewer.renderer.values(slice, viewer.contrast, look);
    return { pixels: [...pixels], command: document.getElementById("command").textContent,
             sidecar: document.getElementById("sidecar").textContent, values: viewer.settings.values };
"""
PLACES = """
    return viewer.settings.groups.flatMap((group, g) =>
        group.settings.map((one, i) => [`${g}:${i}`, `${group.name} ${one.name}`, one.sequence]));
"""


@pytest.fixture(scope="module")
def browser():
    with Browser() as started:
        started.size(1280, 900)
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("console") / "sub-01_console.html", head())


def write_page(path: Path, volume: Volume, told: About | None = None) -> Path:
    path.write_text(console_page(volume, told or about(options=volume.options)), encoding="utf-8")
    return path


def shown(page: Path) -> dict[str, torch.Tensor]:
    """The maps that a page has, of the slice that it shows first, as the picture lies."""
    volume = Elements(page.read_text(encoding="utf-8")).json("volume")
    channels = {one["name"]: array for one, array in zip(volume["channels"], unpack(volume))}
    t1 = channels["t1"] > 0
    z = int(np.round(np.argwhere(t1)[:, 2].mean()))
    return {name: torch.from_numpy(array[::-1, ::-1, z].T.copy()) for name, array in channels.items()}


def rendered(maps: dict, render: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Signal of Python's engine, and its standard deviation by automatic differentiation."""
    [asked] = load_render(render)
    logs = [maps[name].clamp_min(1e-9).log().requires_grad_() for name in ("pd", "t1", "t2")]
    inside = maps["t1"] > 0
    tissue = torch.where(inside, torch.stack([one.exp() for one in logs]), 0.0)
    row = asked.acquisition.to_row()[None, None]
    options = {name: maps[name][None] for name in ("fluid", "t2_star", "b1") if name in maps}
    signal = SignalModel(signed=True)(tissue[None], row, **options)[0, 0]
    slopes = torch.autograd.grad(signal.sum(), logs, allow_unused=True)
    terms = [
        (torch.zeros_like(signal) if slope is None else slope) * maps[f"sd_{name}"]
        for slope, name in zip(slopes, ("pd", "t1", "t2"))
    ]
    return signal.detach(), torch.stack(terms).square().sum(0).sqrt()


@pytest.mark.parametrize("options", [("fluid",), ("t2_star", "b1"), ()], ids=["fluid", "t2_star and b1", "none"])
@pytest.mark.parametrize("hash", ["", "#canvas"])
def test_pixels_are_those_of_python(browser, tmp_path, hash, options):
    """Of every preset: all sequences, more than two dozen settings; by the shader and by the canvas."""
    page = write_page(tmp_path / "page.html", head(options=options))
    maps = shown(page)
    browser.open(page, hash)
    assert browser.run("return viewer.renderer.kind") == ("canvas" if hash else "WebGL 2")
    places = browser.run(PLACES)
    assert len(places) >= 24 and {sequence for _, _, sequence in places} == set(SEQUENCES)
    for place, name, sequence in places:
        browser.run("viewer.settings.take(arguments[0])", place)
        browser.frame()
        found = browser.run(READ)
        signal, sd = rendered(maps, request(found["command"]))
        pixels = torch.tensor(found["pixels"]).view(*signal.shape, 4)
        scale = float(signal.abs().quantile(0.98))
        value = signal if SEQUENCES[sequence].signed else signal.abs()
        # Four digits are shown.
        torch.testing.assert_close(pixels[..., 0], value, rtol=2e-5, atol=5e-6 * scale, msg=lambda text: name + text)
        torch.testing.assert_close(pixels[..., 1], sd, rtol=2e-3, atol=1e-3 * scale, msg=lambda text: name + text)


def request(command: str) -> list:
    """As fire reads it on the command line."""
    return ast.literal_eval(request_of(command))


def test_what_is_exported_is_what_is_shown(browser, page):
    browser.open(page)
    for place, name, sequence in browser.run(PLACES):
        browser.run("viewer.settings.take(arguments[0])", place)
        browser.frame()
        found = browser.run(READ)
        words = shlex.split(found["command"])
        assert words[:4] == ["python", "-m", "monai.bundle", "run"]
        [asked] = load_render(request(found["command"]))
        fields = {field: getattr(asked.acquisition, field) for field in SEQUENCES[sequence].fields}
        assert asked.acquisition.sequence == sequence and fields == found["values"], name
        sidecar = json.loads(found["sidecar"])
        expected = to_sidecar(asked.acquisition)
        assert {key: sidecar[key] for key in expected} == expected, name
        again = from_sidecar(asked.suffix, sidecar, "export", {})
        assert torch.equal(again.to_row(), asked.acquisition.to_row())
        assert sidecar["Sources"][:3] == ["bids:raw:PD", "bids:raw:T1", "bids:raw:T2"]
        assert "without noise" in sidecar["Description"]


def test_a_slider_stops_where_the_sequence_does(browser, page):
    browser.open(page)
    browser.run("viewer.settings.take(viewer.settings.first('inversion_recovery'))")
    browser.run("""const slider = viewer.settings.sliders.ti; slider.range.value = 1000;
           slider.range.dispatchEvent(new Event('input'))""")
    values = browser.run("return viewer.settings.values")
    assert values["ti"] < values["tr"] - values["te"] and values["ti"] > values["tr"] - values["te"] - 2e-4
    said = browser.run("return viewer.settings.sliders.ti.element.innerText")
    assert "TI + TE < TR: the echo comes before the next inversion" in said
    assert browser.run("return viewer.settings.sliders.ti.element.classList.contains('stopped')")
    browser.run("""const slider = viewer.settings.sliders.tr; slider.number.value = '5';
           slider.number.dispatchEvent(new Event('change'))""")
    changed = browser.run("return viewer.settings.values")
    assert changed["tr"] == pytest.approx(changed["ti"] + changed["te"], abs=2e-5)
    assert changed["tr"] > changed["ti"] + changed["te"]
    browser.frame()
    load_render(request(browser.run("return document.getElementById('command').textContent")))


def test_wherever_sliders_go_python_accepts_the_settings(browser, page):
    browser.open(page)
    random = np.random.default_rng(3)
    for sequence in SEQUENCES:
        browser.run("viewer.settings.take(viewer.settings.first(arguments[0]))", sequence)
        fields = browser.run("return Object.keys(viewer.settings.sliders)")
        for _ in range(12):
            moves = [[str(random.choice(fields)), int(random.integers(0, 1001))] for _ in range(4)]
            browser.run(
                """for (const [field, place] of arguments[0]) {
                     const range = viewer.settings.sliders[field].range;
                     range.value = place; range.dispatchEvent(new Event('input'));
                   }""",
                moves,
            )
            browser.frame()
            load_render(request(browser.run("return document.getElementById('command').textContent")))


def test_keys_move_the_crosshair_the_slice_and_the_window(browser, page):
    browser.open(page)
    before = browser.run("viewer.planes[0].rendered.element.focus(); return viewer.cross")
    for key, expected in (("ArrowLeft", [1, 0, 0]), ("ArrowUp", [1, 1, 0]), ("PageUp", [1, 1, 1])):
        browser.key(key, key)
        moved = browser.run("return viewer.cross")
        assert [a - b for a, b in zip(moved, before)] == expected
    assert "T1" in browser.run("return document.getElementById('spoken').textContent")
    browser.key("Home", "Home")
    assert browser.run("return viewer.cross") == before
    window = browser.run("return viewer.window")
    browser.key("+", "Equal")
    assert browser.run("return viewer.window") > window
    assert not browser.run("return document.getElementById('auto').checked")


def test_values_under_the_cursor_have_units_and_spread(browser, page):
    browser.open(page)
    rows = dict(browser.run("return describe(viewer.volume, viewer.contrast, [4, 4, 4], viewer.volume.scans[0])"))
    assert rows["T1"].endswith(" ms") and "±" in rows["T1"] and "±" in rows["signal"] and rows["RAS"].endswith("mm")
    assert dict(browser.run("return describe(viewer.volume, viewer.contrast, [0, 0, 0])"))["T1"] == "undefined"


def test_noise_has_the_stated_ratio(browser, page):
    browser.open(page)
    for name in ("", "#canvas"):
        browser.open(page, name)
        browser.run("document.getElementById('noisy').click(); viewer.noiseSlider.changed(20)")
        browser.frame()
        found = browser.run(READ)
        sigma, mean = browser.run("return [viewer.look.sigma, viewer.statistics.mean]")
        assert sigma == pytest.approx(mean / 20)
        pixels = np.array(found["pixels"]).reshape(-1, 4)
        inside = np.abs(pixels[:, 2]) > 5 * sigma
        assert np.std(pixels[inside, 0] - np.abs(pixels[inside, 2])) == pytest.approx(sigma, rel=0.15)
        assert found["command"].endswith("--noise 20") and "with noise, SNR 20" in found["sidecar"]


def test_a_picture_leaves_the_page(browser, page):
    browser.open(page)
    size = browser.run("""const canvas = picture(viewer.planes, 'sub-01', ['MPRAGE']);
           return [canvas.width, canvas.height, canvas.toDataURL('image/png').length]""")
    assert size[0] > 600 and size[2] > 2000


def test_the_scan_is_shown_beside_or_blended(browser, page):
    browser.open(page)
    hidden = "return viewer.planes[0].acquired.element.hidden"
    assert browser.run(hidden)
    choose = """const box = document.getElementById('compare');
                box.value = arguments[0]; box.dispatchEvent(new Event('change'))"""
    browser.run(choose, "side")
    browser.frame()
    assert not browser.run(hidden)
    browser.run(choose, "blend")
    browser.frame()
    assert browser.run(hidden) and not browser.run("return document.getElementById('blend-sliders').hidden")


def test_a_lost_graphics_card_is_done_without(browser, page):
    browser.open(page)
    browser.run("viewer.renderer.gl.getExtension('WEBGL_lose_context').loseContext()")
    browser.run("viewer.redraw()")
    browser.frame()
    assert browser.run("return viewer.renderer.kind") == "canvas"
    assert "Pictures by canvas" in browser.run("return document.getElementById('remarks').textContent")


def test_words_of_strangers_do_not_run(browser, tmp_path):
    volume = head()
    told = replace(
        about(HOSTILE, remarks=(HOSTILE,)), sidecar={HOSTILE: "</script><script>document.title='x'</script>"}
    )
    browser.open(write_page(tmp_path / "hostile.html", replace(volume, scans={HOSTILE: volume.scans["T1w"]}), told))
    browser.frame()
    assert browser.run("return document.getElementById('name').textContent") == HOSTILE
    assert HOSTILE in json.loads(browser.run("return document.getElementById('sidecar').textContent"))
    assert browser.run("return [document.images.length, document.scripts.length]") == [0, 2]


@pytest.mark.parametrize("shape,planes", [((24, 20, 1), 1), ((24, 20, 3), 3)])
def test_thin_volumes_and_missing_sd(browser, tmp_path, shape, planes):
    browser.open(write_page(tmp_path / "thin.html", head(shape, sd=False, options=(), scans=False)))
    browser.frame()
    assert browser.run("return viewer.planes.length") == planes
    assert browser.run("return document.getElementById('overlay').disabled")
    assert browser.run("return document.getElementById('comparison').hidden")


def test_nothing_is_wider_than_a_phone(browser, page):
    browser.size(390, 844)
    browser.open(page)
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    browser.size(1280, 900)


def test_every_control_has_a_name(browser, page):
    browser.open(page)
    nameless = browser.run("""return [...document.querySelectorAll('input, select, button, [tabindex]')].filter((one) =>
             !(one.labels && one.labels.length) && !one.getAttribute('aria-label') && !one.textContent.trim()
           ).map((one) => one.outerHTML)""")
    assert nameless == []

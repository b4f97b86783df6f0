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

"""Times and pictures of the console in headless Chromium: ``python -m benchmarks.console``.

Prints the time of a frame of each sequence in a slice of 256 x 256 voxels that are all tissue, under software rendering
(SwiftShader on the processor), with the shader and with the canvas. With a page and a file name it takes a picture.
"""

import argparse
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.console import About, Volume, console_page
from scripts.console.table import title
from scripts.signal import SEQUENCES
from tests.browser import MISSING, Browser, available

SIZE = 256
FRAMES = """
    const [name, overlay, frames] = arguments;
    viewer.settings.take(viewer.settings.first(name));
    if (document.getElementById("overlay").checked !== overlay) document.getElementById("overlay").click();
    const field = "te" in viewer.settings.values ? "te" : "ti", times = [];
    const pen = viewer.planes[0].rendered.image.getContext("2d");
    for (let i = -2; i < frames; i++) {
        const start = performance.now();
        viewer.settings.set(field, viewer.settings.values[field] * 1.001);
        viewer.draw();
        pen.getImageData(0, 0, 1, 1); // waits for the pixels
        if (i >= 0) times.push(performance.now() - start);
    }
    return Math.min(...times);
"""
PICTURE = """
    viewer.settings.take(viewer.settings.first("inversion_recovery_turbo_spin_echo"));
    viewer.go(viewer.middle.map((v, i) => Math.round(v + [0.13, -0.1, 0.06][i] * viewer.volume.shape[i])));
    if (!arguments[0]) return;
    document.getElementById("overlay").click();
    document.querySelector("#layout input[value=Axial]").click();
    const compare = document.getElementById("compare");
    compare.value = "side";
    compare.dispatchEvent(new Event("change"));
"""


def full_slice() -> Volume:
    """A slice of tissue without air, with standard deviations and shares of fluid."""
    random = np.random.default_rng(0)
    shape = (SIZE, SIZE, 1)
    maps = {"pd": 0.8, "t1": 1.2, "t2": 0.09}
    maps = {name: np.float32(mean * np.exp(random.normal(0, 0.2, shape))) for name, mean in maps.items()}
    maps |= {f"sd_{name}": np.full(shape, 0.05, np.float32) for name in ("pd", "t1", "t2")}
    maps["fluid"] = random.random(shape, np.float32)
    return Volume(maps, np.ones(shape, bool), np.eye(4), {})


def print_times(frames: int) -> None:
    """Shortest times of a frame, as a table."""
    print(f"| Sequence, {SIZE} x {SIZE} | WebGL 2 [ms] | with uncertainty | canvas [ms] | with uncertainty |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, Browser() as browser:
        path = Path(folder, "slice.html")
        path.write_text(console_page(full_slice(), About("slice", "", "")), encoding="utf-8")
        found = {name: [] for name in SEQUENCES}
        for renderer in ("", "#canvas"):
            browser.open(path, renderer)
            for name, times in found.items():
                times += [browser.run(FRAMES, name, overlay, frames) for overlay in (False, True)]
    for name, times in found.items():
        print(f"| {title(name)} | " + " | ".join(f"{time:.0f}" for time in times) + " |")


def save_picture(page: Path, file: Path, compared: bool) -> None:
    """A FLAIR in three planes, or in one with its uncertainty and beside the acquired scan."""
    with Browser() as browser:
        browser.size(1280, 900)
        browser.open(page)
        browser.run(PICTURE, compared)
        browser.frame()
        image = Image.open(BytesIO(browser.screenshot())).convert("RGB")
    image.save(file, quality=85)


def main() -> None:
    """Measures and prints, or takes a picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=15, help="how many of each sequence")
    parser.add_argument("--page", type=Path, help="a page to take a picture of")
    parser.add_argument("--picture", type=Path, default=Path("console.jpg"), help="its file")
    parser.add_argument("--compared", action="store_true", help="with uncertainty, beside the acquired scan")
    options = parser.parse_args()
    if not available():
        sys.exit(MISSING)
    if options.page:
        save_picture(options.page, options.picture, options.compared)
    else:
        print_times(options.frames)


if __name__ == "__main__":
    main()

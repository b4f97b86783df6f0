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
"""The tour behind ``make demo``: simulated scans -> maps -> contrasts, noise -> new brains, each one bundle run."""

import os
import subprocess
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
STEPS = (
    ("two heads with T1w, T2w and FLAIR, simulated", "simulate", "--subjects 2 --seed 7 --output_dir demo/scans"),
    (
        "their tissue maps, and contrasts nobody acquired",
        "inference",
        "--dataset_dir demo/scans --output_dir demo/maps",
    ),
    ("new brains from noise", "generate", "--count 8 --seed 7 --output_dir demo/brains"),
)
PICTURES = ("demo/maps/sub-01/anat/sub-01_overview.png", "demo/brains/overview.png")
RESULT = "demo/overview.png"


def main() -> None:
    """Runs the steps, printing each command, then puts their pictures into one."""
    start = time.time()
    for what, name, options in STEPS:
        command = f"-m monai.bundle run --config_file configs/{name}.json {options}"
        print(f"\n=== {what}\n$ python {command}", flush=True)
        done = subprocess.run([sys.executable, *command.split()], cwd=ROOT)
        if done.returncode:
            sys.exit(done.returncode)
    pictures = [plt.imread(ROOT / picture) for picture in PICTURES]
    widths = [picture.shape[1] / picture.shape[0] for picture in pictures]
    figure, axes = plt.subplots(
        1, len(pictures), figsize=(9 * sum(widths), 9.2), width_ratios=widths, layout="constrained"
    )
    for axis, picture, (what, *_) in zip(axes, pictures, STEPS[1:]):
        axis.imshow(picture)
        axis.set_title(what, fontsize=9)
        axis.axis("off")
    temporary = ROOT / "demo/.overview.png"
    figure.savefig(temporary, dpi=120)
    os.replace(temporary, ROOT / RESULT)
    print(f"\ndone in {time.time() - start:.0f} s. Look at {RESULT}, and at {' and '.join(PICTURES)}")


if __name__ == "__main__":
    main()

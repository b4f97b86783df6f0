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
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ..files import replacing

ROOT = Path(__file__).resolve().parents[2]
MEGABYTES = 115
"""What the demo leaves on the disk."""
STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""
# MONAI warns at every start that a config is code. These configs are this bundle's own.
QUIET = "ignore:parsing config_file:UserWarning"


class Step(NamedTuple):
    """One bundle run.

    Attributes:
        what: what it does.
        seconds: how long it takes on two CPU cores.
        config: name of the config.
        options: its options.
        picture: what is to be seen of it.
    """

    what: str
    seconds: int
    config: str
    options: str
    picture: str = ""


STEPS = (
    Step(
        "simulate a head and its T1w, T2w and FLAIR scans",
        45,
        "simulate",
        "--subjects 1 --slice_thickness 4 --output_dir demo/scans",
    ),
    Step(
        "estimate its tissue maps, render contrasts nobody acquired",
        55,
        "inference",
        "--dataset_dir demo/scans --output_dir demo/maps --render research --console true",
        "demo/maps/sub-01/anat/sub-01_overview.png",
    ),
    Step(
        "generate two new brains from noise",
        15,
        "generate",
        "--count 2 --output_dir demo/brains --render clinical --threads 1",
        "demo/brains/overview.png",
    ),
)
COMPILE = "scripts.estimate.posterior.compile"
"""Runs beside the first step, on the core that this leaves idle; the second step needs it."""
RESULT = "demo/overview.jpg"
CONSOLE = "demo/maps/sub-01/anat/sub-01_console.html"


def main() -> None:
    """Says what is to come, runs the steps, ends with the paths of the picture and of the page for the browser."""
    total = sum(step.seconds for step in STEPS)
    print(f"{len(STEPS)} steps, about {clock(total)} min on two CPU cores, {MEGABYTES} MB in demo/. Ctrl-C stops it.")
    for number, step in enumerate(STEPS, 1):
        print(f"  {number}. {step.what:62}about {clock(step.seconds)}")
    start = time.time()
    beside = start_python(["-m", COMPILE], {}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        run_steps()
    finally:
        beside.terminate()
    with replacing(ROOT / RESULT) as file:
        Image.open(ROOT / STEPS[1].picture).convert("RGB").save(file, "JPEG", quality=88, optimize=True)
    print(f"\nAll done in {clock(time.time() - start)} min. Look at {RESULT}, then open {CONSOLE} in a browser")


def run_steps() -> None:
    """Runs the steps, each with what it takes and where its picture lies."""
    for number, step in enumerate(STEPS, 1):
        command = f"-m monai.bundle run --config_file configs/{step.config}.json {step.options}"
        print(f"\n{number}/{len(STEPS)} {step.what}, about {clock(step.seconds)}\n$ python {command}", flush=True)
        begun = time.time()
        run(command.split(), beside=number == 1)
        print(f"done in {clock(time.time() - begun)}" + f": {step.picture}" * bool(step.picture), flush=True)


def run(arguments: list[str], beside: bool = False) -> None:
    """Runs Python in the bundle's folder; ends the process with its exit code when it fails.

    Ctrl-C reaches this process only, which ends the other one: no traceback of either.

    Args:
        arguments: of Python.
        beside: whether another process computes meanwhile, which is left a core. Threads of one operation wait for the
            last one: with as many as cores, all would wait for the one whose core is taken.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) - 1))} if beside else {}
    child = start_python(arguments, threads)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        print("\nstopped: make demo starts again from the beginning", file=sys.stderr)
        sys.exit(STOPPED)
    if code:
        sys.exit(code)


def start_python(arguments: list[str], environment: Mapping[str, str], **streams: int) -> subprocess.Popen:
    """Python in the bundle's folder, in a process group of its own; the user's environment counts before this one."""
    quiet = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), QUIET)))
    environment = {**environment, **os.environ, "PYTHONWARNINGS": quiet}
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, process_group=0, **streams)


def clock(seconds: float) -> str:
    """Minutes and seconds as progress bars show them: ``1:05``."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


if __name__ == "__main__":
    main()

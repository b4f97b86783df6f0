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

"""One inference run alone, then two at once on the same cores: ``python -m benchmarks.contention``.

Prints the wall time of one run, of two that start together, and their ratio. Two runs do twice the work, so 2 is fair.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def start(config: str, *options: str) -> subprocess.Popen:
    """A run of one of the bundle's configs, without its output."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", f"configs/{config}.json", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(runs: list[subprocess.Popen], begun: float) -> float:
    """Seconds until all have ended.

    Raises:
        SystemExit: when one failed.
    """
    if any(run.wait() for run in runs):
        sys.exit("a run failed")
    return time.perf_counter() - begun


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contention", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1, help="how often")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = f"{folder}/study"
        timed([start("simulate", "--subjects", "1", "--skull", "False", "--output_dir", study)], time.perf_counter())
        for repeat in range(options.repeats):
            seconds = []
            for count in (1, 2):
                begun = time.perf_counter()
                outputs = [f"{folder}/{repeat}-{count}-{number}" for number in range(count)]
                seconds.append(
                    timed([start("inference", "--dataset_dir", study, "--output_dir", o) for o in outputs], begun)
                )
            alone, together = seconds
            print(f"one stripped head {alone:.0f} s, two at once {together:.0f} s: ratio {together / alone:.2f}")


if __name__ == "__main__":
    main()

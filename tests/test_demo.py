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

"""The demo: its commands are those of the bundle, what it says is short, and Ctrl-C ends it in one line."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from scripts.commands.demo import ROOT, STEPS, STOPPED, clock


def demo_runs(code: str) -> subprocess.Popen:
    """A process in which the demo runs Python with this code."""
    command = [sys.executable, "-c", f"from scripts.commands.demo import run; run(['-c', {code!r}])"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.config)
def test_a_step_is_a_bundle_run_with_options_of_its_config_and_a_picture_of_its_own_folder(step):
    config = ConfigParser.load_config_file(ROOT / "configs" / f"{step.config}.json")
    options = dict(re.findall(r"--(\w+) (\S+)", step.options))
    assert options and options.keys() <= config.keys()
    assert options["output_dir"].startswith("demo/")
    assert not step.picture or Path(step.picture).is_relative_to(options["output_dir"])


def test_ctrl_c_ends_the_demo_and_the_run_in_one_line():
    process = demo_runs("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == STOPPED
    assert stderr.strip() == "stopped: make demo starts again from the beginning"
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_only_the_warning_that_configs_are_code_is_hidden():
    about = ["parsing config_file configs/x.json: any value is resolved", "T1 will come out too short"]
    process = demo_runs(f"import warnings; [warnings.warn(text) for text in {about}]")
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert about[1] in stderr and about[0] not in stderr


def test_a_run_that_fails_ends_the_demo_with_its_exit_code():
    process = demo_runs("import sys; sys.exit(2)")
    process.communicate(timeout=30)
    assert process.returncode == 2


def test_times_are_written_as_in_progress_bars():
    assert [clock(seconds) for seconds in (0.4, 65, 600)] == ["0:00", "1:05", "10:00"]

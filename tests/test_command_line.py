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

"""What the command line says and returns; each case is a process of its own."""

import json
import logging
import re
import sys
from subprocess import CompletedProcess

import pytest

from scripts.commands.command_line import CommandLine, _hides_user_errors
from scripts.errors import UserError, find_user_error, was_interrupted

from .processes import bundle_run
from .studies import INFER, ROOT, write_study, write_weights


def last_line(process: CompletedProcess) -> str:
    return process.stderr.strip().splitlines()[-1]


QUIET = {"logging": "logging.conf", "meta": "metadata.json"}
INFERENCE = ("--config_file", str(ROOT / "configs" / "inference.json"))


def test_a_mistyped_option_is_refused_before_anything_happens(tmp_path):
    process = bundle_run(*INFERENCE, "--output_dri", "out", "--output_dir", "there", cwd=tmp_path)
    assert process.returncode == 2
    assert last_line(process) == "error: --output_dri: found no such option; do you mean --output_dir?"
    assert "Traceback" not in process.stderr
    assert not [*tmp_path.iterdir()]


def test_options_of_an_overlay_and_of_an_arguments_file_count(tmp_path):
    (tmp_path / "overlay.json").write_text(json.dumps({"my_option": 1}))
    files = [str(ROOT / "configs" / "inference.json"), "overlay.json"]
    (tmp_path / "args.json").write_text(json.dumps({"config_file": files, "my_option": 2, "dataset_dir": "nowhere"}))
    process = bundle_run("--args_file", "args.json", "--my_option", "3", cwd=tmp_path)
    assert process.returncode == 2
    assert last_line(process) == "error: nowhere: found no such folder; name an existing folder of scans"


def test_values_of_overlays_and_argument_files_are_checked_before_anything_happens(tmp_path):
    (tmp_path / "overlay.json").write_text(json.dumps({"heads": 5, "output_dir": "out"}))
    (tmp_path / "args.json").write_text(json.dumps({"subjects": 1}))
    files = f"['{ROOT / 'configs' / 'simulate.json'}','overlay.json']"
    process = bundle_run("--config_file", files, "--args_file", "args.json", cwd=tmp_path)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert last_line(process).startswith("error: heads: found 5; give [first, count]")
    assert not (tmp_path / "out").exists()


def test_a_seed_that_is_none_is_refused_though_monai_takes_it_before(tmp_path):
    train = str(ROOT / "configs" / "train_vae.json")
    process = bundle_run("training", "--config_file", train, "--seed", "no", "--runs_dir", "runs", cwd=tmp_path)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert last_line(process) == "error: seed: found 'no'; give a whole number from 0 to 2^53"
    assert not (tmp_path / "runs").exists()


def test_a_folder_whose_name_is_a_number_and_words_for_truth_values(tmp_path):
    (tmp_path / "2024").mkdir()
    process = bundle_run(*INFERENCE, "--dataset_dir", "2024", "--overwrite", "false", cwd=tmp_path)
    assert process.returncode == 2
    assert last_line(process).startswith("error: 2024: found no ")


def test_help_lists_the_options_and_does_nothing(tmp_path):
    process = bundle_run(*INFERENCE, "--threads", "0", "--help", cwd=tmp_path)
    assert process.returncode == 0 and "Traceback" not in process.stderr
    assert "  --threads  null\n      Pieces of work on the CPU" in process.stdout


def test_debug_shows_the_traceback_and_the_same_last_line(tmp_path):
    process = bundle_run(*INFERENCE, "--debug", cwd=tmp_path)
    assert process.returncode == 2
    assert "Traceback" in process.stderr
    assert last_line(process) == "error: dataset_dir: found no folder; name one with --dataset_dir"


def test_one_broken_subject_of_three_leaves_two_results_a_reason_and_exit_code_1(tmp_path):
    scans = write_study(tmp_path / "in", subjects=3)
    broken = scans / "sub-02" / "anat" / "sub-02_T2w.nii.gz"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    options = {"dataset_dir": scans, "output_dir": "out", "weights": write_weights(tmp_path)["vae"], "threads": 1}
    options |= {key: json.dumps(value) for key, value in INFER.items()}
    process = bundle_run(*INFERENCE, *(str(x) for k, v in options.items() for x in (f"--{k}", v)), cwd=tmp_path)
    assert process.returncode == 1, process.stderr
    assert last_line(process).startswith("error: 1 of 3: found no result; ")
    assert any("sub-02_T2w.nii.gz: found a damaged or truncated file" in line for line in process.stderr.splitlines())
    assert "Traceback" not in process.stderr
    manifests = sorted(path.name for path in (tmp_path / "out").rglob("*_manifest.json"))
    assert manifests == ["sub-01_manifest.json", "sub-03_manifest.json"]
    assert not (tmp_path / "out" / "sub-02").exists()


def test_log_lines_stand_above_a_progress_bar_and_only_ours_are_there(tmp_path):
    work = "$[__import__('logging').getLogger('scripts').info(f'done {i}') for i in __import__('tqdm').tqdm(range(3))]"
    command_line = {"_target_": "scripts.commands.command_line.CommandLine"}
    config = {"command_line": command_line, "run": ["$@command_line.check()", work]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    files = {"config_file": "config.json"}
    files |= {f"{kind}_file": str(ROOT / "configs" / name) for kind, name in QUIET.items()}
    process = bundle_run(*(word for k, v in files.items() for word in (f"--{k}", v)), cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    lines = [line.split("\r")[-1] for line in process.stderr.split("\n")]
    logged = [line for line in lines if "INFO" in line]
    assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in logged] == [f"INFO done {i}" for i in range(3)]
    assert not process.stdout.strip()


def test_a_user_error_is_found_however_it_was_wrapped():
    error = UserError("here", "this", "that")
    try:
        try:
            try:
                raise error
            except UserError as inner:
                raise RuntimeError("instantiating") from inner
        except RuntimeError:
            raise KeyError("while handling")
    except KeyError as outer:
        assert find_user_error(outer) is error
    assert find_user_error(KeyError("x")) is None


@pytest.mark.parametrize(
    "name,hidden", [("ignite.engine.engine.Trainer", True), ("scripts.commands.study.folder", False)]
)
def test_only_what_engines_log_about_user_errors_is_hidden(name, hidden):
    record = logging.makeLogRecord({"name": name, "levelno": logging.ERROR})
    assert _hides_user_errors(record)
    try:
        raise UserError("here", "this", "that")
    except UserError:
        assert _hides_user_errors(record) is not hidden


def test_made_in_python_it_installs_nothing_and_never_exits():
    before, filters = sys.excepthook, [list(handler.filters) for handler in logging.getLogger().handlers]
    command_line = CommandLine()
    command_line.check()
    command_line.leave(3)
    assert sys.excepthook is before
    assert [list(handler.filters) for handler in logging.getLogger().handlers] == filters


def test_ctrl_c_is_found_behind_what_was_made_of_it():
    try:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904
    except RuntimeError as error:
        assert was_interrupted(error) and not was_interrupted(RuntimeError("no room"))

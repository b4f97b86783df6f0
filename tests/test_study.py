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

"""The folder of a run: whole or not at all, resumable, never silently mixed."""

import json
import subprocess
import sys

import numpy as np
import pytest

from scripts.acquisition import load_render
from scripts.bids import Session
from scripts.commands.study import Plan, Study
from scripts.errors import UserError
from scripts.estimate.maps import Maps

from .studies import RENDER, ROOT, files

SESSION = Session("01", None, ())
FACTS = {"weights": "abc", "inputs": {"a": "1"}}
ONE, TWO = load_render(RENDER)


def make(folder, **options) -> Study:
    study = Study(str(folder / "out"), "test", {"threads": 1, "size": (2, 3)}, **options)
    study.open()
    return study


def publish(study: Study, facts=FACTS, render=(ONE,), content="maps") -> None:
    plan = study.plan(SESSION, facts, list(render))
    with study.publish(SESSION, facts, plan) as folder:
        (folder / "sub-01" / "anat").mkdir(parents=True)
        if plan.maps:
            (folder / "sub-01" / "anat" / "maps").write_text(content)
        for request in plan.render:
            (folder / "sub-01" / "anat" / request.name).write_text(content)


def test_building_a_study_writes_nothing(tmp_path):
    Study(str(tmp_path / "out"), "test", {})
    assert not [*tmp_path.iterdir()]


def test_the_same_work_is_done_once(tmp_path):
    study = make(tmp_path)
    assert study.plan(SESSION, FACTS, [ONE]) == Plan(True, [ONE])
    publish(study)
    assert study.plan(SESSION, FACTS, [ONE]) == Plan(False, [])
    assert study.plan(SESSION, FACTS, []) == Plan(False, [])


def test_more_contrasts_are_added_to_what_is_there(tmp_path):
    study = make(tmp_path)
    publish(study)
    assert study.plan(SESSION, FACTS, [ONE, TWO]) == Plan(False, [TWO])
    publish(study, render=(ONE, TWO), content="later")
    anat = tmp_path / "out" / "sub-01" / "anat"
    assert {p.name: p.read_text() for p in anat.iterdir() if p.suffix != ".json"} == {
        "maps": "maps",
        "one": "maps",
        "two": "later",
    }
    assert study.plan(SESSION, FACTS, [ONE, TWO]) == Plan(False, [])


@pytest.mark.parametrize(
    "facts,render,named",
    [
        ({**FACTS, "weights": "xyz"}, [ONE], "weights abc (now xyz)"),
        ({**FACTS, "inputs": {"a": "1", "b": "2"}}, [ONE], "inputs.b absent (now 2)"),
        (FACTS, [ONE._replace(acquisition=TWO.acquisition, suffix="T2w")], "render.one."),
    ],
)
def test_whatever_else_differs_is_named_and_refused_unless_overwritten(tmp_path, facts, render, named):
    publish(make(tmp_path))
    before = files(tmp_path / "out")
    with pytest.raises(UserError, match="--overwrite") as caught:
        make(tmp_path).plan(SESSION, facts, render)
    assert named in str(caught.value)
    assert files(tmp_path / "out") == before
    assert make(tmp_path, overwrite=True).plan(SESSION, facts, render) == Plan(True, render)


def test_overwriting_leaves_nothing_of_the_old_result(tmp_path):
    publish(make(tmp_path), render=(ONE, TWO))
    publish(make(tmp_path, overwrite=True), facts={**FACTS, "weights": "xyz"}, render=(ONE,), content="new")
    anat = tmp_path / "out" / "sub-01" / "anat"
    assert sorted(path.name for path in anat.iterdir()) == ["maps", "one", "sub-01_manifest.json"]
    assert (anat / "maps").read_text() == "new"
    assert json.loads((anat / "sub-01_manifest.json").read_text())["made_from"]["weights"] == "xyz"


def test_a_lost_file_is_made_again(tmp_path):
    study = make(tmp_path)
    publish(study)
    (tmp_path / "out" / "sub-01" / "anat" / "maps").unlink()
    assert study.plan(SESSION, FACTS, [ONE]) == Plan(True, [ONE])


def test_a_failure_leaves_no_trace(tmp_path):
    study = make(tmp_path)
    before = files(tmp_path / "out")
    with study.attempt("sub-01"), study.publish(SESSION, FACTS, Plan(True, [ONE])) as folder:
        (folder / "half").write_text("x")
        raise RuntimeError("out of luck")
    with study.attempt("sub-02"):
        pass
    assert files(tmp_path / "out") == before
    assert (study.done, list(study.failures), study.finish()) == (["sub-02"], ["sub-01"], 1)


def test_what_a_killed_run_left_goes_when_the_next_one_starts(tmp_path):
    make(tmp_path)
    for rank in (0, 1, 5):
        (tmp_path / "out" / f".partial-{rank}" / "sub-01").mkdir(parents=True)
        (tmp_path / "out" / f".partial-{rank}" / "sub-01" / "half.nii.gz").write_text("x")
    make(tmp_path, rank=0, world_size=2)
    # The other process of this run may be at work in its folder.
    assert sorted(path.name for path in (tmp_path / "out").glob(".partial*")) == [".partial-1"]
    make(tmp_path, rank=1, world_size=2)
    assert not [*(tmp_path / "out").glob(".partial*")]


def test_a_broken_manifest_counts_as_none(tmp_path):
    study = make(tmp_path)
    publish(study)
    (tmp_path / "out" / "sub-01" / "anat" / "sub-01_manifest.json").write_text('{"made')
    assert study.plan(SESSION, FACTS, [ONE]) == Plan(True, [ONE])


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(UserError, match="cannot be written"):
        make(tmp_path)


def test_the_folder_of_something_else_is_left_alone(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "dataset_description.json").write_text('{"Name": "my scans"}')
    with pytest.raises(UserError, match="a data set that was not made here"):
        make(tmp_path)
    assert (out / "dataset_description.json").read_text() == '{"Name": "my scans"}'
    with pytest.raises(UserError, match="the folder of the scans"):
        Study(str(tmp_path / "in"), "test", {}).open(tmp_path / "in")


def test_a_file_in_the_way_of_the_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    study = Study(str(tmp_path / "file" / "out"), "test", {})
    assert not study.holds(SESSION)
    with pytest.raises(UserError, match="cannot be written"):
        study.open()


def test_two_runs_cannot_write_into_one_folder(tmp_path):
    study = make(tmp_path)
    other = "import sys; from scripts.commands.study import Study; Study(sys.argv[1], 'test', {}).open()"
    command = [sys.executable, "-c", other, str(study.root)]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert "found another run that is writing here" in process.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "spacing,inside,shown",
    [(1.0, (20, 150), 85), (1.0, (0, 240), 154), (2.0, (0, 120), 77), (1.0, (3, 4), 3), (1.0, (0, 0), 120)],
)
def test_the_slice_shown_is_in_the_middle_of_the_brain_with_or_without_a_neck(spacing, inside, shown):
    mask = np.zeros((2, 2, 240), bool)
    mask[..., slice(*inside)] = True
    assert Maps(np.zeros((3, 2, 2, 240)), None, mask, np.diag([1, 1, spacing, 1])).middle == shown

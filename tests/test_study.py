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
from pathlib import Path

import numpy as np
import pytest

from scripts.acquisition import load_render
from scripts.bids import Session
from scripts.commands.study import Plan, Study
from scripts.errors import UserError
from scripts.estimate.maps import Maps

from .processes import elsewhere
from .studies import RENDER, files

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
    out, study = tmp_path / "out", make(tmp_path)
    left = out / ".sub-02.0123456789abcdef.partial"
    (left / "files").mkdir(parents=True)
    (left / "files" / "half.nii.gz").write_text("x")
    (left / "lock").touch()
    with study.publish(SESSION, FACTS, Plan(True, [ONE])) as folder:
        # Another process of this run may be at work in its folder.
        make(tmp_path, rank=1)
        assert [path.name for path in out.glob(".*.partial")] == [folder.parent.name]
    assert not [*out.glob(".*.partial")]


def test_a_broken_manifest_counts_as_none(tmp_path):
    study = make(tmp_path)
    publish(study)
    (tmp_path / "out" / "sub-01" / "anat" / "sub-01_manifest.json").write_text('{"made')
    assert study.plan(SESSION, FACTS, [ONE]) == Plan(True, [ONE])


DAMAGED = {
    "a list": [],
    "nothing": {},
    "no list of files": {"files": "maps"},
    "numbers for files": {"files": [1]},
    "another made_from": {"made_from": []},
    "an absolute path": {"files": ["/etc/passwd"]},
    "a path that leaves the folder": {"files": ["sub-01/anat/../../victim"]},
    "a folder": {"files": ["sub-01/anat/.."]},
    "another session": {"files": ["sub-02/anat/victim"]},
    "the description": {"files": ["dataset_description.json"]},
}


@pytest.mark.parametrize("change", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_manifest_is_named_and_deletes_nothing(tmp_path, change):
    study, victim = make(tmp_path), tmp_path / "out" / "sub-02" / "anat" / "victim"
    publish(study)
    victim.parent.mkdir(parents=True)
    victim.touch()
    path = tmp_path / "out" / "sub-01" / "anat" / "sub-01_manifest.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | change if change else change))
    before = files(tmp_path / "out")
    for ask in (study.holds, lambda session: study.plan(session, FACTS, [ONE]), lambda _: publish(study)):
        with pytest.raises(UserError, match="sub-01_manifest.json: found a damaged list of results; remove it or"):
            ask(SESSION)
    assert files(tmp_path / "out") == before
    study.overwrite = True
    publish(study)
    assert json.loads(path.read_text()) == whole and victim.exists()


def test_a_link_to_elsewhere_is_never_written_through(tmp_path):
    study, elsewhere = make(tmp_path), tmp_path / "elsewhere" / "anat"
    elsewhere.mkdir(parents=True)
    (elsewhere / "maps").write_text("mine")
    (tmp_path / "out" / "sub-01").symlink_to(elsewhere.parent)
    with pytest.raises(UserError, match=f"found a link to {elsewhere}; remove the link"):
        publish(study)
    assert files(elsewhere) == {"maps": b"mine"}


def test_a_full_disk_is_the_reason_of_one_session(tmp_path, monkeypatch):
    study = make(tmp_path)
    before, write = files(tmp_path / "out"), Path.write_text

    def fill(path, *arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", fill)
        with study.attempt("sub-01"):
            publish(study)
    assert files(tmp_path / "out") == before and Path.write_text is write
    assert "cannot be written (No space left on device)" in str(study.failures["sub-01"])
    assert isinstance(study.failures["sub-01"], UserError)


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
    for damaged in (
        "[]",
        "nothing",
        '{"GeneratedBy": 1}',
        '{"GeneratedBy": ["a"]}',
        '{"GeneratedBy": null}',
        "[" * 10**5,
    ):
        (out / "dataset_description.json").write_text(damaged)
        with pytest.raises(UserError, match="description.json: found a damaged description of a data set; choose"):
            make(tmp_path)
    (out / "dataset_description.json").unlink()
    with pytest.raises(UserError, match="the folder of the scans"):
        Study(str(tmp_path / "in"), "test", {}).open(tmp_path / "in")


def test_a_file_in_the_way_of_the_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    study = Study(str(tmp_path / "file" / "out"), "test", {})
    assert not study.holds(SESSION)
    with pytest.raises(UserError, match="cannot be written"):
        study.open()


def test_two_runs_cannot_write_into_one_folder(tmp_path):
    study = make(tmp_path)  # noqa: F841 (it holds the lock)
    with pytest.raises(UserError, match="found another run that is writing here"):
        elsewhere(make, tmp_path)


@pytest.mark.parametrize(
    "spacing,inside,shown",
    [(1.0, (20, 150), 85), (1.0, (0, 240), 154), (2.0, (0, 120), 77), (1.0, (3, 4), 3), (1.0, (0, 0), 120)],
)
def test_the_slice_shown_is_in_the_middle_of_the_brain_with_or_without_a_neck(spacing, inside, shown):
    mask = np.zeros((2, 2, 240), bool)
    mask[..., slice(*inside)] = True
    assert Maps(np.zeros((3, 2, 2, 240)), None, mask, np.diag([1, 1, spacing, 1])).middle == shown

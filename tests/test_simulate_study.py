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

"""Studies of random heads: their files, resumed and refused ones."""

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.acquisition import from_sidecar
from scripts.errors import UserError
from scripts.simulate import REGIONS, Heads, LabelMaps, Simulator, simulate_head, study

from .test_simulate_slices import ball_heads

COARSE = 4


@pytest.fixture(scope="module")
def balls(tmp_path_factory) -> dict:
    """Options of a study that is quickly written."""
    return {"resolution": 8, "heads": Heads(ball_heads(tmp_path_factory))}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_files_sidecars_and_bytes(tmp_path):
    assert Simulator(tmp_path / "two", subjects=2, seed=5, resolution=COARSE).run() == tmp_path / "two"
    Simulator(tmp_path / "one", subjects=1, seed=5, resolution=COARSE).run()
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert {name: two[name] for name in one if name != "participants.tsv"} == {
        name: content for name, content in one.items() if name != "participants.tsv"
    }
    rows = [line.split("\t") for line in two["participants.tsv"].decode().splitlines()]
    assert [row[0] for row in rows] == ["participant_id", "sub-01", "sub-02"] and rows[0][3] == "WM_ml"
    assert all(100 < float(row[3]) < 900 for row in rows[1:])
    assert all(two[name][4:8] == bytes(4) for name in two if name.endswith(".gz")), "gzip holds a time"

    head = simulate_head(Heads(), 5, 1, COARSE)
    anat = tmp_path / "two" / "sub-02" / "anat"
    for suffix, acquisition in head["acquisitions"].items():
        image = nib.load(anat / f"sub-02_{suffix}.nii.gz")
        assert np.array_equal(np.asanyarray(image.dataobj), head["contrasts"][suffix].numpy())
        assert np.allclose(image.affine, head["affine"]) and nib.aff2axcodes(image.affine) == tuple("RAS")
        sidecar = json.loads((anat / f"sub-02_{suffix}.json").read_text())
        assert sidecar["MagneticFieldStrength"] == 3
        assert torch.equal(from_sidecar(suffix, sidecar, anat, None).to_row(), acquisition.to_row())

    truth = tmp_path / "two" / "derivatives" / "truth"
    assert json.loads((truth / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    for quantity, expected in zip(("PD", "T1", "T2"), head["maps"]):
        image = nib.load(truth / "sub-02" / "anat" / f"sub-02_{quantity}map.nii.gz")
        assert image.get_data_dtype() == np.float32 and np.array_equal(image.get_fdata(), expected.numpy())
        units = json.loads((truth / "sub-02" / "anat" / f"sub-02_{quantity}map.json").read_text())["Units"]
        assert units == ("arbitrary" if quantity == "PD" else "s")
    labels = nib.load(truth / "sub-02" / "anat" / "sub-02_dseg.nii.gz")
    assert labels.get_data_dtype() == np.uint8 and np.array_equal(labels.dataobj, head["labels"].numpy())
    names = [line.split("\t") for line in (truth / "dseg.tsv").read_text().splitlines()]
    assert names == [["index", "name"], *([str(number), region] for number, region in enumerate(REGIONS))]
    volumes = pd.read_csv(truth / "sub-02" / "anat" / "sub-02_volumes.tsv", sep="\t")
    counted = np.bincount(head["labels"].numpy().ravel(), minlength=len(REGIONS)) * COARSE**3 / 1000
    np.testing.assert_allclose(volumes["volume_dseg_ml"], counted, atol=1e-3)
    assert volumes["name"].tolist() == [*REGIONS] and volumes["volume_ml"].isna().all()
    assert set(np.unique(labels.dataobj)) == set(range(10)) - {REGIONS.index("lesion"), REGIONS.index("vessel")}


def test_stopped_run_goes_on(tmp_path, monkeypatch, balls):
    Simulator(tmp_path / "whole", subjects=2, **balls).run()
    calls, write_image = [], study.write_image

    def stop_in_second_subject(*args):
        calls.append(args)
        if len(calls) == 11:
            raise KeyboardInterrupt
        write_image(*args)

    monkeypatch.setattr(study, "write_image", stop_in_second_subject)
    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        Simulator(stopped, subjects=2, **balls).run()
    assert not list(stopped.glob(".*.partial")), "an interrupted run removes what it began"
    assert not (stopped / "sub-02").exists() and not (stopped / "participants.tsv").exists()

    monkeypatch.setattr(study, "write_image", write_image)
    kept = stopped / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    before = kept.stat().st_mtime_ns
    Simulator(stopped, subjects=2, **balls).run()
    assert contents(stopped) == contents(tmp_path / "whole")
    assert kept.stat().st_mtime_ns == before


def test_a_study_whose_volumes_were_not_noted_grows(tmp_path, balls):
    Simulator(tmp_path, subjects=1, **balls).run()
    (tmp_path / "derivatives" / "truth" / "sub-01" / "anat" / "sub-01_dseg.json").unlink()
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-01\n")
    Simulator(tmp_path, subjects=2, **balls).run()
    rows = [line.split("\t") for line in (tmp_path / "participants.tsv").read_text().splitlines()[1:]]
    assert {*rows[0][1:]} == {"n/a"} and "n/a" not in rows[1]


def test_other_content_is_refused_unless_overwritten(tmp_path, balls):
    Simulator(tmp_path, subjects=2, seed=0, **balls).run()
    before = contents(tmp_path)
    with pytest.raises(UserError, match="Seed 0"):
        Simulator(tmp_path, subjects=1, seed=1, **balls).run()
    assert contents(tmp_path) == before
    Simulator(tmp_path, subjects=1, seed=1, **balls, overwrite=True).run()
    after = contents(tmp_path)
    assert not any("sub-02" in name for name in after)
    assert after["sub-01/anat/sub-01_T1w.nii.gz"] != before["sub-01/anat/sub-01_T1w.nii.gz"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_folder_is_never_touched(tmp_path, overwrite, balls):
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "dataset_description.json").write_text('{"Name": "mine"}')
    before = contents(tmp_path)
    with pytest.raises(UserError, match="other content"):
        Simulator(tmp_path, subjects=1, **balls, overwrite=overwrite).run()
    assert contents(tmp_path) == before and not (tmp_path / ".lock").exists()


def test_complete_study_is_read_only(tmp_path, monkeypatch, balls):
    Simulator(tmp_path, subjects=1, **balls).run()
    monkeypatch.setattr(study, "lock_folder", None)
    Simulator(tmp_path, subjects=1, **balls).run()


def test_only_the_default_folder_is_made(tmp_path, balls):
    simulator = Simulator(tmp_path / "default", subjects=1, **balls)
    (tmp_path / "mine").mkdir()
    simulator.ensure(tmp_path / "mine")
    with pytest.raises(UserError, match="no such folder"):
        simulator.ensure(tmp_path / "absent")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
    simulator.ensure(tmp_path / "default")
    assert (tmp_path / "default" / "participants.tsv").exists()


def test_unwritable_output_dir(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(study, "simulate_head", lambda *_: pytest.fail("worked before it looked"))
    with pytest.raises(UserError, match="cannot be written"):
        Simulator(tmp_path / "file" / "study", subjects=1).run()


@pytest.mark.parametrize(
    "options", [{"overwrite": "false"}, {"subjects": 0}, {"subjects": "two"}, {"seed": -1}, {"resolution": 0.5}]
)
def test_impossible_options(tmp_path, options):
    with pytest.raises(UserError, match=next(iter(options))):
        Simulator(tmp_path / "new", **options).run()
    assert not (tmp_path / "new").exists()


def test_a_study_of_label_maps(tmp_path, tmp_path_factory):
    heads = Heads(ball_heads(tmp_path_factory, 2), contrasts={"acq-a_PDw": "PDw"}, skull=False, field_strengths=(1.5,))
    root = Simulator(tmp_path / "study", 1, resolution=2, heads=heads).run()
    description = json.loads((root / "dataset_description.json").read_text())
    assert description["GeneratedBy"][0]["LabelMaps"] == ["head_0.nii.gz", "head_1.nii.gz"]
    assert "SourceDatasets" not in description
    assert json.loads((root / "sub-01/anat/sub-01_acq-a_PDw.json").read_text())["MagneticFieldStrength"] == 1.5
    with pytest.raises(UserError, match="Skull False"):
        Simulator(root, 1, resolution=2, heads=replace(heads, skull=True)).run()
    with pytest.raises(UserError, match="no such folder"):
        Simulator(tmp_path / "new", heads=Heads(LabelMaps(tmp_path / "absent"))).run()
    assert not (tmp_path / "new").exists()


def test_config(tmp_path, tmp_path_factory):
    config = Path(__file__).parent.parent / "configs" / "simulate.json"
    options = {"output_dir": str(tmp_path / "study"), "subjects": 1, "simulator::resolution": COARSE}
    options |= {"label_maps": str(ball_heads(tmp_path_factory).folder), "heads": [0, 1], "skull": False}
    workflow = ConfigWorkflow(str(config), logging_file=False, workflow_type=None, **options)
    workflow.initialize()
    workflow.parser.get_parsed_content("simulator")
    assert not (tmp_path / "study").exists()
    workflow.run()
    assert (tmp_path / "study" / "sub-01").is_dir()

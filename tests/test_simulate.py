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

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.acquisition import from_sidecar
from scripts.errors import UserError
from scripts.randomness import rng
from scripts.simulate import Simulator, simulate_head, study
from scripts.simulate.anatomy import deform, draw_displacement, load_template

COARSE = 4
CSF, GM, WM = 1, 2, 3


@pytest.fixture(scope="module")
def head():
    return simulate_head(0, 0, resolution=2)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def median(image: torch.Tensor, head: dict, label: int) -> float:
    return image[head["labels"] == label].float().median().item()


def test_air_has_no_tissue(head):
    air = head["labels"] == 0
    assert 0.2 < air.float().mean() < 0.9
    assert head["maps"][:, air].abs().max() == 0
    assert head["maps"][:, ~air].min() > 0
    assert all(image[air].float().median() > 0 for image in head["contrasts"].values()), "no noise floor"


def test_maps_are_physical(head):
    pd, t1, t2 = head["maps"]
    assert head["maps"].isfinite().all()
    assert (t2 <= t1).all() and pd.max() <= 1 and t1.max() <= 5 and t2.max() <= 2.5
    for quantity in head["maps"]:
        assert median(quantity, head, WM) < median(quantity, head, GM) < median(quantity, head, CSF)
    assert 0.6 < median(t1, head, WM) < 1.1 and 0.055 < median(t2, head, WM) < 0.11
    assert 1.1 < median(t1, head, GM) < 1.9 and 0.07 < median(t2, head, GM) < 0.14


def test_contrasts_order_the_tissues(head):
    t1w, t2w, flair = (head["contrasts"][suffix] for suffix in ("T1w", "T2w", "FLAIR"))
    assert median(t1w, head, WM) > median(t1w, head, GM) > median(t1w, head, CSF)
    assert median(t2w, head, CSF) > median(t2w, head, GM) > median(t2w, head, WM)
    free_water = head["maps"][2] > 1.5
    assert free_water.sum() > 500
    assert flair[free_water].float().median() < 0.4 * median(flair, head, WM)


def test_subjects_differ_in_shape_values_and_acquisition(head):
    other = simulate_head(0, 1, resolution=2)
    both = (head["labels"] == WM) & (other["labels"] == WM)
    either = (head["labels"] == WM) | (other["labels"] == WM)
    assert 0.25 < both.sum() / either.sum() < 0.9
    for quantity, alike in zip(head["maps"][1:], other["maps"][1:]):
        assert abs(median(quantity, head, WM) / median(alike, other, WM) - 1) > 1e-3
    assert all(head["acquisitions"][suffix] != other["acquisitions"][suffix] for suffix in ("T1w", "T2w"))


def test_head_is_a_function_of_seed_and_index():
    first = simulate_head(7, 2, COARSE)
    simulate_head(7, 3, COARSE)
    again, otherwise = simulate_head(7, 2, COARSE), simulate_head(8, 2, COARSE)
    assert first["acquisitions"] == again["acquisitions"]
    for old, new, different in (
        (first["maps"], again["maps"], otherwise["maps"]),
        *((first["contrasts"][k], again["contrasts"][k], otherwise["contrasts"][k]) for k in first["contrasts"]),
    ):
        assert torch.equal(old, new) and not torch.equal(old, different)


def test_deformation_does_not_fold():
    template = load_template(COARSE)
    for index in range(20):
        displacement = draw_displacement(rng(0, index, 0), template, COARSE).numpy()
        jacobian = np.stack([np.stack(np.gradient(component), -1) for component in displacement], -2) + np.eye(3)
        assert np.linalg.det(jacobian).min() > 0.05
        assert np.abs(displacement).max() > 1


def test_no_displacement_is_identity():
    channels = load_template(COARSE).channels
    torch.testing.assert_close(deform(channels, torch.zeros(3, 9, 8, 7)), channels, atol=1e-4, rtol=0)


def test_files_sidecars_and_bytes(tmp_path):
    assert Simulator(tmp_path / "two", subjects=2, seed=5, resolution=COARSE).run() == tmp_path / "two"
    Simulator(tmp_path / "one", subjects=1, seed=5, resolution=COARSE).run()
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert {name: two[name] for name in one if name != "participants.tsv"} == {
        name: content for name, content in one.items() if name != "participants.tsv"
    }
    assert two["participants.tsv"].decode().split() == ["participant_id", "sub-01", "sub-02"]
    assert all(two[name][4:8] == bytes(4) for name in two if name.endswith(".gz")), "gzip holds a time"

    head = simulate_head(5, 1, COARSE)
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
    assert labels.get_data_dtype() == np.uint8 and set(np.unique(labels.dataobj)) == {0, CSF, GM, WM}


def test_stopped_run_goes_on(tmp_path, monkeypatch):
    Simulator(tmp_path / "whole", subjects=2, resolution=COARSE).run()
    calls, write_image = [], study.write_image

    def stop_in_second_subject(*args):
        calls.append(args)
        if len(calls) == 11:
            raise KeyboardInterrupt
        write_image(*args)

    monkeypatch.setattr(study, "write_image", stop_in_second_subject)
    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        Simulator(stopped, subjects=2, resolution=COARSE).run()
    assert list(stopped.glob(".sub-02.partial"))
    assert not (stopped / "sub-02").exists() and not (stopped / "participants.tsv").exists()

    monkeypatch.setattr(study, "write_image", write_image)
    kept = stopped / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    before = kept.stat().st_mtime_ns
    Simulator(stopped, subjects=2, resolution=COARSE).run()
    assert contents(stopped) == contents(tmp_path / "whole")
    assert kept.stat().st_mtime_ns == before


def test_other_content_is_refused_unless_overwritten(tmp_path):
    Simulator(tmp_path, subjects=2, seed=0, resolution=COARSE).run()
    before = contents(tmp_path)
    with pytest.raises(UserError, match="Seed 0"):
        Simulator(tmp_path, subjects=1, seed=1, resolution=COARSE).run()
    assert contents(tmp_path) == before
    Simulator(tmp_path, subjects=1, seed=1, resolution=COARSE, overwrite=True).run()
    after = contents(tmp_path)
    assert not any("sub-02" in name for name in after)
    assert after["sub-01/anat/sub-01_T1w.nii.gz"] != before["sub-01/anat/sub-01_T1w.nii.gz"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_folder_is_never_touched(tmp_path, overwrite):
    (tmp_path / "sub-01").mkdir()
    (tmp_path / "dataset_description.json").write_text('{"Name": "mine"}')
    before = contents(tmp_path)
    with pytest.raises(UserError, match="other content"):
        Simulator(tmp_path, subjects=1, resolution=COARSE, overwrite=overwrite).run()
    assert contents(tmp_path) == before and not (tmp_path / ".lock").exists()


def test_complete_study_is_read_only(tmp_path, monkeypatch):
    Simulator(tmp_path, subjects=1, resolution=COARSE).run()
    monkeypatch.setattr(study, "FileLock", None)
    Simulator(tmp_path, subjects=1, resolution=COARSE).run()


def test_only_the_default_folder_is_made(tmp_path):
    simulator = Simulator(tmp_path / "default", subjects=1, resolution=COARSE)
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


@pytest.mark.parametrize("options", [{"subjects": 0}, {"subjects": "two"}, {"seed": -1}, {"resolution": 0.5}])
def test_impossible_options(tmp_path, options):
    with pytest.raises(UserError, match=next(iter(options))):
        Simulator(tmp_path / "new", **options).run()
    assert not (tmp_path / "new").exists()


def test_config(tmp_path):
    config = Path(__file__).parent.parent / "configs" / "simulate.json"
    options = {"output_dir": str(tmp_path / "study"), "subjects": 1, "simulator::resolution": COARSE}
    workflow = ConfigWorkflow(str(config), logging_file=False, workflow_type=None, **options)
    workflow.initialize()
    workflow.parser.get_parsed_content("simulator")
    assert not (tmp_path / "study").exists()
    workflow.run()
    assert (tmp_path / "study" / "sub-01").is_dir()

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

"""The examples of docs/python.md run as they stand there, in a folder that is not the bundle's."""

import json
import re
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow, load
from monai.data import MetaTensor
from monai.transforms import LoadImage

from scripts.commands.serving import ReadImaged, ReadRequestd
from scripts.errors import UserError
from tests.studies import ROOT, SIDECARS, true_maps, write_study

NAME = json.loads((ROOT / "configs/metadata.json").read_text())["name"]
TEXT = (ROOT / "docs/python.md").read_text(encoding="utf-8")
START, *BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def example(*words: str) -> str:
    """The one example in which all these words are."""
    [block] = [block for block in BLOCKS if all(word in block for word in words)]
    return block


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder as the text supposes it, which is the working folder: the bundle, scans, contrasts in one file."""
    (tmp_path / NAME).symlink_to(ROOT)
    anat = write_study(tmp_path / "scans", subjects=2) / "sub-01/anat"
    contrasts = [nib.load(anat / f"sub-01_{suffix}.nii.gz") for suffix in SIDECARS]
    nib.save(nib.concat_images(contrasts), tmp_path / "contrasts.nii.gz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)  # it would outlast the test
    return tmp_path


def run(block: str) -> dict:
    """Runs the start of the text and one of its examples; returns their names."""
    names: dict = {}
    exec(START + block, names)  # noqa: S102
    return names


def test_a_network_is_loaded_in_a_process_that_knows_nothing_of_the_bundle(folder):
    script = START + example("load_render") + "print(tuple(pred.shape), BUNDLE.name)"
    result = subprocess.run([sys.executable, "-I", "-c", script], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split("\n")[-2] == f"(1, 6, 64, 80) {NAME}"


def test_the_loaded_network_has_the_weights_of_the_file(folder):
    names = run(example("load_render"))
    network = names["network"]
    loaded = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(torch.load(ROOT / "models/model.pt", weights_only=True))
    assert all(torch.equal(value, loaded[key]) for key, value in network.state_dict().items())
    estimate = names["estimate"]
    assert torch.equal(names["pred"], torch.cat([estimate.log_maps, estimate.sd], 1))
    assert estimate.cholesky.shape == (1, 6, 64, 80)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 16, 16)).shape == (1, 6, 16, 16)


def test_load_without_the_name_of_a_config_returns_the_weights_alone():
    with pytest.warns(UserWarning, match="return state dict instead"):
        assert isinstance(load(ROOT.name, bundle_dir=ROOT.parent, device="cpu"), dict)


def test_load_keeps_silent_where_weights_do_not_fit_and_the_documented_check_does_not():
    options = {"workflow_type": "inference", "device": "cpu", "net_override": {"channels": [8, 16, 32, 64]}}
    network = load(ROOT.name, bundle_dir=ROOT.parent, **options)
    assert network.encoder.blocks[0].conv.out_channels == 8
    with pytest.raises(RuntimeError, match="size mismatch"):
        network.load_state_dict(torch.load(ROOT / "models/model.pt", weights_only=True))


def test_a_folder_goes_in_and_results_come_out(folder):
    names = run(example("workflow.run()"))
    assert names["failures"] == {}
    for subject in ("sub-01", "sub-02"):
        found = {path.name for path in (folder / "maps" / subject / "anat").iterdir()}
        assert {f"{subject}_T1map.nii.gz", f"{subject}_desc-sd_T1map.nii.gz"} <= found
        assert any("late" in name for name in found)


def test_a_training_is_checked_before_it_has_data(folder):
    names = run(example("check_properties"))
    assert names["epochs"] == 2 and names["network"] is names["training"].network_def
    assert not (folder / "runs").exists()


def test_an_image_in_memory_becomes_maps_on_its_grid(folder):
    names = run(example("LoadImage"))
    told = names["about"]["Acquisitions"]["contrast 2"]
    assert told["EchoTime"] == 0.09 and names["about"]["DataConsistency"]["Applied"]
    np.testing.assert_array_equal(names["maps"].affine, nib.load("contrasts.nii.gz").affine)
    inside = true_maps()[0] > 0
    for name in ("pd", "t1", "t2", "pd_sd", "t1_sd", "t2_sd"):
        assert names[name].shape == inside.shape and names[name][0].abs().max() == 0
        assert (names[name].numpy()[inside] > 0).mean() > 0.95


def test_an_image_in_memory_is_prepared_as_files_are(folder, read):
    given = [{"suffix": suffix, **SIDECARS[suffix]} for suffix in SIDECARS]
    image = LoadImage(ensure_channel_first=True)("contrasts.nii.gz")
    prepared = ReadImaged(read.preprocessing, given)({"image": image})
    request = {"image": "contrasts.nii.gz", "acquisitions": given, "output": "t1"}
    expected = ReadRequestd(read.preprocessing)(request)
    torch.testing.assert_close(prepared["image"].as_tensor(), expected["image"].as_tensor())
    rows = [data["image"].meta["volume"]["acquisition"] for data in (prepared, expected)]
    torch.testing.assert_close(*rows)
    for one, other in zip(prepared["grid"], expected["grid"]):
        np.testing.assert_allclose(one, other)


@pytest.fixture
def read():
    """The step of ``deploy.json`` that prepares an image; what follows it is not computed."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / f"configs/{name}.json") for name in ("inference", "deploy")])
    return parser.get_parsed_content("image_preprocessing").transforms[-1]


def test_an_image_that_cannot_be_used_is_refused_in_one_line(read):
    voxels = torch.rand(3, 8, 8, 4).cumsum(1)
    for image, message in (
        (voxels[0], r"image: found 3 dimensions \(8 x 8 x 4\); give contrasts of one volume"),
        (voxels[:2], "acquisitions: found 3 for 2 contrasts; give"),
        (voxels.index_fill(0, torch.tensor(1), torch.nan), "image-2.nii: found 256 of 256 voxels NaN"),
    ):
        with pytest.raises(UserError, match=message):
            read({"image": MetaTensor(image)})


def test_the_default_contrasts_are_those_of_the_metadata(read):
    metadata = json.loads((ROOT / "configs/metadata.json").read_text())
    defined = metadata["network_data_format"]["inputs"]["image"]["channel_def"]
    assert read.acquisitions == [defined[number] for number in sorted(defined)]


def test_a_federated_client_evaluates_trains_and_sends_what_it_learnt(folder):
    names = run(example("MonaiAlgo("))
    assert {"val_loss", "MSE", "PSNR"} <= set(names["metrics"]) and np.isfinite(names["metrics"]["val_loss"])
    update, algo, before = names["update"], names["algo"], names["metrics"]["val_loss"]
    assert update.statistics["num_executed_iterations"] > 0 and update.weight_type == names["WeightType"].WEIGHT_DIFF
    assert any(change.any() for change in update.weights.values())
    weights = {name: value + update.weights.get(name, 0) for name, value in names["weights"].items()}
    received = names["ExchangeObject"](weights=weights, weight_type=names["WeightType"].WEIGHTS)
    assert algo.evaluate(received).metrics["val_loss"] != before
    algo.train(received)
    assert (folder / "site/train_vae/model.pt").is_file()
    assert algo.trainer.state.epoch == 2 and any(change.any() for change in algo.get_weights().weights.values())


def test_evaluation_without_a_trainer_has_its_network_on_the_device():
    config = str(ROOT / "configs/train_vae.json")
    workflow = create_workflow(config_file=config, workflow_type="train", dataset_dir="absent", device="meta")
    assert next(workflow.evaluator.network.parameters()).device.type == "meta"


def test_links_of_the_text_exist():
    assert len(BLOCKS) == 6, "every example has a test, here or in test_programmatic_deploy.py"
    titles = [re.sub(r"[^\w -]", "", title.lower()) for title in re.findall("^#+ (.*)$", TEXT, re.M)]
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        file, _, heading = link.partition("#")
        assert link.startswith("https://") or (ROOT / "docs" / file).exists(), link
        assert file or heading in {title.replace(" ", "-") for title in titles}, link

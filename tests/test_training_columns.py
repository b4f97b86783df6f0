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

"""Training and generation with columns of participants.tsv, through their configs."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.errors import find_user_error
from scripts.simulate import CLASSES
from scripts.simulate.embedded import embedded_head

from .studies import CODEC, RENDER, VAE, workflow, write_weights
from .test_columns import write_table
from .test_training import train as train_on_scans
from .test_training_fractions import train

COLUMNS = ["age", "sex"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights, and two label maps of one head with a table."""
    made, head = tmp_path_factory.mktemp("columns"), embedded_head()
    write_weights(made / "weights")
    (made / "maps").mkdir()
    numbers = np.array([next(iter(entry.labels), 0) for entry in CLASSES.values()], np.int16)
    for name in ("head_0", "head_1"):
        nib.save(nib.Nifti1Image(numbers[head.classes.numpy()], head.affine), made / "maps" / f"{name}.nii.gz")
    write_table(made / "maps", "participant_id age sex", "head_0 40 0", "head_1 60 1")
    return made


@pytest.fixture(scope="module")
def trained(folder):
    codec = str(folder / "weights" / "codec.pt")
    options = {"slices": 56, "max_epochs": 1, "codec_weights": codec, "label_maps": str(folder / "maps")}
    return train(folder, columns=COLUMNS, batch_size=32, **options) / "model.pt"


def test_weights_know_their_columns(trained):
    state = torch.load(trained, weights_only=True)
    assert bytes(state["column_names"].tolist()).decode().split("\t") == COLUMNS
    assert 40 <= state["condition_mean"][4] <= 60 and len(state["condition_mean"]) == 6
    (low, high), sex = state["column_range"].tolist()
    assert 40 <= low < high <= 60 and 0 <= sex[0] < sex[1] <= 1


def generate(folder, weights, output: str, columns):
    options = {"codec_weights": str(folder / "weights" / "codec.pt"), "weights": str(weights), "latent_size": [4, 6]}
    options |= {"count": 1, "num_inference_steps": 2, "render": RENDER, "threads": 1, "columns": columns, **CODEC}
    workflow("generate", output_dir=str(folder / output), device="$torch.device('cpu')", **options).run()
    anat = folder / output / "sub-0001" / "anat"
    return json.loads((anat / "sub-0001_T1map.json").read_text())["GeneratedFrom"]["requested"]


def test_what_is_asked_of_columns_stands_in_the_sidecar(folder, trained, caplog):
    requested = generate(folder, trained, "asked", {"age": 90, "sex": "0:0.5"})
    assert requested["age"] == 90 and 0 <= requested["sex"] <= 0.5
    assert "age: 90 is asked, but training saw" in caplog.text
    requested = generate(folder, trained, "free", COLUMNS)
    assert requested["age"] is None and requested["sex"] is None


@pytest.mark.parametrize("columns", [{}, {"sex": 1, "age": 60}])
def test_weights_are_used_with_their_columns_alone(folder, trained, columns):
    with pytest.raises(RuntimeError) as caught:
        generate(folder, trained, "refused", columns)
    assert "with weights trained with age, sex; name age, sex in this order" in str(find_user_error(caught.value))
    assert not (folder / "refused").exists()


@pytest.mark.parametrize(
    "overrides,message",
    [
        ({"columns": ["weight"]}, "participants.tsv: found no column 'weight'; use one of age, sex"),
        ({"label_maps": None}, "columns: found samples of no participant"),
    ],
)
def test_training_refuses_before_any_work(folder, overrides, message):
    options = {"label_maps": str(folder / "maps"), "columns": COLUMNS, **overrides}
    with pytest.raises(Exception) as caught:
        train(folder, name="refused", codec_weights="not looked at", **options)
    assert message in str(find_user_error(caught.value))


def test_the_unet_learns_columns_of_scans_and_no_other_ones_after_a_resume(folder, tiny_study, tmp_path):
    study = shutil.copytree(tiny_study, tmp_path / "study")
    write_table(study, "participant_id age", *(f"sub-0{k} {50 + k}" for k in (1, 2, 3, 4)))
    options = {"columns": ["age"], "vae_weights": str(folder / "weights" / "model.pt"), **VAE}
    run = train_on_scans("ldm", study, tmp_path, max_epochs=1, **options)
    state = torch.load(run / "model.pt", weights_only=True)
    assert 51 <= state["column_range"][0, 0] < state["column_range"][0, 1] <= 54
    assert state["condition_mean"][0] == 0 and state["condition_sd"][0] == 100, "the position is not measured"
    assert state["conv_in.conv.weight"].shape[1] == 6 + 2 + 2
    with pytest.raises(Exception) as caught:
        train_on_scans("ldm", study, tmp_path, max_epochs=1, resume=True, **{**options, "columns": []})
    assert "columns: found none with weights trained with age" in str(find_user_error(caught.value))

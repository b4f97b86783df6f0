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

"""DLDM, the comparator without physics: its training and samples through the configs, and what it cannot do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.bids import Session, load_image, output_path
from scripts.networks.disentangled import DisentangledLDM

from .test_training import ROOT, assert_same_state

TINY = {
    **{"network_def::channels": [8, 8, 8], "network_def::latent_channels": 2, "network_def::unet_channels": [8, 8]},
    **{"network_def::norm_num_groups": 4},
}
TRAINING = {"population::size": [32, 48], "slices": 4, "validation_slices": 2, "batch_size": 4, "max_epochs": 2}


def run(config: str, **options) -> None:
    workflow = ConfigWorkflow(
        str(ROOT / f"configs/{config}.json"), logging_file=False, workflow_type="train", **options
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()


def train(folder: Path, name: str, **options) -> Path:
    given = {"cache_dir": str(folder / "cache"), "output_dir": str(folder / name), "autoencoder_epochs": 1, **TINY}
    run("train_dldm", **given, **TRAINING, **options)
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("dldm")


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    return train(folder, "a")


def test_both_stages_are_trained_in_one_run(trained):
    state = torch.load(trained / "model.pt", weights_only=True)
    assert (state["sd"] != 1).all() and state["sd"].shape == (4, 1, 1)
    head, first, second = (trained / "history.tsv").read_text().splitlines()
    losses = [dict(zip(head.split("\t"), row.split("\t"))) for row in (first, second)]
    assert float(losses[0]["diffusion"]) == 2, "nothing is known before the second stage"
    assert float(losses[1]["diffusion"]) != 2


def test_a_resumed_run_ends_as_an_undisturbed_one(folder, trained):
    cut = train(folder, "b", **{"train::trainer::max_epochs": 1})
    train(folder, "b", resume=True)
    assert_same_state(trained, cut)


def test_samples_are_contrasts_without_maps_and_the_same_each_time(folder, trained):
    options = {"weights": str(trained / "model.pt"), "latent_size": [4, 6], "num_inference_steps": 2, **TINY}
    for name, count in (("one", 1), ("two", 2)):
        run("generate_dldm", output_dir=str(folder / name), count=count, **options)
    session = Session("0001", None, ())
    paths = [[output_path(folder / name, session, "FLAIR", acq="oasis3FLAIR") for name in ("one", "two")]]
    assert all(np.array_equal(*(load_image(path)[0] for path in both)) for both in paths)
    assert not output_path(folder / "one", session, "T1map").exists()


def test_a_contrast_that_it_has_not_seen_is_refused(folder, trained):
    with pytest.raises(Exception) as caught:
        run(
            "generate_dldm", output_dir=str(folder / "no"), weights=str(trained / "model.pt"), render="clinical", **TINY
        )
    assert "has not seen cannot be made" in f"{caught.value} {caught.value.__cause__}"


def test_the_decoder_reads_the_structure_and_one_style():
    network = DisentangledLDM("oasis3", (8, 8), 2, (8, 8), 4)
    structure, styles = network.encode(torch.rand(2, 3, 32, 32))
    assert structure.shape == (2, 2, 8, 8) and styles.shape == (2, 3, 2, 8, 8)
    labels = torch.tensor([2, 0])
    raw = network.pairs(structure, styles, labels)
    assert torch.equal(raw, torch.cat([structure, torch.stack([styles[0, 2], styles[1, 0]])], 1))
    network.measure(raw)
    scaled = network.pairs(structure, styles, labels)
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std((0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    assert network.decode(structure, styles[:, 1]).shape == (2, 32, 32)

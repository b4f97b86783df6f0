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
"""What MONAI's tools and the model zoo ask of a bundle."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pydoc import locate

import pytest
import torch
from monai.bundle import ConfigWorkflow, create_workflow, verify_net_in_out

from scripts.networks import PublishedVAE

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = {
    "train_vae": "train",
    "train_codec": "train",
    "train_dldm": "train",
    "generate_dldm": None,
    "evaluate_generation": None,
    "train_ldm": "train",
    "inference": "infer",
    "generate": "infer",
    "simulate": None,
    "factory": None,
    "pack": None,
    "acquisitions": None,
    "protocol_report": None,
    "render": None,
    "console": None,
    "convert": None,
    "calibrate": None,
    "ablation": None,
    "evaluate": None,
    "figures": None,
}
VAES = ("train_vae", "train_ldm", "inference", "vae_latents", "calibrate")
SHARED = {
    "network": [f"{name}#network_def" for name in VAES],
    "published network": ("paper#network_def", "published#network_def"),
    "diffusion network": ("train_ldm#diffusion_def", "generate#diffusion_def"),
    "published diffusion network": ("paper#diffusion_def", "published#diffusion_def"),
    "scans": ("train_vae#scans", "train_ldm#scans"),
    "early stop": ("train_vae#early_stop", "train_ldm#early_stop"),
    "equations": [
        f"{name}#equations"
        for name in ("train_vae", "train_ldm", "inference", "generate", "acquisitions", "protocol_report", "render")
    ],
    "diffusion steps": ("train_ldm#num_train_timesteps", "generate#num_train_timesteps"),
    "codec": ("train_codec#network_def", "train_ldm#codec_def"),
    "population": ("train_codec#population", "train_ldm#population"),
    "latent size": ("train_ldm#latent_size", "generate#latent_size"),
    "simulated slices": [f"{name}#cache_dir" for name in ("train_vae", "train_ldm", "calibrate")],
}
TOGGLES = ("adagn", "prior", "gain_regressor")
"""Of the paper's ablation: paper.json trains any of them, published.json loads what the authors released."""
PAPER_ALONE = {
    "default_data",
    "default_data_dir",
    "subjects",
    "prediction_type",
    "adagn",
    "prior",
    "gain",
    "perceptual",
    "held_out",
}
SMALL = {
    "network_def::channels": [32, 32, 32],
    "diffusion_def::channels": [32, 32, 32],
    "diffusion_def::num_head_channels": 32,
}


def config(name: str) -> dict:
    return json.loads((ROOT / f"configs/{name}.json").read_text())


def workflow(name: str, **overrides) -> ConfigWorkflow:
    file = str(ROOT / f"configs/{name}.json")
    return ConfigWorkflow(file, logging_file=False, workflow_type=WORKFLOWS[name], **overrides)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_config_can_be_built_without_data_or_weights_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    absent = {} if WORKFLOWS[name] is None else {"dataset_dir": str(tmp_path / "absent"), "bundle_root": str(tmp_path)}
    built = workflow(name, **absent)
    built.initialize()
    assert built.check_properties() in ([], None)
    if WORKFLOWS[name] == "train":
        assert built.trainer.state.max_epochs == built.max_epochs
    assert not list(tmp_path.iterdir()), "building a config wrote something"


@pytest.mark.parametrize("overlay", ["smoke", "paper"])
@pytest.mark.parametrize("name", ["train_vae", "train_ldm"])
def test_a_config_can_be_built_with_an_overlay(name, overlay, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    files = [str(ROOT / f"configs/{file}.json") for file in (name, overlay)]
    # The published networks are large, and the paper's perceptual loss is an optional extra.
    small = {} if overlay == "smoke" else {**SMALL, "loss_weights::perceptual": 0}
    built = ConfigWorkflow(files, logging_file=False, workflow_type="train", **small)
    built.initialize()
    assert built.check_properties() == []


@pytest.mark.parametrize("name", ["inference", "generate"])
def test_published_networks_can_be_used(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # The published diffusion network has 180 million parameters: too many for a test.
    files = [str(ROOT / f"configs/{file}.json") for file in (name, "published")]
    built = ConfigWorkflow(files, logging_file=False, workflow_type="infer", **SMALL)
    built.initialize()
    assert built.check_properties() == [] and type(built.network_def) is PublishedVAE
    paper = config("paper")
    assert config("published")["prediction_type"] == paper["prediction_type"]
    assert [8 * size for size in config("published")["latent_size"]] == paper["crop_size"][:2]


@pytest.mark.parametrize("overlay", ["smoke", "paper", "multi_gpu"])
def test_overlays_change_only_what_the_main_files_have(overlay):
    own = {"multi_gpu": {"finalize"}, "paper": PAPER_ALONE}.get(overlay, set())
    assert {key.split("::")[0] for key in config(overlay)} <= set(config("train_vae")) | set(config("train_ldm")) | own


@pytest.mark.parametrize("what", SHARED)
def test_what_configs_share_is_equal(what):
    nodes = []
    for place in SHARED[what]:
        name, key = place.split("#")
        node = config(name)[key]
        nodes.append({k: v for k, v in node.items() if k not in TOGGLES} if "published" in what else node)
    assert all(node == nodes[0] for node in nodes)


def nodes(content: object) -> Iterator[dict]:
    """Every node of a config that builds something of ours."""
    if isinstance(content, dict) and str(content.get("_target_", "")).startswith("scripts."):
        yield content
    if isinstance(content, (dict, list)):
        for part in content.values() if isinstance(content, dict) else content:
            yield from nodes(part)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.json")), ids=lambda path: path.stem)
def test_no_node_repeats_a_default_of_its_constructor(path):
    """Options at the top of a file are what a user sees; below them each fact stands in one place."""

    def plain(value):
        return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value

    for node in nodes(json.loads(path.read_text())):
        parameters = inspect.signature(locate(node["_target_"])).parameters
        given = {name: value for name, value in node.items() if not name.startswith("_")}
        assert set(given) <= set(parameters), node["_target_"]
        repeated = [name for name, value in given.items() if plain(value) == plain(parameters[name].default)]
        assert repeated == [], node["_target_"]


def test_main_files_run_under_both_names():
    for name in ("train_vae", "train_ldm"):
        assert config(name)["training"] == "%run"


def test_paper_has_the_published_numbers():
    paper = config("paper")
    assert paper["network_def"]["_target_"] == "scripts.networks.PublishedVAE"
    assert paper["diffusion_def"]["_target_"] == "scripts.networks.PublishedDiffusionUNet"
    assert paper["equations"] == "paper" and paper["prediction_type"] == "epsilon"
    assert paper["gain"] == "unit" and paper["objective"]["power"] == 2
    assert paper["loss_weights"]["maps"] == 0 and paper["loss_weights"]["spread"] == 0
    assert paper["loss_weights"]["prior"] == 5e-4 and paper["loss_weights"]["kl"] == 1e-6
    for stage, epochs, batch_size, rate in (("vae", 50, 4, 5e-5), ("ldm", 100, 16, 2.5e-5)):
        files = [str(ROOT / f"configs/{name}.json") for name in (f"train_{stage}", "paper")]
        parser = ConfigWorkflow(files, logging_file=False, workflow_type="train").parser
        for key, value in (("max_epochs", epochs), ("batch_size", batch_size), ("learning_rate", rate)):
            assert parser.get_parsed_content(key) == value


def test_the_default_networks_can_be_shipped():
    for name in ("train_vae", "train_ldm"):
        built = workflow(name)
        built.initialize()
        networks = [
            built.parser.get_parsed_content(key) for key in ("network_def", "diffusion_def") if key in built.parser
        ]
        assert sum(p.numel() for network in networks for p in network.parameters()) <= 15e6


def test_the_size_of_a_generated_latent_is_that_of_a_training_slice():
    built = workflow("train_ldm")
    built.initialize()
    trained = built.parser.get_parsed_content("population").train.slices.slices.size
    assert list(trained) == [8 * size for size in config("generate")["latent_size"]]
    slices = built.parser.get_parsed_content("stream").train.slices.size
    latent = [8 * size for size in config("vae_latents")["latent_size"]]
    assert list(slices) == latent == config("train_ldm")["crop_size"][:2]


def test_latents_of_a_vae_are_an_overlay_away(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, kind in (("train_ldm", "train"), ("generate", "infer")):
        files = [str(ROOT / f"configs/{file}.json") for file in (name, "vae_latents")]
        built = ConfigWorkflow(files, logging_file=False, workflow_type=kind)
        built.initialize()
        assert built.check_properties() == [] and type(built.network_def).__name__ == "PhysicsVAE"


def test_the_paper_trains_on_simulated_scans_where_no_others_are_given(tmp_path, capsys):
    files = [str(ROOT / f"configs/{name}.json") for name in ("train_vae", "paper")]
    small = {**SMALL, "loss_weights::perceptual": 0, "subjects": 2, "default_data::resolution": 8}
    built = ConfigWorkflow(
        files, logging_file=False, workflow_type="train", default_data_dir=str(tmp_path / "study"), **small
    )
    built.initialize()
    dataset = built.parser.get_parsed_content("train#dataset")
    with pytest.raises(TypeError, match="does not exist yet"):
        len(dataset)
    built.parser.get_parsed_content("default_data").ensure(built.dataset_dir)
    assert len(dataset) == 8 and dataset is built.parser.get_parsed_content("scans").train


def test_the_network_fits_its_metadata():
    for n in (1, 2):
        verify_net_in_out(
            net_id="network_def",
            config_file=str(ROOT / "configs/inference.json"),
            meta_file=str(ROOT / "configs/metadata.json"),
            n=n,
            device="cpu",
        )


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_workflow_is_created_from_python():
    created = create_workflow(
        config_file=str(ROOT / "configs/inference.json"), workflow_type="infer", logging_file=False
    )
    assert created.network_def(torch.randn(1, 3, 16, 16)).shape == (1, 6, 16, 16)


def test_the_command_line_runs_from_a_foreign_folder(tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(ROOT / "configs/simulate.json")]
    options = ["--subjects", "1", "--output_dir", str(tmp_path / "study"), "--simulator::resolution", "8"]
    result = subprocess.run(
        [*command, *options], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "study/sub-01/anat/sub-01_T1w.nii.gz").exists()

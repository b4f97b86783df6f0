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

"""The generator's training through its config: latents of simulated slices, resumed, refused where it must be."""

from pathlib import Path

import pytest
import torch

from .studies import TINY_CODEC, TINY_TRANSFORMER, write_weights
from .test_training import ROOT, ConfigWorkflow, assert_same_state

TINY = {
    **{f"codec_def::{name}": value for name, value in TINY_CODEC.items()},
    **{f"diffusion_def::{name}": value for name, value in TINY_TRANSFORMER.items() if name != "latent_size"},
    **{"latent_size": [4, 6], "slices": 4, "validation_slices": 2, "batch_size": 4, "max_epochs": 2},
}


CODEC = {
    **{f"network_def::{name}": value for name, value in TINY_CODEC.items()},
    **{"latent_size": [4, 6], "slices": 4, "validation_slices": 2, "batch_size": 4, "max_epochs": 2},
}


def train(folder: Path, config: str = "train_ldm", name: str = "a", overlay: tuple[str, ...] = (), **overrides) -> Path:
    tiny = TINY if config == "train_ldm" else CODEC
    options = {"cache_dir": str(folder / "cache"), "runs_dir": str(folder / name), **tiny, **overrides}
    files = [str(ROOT / f"configs/{one}.json") for one in (config, *overlay)]
    workflow = ConfigWorkflow(files, logging_file=False, workflow_type="train", **options)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return folder / name / config


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("fractions")
    write_weights(made / "weights")
    return made


@pytest.fixture(scope="module")
def trained(folder) -> Path:
    return train(folder, codec_weights=str(folder / "weights" / "codec.pt"))


def test_it_leaves_weights_pictures_and_what_they_are_of(trained):
    state = torch.load(trained / "model.pt", weights_only=True)
    assert state["vae_digest"].any() and state["scale_factor"] > 0 and state["condition_sd"].min() > 0
    assert 100 > state["condition_mean"][2] > 1, "areas in cm²"
    assert {"history.tsv", "curves.png", "samples.png"} <= {path.name for path in trained.iterdir()}


def test_a_resumed_run_ends_as_an_undisturbed_one(folder, trained):
    weights = {"codec_weights": str(folder / "weights" / "codec.pt")}
    cut = train(folder, name="b", **weights, **{"train::trainer::max_epochs": 1})
    train(folder, name="b", resume=True, **weights)
    assert_same_state(trained, cut)


def test_latents_do_not_depend_on_the_processes_that_simulate(folder, trained):
    others = {f"{part}::dataset::workers": 2 for part in ("train", "validate")}
    cache = str(folder / "anew")
    made = train(folder, name="w", codec_weights=str(folder / "weights" / "codec.pt"), cache_dir=cache, **others)
    assert_same_state(trained, made)


def test_without_a_codec_it_says_how_to_get_one(folder):
    with pytest.raises(Exception) as caught:
        train(folder, name="c", codec_weights=str(folder / "absent.pt"))
    assert "train the codec first with configs/train_codec.json" in str(caught.value.__cause__)


def test_a_folder_of_scans_is_refused(folder):
    with pytest.raises(Exception) as caught:
        train(folder, name="d", codec_weights=str(folder / "weights" / "codec.pt"), dataset_dir=str(folder))
    assert "lay configs/vae_latents.json over this config" in str(caught.value.__cause__)


def test_the_codec_is_trained_resumed_and_read_by_the_second_stage(folder):
    codec = train(folder, "train_codec")
    state = torch.load(codec / "model.pt", weights_only=True)
    torch.testing.assert_close(state["basis"].T @ state["basis"], torch.eye(4), atol=1e-4, rtol=0)
    assert "accuracy" in (codec / "history.tsv").read_text().splitlines()[0]
    cut = train(folder, "train_codec", name="b", **{"train::trainer::max_epochs": 1})
    train(folder, "train_codec", name="b", resume=True)
    assert_same_state(codec, cut)
    train(folder, output_dir=str(folder / "after"), max_epochs=1)
    assert (folder / "after" / "model.pt").exists()


def test_the_decoder_is_finished_on_samples(folder, trained):
    tiny = {name: value for name, value in TINY.items() if name.startswith("diffusion_def")}
    codec, weights = str(folder / "weights" / "codec.pt"), str(trained / "model.pt")
    options = {"initial_weights": codec, "diffusion_weights": weights, **tiny, "frozen": ["decoder.blocks.0"]}
    options["train::step::num_inference_steps"] = 2

    def finish(name: str, **others) -> Path:
        train(folder, "train_codec", name, ("finish_codec",), **options, **others)
        return folder / name / "train_finish"

    done = finish("f")
    before, after = (torch.load(file, weights_only=True) for file in (codec, done / "model.pt"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "sharpness"}, "latents stay what they are"
    finish("g", **{"train::trainer::max_epochs": 1})
    assert_same_state(done, finish("g", resume=True))

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

"""Training of whole heads through its configs: coarse volumes, then slices with what is known around them."""

from pathlib import Path

import pytest
import torch

from scripts.networks import RefiningTransformer
from scripts.simulate import sections

from .studies import TINY_CODEC, TINY_TRANSFORMER, write_weights
from .test_training import ROOT, ConfigWorkflow, assert_same_state

WIDTHS = {
    f"diffusion_def::{name}": value for name, value in TINY_TRANSFORMER.items() if name in ("width", "depth", "heads")
}
TINY = {**WIDTHS, "slices": 2, "validation_slices": 1, "batch_size": 4, "max_epochs": 2}
HEADS = {"latent_size": [4, 4, 2], "coarse_def::latent_channels": 4, "diffusion_def::latent_channels": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("heads")
    write_weights(made / "weights")
    return made


@pytest.fixture(scope="module", autouse=True)
def small_heads():
    """Few cells and slices, so that a head is simulated in a moment."""
    fields = sections.LabelledHeads.__init__.__defaults__
    sections.LabelledHeads.__init__.__defaults__ = (*fields[:1], (8, 8, 4), 2.0, (8, 16))
    yield
    sections.LabelledHeads.__init__.__defaults__ = fields


def train(folder: Path, stage: str, name: str = "a", **overrides) -> Path:
    files = [str(ROOT / f"configs/{config}.json") for config in ("train_ldm", f"train_{stage}")]
    options = {"cache_dir": str(folder / "cache"), "runs_dir": str(folder / name), **TINY, **overrides}
    workflow = ConfigWorkflow(files, logging_file=False, workflow_type="train", **options)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return folder / name / f"train_{stage}"


@pytest.fixture(scope="module")
def heads(folder) -> Path:
    return train(folder, "heads", **HEADS)


def test_coarse_volumes_are_learned_with_a_transform_of_their_own(heads):
    state, codec = (torch.load(heads / name, weights_only=True) for name in ("model.pt", "coarse.pt"))
    assert state["vae_digest"].any() and state["condition_sd"].min() > 0
    torch.testing.assert_close(codec["basis"].T @ codec["basis"], torch.eye(4), atol=1e-4, rtol=0)
    assert 100 < state["condition_mean"][1] < 3000, "volumes in mL"
    assert {"curves.png", "samples.png"} <= {path.name for path in heads.iterdir()}


def test_a_resumed_run_ends_as_an_undisturbed_one(folder, heads):
    cut = train(folder, "heads", "b", **HEADS, **{"train::trainer::max_epochs": 1})
    train(folder, "heads", "b", resume=True, **HEADS)
    assert_same_state(heads, cut)


def test_slices_are_learned_from_the_generator_of_slices(folder, heads):
    tiny = {f"codec_def::{name}": value for name, value in TINY_CODEC.items()}
    tiny |= {"latent_size": [4, 6], "diffusion_def::latent_channels": 4, "coarse_def::latent_channels": 4}
    weights = {"codec_weights": "codec.pt", "initial_weights": "transformer.pt"}
    paths = {name: str(folder / "weights" / file) for name, file in weights.items()}
    made = train(folder, "refining", **tiny, **paths, max_epochs=1)
    state = torch.load(made / "model.pt", weights_only=True)
    assert state["surroundings.weight"].any() and state["vae_digest"].any()
    assert state["guess_weight"].any() and len(state["correlation_mm"].unique()) > 1, "measured"
    network = RefiningTransformer((4, 6), 4, width=16, depth=2, heads=2)
    network.load_state_dict(torch.load(paths["initial_weights"], weights_only=True))
    assert not network.surroundings.weight.any()

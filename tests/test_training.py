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
"""Both training stages through their configs, on a small simulated study."""

import importlib.util
import time
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

from scripts.errors import UserError
from scripts.train import EarlyStop, monitor
from scripts.train.monitor import draw_curves, draw_example
from scripts.train.vae import judged_samples

from .processes import bundle, bundle_run

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "spacing": 4.0,
    "crop_size": [32, 48, -1],
    "num_slices": 2,
    "slice_step": 2,
    "batch_size": 2,
    "network_def::channels": [16, 16, 16],
    "network_def::skip_channels": [4, 4],
    "val_interval": 1,
}
ADVERSARIAL = {"loss_weights::adversarial": 0.01, "adversarial_start": 1}
UNET = {"diffusion_def::channels": [32, 32, 32], "diffusion_def::num_head_channels": [0, 32, 32]}
TINY_LDM = {**TINY, **UNET}


def train(stage: str, study: Path, runs: Path, *overlays: str, **overrides) -> Path:
    """Runs one stage in this process, with overlays of its config, and returns its output folder."""
    tiny = TINY if stage == "vae" else TINY_LDM
    workflow = ConfigWorkflow(
        config_file=configs(stage) + [str(ROOT / f"configs/{name}.json") for name in overlays],
        logging_file=False,
        workflow_type="train",
        **{"dataset_dir": str(study), "runs_dir": str(runs), **tiny, **overrides},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return runs / f"train_{stage}"


def configs(stage: str) -> list[str]:
    """Files of a stage. Here the second one learns from latents of the first; test_training_fractions.py has others."""
    return [str(ROOT / f"configs/{name}.json") for name in ([f"train_{stage}"] + ["vae_latents"] * (stage == "ldm"))]


def command(stage: str, study: Path, runs: Path, *extra: str, overrides: dict | None = None) -> list[str]:
    """The same as words for ``python -m monai.bundle``."""
    options = {**(TINY if stage == "vae" else TINY_LDM), "dataset_dir": study, "runs_dir": runs, **(overrides or {})}
    return ["run", "training", *(word for key, value in options.items() for word in (f"--{key}", str(value))), *extra]


def kill_after_an_epoch(words: list[str], last: Path) -> None:
    """Starts a training of three epochs and kills it when its first checkpoint is there."""
    process = bundle(*words, cwd=ROOT)
    deadline = time.time() + 300
    while not last.exists() and time.time() < deadline and process.is_alive():
        time.sleep(0.02)
    process.kill()
    process.join()
    assert torch.load(last, weights_only=True)["epoch"] < 3, "killed too late to show anything"


def flatten(state: object, name: str = "") -> dict[str, object]:
    """Every leaf of a nested state by its path."""
    if isinstance(state, dict):
        return {k: v for key, value in state.items() for k, v in flatten(value, f"{name}/{key}").items()}
    if isinstance(state, (list, tuple)):
        return {k: v for i, value in enumerate(state) for k, v in flatten(value, f"{name}/{i}").items()}
    return {name: state}


def assert_same_state(one: Path, other: Path) -> None:
    states = [flatten(torch.load(path / "last.pt", weights_only=True)) for path in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        same = torch.equal(value, states[1][name]) if torch.is_tensor(value) else value == states[1][name]
        assert same, name


@pytest.fixture(scope="module")
def trained_vae(tiny_study, tmp_path_factory) -> Path:
    return train("vae", tiny_study, tmp_path_factory.mktemp("runs"), max_epochs=3, **ADVERSARIAL)


def test_a_run_leaves_weights_history_and_pictures(trained_vae):
    names = {path.name for path in trained_vae.iterdir()}
    assert {"last.pt", "model.pt", "history.tsv", "curves.png", "example.png", "tensorboard"} <= names
    assert {name for name in names if name.startswith(".")} <= {".lock"}, "leftovers of unfinished writes"
    assert {path.name for path in (trained_vae / "tensorboard").iterdir()} == {"training", "validation"}
    header, *rows = (trained_vae / "history.tsv").read_text().splitlines()
    assert len(rows) == 3
    for column in (
        "loss",
        "maps",
        "spread",
        "reconstruction",
        "kl",
        "MSE",
        "MAE",
        "PSNR",
        "T1 error WM",
        "T2 error GM",
        "discriminator",
    ):
        assert column in header.split("\t")
    state = torch.load(trained_vae / "model.pt", weights_only=True)
    assert all(torch.is_tensor(value) for value in state.values())


def test_training_lowers_the_loss(tiny_study, tmp_path):
    run = train("vae", tiny_study, tmp_path, max_epochs=4, val_interval=4, batch_size=1)
    losses = [float(row.split("\t")[1]) for row in (run / "history.tsv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.8 * losses[0]


def test_resumed_equals_undisturbed(tiny_study, tmp_path, trained_vae):
    """Three epochs straight = one epoch, killed in the second, resumed."""
    options = {"max_epochs": 3, **ADVERSARIAL}
    config = ["--config_file", str(ROOT / "configs/train_vae.json")]
    words = command("vae", tiny_study, tmp_path, *config, overrides=options)
    kill_after_an_epoch(words, tmp_path / "train_vae/last.pt")
    # In this process, as the undisturbed run was: equal thread counts.
    train("vae", tiny_study, tmp_path, resume=True, **options)
    assert_same_state(tmp_path / "train_vae", trained_vae)


def write_label_maps(folder: Path) -> Path:
    """Two small heads: scalp around grey around white matter around fluid, in FreeSurfer's numbers."""
    folder.mkdir()
    radius = np.linalg.norm(np.mgrid[-24:24, -28:28, -20:20] / np.array([1, 1.2, 0.9])[:, None, None, None], axis=0)
    labels = np.select([radius < 4, radius < 11, radius < 15, radius < 20], [4, 2, 3, 511], 0)
    for number in range(2):
        nib.save(nib.Nifti1Image(labels.astype(np.int16), np.eye(4)), folder / f"head_{number}.nii.gz")
    return folder


def simulated(folder: Path) -> dict:
    """Options of a short training on simulated slices, which are cached in this folder."""
    heads = write_label_maps(folder / "heads")
    # No workers: starting processes takes longer than the work. Near its middle the head has all tissues.
    small = {"stream::slices::size": [32, 48], "stream::slices::positions": [-6.0, 6.0], "stream::workers": 0}
    return {
        **{"label_maps": str(heads), "train_heads": [0, 1], "validation_heads": [1, 1], "cache_dir": str(folder)},
        **{"slices": 4, "validation_slices": 2, "max_epochs": 1, "val_interval": 1, "dataset_dir": None, **small},
    }


def test_a_finished_run_is_not_overwritten_by_accident(tiny_study, trained_vae):
    with pytest.raises(Exception, match="Failed to evaluate") as caught:
        train("vae", tiny_study, trained_vae.parent, max_epochs=3)
    assert "earlier run" in str(caught.value.__cause__)


def test_a_run_is_not_resumed_with_other_networks(tiny_study, trained_vae):
    with pytest.raises(Exception) as caught:
        train("vae", tiny_study, trained_vae.parent, max_epochs=3, resume=True, **{"network_def::channels": [8, 8, 8]})
    assert "another configuration" in str(caught.value.__cause__)


def test_stage_2_trains_resumes_and_stores_its_scale(tiny_study, tmp_path, trained_vae):
    weights = {"vae_weights": str(trained_vae / "model.pt")}
    straight = train("ldm", tiny_study, tmp_path / "a", max_epochs=2, sample_interval=1, **weights)
    cut = train("ldm", tiny_study, tmp_path / "b", max_epochs=2, **weights, **{"train::trainer::max_epochs": 1})
    train("ldm", tiny_study, tmp_path / "b", max_epochs=2, resume=True, **weights)
    assert_same_state(straight, cut)
    assert (straight / "samples.png").exists() and not (cut / "samples.png").exists()
    state = torch.load(straight / "model.pt", weights_only=True)
    assert state["scale_factor"] > 0 and state["scale_factor"] != 1
    assert state["vae_digest"].any()


def test_stage_2_without_weights_says_how_to_get_them(tiny_study, tmp_path):
    with pytest.raises(Exception) as caught:
        train("ldm", tiny_study, tmp_path, vae_weights=str(tmp_path / "absent.pt"))
    assert "train_vae.json" in str(caught.value.__cause__)


def test_a_decoder_is_sharpened_without_touching_the_encoder(tiny_study, tmp_path, trained_vae):
    frozen = ["encoder", "quant_conv", "conditioning"]
    run = train(
        "vae",
        tiny_study,
        tmp_path,
        max_epochs=1,
        judged="maps",
        frozen=frozen,
        initial_weights=str(trained_vae / "model.pt"),
        **ADVERSARIAL | {"adversarial_start": 0},
    )
    before, after = (torch.load(path / "model.pt", weights_only=True) for path in (trained_vae, run))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "post_quant_conv", "skips", "spread"}
    assert "discriminator" in (run / "history.tsv").read_text()


def test_what_cannot_be_frozen_is_named(tiny_study, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train("vae", tiny_study, tmp_path, frozen=["encodr"])
    assert "frozen: found 'encodr'; use names of encoder, decoder" in str(caught.value.__cause__)


def test_stage_2_without_condition_as_in_the_paper(tiny_study, tmp_path, trained_vae):
    weights = {"vae_weights": str(trained_vae / "model.pt")}
    condition = {"diffusion_def::condition_channels": 0}
    assert (train("ldm", tiny_study, tmp_path, max_epochs=1, **condition, **weights) / "model.pt").exists()


def test_training_stops_where_nothing_gets_better(tiny_study, tmp_path):
    """So small a rate changes nothing, so the second and third validation are no better than the first."""
    options = {"max_epochs": 6, "learning_rate": 1e-30}
    patient = train("vae", tiny_study, tmp_path / "a", patience=2, **options)
    assert torch.load(patient / "last.pt", weights_only=True)["epoch"] == 3
    # The count goes on where a run was cut.
    cut = train("vae", tiny_study, tmp_path / "b", patience=2, **options, **{"train::trainer::max_epochs": 2})
    assert torch.load(cut / "last.pt", weights_only=True)["epoch"] == 2
    train("vae", tiny_study, tmp_path / "b", patience=2, resume=True, **options)
    assert_same_state(patient, cut)


def test_patience_is_a_number_of_validations():
    for patience in (0, -1, 1.5, True):
        with pytest.raises(UserError, match="patience: found .*; use a whole number of validations"):
            EarlyStop(None, patience)


def test_losses_that_weigh_nothing_are_not_built():
    files = [str(ROOT / f"configs/{name}.json") for name in ("train_vae", "paper")]
    for weight, built in ((0, False), (0.01, True)):
        options = {
            "loss_weights::perceptual": 0,
            "loss_weights::adversarial": weight,
            "network_def::channels": [32, 32],
        }
        workflow = ConfigWorkflow(files, logging_file=False, workflow_type="train", **options)
        workflow.initialize()
        step = workflow.parser.get_parsed_content("train#step")
        assert step.objective.perceptual is None
        assert (step.discriminator is not None) == (step.discriminator_optimizer is not None) == built


@pytest.mark.skipif(importlib.util.find_spec("lpips") is not None, reason="needs an environment without lpips")
def test_the_paper_asks_for_lpips_before_anything_is_done(tmp_path):
    files = str([str(ROOT / f"configs/{name}.json") for name in ("train_vae", "paper")])
    paths = ["--default_data_dir", str(tmp_path / "data"), "--runs_dir", str(tmp_path / "runs")]
    result = bundle_run("training", "--config_file", files, *paths, cwd=ROOT)
    assert result.returncode == 2, result.stderr[-2000:]
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: perceptual loss 'alex': found no package lpips") and "--no-deps lpips" in last
    assert not list(tmp_path.iterdir())


def test_the_discriminator_judges_what_is_made_without_skips():
    with_skips = torch.tensor([1.0, 0.0, 1.0])
    judged, weight = judged_samples(with_skips, has_skips=True)
    assert judged.tolist() == [False, True, False] and weight == 1
    # It runs all the same where there is nothing to judge, as on the other ranks, and counts for nothing.
    judged, weight = judged_samples(torch.ones(3), has_skips=True)
    assert judged.all() and weight == 0
    judged, weight = judged_samples(torch.ones(3), has_skips=False)
    assert judged.all() and weight == 1


@pytest.mark.parametrize("adagn", ["shared_scalar", "none"])
def test_three_dimensions_and_the_other_conditionings(tiny_study, tmp_path, adagn):
    # In bfloat16 a CPU's gradients of convolutions of 2 x 2 x 2 voxels are not always finite.
    options = {"spatial_dims": 3, "crop_size": [32, 32, 32], "max_epochs": 1, "amp": False, "network_def::adagn": adagn}
    vae = train("vae", tiny_study, tmp_path, **options)
    ldm = train("ldm", tiny_study, tmp_path, vae_weights=str(vae / "model.pt"), **options)
    assert torch.load(ldm / "model.pt", weights_only=True)["conv_in.conv.weight"].ndim == 5


def test_decibels_and_similarities_have_linear_axes_and_losses_logarithmic_ones():
    table = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 1.0], "PSNR": [20.0, 21.0], "MS-SSIM": [0.5, 0.6]})
    table["signed"], table["T1 error WM"], table["T2 error WM"] = [-1.0, 1.0], [0.4, 0.2], [0.4, 0.2]
    scales = {axis.get_title(): axis.get_yscale() for axis in draw_curves(table).axes if axis.get_title()}
    errors = "median relative error of the maps"
    assert scales == {"loss": "log", "PSNR [dB]": "linear", "MS-SSIM": "linear", "signed": "linear", errors: "log"}


@pytest.mark.parametrize("pause, drawings", [(-1, [1, 2, 3]), (60, [3])])
def test_pictures_are_drawn_now_and_then_and_at_the_end(pause, drawings, tmp_path, monkeypatch):
    """The end, too, is where a training stops early."""
    drawn = []
    monkeypatch.setattr(monitor, "PAUSE", pause)
    monkeypatch.setattr(monitor, "draw_curves", lambda table: drawn.append(len(table)) or plt.figure())
    trainer, evaluator = Engine(lambda *_: {"loss": 1.0}), Engine(lambda *_: None)
    monitor.History(tmp_path, evaluator).attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=3), trainer.terminate)
    trainer.run([0], max_epochs=9)
    assert drawn == drawings and (tmp_path / "curves.png").exists()
    assert len((tmp_path / "history.tsv").read_text().splitlines()) == 1 + 3


def test_an_example_shows_the_patients_right_on_the_left():
    front_right = torch.full((3, 12, 16), 0.1)
    front_right[:, 11, 15] = 1.0
    figure = draw_example({"log_maps": front_right.log(), "signal": front_right[:1], "target": front_right[:1]})
    pictures = [axis.get_images()[0].get_array() for axis in figure.axes if axis.get_images()]
    assert len(pictures) == 3 + 2
    for picture in pictures:
        assert np.unravel_index(picture.argmax(), picture.shape) == (0, 0)

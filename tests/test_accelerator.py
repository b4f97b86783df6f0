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

"""Training by the clock, weights in pieces, batches from several processes."""

import sys

import pytest
import torch
from ignite.engine import Engine

from benchmarks import accelerator
from benchmarks.accelerator import Clock, join, split
from scripts.errors import UserError
from scripts.simulate import Scanner, SimulatedSlices, Slices
from scripts.train.data import loader

from .studies import TINY_CODEC, TINY_TRANSFORMER, write_weights
from .test_simulate_slices import ball_heads

SMALL = {
    "train_vae": ["network_def::channels=[8,8,8,8]"],
    "train_ldm": [
        "latent_size=[4,6]",
        *(f"codec_def::{name}={value}" for name, value in TINY_CODEC.items()),
        *(f"diffusion_def::{name}={value}" for name, value in TINY_TRANSFORMER.items() if name != "latent_size"),
    ],
}


@pytest.fixture
def now(monkeypatch) -> list[float]:
    """The time [s], to be set."""
    now = [100.0]
    monkeypatch.setattr(accelerator.time, "monotonic", lambda: now[0])
    return now


def test_the_learning_rate_falls_with_time(now):
    clock = Clock(minutes=2)
    assert clock(0) == 1.0 and clock(1000) == 1.0, "before the start"
    clock._start()
    factors = []
    for seconds in (0, 40, 60, 80, 120, 500):
        now[0] = 100 + seconds
        factors.append(clock(0))
    assert factors == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0])


@pytest.mark.parametrize("seconds, epochs", [(10, 6), (25, 2), (70, 1)])
def test_training_ends_with_the_last_epoch_that_fits(now, seconds, epochs):
    def step(*_) -> None:
        now[0] += seconds

    engine = Engine(step)
    Clock(minutes=1).attach(engine)
    engine.run([0], max_epochs=100)
    assert engine.state.epoch == epochs


def test_pieces_are_small_and_give_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "PIECE", 1000)
    contents = {"model.pt": bytes(range(256)) * 10, "history.tsv": b"epoch\n", "exact": b"x" * 2000}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    split([tmp_path / name for name in contents], tmp_path / "pieces")
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "pieces").iterdir()}
    assert max(sizes.values()) <= 1000 and set(sizes) == {
        *("model.pt.00", "model.pt.01", "model.pt.02"),
        *("history.tsv.00", "exact.00", "exact.01", "sha256.json"),
    }
    join(tmp_path / "pieces", tmp_path / "whole")
    assert {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()} == contents


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_damaged_or_missing_pieces_are_refused_and_nothing_is_written(tmp_path, harm):
    (tmp_path / "model.pt").write_bytes(b"weights")
    split([tmp_path / "model.pt"], tmp_path / "pieces")
    piece = tmp_path / "pieces" / "model.pt.00"
    piece.unlink() if harm == "missing" else piece.write_bytes(b"Weights")
    with pytest.raises(UserError, match="another sha256"):
        join(tmp_path / "pieces", tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    with pytest.raises(UserError, match="no sha256.json"):
        join(tmp_path, tmp_path / "whole")


def test_batches_do_not_depend_on_the_processes_that_make_them(tmp_path, tmp_path_factory):
    slices = Slices(ball_heads(tmp_path_factory), size=(48, 40))
    made = []
    for workers in (0, 2):
        data = SimulatedSlices(slices, Scanner(crop_size=(40, 32)), tmp_path / str(workers), length=4)
        batches = loader(data, 2, workers=workers)
        for data.epoch in (1, 2):
            made.append([batch["image"] for batch in batches])
    assert all(torch.equal(a, b) for one, two in ((0, 2), (1, 3)) for a, b in zip(made[one], made[two]))
    assert not torch.equal(made[0][0], made[1][0])


@pytest.mark.parametrize("config", accelerator.CONFIGS)
def test_a_rehearsal_leaves_weights_in_pieces(config, tmp_path, tmp_path_factory, monkeypatch, capsys):
    write_weights(tmp_path)
    heads = ["--label_maps", str(ball_heads(tmp_path_factory).folder)] if config == "train_vae" else []
    options = ["--config", config, "--rehearse", "--minutes", "0.01", *heads, "--output", str(tmp_path / "pieces")]
    options += ["--set", *SMALL[config], "slices=2", "validation_slices=1"]
    if config == "train_ldm":
        options.append(f"codec_weights={tmp_path / 'codec.pt'}")
    monkeypatch.setattr(sys, "argv", ["accelerator", *options])
    accelerator.main()
    assert "samples in" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["accelerator", "--join", str(tmp_path / "pieces"), "--output", str(tmp_path)])
    accelerator.main()
    assert torch.load(tmp_path / "model.pt", weights_only=True)


def test_bad_options_end_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["accelerator", "--rehearse", "--set", "slices=0", "--output", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        accelerator.main()
    assert "error: slices" in capsys.readouterr().err

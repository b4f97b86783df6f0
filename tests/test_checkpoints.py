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

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from scripts.acquisition import Acquisition
from scripts.commands.convert import promote
from scripts.errors import UserError
from scripts.files import save_atomically
from scripts.networks import PhysicsVAE
from scripts.networks.weights import first_existing, load_file, load_weights, read_record, weights_digest
from scripts.train.checkpoints import BEST, LAST, InitialWeights, TrainingState
from scripts.train.data import FrozenEncoder

from .processes import elsewhere

MAKE = "train it first"
ROOT = Path(__file__).resolve().parents[1]


class Code:
    """What a hostile file holds: loading it as a plain pickle would make a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def linear(seed: int = 0, width: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def names(folder: Path) -> list[str]:
    """The files of a folder; its lock, which stays, says nothing."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_saving_leaves_the_file_alone_in_a_new_folder(tmp_path):
    save_atomically({"a": torch.ones(2)}, tmp_path / "new" / "model.pt")
    assert names(tmp_path / "new") == ["model.pt"]
    assert load_file(tmp_path / "new" / "model.pt", MAKE)["a"].tolist() == [1, 1]


def test_failed_saving_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.pt"
    save_atomically({"a": 1}, path)
    before = path.read_bytes()

    def fill_the_disk(content, file):
        file.write(b"half")
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", fill_the_disk)
        with pytest.raises(UserError, match="cannot be written .no space left on device"):
            save_atomically({"a": 2}, path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["model.pt"]
    save_atomically({"a": 3}, path)
    assert names(tmp_path) == ["model.pt"] and load_file(path, MAKE) == {"a": 3}


def test_missing_file_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match=f"absent.pt: found no such file; {MAKE}"):
        load_file(tmp_path / "absent.pt", MAKE)
    with pytest.raises(UserError, match="no such file"):
        load_file(tmp_path, MAKE)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 half a zip"], ids=["empty", "text", "truncated"])
def test_unreadable_file_is_one_line(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(UserError, match=f"no readable weights.*{MAKE}") as caught:
        load_file(tmp_path / "model.pt", MAKE)
    assert "\n" not in str(caught.value)


def test_no_changed_byte_gives_other_weights(tmp_path):
    path, network = tmp_path / "model.pt", linear()
    save_atomically(network.state_dict(), path)
    whole, refused = path.read_bytes(), 0
    for place in np.random.default_rng(0).choice(len(whole), 300, replace=False):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            state = load_file(path, MAKE)
        except UserError as error:
            assert "\n" not in str(error) and error.where == path
            refused += 1
        else:
            # Between the records there are bytes that say nothing.
            assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert refused > 100
    weight = next(name for name in zipfile.ZipFile(io.BytesIO(whole)).namelist() if name.endswith("data/0"))
    place = whole.index(network[0].weight.detach().numpy().tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(UserError, match=f"a damaged file .the checksum of {weight} is wrong.; copy it anew, or {MAKE}"):
        load_file(path, MAKE)


def test_the_shipped_weights_are_those_recorded():
    assert {"model.pt", "codec.pt", "model_ldm.pt"} <= {path.name for path in (ROOT / "models").glob("*.pt")}
    shipped = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (ROOT / "models").glob("*.pt")}
    assert read_record(ROOT / "models") == shipped, "put weights there with configs/convert.json, run promote"


def test_own_weights_in_place_of_the_shipped_ones_are_used_and_said(tmp_path, caplog):
    path, network = tmp_path / "model.pt", linear(2)
    save_atomically(linear(1).state_dict(), path)
    (tmp_path / "sha256.json").write_text(json.dumps({"model.pt": "abc"}))
    load_weights(network, path, MAKE)
    assert torch.equal(weights_digest(network), weights_digest(linear(1)))
    assert f"{path}: not the weights with sha256 abc that were shipped; if they are yours" in caplog.text
    caplog.clear()
    promote(str(path), str(tmp_path), overwrite=True)
    load_weights(network, path, MAKE)
    assert not caplog.text, "promoted weights are the shipped ones"
    for damaged in ("[1]", "nothing"):
        (tmp_path / "sha256.json").write_text(damaged)
        with pytest.raises(UserError, match="sha256.json: found no list of checksums"):
            load_weights(network, path, MAKE)


def test_code_in_a_file_is_never_run(tmp_path):
    torch.save({"weight": torch.ones(1), "code": Code(tmp_path / "ran")}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="no readable weights"):
        load_file(tmp_path / "model.pt", MAKE)
    assert not (tmp_path / "ran").exists()


def test_loading_weights_tells_path_and_sha256(tmp_path, capsys):
    path = tmp_path / "model.pt"
    save_atomically(linear(1).state_dict(), path)
    network = linear(2)
    sha256 = load_weights(network, path, MAKE)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(path) in capsys.readouterr().out and torch.equal(network[0].weight, linear(1)[0].weight)


OTHERS = {"widths": linear(width=5).state_dict(), "names": {"other": torch.ones(1)}, "list": [1, 2]}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_weights_of_another_network_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(UserError, match="model.pt: found weights of another network") as caught:
        load_weights(linear(), tmp_path / "model.pt", MAKE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    state = linear().state_dict()
    state["0.weight"][0, 0] = value
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(UserError, match="model.pt: found weights that are not finite, such as 0.weight; use others"):
        InitialWeights(linear(), str(tmp_path / "model.pt")).load()


def test_digest_is_that_of_the_float16_weights():
    network, stored = linear(), linear(1)
    digest = weights_digest(network)
    assert digest.shape == (32,) and digest.dtype == torch.uint8
    stored.load_state_dict({name: value.half() for name, value in network.state_dict().items()})
    assert not torch.equal(stored[0].weight, network[0].weight)
    assert torch.equal(weights_digest(stored), digest) and torch.equal(weights_digest(network.half()), digest)


def test_digest_tells_weights_apart():
    digest = weights_digest(linear())
    assert torch.equal(weights_digest(linear()), digest)
    assert not torch.equal(weights_digest(linear(1)), digest)
    changed = linear()
    with torch.no_grad():
        changed[1].running_mean[0] += 0.01
    assert not torch.equal(weights_digest(changed), digest), "buffers count too"


def test_frozen_encoder_loads_at_its_first_call(tmp_path, capsys):
    def tiny(seed: int) -> PhysicsVAE:
        torch.manual_seed(seed)
        return PhysicsVAE(channels=(16, 16), skip_channels=(4,))

    path, trained = tmp_path / "model.pt", tiny(1).eval()
    encoder = FrozenEncoder(tiny(2), str(path), "cpu")
    image, rows = torch.randn(1, 1, 8, 6), Acquisition("paper_spin_echo", te=0.09, tr=4.0).to_row()[None, None]
    with pytest.raises(
        UserError, match="model.pt: found no such file; train the VAE first with configs/train_vae.json"
    ):
        encoder(image, rows)
    save_atomically(trained.state_dict(), path)
    for _ in range(2):
        posterior = encoder(image, rows)
    torch.testing.assert_close(posterior, trained.encode(image, rows))
    assert capsys.readouterr().out.count("sha256") == 1, "once is enough"
    assert torch.equal(encoder.digest(), weights_digest(trained))
    network = encoder.load()
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert not any(x.requires_grad for x in posterior)


def test_training_starts_from_named_weights(tmp_path):
    path, network, trainer = tmp_path / "model.pt", linear(seed=1), Engine(lambda engine, batch: None)
    save_atomically({name: value.half() for name, value in linear().state_dict().items()}, path)
    InitialWeights(network, str(path)).attach(trainer)
    trainer.run([0])
    assert torch.equal(weights_digest(network), weights_digest(linear()))
    with pytest.raises(UserError, match="absent.pt.*--initial_weights"):
        InitialWeights(network, str(tmp_path / "absent.pt")).load()


def state(folder: Path, network: nn.Module | None = None, **options) -> tuple[TrainingState, Engine, Engine]:
    """A training state with its trainer, which counts in the network's bias, and its evaluator."""
    network = network or linear()

    def train(engine, batch):
        with torch.no_grad():
            network[0].bias += 1

    trainer, evaluator = Engine(train), Engine(lambda engine, batch: None)
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = -1, -1
    kept = TrainingState(str(folder), {"network": network}, network, evaluator, **options)
    return kept, trainer, evaluator


def test_check_refuses_to_resume_nothing(tmp_path):
    with pytest.raises(UserError, match="resume: found no .*last.pt; start without --resume"):
        state(tmp_path / "run", resume=True)[0].check()
    assert names(tmp_path) == []


def test_check_refuses_to_overwrite_unasked(tmp_path):
    (tmp_path / LAST).touch()
    with pytest.raises(UserError, match="an earlier run; go on with --resume, or give --overwrite"):
        state(tmp_path)[0].check()
    for options in ({"resume": True}, {"overwrite": True}):
        state(tmp_path, **options)[0].check()
    assert names(tmp_path) == [LAST], "a check leaves nothing behind"


def check(folder: Path) -> None:
    state(folder)[0].check()


def test_two_trainings_cannot_write_into_one_folder(tmp_path):
    kept = state(tmp_path)[0]
    kept.check()
    state(tmp_path)[0].check()  # of this same process
    with pytest.raises(UserError, match="found another run that is writing here; wait until it has ended"):
        elsewhere(check, tmp_path)


def test_check_refuses_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written .*; choose another"):
        state(tmp_path / "file" / "run")[0].check()


def test_best_epoch_is_kept_beside_the_last(tmp_path):
    network = linear()
    kept, trainer, evaluator = state(tmp_path, network)
    start = network[0].bias[0].item()
    metrics = {1: 0.5, 2: 0.9, 3: 0.7}

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        if metrics[engine.state.epoch] > evaluator.state.best_metric:
            evaluator.state.best_metric = metrics[engine.state.epoch]
            evaluator.state.best_metric_epoch = engine.state.epoch

    kept.attach(trainer)
    trainer.run([0, 0], max_epochs=3)
    assert names(tmp_path) == [LAST, BEST]
    assert load_file(tmp_path / BEST, MAKE)["0.bias"][0].item() == pytest.approx(start + 4)
    last = load_file(tmp_path / LAST, MAKE)
    assert (last["epoch"], last["iteration"], last["best_metric"], last["best_metric_epoch"]) == (3, 6, 0.9, 2)
    assert last["network"]["0.bias"][0].item() == pytest.approx(start + 6)


def test_resumed_run_ends_as_an_undisturbed_one(tmp_path, capsys):
    straight, stopped, resumed = linear(), linear(), linear(seed=5)
    for network, folder, epochs in ((straight, "straight", 5), (stopped, "stopped", 2)):
        kept, trainer, _ = state(tmp_path / folder, network)
        kept.attach(trainer)
        trainer.run([0, 0], max_epochs=epochs)
    kept, trainer, evaluator = state(tmp_path / "stopped", resumed, resume=True)
    kept.attach(trainer)
    trainer.run([0, 0], max_epochs=5)
    assert "resuming after epoch 2" in capsys.readouterr().out
    assert torch.equal(weights_digest(resumed), weights_digest(straight))
    assert (trainer.state.epoch, trainer.state.iteration) == (5, 10)
    assert evaluator.state.best_metric_epoch == -1
    for name in (LAST, BEST):
        ends = [load_file(tmp_path / folder / name, MAKE) for folder in ("straight", "stopped")]
        assert str(ends[0]) == str(ends[1])


def test_the_users_own_weights_come_before_the_shipped_ones(tmp_path):
    own, shipped = str(tmp_path / "own.pt"), str(tmp_path / "shipped.pt")
    assert first_existing([own, shipped]) == shipped
    (tmp_path / "own.pt").touch()
    assert first_existing([own, shipped]) == own

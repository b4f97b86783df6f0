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

"""Latents that are encoded once, and the iteration that learns from them."""

import math
from types import SimpleNamespace

import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler
from torch import nn

from scripts.errors import UserError
from scripts.networks import MapSampler
from scripts.randomness import generator
from scripts.train import DiffusionStep, DiffusionValidationStep
from scripts.train.data import LatentDataset
from scripts.train.diffusion import draw_time

from .studies import ROOT


class Slices:
    """Stands for simulated slices in a folder; counts what is asked of it."""

    def __init__(self, folder, length: int = 5, scanner: str = "clean", first: int = 0) -> None:
        self.folder, self.length, self.scanner, self.first = folder, length, scanner, first
        self.preloads = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        image = torch.full((2, 4, 4), float(index))
        return {"image": image, "acquisition": torch.ones(2, 3), "position": torch.tensor(index / 3.0), "index": index}

    def preload(self) -> None:
        self.preloads += 1


class Encoder:
    """Stands for the frozen encoder; counts its calls."""

    def __init__(self, number: int = 1) -> None:
        self.number, self.calls = number, 0

    def __call__(self, image, acquisition):
        self.calls += 1
        mean = image[:, :1, ::2, ::2] + self.number
        return mean, mean + 1

    def digest(self) -> torch.Tensor:
        return torch.full((32,), self.number, dtype=torch.uint8)


def encode_all(latents: LatentDataset) -> LatentDataset:
    """What a first epoch does."""
    latents.preload()
    for index in range(len(latents)):
        latents[index]
    return latents


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(torch.as_tensor(one[k]), torch.as_tensor(other[k])) for k in one
    )


def test_a_second_run_encodes_nothing_and_sees_the_same(tmp_path):
    first, second = (LatentDataset(Slices(tmp_path), Encoder()) for _ in range(2))
    encode_all(first)
    assert first.encoder.calls == 5 and [path.suffix for path in tmp_path.iterdir()] == [".pt"]
    encode_all(second)
    assert second.encoder.calls == 0 and second.data.preloads == 0
    assert all(same(first[i], second[i]) for i in range(5))
    assert second[3]["index"] == 3 and second[3]["position"] == torch.tensor(1.0)


def test_only_what_is_missing_is_encoded(tmp_path, monkeypatch):
    encode_all(LatentDataset(Slices(tmp_path, length=3), Encoder()))
    longer = LatentDataset(Slices(tmp_path, length=7), Encoder())
    encode_all(longer)
    assert longer.encoder.calls == 4 and len(list(tmp_path.iterdir())) == 1
    shorter = LatentDataset(Slices(tmp_path, length=2), Encoder())
    encode_all(shorter)
    assert len(shorter) == 2 and shorter.encoder.calls == 0


def test_a_run_that_was_cut_keeps_what_it_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(LatentDataset, "SAVE_EVERY", 2)
    encoder = Encoder()
    encode = Encoder.__call__
    monkeypatch.setattr(
        Encoder, "__call__", lambda self, *x: encode(self, *x) if self.calls < 3 else pytest.fail("cut")
    )
    with pytest.raises(pytest.fail.Exception):
        encode_all(LatentDataset(Slices(tmp_path), encoder))
    monkeypatch.undo()
    again = LatentDataset(Slices(tmp_path), Encoder())
    encode_all(again)
    assert again.encoder.calls == 3


OTHERS = [{"number": 2}, {"scanner": "noisy"}, {"first": 9}]


@pytest.mark.parametrize("other", OTHERS, ids=str)
def test_other_weights_scanners_and_slices_have_files_of_their_own(tmp_path, other):
    encode_all(LatentDataset(Slices(tmp_path), Encoder()))
    changed = LatentDataset(
        Slices(tmp_path, **{k: v for k, v in other.items() if k != "number"}), Encoder(other.get("number", 1))
    )
    encode_all(changed)
    assert changed.encoder.calls == 5 and len(list(tmp_path.iterdir())) == 2


class Knowing(nn.Module):
    """Predicts what is asked for exactly, knowing the clean latent."""

    def __init__(self, scheduler, clean: torch.Tensor) -> None:
        super().__init__()
        self.scheduler, self.clean, self.conditions, self.mode = scheduler, clean, ("position",), "concat"
        self.register_buffer("scale_factor", torch.tensor(0.5))

    def condition(self, asked, size):
        return asked.nan_to_num()[:, :, None, None].expand(-1, -1, *size)

    def forward(self, x, timesteps, context=None):
        x, clean = x[:, : self.clean.shape[1]], self.clean * self.scale_factor
        a = self.scheduler.alphas_cumprod[timesteps].sqrt().view(-1, 1, 1, 1)
        s = (1 - a**2).sqrt()
        noise = (x - a * clean) / s
        return noise if self.scheduler.prediction_type == "epsilon" else a * noise - s * clean


def batch(size: int = 4) -> dict[str, torch.Tensor]:
    mean = torch.randn(size, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return {"mean": mean, "sd": 0 * mean, "position": torch.zeros(size), "index": torch.arange(size)}


def make_step(prediction_type: str, network=None) -> DiffusionStep:
    scheduler = DDPMScheduler(num_train_timesteps=10, prediction_type=prediction_type)
    network = network or Knowing(scheduler, batch()["mean"])
    return DiffusionStep(network, None, DiffusionInferer(scheduler), seed=0, amp=False)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_network_that_knows_the_latent_has_no_error(prediction_type):
    step = make_step(prediction_type)
    errors = step.errors(step.network, batch(), 0, torch.device("cpu"))
    torch.testing.assert_close(errors, torch.zeros(4), atol=1e-6, rtol=0)
    found = DiffusionValidationStep(step.network, step)(
        SimpleNamespace(state=SimpleNamespace(device=torch.device("cpu"))), batch()
    )
    assert len(found) == 4 and max(output["val_loss"] for output in found) < 1e-6


def test_the_velocity_leads_back_to_the_latent():
    """One step of the sampler from any noise level, with the exact velocity, ends at the clean latent."""
    scheduler = DDIMScheduler(num_train_timesteps=10, prediction_type="v_prediction", clip_sample=False)
    clean = torch.randn(1, 3, 4, 4)
    network = Knowing(scheduler, clean)
    for time in (2, 9):
        at = torch.tensor([time])
        noisy = scheduler.add_noise(clean * network.scale_factor, torch.randn(clean.shape), at)
        scheduler.set_timesteps(10)
        found = scheduler.step(network(noisy, at), time, noisy)[1]
        torch.testing.assert_close(found, clean * network.scale_factor, atol=1e-5, rtol=1e-4)


def test_other_predictions_are_refused():
    with pytest.raises(UserError, match="prediction_type: found 'sample'; use one of epsilon, v_prediction"):
        make_step("sample", nn.Identity())


class KnowingFlow(Knowing):
    """Predicts the velocity of a flow exactly."""

    def condition(self, asked, size):
        self.asked = asked
        return asked

    def forward(self, x, timesteps, context=None):
        clean, t = self.clean * self.scale_factor, timesteps.view(-1, 1, 1, 1) / 1000
        return clean - (x - (1 - t) * clean) / t


def test_a_flow_that_knows_the_latent_has_no_error_and_conditions_are_hidden_each_and_together():
    scheduler = RFlowScheduler(use_discrete_timesteps=False, sample_method="logit-normal")
    network = KnowingFlow(scheduler, batch(400)["mean"])
    network.conditions, network.mode = ("position", "ventricle"), "crossattn"
    step = DiffusionStep(network, None, DiffusionInferer(scheduler), seed=0, amp=False)
    asked = {**batch(400), "ventricle": torch.ones(400)}
    state = torch.get_rng_state()
    errors = step.errors(network, asked, 0, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not used"
    assert errors.max() < 1e-3
    hidden = network.asked.isnan()
    assert 0.1 < hidden.all(1).float().mean() < 0.3 and 0.2 < hidden[:, 0].float().mean() < 0.45


def test_training_and_sampling_spend_their_time_on_much_noise_alike():
    """``t -> 3 t / (1 + 2 t)``, which is + ln 3 for the logits of times, with the latent of a slice."""
    flows = []
    for name in ("train_ldm", "generate"):
        parser = ConfigParser(ConfigParser.load_config_file(ROOT / f"configs/{name}.json"))
        flows.append(parser.get_parsed_content("noise_scheduler"))
    training, sampling = flows
    times = [float(draw_time(training, (32, 22, 28), generator(k))) / 1000 for k in range(2000)]
    assert torch.tensor(times).logit().mean() == pytest.approx(-0.1 + math.log(3), abs=0.1)
    times = torch.tensor(MapSampler(sampling, 24).settings["timesteps"])
    uniform = torch.arange(24, 0, -1) / 24
    torch.testing.assert_close(times / 1000, 3 * uniform / (1 + 2 * uniform), atol=2e-3, rtol=0)

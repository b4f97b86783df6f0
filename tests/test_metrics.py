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

import math

import pytest
import torch
from ignite.engine import Engine

from scripts.acquisition import ROW_SIZE, Acquisition
from scripts.train.metrics import MeanOf, map_errors, reconstruction_metrics

ROW = Acquisition("paper_spin_echo", te=0.09, tr=4.0).to_row()
ROWS = torch.stack([ROW, ROW])[None]


@pytest.fixture
def target() -> torch.Tensor:
    """Two contrasts ``(1, 2, 70, 66)`` in units of their own."""
    contrasts = torch.rand(1, 2, 70, 66, generator=torch.Generator().manual_seed(0))
    contrasts[..., 0, 0] = 1.0
    return contrasts * torch.tensor([100.0, 1000.0]).view(1, 2, 1, 1)


def test_perfect_reconstruction(target):
    metrics = reconstruction_metrics(target, target, ROWS)
    assert list(metrics) == ["MSE", "MAE", "PSNR", "MS-SSIM"]
    assert metrics["MSE"] == 0 and metrics["MAE"] == 0 and metrics["PSNR"] == math.inf
    assert metrics["MS-SSIM"] == pytest.approx(1.0, abs=1e-5)


def test_known_error(target):
    error = torch.tensor([10.0, -10.0]).view(1, 2, 1, 1)
    metrics = reconstruction_metrics(target + error, target, ROWS)
    assert metrics["MSE"] == pytest.approx(100.0, rel=1e-4) and metrics["MAE"] == pytest.approx(10.0, rel=1e-4)
    # 10 of 100 is 20 dB, 10 of 1000 is 40 dB.
    assert metrics["PSNR"] == pytest.approx(30.0, abs=1e-2)


def test_psnr_and_ms_ssim_do_not_depend_on_the_unit(target):
    noise = 5 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    unit, tenfold = (reconstruction_metrics(k * (target + noise), k * target, ROWS) for k in (1.0, 10.0))
    for name in ("PSNR", "MS-SSIM"):
        assert tenfold[name] == pytest.approx(unit[name], rel=1e-4)
    assert tenfold["MSE"] == pytest.approx(100 * unit["MSE"], rel=1e-4)


def test_more_noise_is_worse(target):
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    less, more = (reconstruction_metrics(target + sd * noise, target, ROWS) for sd in (2.0, 20.0))
    assert less["MSE"] < more["MSE"] and less["MAE"] < more["MAE"]
    assert less["PSNR"] > more["PSNR"] and 1 > less["MS-SSIM"] > more["MS-SSIM"]


def test_absent_contrasts_do_not_count(target):
    rows = torch.cat([ROWS, torch.zeros(1, 1, ROW_SIZE)], 1)
    noisy = target + torch.randn(target.shape)
    padding = torch.zeros_like(target[:, :1])
    padded = reconstruction_metrics(torch.cat([noisy, padding + 9e9], 1), torch.cat([target, padding], 1), rows)
    assert padded == reconstruction_metrics(noisy, target, ROWS)


def test_contrasts_without_signal_say_nothing(target):
    noisy = target + torch.randn(target.shape)
    dark = torch.cat([target, 0 * target[:, :1]], 1)
    rows = torch.stack([ROW, ROW, ROW])[None]
    found = reconstruction_metrics(torch.cat([noisy, 0 * noisy[:, :1]], 1), dark, rows)
    assert found == reconstruction_metrics(noisy, target, ROWS)
    assert reconstruction_metrics(0 * target, 0 * target, ROWS) == {}


@pytest.mark.parametrize("size, enough", [((64, 80), False), ((65, 80), True)])
def test_ms_ssim_needs_room_for_five_scales(size, enough):
    target = torch.rand(1, 2, *size)
    metrics = reconstruction_metrics(target, target, ROWS)
    assert ("MS-SSIM" in metrics) == enough and metrics["MSE"] == 0


def test_volumes():
    target = torch.rand(1, 2, 6, 5, 4)
    assert reconstruction_metrics(target + 0.5, target, ROWS)["MAE"] == pytest.approx(0.5, rel=1e-5)


@pytest.fixture(params=[(12, 10), (4, 6, 5)], ids=["2d", "3d"])
def tissues(request) -> tuple[torch.Tensor, torch.Tensor]:
    """True maps and labels: 0 background, 1 CSF, 2 GM, 3 WM."""
    labels = torch.arange(math.prod(request.param)).view(1, 1, *request.param) % 4
    maps = (0.5 + torch.rand(1, 3, *request.param, generator=torch.Generator().manual_seed(0))) * (labels > 0)
    return maps, labels


def test_map_errors_are_zero_at_the_truth(tissues):
    maps, labels = tissues
    errors = map_errors(maps.clamp_min(1e-6).log(), maps, labels)
    assert set(errors) == {f"{name} error {tissue}" for name in ("PD", "T1", "T2") for tissue in ("GM", "WM")}
    assert max(errors.values()) < 1e-6


def test_map_errors_are_relative_and_of_one_tissue(tissues):
    maps, labels = tissues
    factor = torch.tensor([1.0, 1.2, 0.9]).view(1, 3, *[1] * (maps.ndim - 2))
    errors = map_errors(torch.where(labels == 3, maps * factor, maps).clamp_min(1e-6).log(), maps, labels)
    expected = {"PD error WM": 0.0, "T1 error WM": 0.2, "T2 error WM": 0.1}
    assert errors == pytest.approx(expected | {f"{name} error GM": 0.0 for name in ("PD", "T1", "T2")}, abs=1e-5)


def test_map_errors_are_medians(tissues):
    maps, labels = tissues
    predicted = 1.1 * maps
    predicted[:, 1].view(-1)[:12] *= 100
    assert map_errors(predicted.clamp_min(1e-6).log(), maps, labels)["T1 error GM"] == pytest.approx(0.1, abs=1e-5)


def test_absent_tissue_has_no_entry(tissues):
    maps, labels = tissues
    labels = labels.masked_fill(labels == 2, 0)
    assert not any("GM" in name for name in map_errors(maps.clamp_min(1e-6).log(), maps, labels))


def mean_of(name: str, *outputs: list[dict]) -> float:
    """What an engine reports after iterations with these outputs."""
    engine = Engine(lambda engine, output: output)
    MeanOf(name).attach(engine, "mean")
    return engine.run(outputs).metrics["mean"]


def test_mean_is_over_samples_not_batches():
    assert mean_of("a", [{"a": 1.0}, {"a": 2.0}], [{"a": 6.0, "b": 0.0}]) == 3.0


def test_samples_without_the_entry_do_not_count():
    assert mean_of("a", [{"a": 1.0}, {"b": 7.0}], [{"c": 0.0}], [{"a": 2.0}]) == 1.5


def test_nan_counts_as_the_worst():
    assert mean_of("a", [{"a": 1.0}], [{"a": math.nan}]) == math.inf


def test_mean_of_nothing_is_nan():
    assert math.isnan(mean_of("a", [{"b": 1.0}], [{}]))


def test_mean_starts_anew_each_run():
    engine = Engine(lambda engine, output: output)
    MeanOf("a").attach(engine, "mean")
    engine.run([[{"a": 1.0}]])
    assert engine.run([[{"a": 5.0}]]).metrics["mean"] == 5.0

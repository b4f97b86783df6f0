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
from urllib.error import URLError

import pytest
import torch

from scripts.acquisition import ROW_SIZE, Acquisition
from scripts.errors import UserError
from scripts.tissue import MAPS, PRIORS, TissuePrior
from scripts.train import losses
from scripts.train.losses import (
    PD_OF_AIR,
    alexnet_perceptual,
    map_error,
    perceptual_loss,
    reconstruction_error,
    spread_error,
)

SIZES = [(4, 6), (3, 4, 6)]


@pytest.fixture(params=SIZES, ids=["2d", "3d"])
def truth(request) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log maps that are right everywhere, true maps and mask; the first half of the last axis is air."""
    maps = 0.1 + torch.rand(2, 3, *request.param, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 1, *request.param)
    maps[..., :3], mask[..., :3] = 0, 0
    return maps.clamp_min(PD_OF_AIR / 2).log(), maps, mask


def test_map_error_weighs_voxels(truth):
    log_maps, maps, mask = truth
    off = log_maps + 0.1 * (mask > 0)
    off[..., -1] += 0.3
    first = torch.zeros_like(mask)
    first[..., -1] = 1
    weighted = map_error(off, maps, mask, 1 + 2 * first)
    inside = mask * (maps.amin(1, keepdim=True) > 0)
    share = float((inside * first).sum() / inside.sum())
    assert 0 < share < 1
    assert float(weighted) == pytest.approx((0.1 * (1 - share) + 0.4 * 3 * share) / (1 + 2 * share), rel=1e-4)


def test_map_error_is_zero_at_the_truth(truth):
    assert map_error(*truth) == 0


def test_map_error_is_the_mean_absolute_log_ratio(truth):
    log_maps, maps, mask = truth
    for factor in (1.1, 1 / 1.1):
        inside = torch.where(mask > 0, log_maps + math.log(factor), log_maps)
        assert map_error(inside, maps, mask) == pytest.approx(math.log(1.1), rel=1e-4)
    one_map = log_maps.clone()
    one_map[:, 1] += math.log(1.1) * mask[:, 0]
    assert map_error(one_map, maps, mask) == pytest.approx(math.log(1.1) / 3, rel=1e-4)


def test_relaxation_times_of_air_are_free(truth):
    log_maps, maps, mask = truth
    log_maps[:, 1:] += 5 * (1 - mask)
    assert map_error(log_maps, maps, mask) == 0


def test_pd_of_air_is_pushed_down_only(truth):
    log_maps, maps, mask = truth
    log_maps.requires_grad_()
    with torch.no_grad():
        log_maps[:, 0, ..., 0] = 0.0
        log_maps[:, 0, ..., 1] = -20.0
    error = map_error(log_maps, maps, mask)
    assert error.item() == pytest.approx(-math.log(PD_OF_AIR) / 3, rel=1e-4)
    error.backward()
    assert (log_maps.grad[:, 0, ..., 0] > 0).all()
    assert log_maps.grad[:, 0, ..., 1].abs().max() == 0
    assert log_maps.grad[:, 1:, ..., :3].abs().max() == 0


def test_voxels_of_the_head_without_truth_are_free(truth):
    log_maps, maps, mask = truth
    maps[..., 4] = 0
    log_maps[..., 4] = 3.0
    assert map_error(log_maps, maps, mask) == 0


@pytest.mark.parametrize("inside", [0.0, 1.0])
def test_map_error_without_head_or_without_air(truth, inside):
    log_maps, maps, _ = truth
    mask, maps = torch.full_like(maps[:, :1], inside), maps.clamp_min(0.5)
    log_maps = (maps.log() if inside else torch.full_like(log_maps, -9.0)).requires_grad_()
    error = map_error(log_maps, maps, mask)
    error.backward()
    assert error == 0 and log_maps.grad.isfinite().all()


def factors(size: tuple[int, ...]) -> torch.Tensor:
    """Random factors of covariances ``(2, 6, *size)`` with a positive diagonal."""
    spread = torch.randn(2, 6, *size, generator=torch.Generator().manual_seed(4))
    spread[:, [0, 2, 5]] = spread[:, [0, 2, 5]].exp()
    return spread


def test_spread_error_is_the_likelihood_of_the_normal_distribution(truth):
    log_maps, maps, mask = truth
    log_maps = log_maps + 0.3 * torch.randn(log_maps.shape, generator=torch.Generator().manual_seed(5))
    spread = factors(log_maps.shape[2:])
    triangle = torch.zeros(*spread[:, 0].shape, 3, 3)
    for k, (i, j) in enumerate(((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2))):
        triangle[..., i, j] = spread[:, k]
    normal = torch.distributions.MultivariateNormal(log_maps.movedim(1, -1), scale_tril=triangle)
    exact = -normal.log_prob(maps.clamp_min(1e-6).log().movedim(1, -1)) - 1.5 * math.log(2 * math.pi)
    assert spread_error(spread, log_maps, maps, mask) == pytest.approx(exact[mask[:, 0] > 0].mean().item(), rel=1e-4)


def test_spread_error_moves_no_map(truth):
    log_maps, maps, mask = truth
    log_maps, spread = (log_maps + 0.1).requires_grad_(), factors(log_maps.shape[2:]).requires_grad_()
    spread_error(spread, log_maps, maps, mask).backward()
    assert log_maps.grad is None and spread.grad[..., 3:].any() and not spread.grad[..., :3].any()


def test_the_best_standard_deviation_is_that_of_the_errors(truth):
    log_maps, maps, mask = truth
    size, error = log_maps.shape[2:], torch.tensor([0.1, 0.2, 0.4]).view(1, 3, *[1] * (log_maps.ndim - 2))
    errors = {}
    for scale in (0.8, 1.0, 1.25):
        spread = torch.zeros(2, 6, *size)
        spread[:, [0, 2, 5]] = (scale * error).expand(2, 3, *size)
        errors[scale] = spread_error(spread, log_maps + error, maps, mask)
    assert errors[1.0] < min(errors[0.8], errors[1.25])


@pytest.mark.parametrize("outlier", [1e-6, 1e6])
def test_an_absurd_error_stays_finite(truth, outlier):
    log_maps, maps, mask = truth
    spread = torch.full((2, 6, *log_maps.shape[2:]), 0.01)
    assert spread_error(spread, log_maps + math.log(outlier), maps, mask).isfinite()
    assert spread_error(spread, log_maps, maps, 0 * mask) == 0


def rows(*exists: list[bool]) -> torch.Tensor:
    row = Acquisition("paper_spin_echo", te=0.09, tr=4.0).to_row()
    return torch.stack([torch.stack([row if e else torch.zeros(ROW_SIZE) for e in one]) for one in exists])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("power", [1, 2])
def test_reconstruction_error_is_the_mean_over_what_exists(size, power):
    target = torch.rand(2, 2, *size)
    signal = target.clone()
    signal[0, 0] += 0.5
    signal[0, 1] -= 0.1
    signal[1, 0] += 0.3
    signal[1, 1] = torch.nan
    acquisition = rows([True, True], [True, False])
    found = reconstruction_error(signal, target, acquisition, power)
    assert found == pytest.approx((0.5**power + 0.1**power + 0.3**power) / 3, rel=1e-5)
    assert reconstruction_error(target, target, acquisition, power) == 0


@pytest.mark.parametrize("size", SIZES)
def test_prior_penalty_is_the_square_of_the_decoder_output(size):
    prior = TissuePrior(pd_median=50.0)
    medians = prior.bias.view(1, 3, *[1] * len(size)).expand(4, 3, *size)
    o = torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(0))
    assert prior.penalty(medians) == 0
    assert prior.penalty(medians + o) == pytest.approx(float(o.square().sum() / 4), rel=1e-4)
    assert prior.penalty(medians + 2 * o) == pytest.approx(float(4 * prior.penalty(medians + o)), rel=1e-4)


def test_a_prior_penalises_the_maps_that_it_is_over():
    o = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = o.square().sum((0, 2, 3)) / 4
    for over, maps in PRIORS.items():
        prior, known = TissuePrior(pd_median=50.0, over=over), torch.tensor([float(name in maps) for name in MAPS])
        torch.testing.assert_close(prior.penalty(prior(o)), (known * expected).sum())
        assert prior.bias.exp().tolist() == pytest.approx([50.0, *([1.0, 0.1] if "T2" in maps else [1.0, 1.0])])
    with pytest.raises(UserError, match="prior: found 'T1'; use one of all, relaxation, none"):
        TissuePrior(over="T1")


def test_a_perceptual_loss_without_weights_judges_images_of_any_size():
    loss = perceptual_loss("spectral")
    image = torch.rand(2, 1, 8, 10, generator=torch.Generator().manual_seed(0))
    assert loss(image, image) == 0 < loss(image, 2 * image)
    with pytest.raises(UserError, match="perceptual: found 'vgg'; use alexnet or spectral"):
        perceptual_loss("vgg")


@pytest.mark.parametrize("missing", ["torchvision", "lpips"])
def test_missing_package_of_the_perceptual_loss_is_one_line(missing, monkeypatch):
    monkeypatch.setattr(losses, "optional_import", lambda name: (None, name != missing))
    install = f"no package {missing}; pip install --no-deps lpips torchvision.*--loss_weights::perceptual 0"
    with pytest.raises(UserError, match=install) as caught:
        alexnet_perceptual()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reason", [URLError("unreachable"), RuntimeError("broken archive\nat byte 5")], ids=repr)
def test_missing_weights_of_the_perceptual_loss_are_one_line(reason, monkeypatch):
    def fail(*_, **__):
        raise reason

    monkeypatch.setattr(losses, "optional_import", lambda name: (None, True))
    monkeypatch.setattr(losses, "PerceptualLoss", fail)
    with pytest.raises(UserError, match="(?s)no AlexNet weights.*--loss_weights::perceptual 0") as caught:
        alexnet_perceptual()
    assert "\n" not in str(caught.value)

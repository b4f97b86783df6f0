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

"""The options that make an estimator of the physics VAE: skips, covariance, fingerprint."""

import pytest
import torch
from torch import nn

from scripts.acquisition import Acquisition
from scripts.errors import UserError
from scripts.networks import PhysicsVAE, PrecisionSkip
from scripts.networks.spread import INITIAL_SD, SpreadHead
from scripts.tissue import Estimate

ROWS = torch.stack(
    [
        Acquisition(
            "mprage", te=0.003, tr=2.3, ti=0.9, flip_angle=8.0, echo_train_length=176, echo_spacing=0.007
        ).to_row(),
        Acquisition("turbo_spin_echo", te=0.09, tr=4.0, echo_train_length=16, echo_spacing=0.01).to_row(),
        Acquisition("spin_echo", te=0.012, tr=3.0).to_row(),
        Acquisition("unknown").to_row(),
    ]
)
SIZES = {2: (20, 17), 3: (8, 7, 10)}
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def shaken(module: nn.Module) -> nn.Module:
    """No weight keeps a value behind which a law could hide, such as the zeros a skip starts with."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return module.eval()


def make_estimator(spatial_dims: int = 2, **options) -> PhysicsVAE:
    torch.manual_seed(0)
    small = {"channels": (8, 8, 8), "num_res_blocks": 1, "norm_num_groups": 4, "num_draws": 2}
    return PhysicsVAE(
        spatial_dims, **small | {"condition": "fingerprint", "skip_channels": (2, 3), "covariance": True} | options
    )


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def dims(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def estimator(dims) -> PhysicsVAE:
    return shaken(make_estimator(dims))


def scans(dims: int, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.randn(batch, len(ROWS), *SIZES[dims], generator=torch.Generator().manual_seed(1))
    return image, ROWS.repeat(batch, 1, 1)


@pytest.fixture
def features(dims) -> torch.Tensor:
    """Of four contrasts ``(4, 5, ...)``."""
    return torch.randn(4, 5, *SIZES[dims], generator=torch.Generator().manual_seed(2))


@pytest.fixture
def skip(dims) -> PrecisionSkip:
    torch.manual_seed(0)
    return shaken(PrecisionSkip(dims, 5, 6, 3))


ALL, ONE = torch.ones(1, 4, dtype=torch.bool), torch.ones(1)


@torch.no_grad()
def test_a_skip_starts_at_nothing(dims, features):
    assert PrecisionSkip(dims, 5, 6, 3)(features, ALL, ONE).abs().max() == 0


@torch.no_grad()
def test_a_dropped_skip_says_nothing_of_the_features(skip, features):
    dropped = skip(features, ALL, 0 * ONE)
    torch.testing.assert_close(dropped, skip(features + 1, ALL, 0 * ONE))
    torch.testing.assert_close(dropped, skip.dropped().expand_as(dropped))
    assert not torch.allclose(dropped, skip(features, ALL, ONE), **CLOSE)


@torch.no_grad()
def test_an_unsure_skip_is_a_dropped_one(skip, features):
    """The prior is one more expert: where no contrast knows anything, it alone is left."""
    skip.expert.weight[3:], skip.expert.bias[3:] = 0, 10.0
    skip.expert.weight[:3] *= 1e-3
    torch.testing.assert_close(
        skip(features, ALL, ONE), skip.dropped().expand(1, -1, *features.shape[2:]), atol=1e-3, rtol=0
    )


@torch.no_grad()
def test_one_contrast_is_fused_with_the_prior_alone(skip, features):
    mean, log_var = skip.expert(features[:1]).chunk(2, 1)
    precision = 1 + (-log_var).exp()
    expected = skip.inject(torch.cat([mean * (-log_var).exp() / precision, precision.log()], 1))
    torch.testing.assert_close(skip(features[:1], ALL[:, :1], ONE), expected, **CLOSE)


@torch.no_grad()
def test_order_and_absence_of_contrasts(skip, features):
    together = skip(features, ALL, ONE)
    torch.testing.assert_close(skip(features[[2, 0, 3, 1]], ALL, ONE), together)
    exists = torch.tensor([[True, False, True, False], [True, False, False, True]])
    ragged = skip(features, exists, torch.ones(2))
    for i in range(2):
        alone = skip(features[2 * i : 2 * i + 2], ALL[:, :2], ONE)
        torch.testing.assert_close(ragged[i : i + 1], alone)


@torch.no_grad()
def test_the_factor_is_lower_triangular_and_positive(dims):
    head = shaken(SpreadHead(dims, 4))
    cholesky = head(5 * torch.randn(2, 4, *SIZES[dims]))
    assert cholesky.shape == (2, 6, *SIZES[dims]) and cholesky.dtype == torch.float32
    assert cholesky[:, [0, 2, 5]].min() > 0 and cholesky[:, [1, 3, 4]].abs().max() > 0
    fresh = SpreadHead(dims, 4)(torch.randn(1, 4, *SIZES[dims]))
    alike = torch.full_like(fresh[:, :3], INITIAL_SD)
    torch.testing.assert_close(fresh, Estimate.independent(alike, alike).cholesky)


@torch.no_grad()
def test_calibration_scales_the_sd_of_its_map_and_no_correlation(dims):
    head, h = shaken(SpreadHead(dims, 4)), torch.randn(1, 4, *SIZES[dims])
    log_maps, factors = torch.zeros(2, 3, *SIZES[dims]), torch.tensor([0.5, 2.0, 3.0])
    before = Estimate(log_maps, head(h))
    head.calibration.copy_(factors)
    after = Estimate(log_maps, head(h))
    torch.testing.assert_close(after.sd, before.sd * factors.view(1, 3, *[1] * dims))
    torch.testing.assert_close(after.correlations, before.correlations)


@torch.no_grad()
def test_estimate_gives_maps_and_covariance_of_any_size(estimator, dims):
    image, rows = scans(dims, 2)
    found = estimator.estimate(image, rows)
    assert found.log_maps.shape == (2, 3, *SIZES[dims]) and found.cholesky.shape == (2, 6, *SIZES[dims])
    torch.testing.assert_close(estimator(image, rows), torch.cat([found.log_maps, found.sd], 1))


@torch.no_grad()
def test_a_batch_of_two_is_two_batches_of_one(estimator, dims):
    image, rows = scans(dims, 2)
    rows[0, 1], image[0, 1] = 0, torch.nan
    together = estimator.estimate(image, rows)
    for i in range(2):
        for one, both in zip(estimator.estimate(image[i : i + 1], rows[i : i + 1]), together):
            torch.testing.assert_close(one, both[i : i + 1], **CLOSE)
    kept = [0, 2, 3]
    for one, both in zip(estimator.estimate(image[:1, kept], rows[:1, kept]), together):
        torch.testing.assert_close(one, both[:1], **CLOSE)


@torch.no_grad()
def test_the_order_of_contrasts_does_not_matter(estimator, dims):
    image, rows = scans(dims)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(estimator(image[:, order], rows[:, order]), estimator(image, rows), **CLOSE)


@torch.no_grad()
def test_without_skips_the_decoder_works_from_the_latent_alone(estimator, dims):
    image, rows = scans(dims, 2)
    mean, sd = estimator.encode(image, rows)
    noise, with_skips = torch.randn(mean.shape), torch.tensor([0.0, 1.0])
    inside = (..., *[slice(n) for n in SIZES[dims]])
    generated = estimator.decode(mean + sd * noise)[inside]
    mixed = estimator.sample_posterior(image, rows, noise, with_skips).estimate.log_maps
    torch.testing.assert_close(mixed[:1], generated[:1], **CLOSE)
    assert not torch.allclose(mixed[1:], generated[1:], atol=1e-3)
    alone = estimator.sample_posterior(image, rows, noise, torch.zeros(2)).estimate.log_maps
    torch.testing.assert_close(alone, generated, **CLOSE)
    all_skips = estimator.sample_posterior(image, rows, noise, torch.ones(2)).estimate.log_maps
    torch.testing.assert_close(mixed[1:], all_skips[1:], **CLOSE)


@torch.no_grad()
def test_a_plain_vae_becomes_an_estimator_that_starts_where_it_is(dims):
    plain = shaken(make_estimator(dims, condition="parameters", skip_channels=(), covariance=False))
    estimator = make_estimator(dims, condition="parameters").eval()
    missing = estimator.load_state_dict(plain.state_dict(), strict=False)
    assert missing.unexpected_keys == [] and {name.split(".")[0] for name in missing.missing_keys} == {
        "skips",
        "spread",
    }
    image, rows = scans(dims)
    torch.testing.assert_close(estimator.estimate(image, rows).log_maps, plain.estimate(image, rows).log_maps, **CLOSE)


def test_backward_reaches_every_parameter(dims):
    vae = shaken(make_estimator(dims)).train()
    image, rows = scans(dims, 2)
    noise = torch.randn(2, vae.latent_channels, *vae.latent_size(SIZES[dims]))
    (log_maps, cholesky), mean, sd, _ = vae.sample_posterior(image, rows, noise, torch.tensor([1.0, 0.0]))
    (log_maps.square().sum() + cholesky.square().sum() + mean.square().sum() + sd.log().square().sum()).backward()
    parameters = {name: p for name, p in vae.named_parameters() if not name.endswith("attn.to_k.bias")}
    assert [name for name, p in parameters.items() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in vae.parameters())


@torch.no_grad()
def test_some_levels_may_have_no_skip(dims):
    assert list(make_estimator(dims, skip_channels=(0, 4)).skips) == ["1"]
    with pytest.raises(UserError, match="skip_channels: found .*; give 2 numbers at most"):
        make_estimator(dims, skip_channels=(1, 1, 1))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_trace_works_at_other_sizes(estimator, dims):
    traced = torch.jit.trace(estimator, torch.randn(1, 3, *SIZES[dims]), check_trace=False)
    other = torch.randn(2, 3, *[n + 5 for n in SIZES[dims]])
    torch.testing.assert_close(traced(other), estimator(other), **CLOSE)

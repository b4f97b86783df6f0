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

import pytest
import torch
import torch.nn.functional as F
from monai.inferers import LatentDiffusionInferer
from monai.networks.nets import AutoencoderKL
from monai.networks.schedulers import DDIMScheduler

from scripts.acquisition import Acquisition
from scripts.errors import UserError
from scripts.networks import (
    DiffusionTransformer,
    FractionCodec,
    LatentDiffusionUNet,
    PhysicsVAE,
    PublishedDiffusionUNet,
    PublishedVAE,
)
from scripts.networks.conditioning import parameters
from scripts.networks.weights import weights_digest
from scripts.tissue import MAPS, TissuePrior

ACQUISITIONS = (
    Acquisition("paper_mprage", te=0.003, tr=2.3, ti=0.9),
    Acquisition("paper_spin_echo", te=0.09, tr=4.0),
    Acquisition("paper_flair", te=0.12, tr=8.0, ti=2.2),
    Acquisition("paper_spin_echo", te=0.012, tr=3.0),
)
# Acquisitions of the three OASIS-3 scans that most sessions have: TE, TR, TI [s].
OASIS = (("paper_mprage", 0.00316, 2.4, 1.0), ("paper_spin_echo", 0.455, 3.2, None), ("paper_flair", 0.091, 9.0, 2.5))
SIZES = {2: (20, 17), 3: (8, 7, 10)}
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def make_vae(spatial_dims: int = 2, **options) -> PhysicsVAE:
    """A tiny network whose acquisitions matter."""
    torch.manual_seed(0)
    plain = {"condition": "parameters", "skip_channels": (), "covariance": False}
    vae = PhysicsVAE(spatial_dims, channels=(16, 16), num_draws=2, **plain, **options).eval()
    if vae.conditioning.mode != "none":
        torch.nn.init.normal_(vae.conditioning.mlp[2].weight, std=0.1)
    return vae


def scans(spatial_dims: int, batch: int = 1, contrasts: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise for images ``(B, M, ...)`` and the first M acquisitions ``(B, M, A)``."""
    image = torch.randn(batch, contrasts, *SIZES[spatial_dims], generator=torch.Generator().manual_seed(1))
    rows = torch.stack([acquisition.to_row() for acquisition in ACQUISITIONS[:contrasts]])
    return image, rows.expand(batch, -1, -1)


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def dims(request) -> int:
    return request.param


@pytest.fixture(scope="module")
def vae(dims) -> PhysicsVAE:
    return make_vae(dims)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("sizes", [((16, 16), (4, 4, 4)), ((45, 38), (5, 4, 7)), ((1, 3), (1, 1, 3))], ids=str)
def test_any_size(vae, dims, sizes):
    size = sizes[dims - 2]
    pred = vae(torch.randn(1, 3, *size))
    assert pred.shape == (1, 6, *size) and pred.dtype == torch.float32 and pred.isfinite().all()
    assert vae.encode(torch.randn(1, 3, *size))[0].shape[2:] == vae.latent_size(size)


def test_odd_sizes_continue_at_the_edge(vae, dims):
    image, rows = scans(dims)
    missing = [n for size in reversed(SIZES[dims]) for n in (0, size % 2)]
    longer = vae(F.pad(image, missing, mode="replicate"), rows)
    torch.testing.assert_close(vae(image, rows), longer[(..., *[slice(n) for n in SIZES[dims]])], **CLOSE)


def test_standard_deviations_are_positive_and_follow_the_posterior(vae, dims):
    image, rows = scans(dims)
    assert vae(image, rows)[:, 3:].min() > 0
    sure = make_vae(dims)
    torch.nn.init.constant_(sure.quant_conv_log_sigma.conv.bias, -25.0)
    assert sure(image, rows)[:, 3:].max() < 1e-3 * vae(image, rows)[:, 3:].max()


@pytest.mark.parametrize("contrasts", [1, 2, 4])
def test_any_number_of_contrasts_with_acquisitions(vae, dims, contrasts):
    image, rows = scans(dims, contrasts=contrasts)
    assert vae(image, rows).shape == (1, 6, *SIZES[dims])
    with pytest.raises(ValueError, match=f"{contrasts} contrasts without acquisitions"):
        vae(image)


def test_absent_contrasts_change_nothing(vae, dims):
    image, rows = scans(dims, contrasts=4)
    rows = rows.clone()
    rows[:, 1], image[:, 1] = 0, torch.nan
    rows[:, 3], image[:, 3] = 0, 7.0
    torch.testing.assert_close(vae(image, rows), vae(image[:, [0, 2]], rows[:, [0, 2]]), **CLOSE)


def test_permuting_contrasts_changes_nothing(vae, dims):
    image, rows = scans(dims, contrasts=4)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(vae(image[:, order], rows[:, order]), vae(image, rows), **CLOSE)
    assert not torch.allclose(vae(image, rows[:, order]), vae(image, rows), **CLOSE), "the acquisition must matter"


def test_a_batch_of_two_is_two_batches_of_one(vae, dims):
    image, rows = scans(dims, batch=2)
    rows = rows.clone()
    rows[1, 0] = 0
    together = vae(image, rows)
    for i in range(2):
        torch.testing.assert_close(together[i : i + 1], vae(image[i : i + 1], rows[i : i + 1]), **CLOSE)


def test_forward_is_deterministic(vae, dims):
    image, rows = scans(dims)
    first = vae(image, rows)
    torch.manual_seed(123)
    assert torch.equal(vae(image, rows), first) and torch.equal(make_vae(dims)(image, rows), first)


def test_three_scans_without_acquisition_are_those_of_oasis(vae, dims):
    image, _ = scans(dims, batch=2)
    oasis = torch.stack([Acquisition(name, te, tr, ti).to_row() for name, te, tr, ti in OASIS]).expand(2, -1, -1)
    torch.testing.assert_close(vae(image), vae(image, oasis))


def test_a_subject_without_contrast_is_refused(vae, dims):
    image, rows = scans(dims, batch=2)
    rows = rows.clone()
    rows[1] = 0
    with pytest.raises(ValueError, match="no contrast"):
        vae(image, rows)


def test_training_decodes_a_sample_of_the_posterior(vae, dims):
    image, rows = scans(dims)
    mean, sd = vae.encode(image, rows)
    noise = torch.randn(mean.shape)
    sample = vae.sample_posterior(image, rows, noise, torch.zeros(len(image)))
    torch.testing.assert_close((sample.mean, sample.sd), (mean, sd))
    inside = (..., *[slice(n) for n in SIZES[dims]])
    torch.testing.assert_close(sample.estimate.log_maps, vae.decode(mean + sd * noise)[inside])
    at_the_mean = vae.sample_posterior(image, rows, 0 * noise, torch.ones(len(image)))
    torch.testing.assert_close(at_the_mean.estimate.log_maps, vae(image, rows)[:, :3])


def test_posterior_is_float32_under_autocast(vae, dims):
    with torch.autocast("cpu", torch.bfloat16):
        assert {x.dtype for x in (*vae.encode(*scans(dims)), vae(*scans(dims)))} == {torch.float32}


@pytest.mark.parametrize("adagn", ["per_channel", "shared_scalar", "none"])
def test_backward_reaches_every_parameter(dims, adagn):
    vae = make_vae(dims, adagn=adagn).train()
    image, rows = scans(dims, batch=2)
    noise = torch.randn(2, vae.latent_channels, *vae.latent_size(SIZES[dims]))
    with torch.enable_grad():
        (log_maps, _), mean, sd, _ = vae.sample_posterior(image, rows, noise, torch.ones(2))
        (log_maps.square().sum() + mean.square().sum() + sd.log().square().sum()).backward()
    # Softmax over keys does not see a bias common to all of them.
    parameters = {name: p for name, p in vae.named_parameters() if not name.endswith("attn.to_k.bias")}
    assert [name for name, p in parameters.items() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in vae.parameters())
    if adagn != "none":
        assert (vae.conditioning.mlp[2].bias.grad != 0).all(), "a scale or a shift of some layer is not used"


def test_weight_names_are_those_of_monai(vae, dims):
    layers = {"channels": (16, 16), "num_res_blocks": 1, "attention_levels": (False, False), "norm_num_groups": 8}
    plain = AutoencoderKL(dims, in_channels=1, out_channels=3, latent_channels=6, include_fc=False, **layers)
    plain = plain.state_dict()
    ours = {name: value.shape for name, value in vae.state_dict().items() if not name.startswith("conditioning.")}
    assert ours == {name: value.shape for name, value in plain.items()}
    rest = set(vae.state_dict()) - set(plain)
    assert rest == {f"conditioning.mlp.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}


def test_plain_encoder_is_monai_encoder(dims):
    vae = make_vae(dims, adagn="none")
    image, rows = scans(dims, contrasts=1)
    even = image[(..., *[slice(n // 2 * 2) for n in SIZES[dims]])]
    mean, sd = AutoencoderKL.encode(vae, even)
    torch.testing.assert_close(vae.encode(even, rows), (mean, sd), **CLOSE)


def test_size_of_the_published_network():
    vae = PublishedVAE()
    # The published 3.815 and 4.038 million count one attention projection each that is never applied.
    projection = 128 * 128 + 128
    assert sum(p.numel() for p in vae.encoder.parameters()) == 3_815_494 - projection
    assert sum(p.numel() for p in vae.decoder.parameters()) == 4_038_019 - projection
    assert vae.latent_size((160, 224)) == (20, 28) and vae.latent_channels == 6


def test_default_networks_are_the_shipped_ones(bundle_root):
    for network, name in (
        (PhysicsVAE(), "model.pt"),
        (FractionCodec(), "codec.pt"),
        (DiffusionTransformer(), "model_ldm.pt"),
    ):
        network.load_state_dict(torch.load(bundle_root / "models" / name, weights_only=True))


def test_published_networks_are_told_less():
    vae, unet = PublishedVAE(channels=(32, 32)), PublishedDiffusionUNet(channels=(32, 32, 32), num_head_channels=32)
    assert vae.conditioning.features is parameters and not vae.skips and vae.spread is None
    torch.testing.assert_close(vae.prior.bias.exp(), torch.tensor([50.0, 1.0, 0.1]))
    assert unet.conditions == () and unet.conv_in.conv.in_channels == unet.out[2].conv.out_channels == 6


def test_prior_medians_are_what_an_output_of_zero_means():
    maps = TissuePrior(pd_median=50.0)(torch.zeros(2, 3, 4, 5, dtype=torch.bfloat16)).exp()
    assert maps.dtype == torch.float32 and MAPS == ("PD", "T1", "T2")
    torch.testing.assert_close(maps[1, :, 2, 3], torch.tensor([50.0, 1.0, 0.1]))
    torch.testing.assert_close(TissuePrior()(torch.ones(1, 3, 1)).exp().flatten()[1:], torch.e * torch.tensor([1, 0.1]))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("stated", [False, True], ids=["default", "acquisition"])
def test_trace_works_at_other_sizes(vae, dims, stated):
    image, rows = scans(dims)
    traced = torch.jit.trace(vae, (image, rows) if stated else image, check_trace=False)
    other = torch.randn(2, 3, *[n + 5 for n in SIZES[dims]])
    inputs = (other, rows.expand(2, -1, -1)) if stated else (other,)
    torch.testing.assert_close(traced(*inputs), vae(*inputs), **CLOSE)


def make_unet(spatial_dims: int) -> LatentDiffusionUNet:
    torch.manual_seed(0)
    layers = {"channels": (8, 8), "attention_levels": (False, True), "num_head_channels": (0, 8), "num_res_blocks": 1}
    return LatentDiffusionUNet(spatial_dims, condition_channels=0, resblock_updown=False, norm_num_groups=4, **layers)


def test_monai_inferer_trains_and_samples(vae, dims):
    unet, scheduler = make_unet(dims), DDIMScheduler(num_train_timesteps=10)
    inferer = LatentDiffusionInferer(scheduler, scale_factor=0.5)
    image, noise = torch.randn(2, 3, *[8] * dims), torch.randn(2, 6, *[4] * dims)
    predicted = inferer(image, vae, unet, noise, timesteps=torch.tensor([3, 7]))
    noisy = scheduler.add_noise(0.5 * vae.encode(image)[0], noise, torch.tensor([3, 7]))
    torch.testing.assert_close(predicted, unet(noisy, torch.tensor([3, 7])), **CLOSE)

    scheduler.set_timesteps(2)
    even = torch.randn(1, 6, *[8] * dims)
    log_maps, steps = inferer.sample(even, vae, unet, verbose=False, save_intermediates=True, intermediate_steps=1)
    assert log_maps.shape == (1, 3, *[16] * dims) and log_maps.isfinite().all()
    torch.testing.assert_close(log_maps, steps[-1])


def test_diffusion_weights_tell_their_latents():
    state = make_unet(2).state_dict()
    assert state["scale_factor"] == 1 and state["vae_digest"].shape == weights_digest(make_vae()).shape
    assert not state["vae_digest"].any(), "not known yet"
    state |= {"scale_factor": torch.tensor(0.7), "vae_digest": weights_digest(make_vae())}
    loaded = make_unet(2)
    loaded.load_state_dict(state)
    assert loaded.scale_factor == torch.tensor(0.7) and torch.equal(loaded.vae_digest, state["vae_digest"])


def test_widths_that_are_no_multiples_of_the_groups_are_refused():
    with pytest.raises(UserError, match="channels: found .*; use multiples of norm_num_groups"):
        PhysicsVAE(channels=(20, 30), norm_num_groups=16)

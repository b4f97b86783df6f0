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

"""The codec: a white orthonormal transform of blocks, fractions that sum to one, log maps for MONAI's inferers."""

import pytest
import torch
from monai.inferers import LatentDiffusionInferer
from monai.networks.schedulers import RFlowScheduler

from scripts.errors import UserError
from scripts.networks import DiffusionTransformer, FractionCodec
from scripts.networks.codec import COLOUR, DOUBT
from scripts.networks.weights import weights_digest
from scripts.tissue import FRACTIONS, class_values
from scripts.tissue.fractions import mix_fractions
from scripts.train.codec import LOSS_WEIGHTS, fraction_loss
from scripts.train.finishing import OFFSETS, RARE, PairBalance, class_pairs

K = len(FRACTIONS)


def draw(count: int, size: tuple[int, int] = (32, 48), seed: int = 0) -> torch.Tensor:
    """Fractions of smooth random classes ``(B, K, H, W)``."""
    noise = torch.randn(count, K, *(n // 8 for n in size), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(3 * noise, size, mode="bilinear").softmax(1)


@pytest.fixture(scope="module")
def codec() -> FractionCodec:
    torch.manual_seed(0)
    made = FractionCodec(latent_channels=6, channels=(16, 16, 16), num_res_blocks=(1, 1, 1))
    made.eigenvalues = made.fit(draw(8, seed=seed) for seed in range(4))
    return made.eval()


def test_the_transform_is_orthonormal_and_white_up_to_its_gains(codec):
    torch.testing.assert_close(codec.basis.T @ codec.basis, torch.eye(6), atol=1e-5, rtol=0)
    z = torch.cat([codec.encode(draw(8, seed=seed)) for seed in range(4)]).movedim(1, 0).flatten(1)
    covariance = torch.cov(z, correction=0)
    power = codec.eigenvalues[:6] ** (2 * COLOUR)
    torch.testing.assert_close(covariance, torch.diag(power / power.mean()).float(), atol=2e-3, rtol=0)
    assert covariance.diagonal().mean() == pytest.approx(1, abs=1e-3) and z.mean(1).abs().max() < 1e-3


def test_all_channels_reconstruct_everything():
    full = FractionCodec(latent_channels=K * 64, channels=(16, 16, 16), num_res_blocks=(1, 1, 1))
    full.basis.copy_(torch.linalg.qr(torch.randn(K * 64, K * 64, generator=torch.Generator().manual_seed(1)))[0])
    full.mean.normal_(), full.gain.uniform_(0.5, 2)
    fractions = draw(1)
    torch.testing.assert_close(full.reconstruct(full.encode(fractions)), fractions, atol=1e-4, rtol=0)


def test_fitting_is_deterministic_and_the_digest_tells_latents_apart(codec):
    again = FractionCodec(latent_channels=6, channels=(16, 16, 16), num_res_blocks=(1, 1, 1))
    again.fit(draw(8, seed=seed) for seed in range(4))
    assert torch.equal(again.basis, codec.basis) and torch.equal(weights_digest(again), weights_digest(codec))
    again.fit([draw(8, seed=9)])
    assert not torch.equal(weights_digest(again), weights_digest(codec))


def test_decoded_fractions_sum_to_one(codec):
    fractions = codec.decode(torch.randn(2, 6, 4, 6))
    assert fractions.shape == (2, K, 32, 48) and fractions.dtype == torch.float32
    torch.testing.assert_close(fractions.sum(1), torch.ones(2, 32, 48))
    assert not ((fractions > 0) & (fractions < DOUBT)).any() and (fractions == 0).any()


def test_the_loss_is_least_at_the_fractions_whatever_the_weights_of_their_classes():
    fractions = draw(1).clamp_min(1e-4)
    fractions = fractions / fractions.sum(1, keepdim=True)
    weights = torch.tensor([LOSS_WEIGHTS.get(name, 1.0) for name in FRACTIONS]).view(-1, 1, 1)
    for logits, least in ((fractions.log(), True), ((weights * fractions).log(), False)):
        loss = fraction_loss(logits.requires_grad_(), fractions)
        assert (torch.autograd.grad(loss, logits)[0].abs().max() < 1e-8) == least


def test_pairs_of_independent_classes_are_products_and_those_of_stripes_are_counted():
    even = torch.full((2, K, 8, 8), 1 / K)
    torch.testing.assert_close(class_pairs(even), torch.full((2, len(OFFSETS), K, K), 1 / K**2))
    stripes = torch.zeros(1, K, 8, 8)
    stripes[:, 0, :, ::2], stripes[:, 1, :, 1::2] = 1.0, 1.0
    pairs = dict(zip(OFFSETS, class_pairs(stripes)[0]))
    assert pairs[0, 1][0, 1] == pairs[0, 1][1, 0] == 0.5 and pairs[1, 0][0, 1] == pairs[0, 2][0, 1] == 0


def test_the_balance_of_pairs_descends_the_squared_relative_error():
    wanted, logits = class_pairs(draw(1)), draw(3, seed=1).log().requires_grad_()
    made = class_pairs(logits.softmax(1))
    error = (made.mean(0) - wanted[0]) / (wanted[0] + RARE)
    found, slope = (
        torch.autograd.grad(loss, logits, retain_graph=True)[0]
        for loss in (PairBalance(decay=0.0)(made, wanted), K * error.square().mean() / 2)
    )
    torch.testing.assert_close(found, slope)
    assert not torch.autograd.grad(PairBalance()(made, made.detach().mean(0, keepdim=True)), logits)[0].any()


@pytest.mark.parametrize("field_strength", [1.5, 3.0, 7.0])
def test_pure_tissue_has_the_values_of_the_literature(field_strength):
    codec = FractionCodec(
        latent_channels=6, channels=(16, 16, 16), num_res_blocks=(1, 1, 1), field_strength=field_strength
    )
    maps = mix_fractions(torch.eye(K)[None], codec.tissue)[0]
    expected = torch.tensor([class_values(name, field_strength) for name in FRACTIONS]).T
    torch.testing.assert_close(maps, expected)
    assert not maps[:, [FRACTIONS.index("air"), FRACTIONS.index("bone")]].any()


def test_a_voxel_of_two_tissues_mixes_pd_and_rates():
    values = torch.zeros(K, 3)
    values[1], values[2] = torch.tensor([1.0, 4.0, 2.0]), torch.tensor([0.5, 1.0, 0.1])
    fractions = torch.zeros(1, K, 1)
    fractions[0, 1], fractions[0, 2] = 0.5, 0.5
    pd, t1, t2 = mix_fractions(fractions, values)[0, :, 0].tolist()
    assert pd == pytest.approx(0.75)
    assert t1 == pytest.approx(0.75 / (0.5 * 1.0 / 4 + 0.5 * 0.5 / 1)) and t2 == pytest.approx(0.75 / (0.25 + 2.5))


def test_an_unknown_field_strength_is_refused():
    with pytest.raises(UserError, match="use a field strength of 1.5, 3 or 7 T"):
        FractionCodec(field_strength=5.0)


def test_monais_inferer_gives_log_maps(codec):
    scheduler = RFlowScheduler(use_discrete_timesteps=False)
    scheduler.set_timesteps(3)
    network = DiffusionTransformer((4, 6), 6, width=16, depth=1, heads=2)
    inferer = LatentDiffusionInferer(scheduler, scale_factor=1.0)
    log_maps = inferer.sample(torch.randn(2, 6, 4, 6), codec, network, verbose=False)
    assert log_maps.shape == (2, 3, 32, 48) and log_maps.isfinite().all()
    pd, t1, t2 = log_maps.exp().unbind(1)
    assert pd.max() <= 1.01 and (t2 <= t1 + 1e-6).all()

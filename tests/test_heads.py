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

"""Whole heads: the order of their slices, what is known around one, and the sampler."""

import pytest
import torch
from monai.networks.schedulers import RFlowScheduler

from scripts.errors import UserError
from scripts.networks import (
    CoarseCodec,
    CoarseTransformer,
    DiffusionTransformer,
    FractionCodec,
    HeadSampler,
    MapSampler,
    RefiningTransformer,
    Surroundings,
    at_levels,
    halving_order,
)
from scripts.networks.levels import CENTRE_MM
from scripts.tissue import FRACTIONS
from scripts.tissue.fractions import measure_volumes

INF = float("inf")
K = len(FRACTIONS)


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """The network with weights that do something."""
    torch.manual_seed(0)
    for name, weight in network.named_parameters():
        if "adapt" in name or name.startswith(("out", "surroundings")) or "cross" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return network.eval()


@pytest.fixture
def refining() -> RefiningTransformer:
    return lively(RefiningTransformer((4, 6), 3, K, width=32, depth=2, heads=2))


def sampler(refining: RefiningTransformer, slices: int = 37, steps=(2, 1, 1, 1, 1)) -> HeadSampler:
    flow = RFlowScheduler(use_discrete_timesteps=False)
    coarse = CoarseCodec(4)
    torch.nn.init.normal_(coarse.basis, std=0.1), coarse.mean.fill_(1 / K)
    return HeadSampler(flow, coarse, refining, flow, ("", ""), 2, steps, (4, 4, 2), (4, 6), slices, batch_size=4)


def small_codec() -> FractionCodec:
    codec = FractionCodec(3, (8, 8, 8), (1, 1, 1), 4)
    torch.nn.init.normal_(codec.basis), codec.mean.fill_(1 / K)
    return codec.eval()


@pytest.mark.parametrize("count", [1, 2, 16, 17, 37, 160])
def test_every_slice_is_made_once_and_after_those_it_is_told(count):
    made = set()
    for step in halving_order(count):
        for number, *known in zip(*(one.tolist() for one in step)):
            assert number not in made and {k for k in known if k >= 0} <= made
        made |= {*step.made.tolist()}
    assert made == {*range(count)}


def test_slices_between_two_are_halfway():
    first, *others = halving_order(33)
    assert torch.isinf(first.distance).all() and first.made.tolist() == [0, 16, 32]
    assert [step.distance.unique().tolist() for step in others] == [[8.0], [4.0], [2.0], [1.0]]


def test_a_coarse_volume_is_linear_between_its_cells():
    coarse = torch.arange(4.0).expand(1, 2, 6, 4, 4)
    levels = CENTRE_MM + torch.tensor([-100.0, -12.0, 0.0, 3.0, 12.0, 100.0])
    found = at_levels(coarse, levels, (4, 4))
    assert found.shape == (6, 2, 4, 4)
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([0.0, 0.0, 1.5, 1.875, 3.0, 3.0]))
    columns = torch.arange(6.0)[:, None, None].expand(1, 1, 6, 4, 4)
    assert at_levels(columns, levels[:1], (4, 4))[0, 0, :, 0].tolist() == [
        1,
        2,
        3,
        4,
    ], "as many left out on either side"


def around(coarse: torch.Tensor, below: torch.Tensor, above: torch.Tensor, *distance: float) -> Surroundings:
    levels = coarse[:, None].expand(-1, 3, -1, -1, -1)
    return Surroundings(levels, below, above, torch.tensor([distance]).expand(len(below), 2))


def test_what_is_not_known_says_nothing(refining):
    coarse, latent, noise = torch.rand(2, K, 4, 6), torch.randn(2, 3, 4, 6), torch.randn(2, 3, 4, 6)
    one, other = (around(coarse, below, latent, INF, 2.0) for below in (latent, latent * float("nan")))
    assert torch.equal(one.channels, other.channels) and torch.equal(
        refining.begin(noise, one), refining.begin(noise, other)
    )
    assert one.channels.shape[1] == K + 2 * 4 and not one.channels[:, K : K + 3].any()


def test_a_flow_begins_with_noise_or_near_what_is_known(refining):
    noise, coarse = torch.randn(1, 3, 4, 6), torch.rand(1, K, 4, 6)
    below, above = torch.full_like(noise, 2.0), torch.full_like(noise, 4.0)

    def begin(*distance: float) -> torch.Tensor:
        return refining.begin(noise, around(coarse, below, above, *distance))

    assert torch.equal(begin(INF, INF), noise), "a network that nothing was measured for"
    torch.testing.assert_close(begin(1e-3, 1e-3), torch.full_like(noise, 3.0), atol=0.01, rtol=0)
    torch.testing.assert_close(begin(1e-3, INF), below, atol=0.01, rtol=0)
    spreads = [float(begin(d, d).var()) for d in (1.0, 4.0, 16.0)]
    assert spreads == sorted(spreads)


def test_what_a_coarse_volume_says_and_how_far_slices_are_alike_is_found(refining):
    torch.manual_seed(1)
    coarse = torch.rand(300, 2, K, 4, 6)
    weight, share = torch.randn(K, 3), torch.tensor([0.9, 0.5, 0.1])[:, None, None]
    shared, own = 0.2 * torch.randn(2, 300, 3, 4, 6)
    rest = torch.stack([shared, share * shared + (1 - share**2).sqrt() * own], 1)
    refining.fit_beginning(coarse, torch.einsum("nskhw,kl->nslhw", coarse, weight) + rest + 1, 4.0)
    torch.testing.assert_close(refining.guess_weight, weight, atol=0.02, rtol=0)
    torch.testing.assert_close(refining.guess_bias, torch.ones(3), atol=0.05, rtol=0)
    torch.testing.assert_close(refining.guess_sd, torch.full((3,), 0.2), atol=0.01, rtol=0)
    correlation = refining._correlation(torch.tensor([[4.0, INF]]))[0]
    torch.testing.assert_close(correlation[0], share.flatten(), atol=0.03, rtol=0)
    assert not correlation[1].any()


@torch.no_grad()
def test_with_nothing_around_it_is_the_generator_of_slices(refining):
    single = lively(DiffusionTransformer((4, 6), 3, width=32, depth=2, heads=2))
    refining.load_state_dict(single.state_dict())
    x, time, asked = torch.randn(2, 3, 4, 6), torch.tensor([400.0]), torch.tensor([[5.0, 8.0, 140.0, 0.0]] * 2)
    assert torch.equal(refining(x, time, asked), single(x, time, asked))


@torch.no_grad()
def test_the_surroundings_matter(refining):
    x, time = torch.randn(2, 3, 4, 6), torch.tensor([400.0])
    known = torch.rand(2, K + 8, 4, 6)
    assert not torch.allclose(refining(x, time, around=known), refining(x, time))


@torch.no_grad()
def test_a_head_is_a_function_of_its_address_and_what_is_asked(refining):
    codec, made = small_codec(), sampler(refining)
    coarse = lively(CoarseTransformer((4, 4, 2), 4, width=32, depth=1, heads=2))
    one = made.latent((0, 5), codec, coarse, {"ventricle": 1.0})
    assert one.shape == (37, 3, 4, 6) and one.isfinite().all()
    assert torch.equal(made.latent((0, 5), codec, coarse, {"ventricle": 1.0}), one)
    assert not torch.equal(made.latent((0, 6), codec, coarse, {"ventricle": 1.0}), one)
    assert not torch.equal(made.latent((0, 5), codec, coarse, {}), one)


def test_a_volume_is_asked_for_again_until_it_is_right(refining, monkeypatch):
    told, made, number = [], sampler(refining), FRACTIONS.index("ventricle")

    def draw(self, inputs, channels, diffusion, asked):
        told.append(asked["ventricle"])
        return torch.tensor(0.7 * asked["ventricle"] + 3)

    def decode(ventricle: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, K, 1, 1, 1).index_fill(1, torch.tensor(number), 1) * ventricle / 0.512

    monkeypatch.setattr(MapSampler, "draw", draw)
    monkeypatch.setattr(made.coarse, "decode", decode)
    network = CoarseTransformer((4, 4, 2), 4, width=16, depth=1, heads=2)
    network.condition_sd.fill_(10.0)
    errors = []
    for made.corrections in (0, 1, 4):
        told.clear()
        found = measure_volumes(made.volume((0, 0), network, {"ventricle": 30.0, "grey": None}), 0.512)["ventricle"]
        errors.append(abs(float(found) - 30))
        assert len(told) == 1 + made.corrections and told[0] == 30
    assert errors[0] == pytest.approx(6, abs=1e-3) and errors[1] < 0.4 * errors[0] and errors[2] < 0.1
    told.clear()
    monkeypatch.setattr(MapSampler, "draw", lambda *a: told.append(0) or torch.tensor(1.0))
    made.volume((0, 0), network, {})
    assert len(told) == 1, "nothing asked, nothing to correct"


def test_steps_are_given_for_every_distance(refining):
    with pytest.raises(UserError, match="refining_steps: found 3 numbers for 37 slices; give 5"):
        sampler(refining, steps=(2, 1, 1))


@torch.no_grad()
@pytest.mark.parametrize("told_by", ["norm", "concatenation", "attention"])
def test_a_volume_is_told_in_three_ways(told_by):
    network = lively(CoarseTransformer((4, 4, 2), 4, width=32, depth=2, heads=2, told_by=told_by))
    x, time = torch.randn(2, 4, 4, 4, 2), torch.tensor([500.0])
    free = network(x, time)
    assert free.shape == x.shape
    torch.testing.assert_close(network(x, time, torch.full((2, 6), float("nan"))), free)
    for k in range(6):
        asked = torch.full((2, 6), float("nan"))
        asked[:, k] = 1.5
        assert not torch.allclose(network(x, time, asked), free)


def test_another_way_is_refused():
    with pytest.raises(UserError, match="told_by: found 'telling'; use one of norm, concatenation, attention"):
        CoarseTransformer(told_by="telling")


def test_coarse_volumes_come_back_from_all_channels():
    codec = CoarseCodec(K * 8)
    torch.manual_seed(0)
    fractions = torch.nn.functional.one_hot(torch.randint(K, (2, 4, 4, 4)), K).movedim(-1, 1).float()
    codec.basis.copy_(torch.linalg.qr(torch.randn(K * 8, K * 8))[0]), codec.mean.normal_(), codec.gain.uniform_(0.5, 2)
    torch.testing.assert_close(codec.decode(codec.encode(fractions)), fractions, atol=1e-3, rtol=0)
    torch.testing.assert_close(codec.decode(codec.encode(torch.rand(1, K, 4, 4, 4))).sum(1), torch.ones(1, 4, 4, 4))


@torch.no_grad()
def test_a_glimpse_sees_slices_of_the_head_that_is_made_and_what_they_lack_is_asked_for(refining, monkeypatch):
    codec = small_codec()
    made, coarse = sampler(refining), torch.rand(1, K, 8, 8, 4)
    whole = made.refine(coarse, (0, 0), 3)
    fractions = torch.stack([codec.decode(one[None])[0] for one in whole[::8]], -1)
    wanted = measure_volumes(fractions[None], 37 / 5 / 1000)
    assert made.glimpse(coarse, (0, 0), codec) == pytest.approx({name: float(value) for name, value in wanted.items()})

    aims, network = [], lively(CoarseTransformer((4, 4, 2), 4, width=16, depth=1, heads=2))
    monkeypatch.setattr(made, "volume", lambda _, __, asked: aims.append(asked) or coarse)
    monkeypatch.setattr(made, "glimpse", lambda *_: {"ventricle": 24.0, "lesions": 9.0, "brain": 1.0})
    made.latent((0, 0), codec, network, {"ventricle": 30.0, "lesions": 4.0})
    assert aims == [{"ventricle": 30.0, "lesions": 4.0}, {"ventricle": 36.0, "lesions": 0.0}]
    made.corrections = 0
    made.latent((0, 0), codec, network, {"ventricle": 30.0})
    assert len(aims) == 3

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

"""The diffusion transformer: the identity at first, told things or not, and where its patches go."""

import pytest
import torch
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import RFlowScheduler

from scripts.networks import DiffusionTransformer
from scripts.networks.patches import from_patches, to_patches

NAN = float("nan")


@pytest.fixture
def network() -> DiffusionTransformer:
    """A small one with weights that do something."""
    torch.manual_seed(0)
    made = DiffusionTransformer((4, 6), 3, width=32, depth=2, heads=2)
    for name, weight in made.named_parameters():
        if "adapt" in name or name.startswith("out"):
            torch.nn.init.normal_(weight, std=0.2)
    made.condition_mean.copy_(torch.tensor([10.0, 8.0, 150.0, 2.0]))
    made.condition_sd.copy_(torch.tensor([20.0, 8.0, 40.0, 3.0]))
    return made.eval()


def test_a_new_network_predicts_nothing_and_its_blocks_are_the_identity():
    network = DiffusionTransformer((4, 6), 3, width=32, depth=2, heads=2)
    assert not network(torch.randn(2, 3, 4, 6), torch.tensor([500.0])).any()
    tokens = torch.randn(2, 6, 32)
    assert torch.equal(network.blocks[0](tokens, torch.randn(2, 32)), tokens)


def test_patches_go_back_to_where_they_came_from():
    for x in (torch.randn(2, 3, 4, 6), torch.randn(2, 3, 4, 6, 2)):
        assert torch.equal(from_patches(to_patches(x, 2), 2, x.shape[2:]), x)
    unfolded = torch.nn.functional.unfold(x[..., 0], 2, stride=2).transpose(1, 2)
    assert torch.equal(to_patches(x[..., 0], 2), unfolded)


@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch(network):
    x, context = torch.randn(3, 3, 4, 6), torch.tensor([[5.0, NAN, 140.0, 0.0], [NAN] * 4, [0.0, 10.0, NAN, NAN]])
    together = network(x, torch.tensor([100.0, 500.0, 900.0]), context)
    for k, time in enumerate((100.0, 500.0, 900.0)):
        alone = network(x[k : k + 1], torch.tensor([time]), context[k : k + 1])
        torch.testing.assert_close(alone[0], together[k], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_every_condition_may_be_missing_and_each_matters(network):
    x, time = torch.randn(1, 3, 4, 6), torch.tensor([400.0])
    free = network(x, time)
    torch.testing.assert_close(network(x, time, torch.full((1, 4), NAN)), free)
    for k in range(4):
        context = torch.full((1, 4), NAN)
        context[0, k] = network.condition_mean[k]
        told = network(x, time, context)
        assert told.isfinite().all() and not torch.allclose(told, free), "the mean is not the same as nothing"


@torch.no_grad()
def test_guidance_of_one_is_no_guidance(network):
    scheduler = RFlowScheduler(use_discrete_timesteps=False)
    scheduler.set_timesteps(4)
    noise, context = torch.randn(1, 3, 4, 6), torch.tensor([[5.0, NAN, 140.0, 0.0]])

    def sample(cfg):
        return DiffusionInferer(scheduler).sample(
            noise, network, conditioning=context, cfg=cfg, cfg_fill_value=NAN, verbose=False
        )

    torch.testing.assert_close(sample(1.0), sample(None), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(sample(2.0), sample(1.0), atol=1e-3)
    free = DiffusionInferer(scheduler).sample(noise, network, conditioning=context * NAN, verbose=False)
    torch.testing.assert_close(sample(0.0), free, atol=1e-5, rtol=1e-4)

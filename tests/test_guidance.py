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
from monai.networks.blocks.selfattention import SABlock
from torch import nn

from scripts.networks.guidance import PerturbedAttentionGuidance


class Residual(nn.Module):
    """A network of self-attention."""

    def __init__(self, include_fc: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.calls = SABlock(8, 2, include_fc=include_fc, use_combined_linear=False).eval(), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.attention(x)


@pytest.fixture(params=[False, True])
def network(request) -> Residual:
    return Residual(request.param)


@torch.no_grad()
def test_it_moves_away_from_the_network_that_sees_no_other_place_in_proportion_to_the_scale(network):
    x = torch.randn(1, 5, 8)
    plain, one, two = (PerturbedAttentionGuidance(network, scale)(x) for scale in (0, 1, 2))
    alone = torch.cat([network(place) for place in x.split(1, 1)], 1)
    torch.testing.assert_close(one, plain + (plain - alone))
    torch.testing.assert_close(two, plain + 2 * (plain - alone))


@torch.no_grad()
def test_the_network_is_as_before_even_after_an_error(network):
    x = torch.randn(1, 5, 8)
    before, guided = network(x), PerturbedAttentionGuidance(network, 1.0)
    guided(x)
    assert torch.equal(network(x), before)
    with pytest.raises(RuntimeError):
        guided(x[..., :7])
    assert torch.equal(network(x), before)


@torch.no_grad()
def test_without_guidance_the_network_is_called_once(network):
    PerturbedAttentionGuidance(network, 0)(torch.randn(1, 5, 8))
    assert network.calls == 1

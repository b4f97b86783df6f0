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

"""Muon for the matrices of a transformer's blocks, AdamW for the rest, as one optimiser."""

import copy

import torch

from scripts.networks import DiffusionTransformer
from scripts.train import MuonAdamW

from .studies import TINY_TRANSFORMER


def make() -> tuple[DiffusionTransformer, MuonAdamW]:
    torch.manual_seed(0)
    network = DiffusionTransformer(**TINY_TRANSFORMER)
    return network, MuonAdamW(network.named_parameters(), 0.01)


def descend(network: DiffusionTransformer, optimizer: MuonAdamW, seed: int) -> float:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(4, TINY_TRANSFORMER["latent_channels"], *TINY_TRANSFORMER["latent_size"], generator=random)
    optimizer.zero_grad()
    loss = (network(x, torch.full((4,), 500.0)) - x).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_every_parameter_has_one_optimiser_and_the_loss_falls():
    network, optimizer = make()
    muon, adamw = ({id(p) for group in part.param_groups for p in group["params"]} for part in optimizer.parts)
    assert not muon & adamw and muon | adamw == {id(p) for p in network.parameters()}
    assert id(network.blocks[0].attention.qkv.weight) in muon and id(network.embed.weight) in adamw
    losses = [descend(network, optimizer, seed % 4) for seed in range(40)]
    assert losses[-1] < 0.8 * losses[0]


def test_the_learning_rate_is_that_of_the_scheduler():
    network, optimizer = make()
    optimizer.param_groups[0]["lr"] = 0.0
    before = copy.deepcopy(network.state_dict())
    descend(network, optimizer, 0)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_restored_state_goes_on_as_if_nothing_had_happened():
    network, optimizer = make()
    for seed in range(3):
        descend(network, optimizer, seed)
    other, restored = make()
    other.load_state_dict(copy.deepcopy(network.state_dict()))
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in ((network, optimizer), (other, restored)):
        descend(*each, 7)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())

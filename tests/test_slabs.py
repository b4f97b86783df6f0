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

"""What is computed slab by slab."""

import pytest
import torch
from monai.networks.nets.autoencoderkl import AEKLResBlock, Decoder

from scripts.networks import slabs
from scripts.networks.encoder import residual

from .test_estimator import shaken

SIZES = [(6, 7), (5, 6, 7)]
AT_ONCE = pytest.mark.parametrize("at_once", [1, 1500, 2**25], ids=["planes", "slabs", "whole"])


def assert_same(one, other, x, *leaves):
    """Outputs and gradients."""
    found, leaves = [], (x.requires_grad_(), *leaves)
    for function in (one, other):
        y = function(x)
        slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
        found.append((y, *torch.autograd.grad(y, leaves, slope)))
    for ours, torchs in zip(*found):
        torch.testing.assert_close(ours, torchs)


@AT_ONCE
@pytest.mark.parametrize("size", SIZES, ids=["2d", "3d"])
@pytest.mark.parametrize("width", [4, 8], ids=["shortcut", "identity"])
def test_a_residual_block_and_its_gradients_are_those_of_torch(monkeypatch, at_once, size, width):
    monkeypatch.setattr(slabs, "AT_ONCE", at_once)
    torch.manual_seed(0)
    block = shaken(AEKLResBlock(len(size), 8, 4, 1e-6, width)).double()
    scales = [torch.randn(2, 1, channels, dtype=torch.double, requires_grad=True) for channels in (8, width)]
    for count, pairs in ((2, ()), (1, scales)):
        leaves = (*pairs, *block.parameters())
        ours, torchs = (lambda x, of=of: of(block, x, *map(tuple, pairs)) for of in (slabs.residual, residual))
        assert_same(ours, torchs, 2 + torch.randn(count, 8, *size, dtype=torch.double), *leaves)


@AT_ONCE
@pytest.mark.parametrize("size", SIZES, ids=["2d", "3d"])
def test_the_other_blocks_of_a_decoder_and_their_gradients_are_those_of_torch(monkeypatch, at_once, size):
    monkeypatch.setattr(slabs, "AT_ONCE", at_once)
    torch.manual_seed(0)
    decoder = shaken(Decoder(len(size), (4, 8), 3, 3, [0, 0], 4, 1e-6, [False] * 2, False)).double()
    _, upsample, norm, last = decoder.blocks
    x = torch.randn(2, 8, *size, dtype=torch.double)
    assert_same(lambda x: slabs.upsample(upsample, x), upsample, x, *upsample.parameters())
    leaves = (*norm.parameters(), *last.parameters())
    assert_same(lambda x: slabs.convolution(last, x, norm), lambda x: last(norm(x)), x, *leaves)

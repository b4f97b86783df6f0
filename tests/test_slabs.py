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

"""Convolutions whose gradient is computed slab by slab."""

import pytest
import torch
from torch import nn

from scripts.networks import PublishedVAE, slabs


@pytest.mark.parametrize("at_once", [1, 700, 2**27], ids=["planes", "slabs", "whole"])
@pytest.mark.parametrize("length", [1, 7])
def test_the_gradient_of_slabs_is_that_of_the_volume(monkeypatch, at_once, length):
    monkeypatch.setattr(slabs, "AT_ONCE", at_once)
    torch.manual_seed(0)
    convolution, x = nn.Conv3d(4, 6, 3, padding=1).double(), torch.randn(2, 4, length, 5, 6, dtype=torch.double)
    leaves, found = (x.requires_grad_(), convolution.weight, convolution.bias), []
    for change in (lambda _: None, slabs.use_slabs):
        change(convolution)
        y = convolution(x)
        found.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    torch.testing.assert_close(*found)


def test_convolutions_that_change_the_size_stay_as_they_are():
    vae = PublishedVAE(3, (8, 8), 1, norm_num_groups=4, checkpointing=True)
    kinds = {(type(one), one.stride) for one in vae.modules() if isinstance(one, nn.Conv3d) and one.kernel_size[0] == 3}
    assert kinds == {(slabs.SlabConv3d, (1, 1, 1)), (nn.Conv3d, (2, 2, 2))}

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

"""Group normalisation with a gradient of its own."""

import pytest
import torch
from torch import nn

from scripts.networks import PhysicsVAE
from scripts.networks.group_norm import GroupNorm, channels_last

from .test_estimator import shaken


@pytest.mark.parametrize("size", [(20, 17), (8, 7, 10)], ids=["2d", "3d"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_group_norm_and_its_gradient_are_those_of_torch(size, dtype):
    torch.manual_seed(0)
    layout = torch.channels_last if len(size) == 2 else torch.channels_last_3d
    ours, plain = (shaken(norm(4, 12)) for norm in (GroupNorm, nn.GroupNorm))
    x = (2 + 3 * torch.randn(3, 12, *size)).to(dtype)
    gradient = torch.randn(x.shape).to(dtype)
    found = []
    for norm, inputs in ((ours, x.contiguous(memory_format=layout)), (plain, x.clone())):
        inputs.requires_grad_()
        assert channels_last(inputs) == (norm is ours)
        y = norm(inputs)
        y.backward(gradient)
        found.append((y.detach(), inputs.grad, norm.weight.grad, norm.bias.grad))
    assert found[0][0].is_contiguous(memory_format=layout)
    tolerance = {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.06, "rtol": 0.02}
    for one, other in zip(*found):
        torch.testing.assert_close(one.contiguous(), other, **tolerance)


def test_weights_behind_what_needs_no_gradient_have_theirs():
    torch.manual_seed(0)
    x, found = torch.randn(2, 12, 8, 6), []
    for norm, inputs in ((GroupNorm(4, 12), x.contiguous(memory_format=torch.channels_last)), (nn.GroupNorm(4, 12), x)):
        norm(inputs).square().sum().backward()
        found.append((norm.weight.grad, norm.bias.grad))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (2, 4, 1, 5), (1, 8, 2, 2), (1, 4, 1, 1, 3)])
def test_layouts_that_could_be_either_are_left_to_torch(shape):
    torch.manual_seed(0)
    plain, axes = torch.randn(shape), list(range(2, len(shape)))
    turned = plain.permute(0, *axes, 1).contiguous().permute(0, -1, *[axis - 1 for axis in axes])
    for x in (plain, turned, turned.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).reshape(shape)):
        x = x.requires_grad_()
        torch.testing.assert_close(GroupNorm(2, shape[1])(x), nn.functional.group_norm(x, 2))


def test_group_norms_of_the_network_are_fast_ones_with_the_same_weights():
    vae = PhysicsVAE(channels=(8, 8), norm_num_groups=4, skip_channels=(4,))
    norms = [m for m in vae.modules() if isinstance(m, nn.GroupNorm)]
    assert norms and all(type(norm) is GroupNorm for norm in norms)
    assert list(GroupNorm(4, 8).state_dict()) == list(nn.GroupNorm(4, 8).state_dict())

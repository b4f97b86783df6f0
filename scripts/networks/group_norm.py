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

"""Group normalisation whose gradient is fast on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def channels_last(x: Tensor) -> bool:
    """Whether ``x (N, C, ...)`` is stored channels last, and not at the same time channels first."""
    channels, *size = x.shape[1:]
    strides, step = [], channels
    for length in reversed(size):
        strides.insert(0, step)
        step *= length
    return len(size) in (2, 3) and step > channels > 1 and x.stride() == (step, 1, *strides)


class _GroupNorm(torch.autograd.Function):
    """``F.group_norm``; its gradient is computed with the channels first, which is several times as fast."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        size = (len(x), x.shape[1], x[0, 0].numel())
        y, mean, rstd = torch.native_group_norm(x, weight, bias, *size, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.size, ctx.groups = size, groups
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        dx, dw, db = torch.ops.aten.native_group_norm_backward(
            dy.contiguous(), x.contiguous(), mean, rstd, weight, *ctx.size, ctx.groups, [True] * 3
        )
        return dx.contiguous(memory_format=layout), dw, db, None, None


class GroupNorm(nn.GroupNorm):
    """``torch.nn.GroupNorm`` that uses :class:`_GroupNorm` in training on a CPU with channels last; equal weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises ``x (N, C, ...)``."""
        # torch's gradient of the weights alone, behind frozen layers, is a segmentation fault (2.13, channels last).
        learns = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if learns and channels_last(x) and x.device.type == "cpu":
            return _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def use_fast_group_norm(network: nn.Module) -> None:
    """Replaces every ``torch.nn.GroupNorm`` of a network by :class:`GroupNorm`, in place; the weights stay."""
    for module in network.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = GroupNorm

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

AT_ONCE = 2**24
"""Numbers that a gradient holds copies of with the channels first: of larger volumes it takes some groups at a time."""


def channels_last(x: Tensor) -> bool:
    """Whether ``x (N, C, ...)`` is stored channels last, and not at the same time channels first."""
    channels, *size = x.shape[1:]
    strides, step = [], channels
    for length in reversed(size):
        strides.insert(0, step)
        step *= length
    return len(size) in (2, 3) and step > channels > 1 and x.stride() == (step, 1, *strides)


class _GroupNorm(torch.autograd.Function):
    """``F.group_norm``, with ``silu`` of it where that is asked for; keeps its input alone.

    On a CPU its gradient is computed with the channels first, which is several times as fast.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
        y, mean, rstd = torch.native_group_norm(x, weight, bias, len(x), x.shape[1], x[0, 0].numel(), groups, eps)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.eps, ctx.silu = eps, silu
        return F.silu(y, inplace=True) if silu else y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        groups, voxels, dx, parameters = mean.shape[1], x[0, 0].numel(), torch.empty_like(x), []
        width, step = x.shape[1] // groups, max(1, AT_ONCE * groups // x.numel())
        for first in range(0, groups, step):
            some = slice(first, first + step)
            own, count = slice(first * width, (first + step) * width), min(step, groups - first)
            part, of, slope = x[:, own].contiguous(), weight[own], dy[:, own].contiguous()
            size = (len(x), count * width, voxels, count)
            if ctx.silu:
                slope = torch.ops.aten.silu_backward(
                    slope, torch.native_group_norm(part, of, bias[own], *size, ctx.eps)[0]
                )
            dx[:, own], *rest = torch.ops.aten.native_group_norm_backward(
                slope, part, mean[:, some].contiguous(), rstd[:, some].contiguous(), of, *size, [True] * 3
            )
            parameters.append(rest)
        return dx, *(torch.cat(parts) for parts in zip(*parameters)), None, None, None


def activated(norm: nn.GroupNorm, x: Tensor, condition: tuple[Tensor, Tensor] | None) -> Tensor:
    """``silu(s norm(x) + b)`` of one sample ``x (1, C, ...)``, which keeps x alone for its gradient.

    Args:
        norm: the normalisation.
        x: of any number of samples without a condition.
        condition: ``(s, b)``, each ``(1, C)`` or ``(1, 1)``; None for 1 and 0.
    """
    weight, bias = norm.weight, norm.bias
    if condition is not None:
        (scale,), (shift,) = condition
        weight, bias = scale * weight, scale * bias + shift
    x = x if channels_last(x) else x.contiguous()
    return _GroupNorm.apply(x, weight, bias, norm.num_groups, norm.eps, True)


class GroupNorm(nn.GroupNorm):
    """``torch.nn.GroupNorm`` that uses :class:`_GroupNorm` in training on a CPU with channels last; equal weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalises ``x (N, C, ...)``."""
        # torch's gradient of the weights alone, behind frozen layers, is a segmentation fault (2.13, channels last).
        learns = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if learns and channels_last(x) and x.device.type == "cpu":
            return _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps, False)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


def use_fast_group_norm(network: nn.Module) -> None:
    """Replaces every ``torch.nn.GroupNorm`` of a network by :class:`GroupNorm`, in place; the weights stay."""
    for module in network.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = GroupNorm

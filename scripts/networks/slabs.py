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

"""Convolutions of volumes whose gradient needs little memory on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

AT_ONCE = 2**27
"""Numbers of the input of a convolution that a gradient is computed of at once."""


class _Convolution(torch.autograd.Function):
    """``F.conv3d`` with a kernel of 3 and padding of 1; its gradient is that of one slab after another.

    oneDNN takes twice the memory of the input for the gradient of all of it.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv3d(x, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        dx, sums, length = torch.zeros_like(x), [torch.zeros_like(weight), weight.new_zeros(len(weight))], x.shape[2]
        thickness = max(1, AT_ONCE * length // x.numel())
        for first in range(0, length, thickness):
            last = min(first + thickness, length)
            low, high = max(first - 1, 0), min(last + 1, length)
            # The neighbours of a slab are its padding, beyond the ends of the volume zeros are.
            beyond = (low - first + 1, last + 1 - high)
            slab = F.pad(x[:, :, low:high], (0, 0, 0, 0, *beyond))
            part, *rest = torch.ops.aten.convolution_backward(
                dy[:, :, first:last],
                slab,
                weight,
                [len(weight)],
                [1] * 3,
                [0, 1, 1],
                [1] * 3,
                False,
                [0] * 3,
                1,
                [True] * 3,
            )
            dx[:, :, low:high] += part[:, :, beyond[0] : part.shape[2] - beyond[1]]
            for total, one in zip(sums, rest):
                total += one
        return dx, *sums


class SlabConv3d(nn.Conv3d):
    """``torch.nn.Conv3d`` that uses :class:`_Convolution` in float32 training on a CPU; equal weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolves ``x (N, C, X, Y, Z)``."""
        if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu"):
            return _Convolution.apply(x, self.weight, self.bias)
        return super().forward(x)


def use_slabs(network: nn.Module) -> None:
    """Makes each convolution of volumes that keeps their size a :class:`SlabConv3d`, in place; the weights stay."""
    for module in network.modules():
        if type(module) is nn.Conv3d and (module.kernel_size, module.stride, module.padding) == (
            (3,) * 3,
            (1,) * 3,
            (1,) * 3,
        ):
            module.__class__ = SlabConv3d

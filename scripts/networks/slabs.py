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

"""Convolutions with what precedes them, slab by slab along the first axis: training on a CPU keeps their inputs alone.

Neither the normalised input nor the copies that oneDNN makes of what it convolves are there as a whole.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.networks.blocks import Upsample
from monai.networks.nets.autoencoderkl import AEKLResBlock
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

AT_ONCE = 2**25
"""Numbers of the input or the output of a convolution that are in work at once."""
Condition = tuple[Tensor, Tensor] | None
"""Scale and shift of a GroupNorm, each ``(1, C)`` or ``(1, 1)``; None for 1 and 0."""


class _Before(NamedTuple):
    """What precedes a convolution: a GroupNorm, if it has groups, ``silu``, and nearest neighbours ``factor`` times."""

    groups: int = 0
    eps: float = 0.0
    silu: bool = False
    factor: int = 1

    def __call__(self, x: Tensor, *affine: Tensor) -> Tensor:
        x = torch.addcmul(affine[1], x, affine[0]) if affine else x
        x = F.silu(x) if self.silu else x
        return F.interpolate(x, scale_factor=self.factor) if self.factor > 1 else x


class _Slab(NamedTuple):
    """Planes of the output, those of the input behind them, and how many planes of zeros these need at both ends."""

    output: slice
    input: slice
    padding: tuple[int, int]

    def pad(self, x: Tensor) -> Tensor:
        """What is convolved; negative padding takes planes away."""
        return F.pad(x, (0, 0) * (x.ndim - 3) + self.padding) if any(self.padding) else x


def _thickness(plane: int) -> int:
    return max(1, AT_ONCE // plane)


def _slabs(x: Tensor, kernel: Tensor, factor: int) -> Iterator[_Slab]:
    length, halo = x.shape[2] * factor, kernel.shape[2] // 2
    plane = max(kernel.shape[:2]) * len(x) * x[0, 0, 0].numel() * factor ** (x.ndim - 3)
    for first in range(0, length, _thickness(plane)):
        last = min(first + _thickness(plane), length)
        low, high = max(first - halo, 0) // factor, -(-min(last + halo, length) // factor)
        padding = (low * factor - first + halo, last + halo - high * factor)
        yield _Slab(slice(first, last), slice(low, high), padding)


def _like(x: Tensor, channels: int, factor: int = 1) -> Tensor:
    """A new tensor, channels last: slabs of such need no copy."""
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return torch.empty(len(x), channels, *[size * factor for size in x.shape[2:]], dtype=x.dtype, memory_format=layout)


def _moments(x: Tensor, before: _Before) -> tuple[Tensor, Tensor]:
    """Mean, and 1 over the standard deviation, of the group of each channel ``(N, C, 1, ...)``."""
    space = [*range(2, x.ndim)]
    mean = _grouped(x.mean(space, keepdim=True), before.groups)
    squares = sum(
        (part - mean).square().sum(space, keepdim=True) for part in x.split(_thickness(x[:, :, 0].numel()), 2)
    )
    return mean, (_grouped(squares / x[0, 0].numel(), before.groups) + before.eps).rsqrt()


def _grouped(x: Tensor, groups: int) -> Tensor:
    """Means over the channels of each group, for each of its channels."""
    parts = x.view(len(x), groups, -1)
    return parts.mean(2, keepdim=True).expand_as(parts).reshape(x.shape)


def _affine(gamma: Tensor, beta: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """A normalisation as ``scale x + shift``."""
    scale = gamma.view_as(mean[:1]) * scale
    return scale, beta.view_as(mean[:1]) - mean * scale


def _convolution(kernel: Tensor) -> tuple:
    """The function, and the padding of a slab."""
    return F.conv2d if kernel.ndim == 4 else F.conv3d, [0, *[length // 2 for length in kernel.shape[3:]]]


def _convolved(before: _Before, x: Tensor, kernel: Tensor, bias: Tensor, *norm: Tensor) -> Tensor:
    """The convolution of what ``before`` makes of ``x (N, C, ...)``; ``norm`` is weight and bias of its GroupNorm."""
    affine = _affine(*norm, *_moments(x, before)) if norm else ()
    y, (convolve, padding) = _like(x, len(kernel), before.factor), _convolution(kernel)
    for slab in _slabs(x, kernel, before.factor):
        y[:, :, slab.output] = convolve(slab.pad(before(x[:, :, slab.input], *affine)), kernel, bias, padding=padding)
    return y


def _gradients(
    before: _Before, dy: Tensor, into: Tensor | None, x: Tensor, kernel: Tensor, bias: Tensor, *norm: Tensor
) -> list[Tensor]:
    """The gradients of :func:`_convolved`; that of x is added to ``into``, if any."""
    moments = _moments(x, before) if norm else ()
    affine = [one.requires_grad_() for one in _affine(*norm, *moments)] if norm else []
    dx, sums = _like(x, x.shape[1]).zero_() if into is None else into, None
    ones, (_, padding) = [1] * len(x.shape[2:]), _convolution(kernel)
    for slab in _slabs(x, kernel, before.factor):
        with torch.enable_grad():
            part = x[:, :, slab.input].detach().requires_grad_()
            convolved = slab.pad(before(part, *affine))
        inputs, settings = (convolved.detach(), kernel, [len(kernel)], ones), (ones, False, [0] * len(ones), 1)
        dslab, backward = dy[:, :, slab.output], torch.ops.aten.convolution_backward
        slope, _, _ = backward(dslab, *inputs, padding, *settings, [True, False, False])
        # Planes of zeros, since oneDNN takes twice as long for the kernel's gradient where paddings differ.
        halo = kernel.shape[2] // 2
        dslab = F.pad(dslab, (0, 0) * (x.ndim - 3) + (halo, halo)) if halo else dslab
        _, *own = backward(dslab, *inputs, [halo, *padding[1:]], *settings, [False, True, True])
        dpart, *rest = torch.autograd.grad(convolved, [part, *affine], slope)
        dx[:, :, slab.input] += dpart
        sums = [a + b for a, b in zip(sums, own + rest)] if sums else own + rest
    if not norm:
        return [dx, *sums]
    (mean, scale), (dkernel, dbias, dscale, dshift), gamma = moments, sums, norm[0].view_as(moments[0][:1])
    # The gradient by way of the moments, as in torch's native_group_norm_backward.
    of_shift, of_scale = (_grouped(gamma * one, before.groups) / x[0, 0].numel() for one in (dshift, dscale))
    slope = (of_shift * mean - of_scale) * scale**3
    dx.addcmul_(x, slope).sub_(slope * mean + of_shift * scale)
    return [dx, dkernel, dbias, (scale * (dscale - mean * dshift)).sum(0).flatten(), dshift.sum(0).flatten()]


class _Convolution(torch.autograd.Function):
    """One convolution, with what precedes it."""

    @staticmethod
    def forward(ctx, before: _Before, *inputs: Tensor) -> Tensor:
        ctx.before = before
        ctx.save_for_backward(*inputs)
        return _convolved(before, *inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_gradients(ctx.before, dy, None, *ctx.saved_tensors)


class _Residual(torch.autograd.Function):
    """A residual block; its second convolution's input is computed anew for gradients."""

    @staticmethod
    def forward(ctx, before: tuple[_Before, _Before], x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.before = before
        ctx.save_for_backward(x, *parameters)
        y = _convolved(before[1], _convolved(before[0], x, *parameters[:4]), *parameters[4:8])
        y += _convolved(_Before(), x, *parameters[8:]) if parameters[8:] else x
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        first, second, shortcut = parameters[:4], parameters[4:8], parameters[8:]
        dh, *of_second = _gradients(ctx.before[1], dy, None, _convolved(ctx.before[0], x, *first), *second)
        dx, *of_first = _gradients(ctx.before[0], dh, None, x, *first)
        del dh
        if not shortcut:
            return None, dx.add_(dy), *of_first, *of_second
        dx, *of_shortcut = _gradients(_Before(), dy, dx, x, *shortcut)
        return None, dx, *of_first, *of_second, *of_shortcut


def usable(x: Tensor) -> bool:
    """Whether ``x (N, C, ...)`` is on a CPU and no autocast asks for another precision."""
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def convolution(block: nn.Module, x: Tensor, norm: nn.GroupNorm | None = None) -> Tensor:
    """MONAI's convolution of ``x (N, C, ...)`` that keeps its size, or of the GroupNorm of it."""
    before, of_norm = _before(norm, None) if norm else (_Before(), ())
    return _Convolution.apply(before, x, block.conv.weight, block.conv.bias, *of_norm)


def upsample(block: Upsample, x: Tensor) -> Tensor:
    """MONAI's upsampling of ``x (N, C, ...)`` to the nearest neighbour, twice as large, and its convolution."""
    return _Convolution.apply(_Before(factor=2), x, block.postconv.conv.weight, block.postconv.conv.bias)


def residual(block: AEKLResBlock, x: Tensor, first: Condition = None, second: Condition = None) -> Tensor:
    """MONAI's residual block of ``x (N, C, ...)``.

    Args:
        block: the block.
        x: its input, of one sample where there are conditions.
        first: of its first GroupNorm.
        second: of its second one.
    """
    before, parameters = [], []
    for norm, condition, conv in ((block.norm1, first, block.conv1.conv), (block.norm2, second, block.conv2.conv)):
        how, of_norm = _before(norm, condition, silu=True)
        before.append(how)
        parameters += [conv.weight, conv.bias, *of_norm]
    if not isinstance(block.nin_shortcut, nn.Identity):
        parameters += [block.nin_shortcut.conv.weight, block.nin_shortcut.conv.bias]
    return _Residual.apply(tuple(before), x, *parameters)


def _before(norm: nn.GroupNorm, condition: Condition, silu: bool = False) -> tuple[_Before, tuple[Tensor, Tensor]]:
    weight, bias = norm.weight, norm.bias
    if condition is not None:
        (scale,), (shift,) = condition
        weight, bias = scale * weight, scale * bias + shift
    return _Before(norm.num_groups, norm.eps, silu), (weight, bias)

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

"""MONAI's encoder, conditioned on the acquisition."""

from collections.abc import Callable, Container, Iterable
from functools import partial

import torch
import torch.nn.functional as F
from monai.networks.blocks import SpatialAttentionBlock
from monai.networks.nets.autoencoderkl import AEKLDownsample, AEKLResBlock, Encoder
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import slabs
from .conditioning import adaptive_group_norm


def encode_contrasts(
    encoder: Encoder,
    h: Tensor,
    conditions: Iterable[tuple[Tensor, Tensor] | None],
    levels: Container[str] | None = None,
    checkpointing: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """MONAI's encoder, block by block, with every GroupNorm made adaptive.

    Args:
        encoder: that of an :class:`monai.networks.nets.AutoencoderKL`.
        h: single contrasts ``(N, 1, ...)``.
        conditions: scale and shift of each GroupNorm, in the encoder's order.
        levels: whose features are wanted, the finest is "0"; None for all.
        checkpointing: see :func:`recomputed`; contrasts are encoded one after another then.

    Returns:
        The encoder's output ``(N, L, ...)``, and features at the end of levels but the coarsest.
    """
    if not checkpointing:
        return _encode(encoder, h, conditions, levels, False)
    conditions, made = [*conditions], []
    for number in range(len(h)):
        own = [pair and tuple(one[number : number + 1] for one in pair) for pair in conditions]
        made.append(recomputed(_encode, encoder, h[number : number + 1], own, levels, True, enabled=True))
    outputs, features = zip(*made)
    return torch.cat(outputs), {level: torch.cat([one[level] for one in features]) for level in features[0]}


def _encode(
    encoder: Encoder,
    h: Tensor,
    conditions: Iterable[tuple[Tensor, Tensor] | None],
    levels: Container[str] | None,
    checkpointing: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    features, conditions, level = {}, iter(conditions), 0
    lean = checkpointing and slabs.usable(h)
    convolved = slabs.residual if lean else partial(recomputed, residual, enabled=checkpointing)
    for block in encoder.blocks:
        if isinstance(block, AEKLResBlock):
            h = convolved(block, h, next(conditions), next(conditions))
        elif isinstance(block, SpatialAttentionBlock):
            tokens = adaptive_group_norm(block.norm, h, next(conditions)).flatten(2).transpose(1, 2)
            h = h + block.attn(tokens).transpose(1, 2).reshape(h.shape)
        elif isinstance(block, nn.GroupNorm):
            h = adaptive_group_norm(block, h, next(conditions))
        else:
            if isinstance(block, AEKLDownsample):
                if levels is None or str(level) in levels:
                    features[str(level)] = h
                level += 1
            h = block(h)
    return h, features


def recomputed(block: Callable[..., Tensor], *inputs: object, enabled: bool) -> Tensor:
    """The output of a block, of which training keeps the inputs alone, and computes the rest anew for gradients.

    Chen et al. 2016, Training deep nets with sublinear memory cost (arXiv:1604.06174).

    Args:
        block: called with the inputs.
        inputs: of the block.
        enabled: False computes as usual.
    """
    if not (enabled and torch.is_grad_enabled()):
        return block(*inputs)
    return checkpoint(block, *inputs, use_reentrant=False)


def residual(
    block: AEKLResBlock,
    h: Tensor,
    first: tuple[Tensor, Tensor] | None = None,
    second: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """MONAI's residual block with adaptive GroupNorms.

    Args:
        block: the block.
        h: its input ``(N, C, ...)``.
        first: scale and shift of its first GroupNorm; None for none.
        second: of its second one.
    """
    x = block.nin_shortcut(h)
    h = block.conv1(_activated(block.norm1, h, first))
    return x + block.conv2(_activated(block.norm2, h, second))


def _activated(norm: nn.GroupNorm, h: Tensor, condition: tuple[Tensor, Tensor] | None) -> Tensor:
    return F.silu(adaptive_group_norm(norm, h, condition))

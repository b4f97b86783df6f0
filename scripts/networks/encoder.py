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

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from monai.networks.blocks import SpatialAttentionBlock
from monai.networks.nets.autoencoderkl import AEKLDownsample, AEKLResBlock, Encoder
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .conditioning import adaptive_group_norm


def encode_contrasts(
    encoder: Encoder, h: Tensor, conditions: Iterator[tuple[Tensor, Tensor] | None], checkpointing: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """MONAI's encoder, block by block, with every GroupNorm made adaptive.

    Args:
        encoder: that of an :class:`monai.networks.nets.AutoencoderKL`.
        h: single contrasts ``(N, 1, ...)``.
        conditions: scale and shift of each GroupNorm, in the encoder's order.
        checkpointing: see :func:`recomputed`.

    Returns:
        The encoder's output ``(N, L, ...)``, and the features at the end of each level but the coarsest, by its number.
    """
    features = {}
    for block in encoder.blocks:
        if isinstance(block, AEKLResBlock):
            h = recomputed(_residual, block, h, next(conditions), next(conditions), enabled=checkpointing)
        elif isinstance(block, SpatialAttentionBlock):
            tokens = adaptive_group_norm(block.norm, h, next(conditions)).flatten(2).transpose(1, 2)
            h = h + block.attn(tokens).transpose(1, 2).reshape(h.shape)
        elif isinstance(block, nn.GroupNorm):
            h = adaptive_group_norm(block, h, next(conditions))
        else:
            if isinstance(block, AEKLDownsample):
                features[str(len(features))] = h
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


def _residual(
    block: AEKLResBlock, h: Tensor, first: tuple[Tensor, Tensor] | None, second: tuple[Tensor, Tensor] | None
) -> Tensor:
    x = block.nin_shortcut(h)
    h = block.conv1(F.silu(adaptive_group_norm(block.norm1, h, first)))
    return x + block.conv2(F.silu(adaptive_group_norm(block.norm2, h, second)))

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

"""The diffusion networks of the generator: transformers on patches of latents, told what is to be made."""

from collections.abc import Sequence

import torch
from monai.networks.blocks import CrossAttentionBlock, MLPBlock
from monai.networks.blocks.selfattention import SABlock
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from torch import Tensor, nn

from ..errors import UserError
from ..tissue.fractions import VOLUMES
from .conditioned import Conditioned
from .patches import from_patches, to_patches

TOLD_BY = ("norm", "concatenation", "attention")
"""Ways of telling a network its conditions."""


class DiffusionTransformer(Conditioned):
    """Transformer with adaptive layer norm on patches of latents. Defaults are the shipped network.

    Peebles and Xie 2023, Scalable diffusion models with transformers (arXiv:2212.09748), "adaLN-Zero". The call is that
    of MONAI's DiffusionModelUNet. Conditions are physical numbers, NaN where nothing is asked: any of them may be
    missing, which is also what classifier-free guidance compares with (``cfg_fill_value=nan`` of MONAI's inferers).

    :attr:`mode`, :attr:`unasked` and :meth:`condition` are what samplers and training ask of a diffusion network.

    Args:
        latent_size: spatial size of a latent, in multiples of ``patch``.
        latent_channels: L.
        conditions: names of the conditions, in the order of ``context``.
        patch: edge of a patch.
        width: channels of a token.
        depth: blocks.
        heads: attention heads.
        columns: names of conditions that are columns of a ``participants.tsv``, after the others in ``context``.
        through: the prediction is that of the blocks plus the noisy latents times factors that depend on time and
            conditions: without it a token that is narrower than its patch cannot hold all that is to be predicted.
        told_by: how the network is told: ``norm``, conditions shift and scale what every block normalises;
            ``concatenation``, they are channels of every token besides; ``attention``, every block looks at them by
            cross-attention besides, each condition being a token. Pinaya et al. 2022 (arXiv:2209.07162) have the last
            two.

    Raises:
        UserError: for another way.
    """

    mode = "crossattn"
    unasked = float("nan")

    def __init__(
        self,
        latent_size: Sequence[int] = (22, 28),
        latent_channels: int = 32,
        conditions: Sequence[str] = ("position", "ventricle", "brain", "lesions"),
        patch: int = 2,
        width: int = 256,
        depth: int = 8,
        heads: int = 4,
        columns: Sequence[str] = (),
        told_by: str = "norm",
        through: bool = False,
    ) -> None:
        super().__init__()
        if told_by not in TOLD_BY:
            raise UserError("told_by", repr(told_by), f"use one of {', '.join(TOLD_BY)}")
        self.factor, self.width, self.told_by = patch, width, told_by
        self.register_conditions(conditions, columns)
        tokens = torch.Size(n // patch for n in latent_size).numel()
        values = latent_channels * patch ** len(latent_size)
        self.embed = nn.Linear(values, width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.told = nn.Sequential(nn.Linear(2 * len(self.conditions), width), nn.SiLU(), nn.Linear(width, width))
        by_attention = told_by == "attention"
        self.blocks = nn.ModuleList(AdaptiveBlock(width, heads, by_attention) for _ in range(depth))
        if told_by == "concatenation":
            self.beside = nn.Linear(2 * len(self.conditions), width, bias=False)
        if by_attention:
            self.names = nn.Parameter(0.02 * torch.randn(len(self.conditions), width))
            self.values = nn.Parameter(0.02 * torch.randn(2, len(self.conditions), width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.adapt, self.out = nn.Linear(width, 2 * width), nn.Linear(width, values)
        self.through = nn.Linear(width, values) if through else None
        zero = [self.adapt, self.out, *([self.through] if through else [])]
        for layer in (*zero, *(block.adapt for block in self.blocks)):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        """The prediction ``(B, L, ...)`` for noisy latents.

        Args:
            x: noisy latents ``(B, L, ...)``.
            timesteps: of each ``(B,)``, or of all ``(1,)``, from 0 (no noise) to 1000.
            context: the conditions ``(B, C)`` in the units of the training data, NaN where nothing is asked; None for
                nothing at all.
        """
        patches = to_patches(x, self.factor)
        predicted = self.predict(self.embed(patches), patches, timesteps, context)
        return from_patches(predicted, self.factor, x.shape[2:])

    def predict(self, h: Tensor, patches: Tensor, timesteps: Tensor, context: Tensor | None) -> Tensor:
        """The prediction of patches ``(B, N, values)`` that are embedded as tokens ``h (B, N, width)``."""
        nothing = h.new_zeros(len(h), 2 * len(self.conditions))
        known = nothing if context is None else self.standardise(context).to(h)
        embedding = self.time(get_timestep_embedding(timesteps.float(), self.width))
        embedding = nn.functional.silu(embedding + self.told(known))
        h, tokens = h + self.positions, None
        if self.told_by == "concatenation":
            h = h + self.beside(known)[:, None]
        if self.told_by == "attention":
            # Of each condition its value and whether it is known.
            tokens = self.names + torch.einsum("bkc,kcw->bcw", known.unflatten(1, (2, -1)), self.values)
        for block in self.blocks:
            h = block(h, embedding, tokens)
        shift, scale = self.adapt(embedding)[:, None].chunk(2, -1)
        predicted = self.out(self.norm(h) * (1 + scale) + shift)
        return predicted if self.through is None else predicted + self.through(embedding)[:, None] * patches

    def condition(self, asked: Tensor, size: tuple[int, ...]) -> Tensor:
        """Conditions ``(B, C)``, NaN where nothing is asked, as the call takes them: as they are."""
        return asked


class CoarseTransformer(DiffusionTransformer):
    """Whole heads in cells of 16 mm, told volumes in mL. Defaults are the shipped network.

    Args:
        latent_size: spatial size of a latent, in multiples of ``patch``.
        others: as of :class:`DiffusionTransformer`.
    """

    def __init__(
        self,
        latent_size: Sequence[int] = (12, 14, 10),
        latent_channels: int = 32,
        conditions: Sequence[str] = tuple(VOLUMES),
        patch: int = 2,
        width: int = 160,
        depth: int = 5,
        heads: int = 5,
        columns: Sequence[str] = (),
        told_by: str = "norm",
        through: bool = True,
    ) -> None:
        others = columns, told_by, through
        super().__init__(latent_size, latent_channels, conditions, patch, width, depth, heads, *others)


class AdaptiveBlock(nn.Module):
    """Self-attention and a perceptron, whose input is scaled and shifted, and whose output is scaled, by an embedding.

    The scales of the outputs start at zero, so a new block is the identity.

    Args:
        width: channels of a token.
        heads: attention heads.
        crossed: whether there is cross-attention to other tokens, too.
    """

    def __init__(self, width: int, heads: int, crossed: bool = False) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SABlock(width, heads, qkv_bias=True)
        self.perceptron = MLPBlock(width, 4 * width)
        self.adapt = nn.Linear(width, 6 * width)
        self.cross = CrossAttentionBlock(width, heads) if crossed else None
        if crossed:
            nn.init.zeros_(self.cross.out_proj.weight), nn.init.zeros_(self.cross.out_proj.bias)

    def forward(self, h: Tensor, embedding: Tensor, others: Tensor | None = None) -> Tensor:
        """Tokens ``(B, N, width)`` after the block.

        Args:
            h: the tokens.
            embedding: ``(B, width)``, or ``(1, width)`` for all.
            others: tokens to look at by cross-attention ``(B, M, width)``, where the block has it.
        """
        shift, scale, gate, shift2, scale2, gate2 = self.adapt(embedding)[:, None].chunk(6, -1)
        h = h + gate * self.attention(self.norm(h) * (1 + scale) + shift)
        if self.cross is not None:
            h = h + self.cross(self.norm(h), others)
        return h + gate2 * self.perceptron(self.norm(h) * (1 + scale2) + shift2)

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

"""The diffusion network of the generator: a transformer on patches of a latent, told what the slice is to be like."""

from collections.abc import Sequence

import torch
from monai.networks.blocks import MLPBlock
from monai.networks.blocks.selfattention import SABlock
from monai.networks.nets.diffusion_model_unet import get_timestep_embedding
from torch import Tensor, nn

from .conditioned import Conditioned


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
    ) -> None:
        super().__init__()
        self.factor, self.width = patch, width
        self.register_conditions(conditions, columns)
        tokens, values = torch.Size(n // patch for n in latent_size).numel(), latent_channels * patch**2
        self.embed = nn.Linear(values, width)
        self.positions = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.told = nn.Sequential(nn.Linear(2 * len(self.conditions), width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(AdaptiveBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.adapt, self.out = nn.Linear(width, 2 * width), nn.Linear(width, values)
        for layer in (self.adapt, self.out, *(block.adapt for block in self.blocks)):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        """The prediction ``(B, L, ...)`` for noisy latents.

        Args:
            x: noisy latents ``(B, L, ...)``.
            timesteps: of each ``(B,)``, or of all ``(1,)``, from 0 (no noise) to 1000.
            context: the conditions ``(B, C)`` in the units of the training data, NaN where nothing is asked; None for
                nothing at all.
        """
        embedding = self.time(get_timestep_embedding(timesteps.float(), self.width))
        nothing = x.new_zeros(len(x), 2 * len(self.conditions))
        told = self.told(nothing if context is None else self.standardise(context).to(x))
        embedding = nn.functional.silu(embedding + told)
        h = self.embed(self._to_tokens(x)) + self.positions
        for block in self.blocks:
            h = block(h, embedding)
        shift, scale = self.adapt(embedding)[:, None].chunk(2, -1)
        return self._to_latents(self.out(self.norm(h) * (1 + scale) + shift), x.shape)

    def condition(self, asked: Tensor, size: tuple[int, ...]) -> Tensor:
        """Conditions ``(B, C)``, NaN where nothing is asked, as the call takes them: as they are."""
        return asked

    def _to_tokens(self, x: Tensor) -> Tensor:
        """Latents ``(B, L, H, W)`` -> patches ``(B, N, L P P)``."""
        return nn.functional.unfold(x, self.factor, stride=self.factor).transpose(1, 2)

    def _to_latents(self, tokens: Tensor, shape: torch.Size) -> Tensor:
        return nn.functional.fold(tokens.transpose(1, 2), shape[2:], self.factor, stride=self.factor)


class AdaptiveBlock(nn.Module):
    """Self-attention and a perceptron, whose input is scaled and shifted, and whose output is scaled, by an embedding.

    The scales of the outputs start at zero, so a new block is the identity.

    Args:
        width: channels of a token.
        heads: attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SABlock(width, heads, qkv_bias=True)
        self.perceptron = MLPBlock(width, 4 * width)
        self.adapt = nn.Linear(width, 6 * width)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Tokens ``(B, N, width)`` after the block; ``embedding`` is ``(B, width)``, or ``(1, width)`` for all."""
        shift, scale, gate, shift2, scale2, gate2 = self.adapt(embedding)[:, None].chunk(6, -1)
        h = h + gate * self.attention(self.norm(h) * (1 + scale) + shift)
        return h + gate2 * self.perceptron(self.norm(h) * (1 + scale2) + shift2)

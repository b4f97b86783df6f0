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

"""The diffusion network that makes the slices of a head of which a coarse volume is known."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .levels import at_levels
from .patches import from_patches, to_patches
from .transformer import DiffusionTransformer

OWN = ("surroundings.weight", "guess_weight", "guess_bias", "guess_sd", "correlation_mm")
"""What a generator of single slices lacks; a new network's values stand for it."""
RIDGE = 1e-5
WIDER = 1.5
"""Factor of the standard deviation of what a flow begins with: slices that were made are not as right as true ones."""


class Surroundings(NamedTuple):
    """What is known around slices.

    Attributes:
        coarse: fractions of the coarse volume at the level of each slice, of the one below and of the one above
            ``(B, 3, K, H, W)``.
        below: latents of the slices below ``(B, L, H, W)``.
        above: likewise above.
        distance: to these [mm] ``(B, 2)``; infinite where a slice is not known.
    """

    coarse: Tensor
    below: Tensor
    above: Tensor
    distance: Tensor

    @classmethod
    def of(cls, volume: Tensor, positions: Tensor, below: Tensor, above: Tensor, distance: Tensor) -> "Surroundings":
        """The surroundings of slices at these levels [mm above the centre of the cerebrum] ``(B,)`` in coarse volumes.

        ``volume`` are fractions ``(B, K, X, Y, Z)``, or ``(1, K, X, Y, Z)`` of one head for all.
        """
        known = distance.where(distance < torch.inf, 0)
        levels = positions, positions - known[:, 0], positions + known[:, 1]
        coarse = torch.stack([at_levels(volume, level, tuple(below.shape[2:])) for level in levels], 1)
        return cls(coarse, below, above, distance)

    @property
    def channels(self) -> Tensor:
        """As channels of an image ``(B, K + 2 (L + 1), H, W)``: coarse fractions, slices, one over their distances."""
        near = (1 / self.distance)[:, :, None, None].expand(-1, -1, *self.below.shape[2:])
        return torch.cat([self.coarse[:, 0], *(self._known(k) for k in range(2)), near], 1)

    def _known(self, side: int) -> Tensor:
        """Latents of the slices on a side, 0 where they are not known."""
        known = self.distance[:, side, None, None, None] < torch.inf
        return torch.where(known, (self.below, self.above)[side], 0)


class RefiningTransformer(DiffusionTransformer):
    """Slices of a head of which a coarse volume is known, and perhaps the nearest slices below and above.

    With nothing of that it is the generator of single slices: its weights are those of a
    :class:`DiffusionTransformer` and one matrix more, which starts at zero. Its flow begins where :meth:`begin` says:
    not with noise, but near the slices that are known. Defaults are the shipped network.

    Args:
        latent_size: spatial size of a latent, in multiples of ``patch``.
        latent_channels: L.
        coarse_channels: K, classes of the coarse volume.
        conditions: as the following of :class:`DiffusionTransformer`.
        patch: edge of a patch.
        width: channels of a token.
        depth: blocks.
        heads: attention heads.
        columns: names of columns.
        told_by: how the network is told.
    """

    def __init__(
        self,
        latent_size: Sequence[int] = (22, 28),
        latent_channels: int = 32,
        coarse_channels: int = 16,
        conditions: Sequence[str] = ("position", "ventricle", "brain", "lesions"),
        patch: int = 2,
        width: int = 256,
        depth: int = 8,
        heads: int = 4,
        columns: Sequence[str] = (),
        told_by: str = "norm",
    ) -> None:
        super().__init__(latent_size, latent_channels, conditions, patch, width, depth, heads, columns, told_by)
        values = (coarse_channels + 2 * (latent_channels + 1)) * self.factor ** len(latent_size)
        self.surroundings = nn.Linear(values, self.width, bias=False)
        nn.init.zeros_(self.surroundings.weight)
        self.register_buffer("guess_weight", torch.zeros(coarse_channels, latent_channels))
        self.register_buffer("guess_bias", torch.zeros(latent_channels))
        self.register_buffer("guess_sd", torch.ones(latent_channels))
        self.register_buffer("correlation_mm", torch.full((latent_channels,), 8.0))

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, around: Tensor | None = None
    ) -> Tensor:
        """The prediction ``(B, L, ...)`` for noisy latents; ``around`` is :attr:`Surroundings.channels`, the other
        arguments are those of :meth:`DiffusionTransformer.forward`.
        """
        patches = to_patches(x, self.factor)
        h = self.embed(patches)
        if around is not None:
            h = h + self.surroundings(to_patches(around, self.factor))
        return from_patches(self.predict(h, patches, timesteps, context), self.factor, x.shape[2:])

    def begin(self, noise: Tensor, known: Surroundings) -> Tensor:
        r"""Where the flow of slices begins ``(B, L, H, W)``: a draw from what is known of them, linearly.

        A latent is :math:`z = W^T c + b + r` with the coarse fractions ``c`` at its level. Each channel of ``r`` is
        taken for a Gaussian process along the head with the correlation
        :math:`\rho(d) = (1 + \sqrt{3}\,d/l)\,e^{-\sqrt{3}\,d/l}` (Matérn 3/2), so that the slices below and above say
        what it is halfway. The draw is wider by the factor :data:`WIDER`, but no wider than the noise.
        """
        near = self._correlation(known.distance)
        far = self._correlation(known.distance.sum(1, keepdim=True))
        weights = (near - near.flip(1) * far) / (1 - far**2)
        unknown = (1 - (weights * near).sum(1)).clamp_min(0).sqrt()
        guess = torch.einsum("bnkhw,kl->bnlhw", known.coarse, self.guess_weight) + self.guess_bias[:, None, None]
        begun = guess[:, 0] + (WIDER * self.guess_sd * unknown).clamp_max(1)[:, :, None, None] * noise
        for side, latent in enumerate((known.below, known.above)):
            is_known = known.distance[:, side, None, None, None] < torch.inf
            begun = begun + weights[:, side, :, None, None] * torch.where(is_known, latent - guess[:, 1 + side], 0)
        return begun

    def fit_beginning(self, coarse: Tensor, latents: Tensor, distance: float) -> None:
        """Sets what :meth:`begin` depends on, from pairs of slices.

        Args:
            coarse: fractions of the coarse volume at their levels ``(N, 2, K, H, W)``.
            latents: their latents ``(N, 2, L, H, W)``.
            distance: between the two of a pair [mm].
        """
        x, z = (one.movedim(2, -1).flatten(0, -2).double() for one in (coarse, latents))
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        # Fractions add up to 1: a little ridge makes the solution unique.
        ridge = RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        weight = torch.linalg.solve(x.T @ x + ridge, x.T @ z)
        rest = (z - x @ weight).unflatten(0, (len(latents), 2, -1))
        variance = rest.square().mean((0, 1, 2))
        found = 1 - (rest[:, 0] - rest[:, 1]).square().mean((0, 1)) / (2 * variance)
        lengths = torch.logspace(-0.3, 2.5, 400)
        nearest = (matern(torch.tensor(distance), lengths) - found[:, None].cpu()).abs().argmin(1)
        self.guess_weight.copy_(weight[:-1]), self.guess_bias.copy_(weight[-1])
        self.guess_sd.copy_(variance.sqrt()), self.correlation_mm.copy_(lengths[nearest])

    def _correlation(self, distance: Tensor) -> Tensor:
        """Of each channel at distances ``(B, N)``: ``(B, N, L)``."""
        return matern(distance[:, :, None], self.correlation_mm)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *others) -> None:
        """As torch has it, but takes weights of a generator of single slices, too."""
        for name in OWN:
            state_dict.setdefault(prefix + name, self.state_dict()[name])
        super()._load_from_state_dict(state_dict, prefix, *others)


def matern(distance: Tensor, length: Tensor) -> Tensor:
    """The correlation of a Matérn process of order 3/2 at a distance; 0 at an infinite one."""
    a = sqrt(3) * distance / length
    return torch.where(a < torch.inf, (1 + a) * (-a).exp(), 0)

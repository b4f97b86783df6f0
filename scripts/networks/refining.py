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

import torch
from torch import Tensor, nn

from .patches import from_patches, to_patches
from .transformer import DiffusionTransformer

WIDER = 1.5
"""Factor of the standard deviation of what a flow begins with: slices that were made are not as right as true ones."""


class RefiningTransformer(DiffusionTransformer):
    """Slices of a head of which a coarse volume is known, and perhaps the nearest slices below and above.

    With nothing of that it is the generator of single slices: its weights are those of a
    :class:`DiffusionTransformer` and one matrix more, which starts at zero. Its flow begins where :meth:`begin` says:
    not with noise, but near the slices that are known. Defaults are the shipped network.

    Args:
        latent_size: spatial size of a latent, in multiples of ``patch``.
        latent_channels: L.
        coarse_channels: K, classes of the coarse volume.
        others: as of :class:`DiffusionTransformer`.
    """

    def __init__(
        self, latent_size: Sequence[int] = (22, 28), latent_channels: int = 32, coarse_channels: int = 16, **others
    ) -> None:
        super().__init__(latent_size, latent_channels, **others)
        values = (coarse_channels + 2 * (latent_channels + 1)) * self.factor ** len(latent_size)
        self.surroundings = nn.Linear(values, self.width, bias=False)
        nn.init.zeros_(self.surroundings.weight)
        self.register_buffer("correlation_mm", torch.full((latent_channels,), 8.0))

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor | None = None, around: Tensor | None = None
    ) -> Tensor:
        """The prediction ``(B, L, ...)`` for noisy latents; ``around (B, K + 2 (L + 1), ...)`` is made by
        :func:`surround`, the other arguments are those of :meth:`DiffusionTransformer.forward`.
        """
        patches = to_patches(x, self.factor)
        h = self.embed(patches)
        if around is not None:
            h = h + self.surroundings(to_patches(around, self.factor))
        return from_patches(self.predict(h, patches, timesteps, context), self.factor, x.shape[2:])

    def begin(self, noise: Tensor, below: Tensor, above: Tensor, distance: Tensor) -> Tensor:
        r"""Where the flow of slices begins ``(B, L, H, W)``.

        Each channel is taken for a Gaussian process along the head with the correlation
        :math:`\rho(d) = (1 + \sqrt{3}\,d/l)\,e^{-\sqrt{3}\,d/l}` (Matérn 3/2): the flow begins with a draw from what
        the known slices say of this one, wider by the factor :data:`WIDER`; with noise, where none is known.

        Args:
            noise: the noise.
            below: latents of the slices below.
            above: likewise above.
            distance: to these [mm] ``(B, 2)``; infinite where a slice is not known.
        """
        near, far = self._correlation(distance), self._correlation(distance.sum(1, keepdim=True))
        weights = (near - near.flip(1) * far) / (1 - far**2)
        spread = (WIDER * (1 - (weights * near).sum(1)).clamp_min(0).sqrt()).clamp_max(1)
        known = distance < torch.inf
        begun = spread[:, :, None, None] * noise
        for k, latent in enumerate((below, above)):
            begun = begun + weights[:, k, :, None, None] * torch.where(known[:, k, None, None, None], latent, 0)
        return begun

    def measure_correlation(self, latents: Tensor, others: Tensor, distance: float) -> None:
        """Sets the correlation lengths.

        Args:
            latents: of slices ``(N, L, H, W)``.
            others: those of slices at this distance from them.
            distance: the distance [mm].
        """
        variance = torch.cat([latents, others]).var((0, 2, 3))
        found = 1 - (latents - others).square().mean((0, 2, 3)) / (2 * variance)
        lengths = torch.logspace(-0.3, 2.5, 400)
        expected = matern(torch.tensor(distance), lengths)
        self.correlation_mm.copy_(lengths[(expected - found[:, None].cpu()).abs().argmin(1)])

    def _correlation(self, distance: Tensor) -> Tensor:
        """Of each channel at distances ``(B, N)``: ``(B, N, L)``."""
        return matern(distance[:, :, None], self.correlation_mm)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *others) -> None:
        """As torch has it, but takes weights of a generator of single slices, too."""
        own = {"surroundings.weight": torch.zeros_like(self.surroundings.weight), "correlation_mm": self.correlation_mm}
        for name, value in own.items():
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *others)


def surround(coarse: Tensor, below: Tensor, above: Tensor, distance: Tensor) -> Tensor:
    """What a :class:`RefiningTransformer` knows around slices ``(B, K + 2 (L + 1), H, W)``.

    Args:
        coarse: fractions of the coarse volume at the level of each slice ``(B, K, H, W)``.
        below: latents of the slices below ``(B, L, H, W)``.
        above: likewise above.
        distance: to these [mm] ``(B, 2)``; infinite where a slice is not known.
    """
    near = (1 / distance)[:, :, None, None].expand(-1, -1, *coarse.shape[2:])
    known = near > 0
    parts = [torch.where(known[:, k : k + 1], latent, 0) for k, latent in enumerate((below, above))]
    return torch.cat([coarse, *parts, near], 1)


def matern(distance: Tensor, length: Tensor) -> Tensor:
    """The correlation of a Matérn process of order 3/2 at a distance; 0 at an infinite one."""
    a = sqrt(3) * distance / length
    return torch.where(a < torch.inf, (1 + a) * (-a).exp(), 0)

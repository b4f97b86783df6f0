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

"""The codecs of the generator: linear latents of tissue fractions, and the network that reads those of slices."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from monai.networks.nets.autoencoderkl import Decoder
from torch import Tensor, nn

from ..tissue import FRACTIONS, class_values
from ..tissue.fractions import mix_fractions
from .group_norm import use_fast_group_norm
from .patches import from_patches, to_patches

BLOCK = 8
"""Edge of a block of voxels, which is one place of the latent."""
IMPORTANCE = {
    "air": 0.7,
    "ventricle": 1.3,
    "caudate and putamen": 1.6,
    "thalamus": 1.6,
    "pallidum": 2.0,
    "brain stem": 1.6,
    "lesion": 1.8,
    "vessel": 0.8,
    "muscle": 0.7,
    "scalp": 0.7,
    "other soft tissue": 0.7,
    "marrow": 0.6,
    "bone": 0.8,
}
"""Class -> weight of its fraction in the latent; 1 for the others."""
LEAST = 1e-4
"""PD, T1 [s] and T2 [s] of air, which has no logarithm otherwise."""
DOUBT = 0.02
"""Fractions below it are the decoder's doubt, not partial volume: 1 % of white matter would shorten T2 of fluid by a
fifth."""
CRISPNESS = 1.5
"""Factor of the logits where fractions are read: the least cross-entropy spreads doubt over the classes, at 1, as if it
were partial volume. At 1.5 reconstructions of held-out heads are as mixed as the heads, and least wrong (L1)."""
COARSE_DOUBT = 0.05
"""Likewise in coarse volumes: what the transform loses, not tissue."""
COLOUR = 0.25
"""Power of an eigenvalue that scales its channel: 0 is white, 0.5 leaves the variances as they are.

In between, details drown in noise before the layout does, so diffusion decides on the layout first."""


class LinearLatent(nn.Module):
    r"""Fractions -> latent by the Karhunen-Loève transform of blocks; nothing of it is trained by gradient.

    A block of ``edge`` voxels along each of ``dims`` axes, of K weighted fractions each, is a vector ``x``; its latent
    is :math:`z = s\,\lambda^{1/4}\,\lambda^{-1/2}\,V^T (x - m)`: white up to the factor of each channel, which is the
    fourth root of its eigenvalue, and of mean variance 1.

    Args:
        latent_channels: L.
        edge: of a block.
        dims: of the images: 2 or 3.
        field_strength: whose literature values give the log maps [T].

    Raises:
        UserError: for a field strength that tissue is not known at.
    """

    def __init__(self, latent_channels: int, edge: int, dims: int, field_strength: float = 3.0) -> None:
        super().__init__()
        values = len(FRACTIONS) * edge**dims
        self.latent_channels, self.edge, self.dims = latent_channels, edge, dims
        importance = torch.tensor([IMPORTANCE.get(name, 1.0) for name in FRACTIONS])
        self.register_buffer("importance", importance.view(-1, *[1] * dims), persistent=False)
        tissue = torch.tensor([class_values(name, field_strength) for name in FRACTIONS])
        self.register_buffer("tissue", tissue, persistent=False)
        self.register_buffer("mean", torch.zeros(values))
        self.register_buffer("basis", torch.eye(values, latent_channels))
        self.register_buffer("gain", torch.ones(latent_channels))

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> Tensor:
        """Sets the transform from training images; returns all eigenvalues, the largest first.

        Args:
            batches: fractions ``(B, K, ...)``.
        """
        values = len(self.mean)
        count, total, products = 0, torch.zeros(values).double(), torch.zeros(values, values).double()
        for fractions in batches:
            blocks = self._blocks(fractions).flatten(0, 1)
            count, total = count + len(blocks), total + blocks.sum(0)
            products += blocks.T @ blocks
        mean = total / count
        eigenvalues, vectors = torch.linalg.eigh(products / count - mean[:, None] * mean)
        eigenvalues, vectors = eigenvalues.flip(0), vectors.flip(1)[:, : self.latent_channels]
        # Eigenvectors have no sign of their own: the largest element is positive.
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        kept = eigenvalues[: self.latent_channels]
        self.mean.copy_(mean), self.basis.copy_(vectors)
        self.gain.copy_(kept ** (COLOUR - 0.5) / (kept ** (2 * COLOUR)).mean().sqrt())
        return eigenvalues

    def encode(self, fractions: Tensor) -> Tensor:
        """Latents ``(B, L, ...)`` of fractions ``(B, K, ...)``, which are ``edge`` times as large."""
        z = (self._blocks(fractions) - self.mean) @ self.basis * self.gain
        return from_patches(z, 1, [size // self.edge for size in fractions.shape[2:]])

    def reconstruct(self, z: Tensor) -> Tensor:
        """The linear reconstruction ``(B, K, ...)``, which need not lie between 0 and 1."""
        blocks = (to_patches(z.float(), 1) / self.gain) @ self.basis.T + self.mean
        return from_patches(blocks, self.edge, [self.edge * n for n in z.shape[2:]]) / self.importance

    def encode_stage_2_inputs(self, fractions: Tensor) -> Tensor:
        """As :meth:`encode`, for MONAI's LatentDiffusionInferer."""
        return self.encode(fractions)

    def decode_stage_2_outputs(self, z: Tensor) -> Tensor:
        """Log maps ``(B, 3, ...)`` with the values of the literature, for MONAI's LatentDiffusionInferer."""
        return mix_fractions(self.decode(z), self.tissue).clamp_min(LEAST).log()

    def _blocks(self, fractions: Tensor) -> Tensor:
        """Weighted fractions of each block ``(B, N, K edge^dims)``."""
        return to_patches(fractions * self.importance, self.edge)


class CoarseCodec(LinearLatent):
    """Tissue of a whole head in cells of 8 mm -> latent of 16 mm -> tissue. Defaults are the shipped one.

    Args:
        latent_channels: L.
        edge: of a block [cells].
    """

    def __init__(self, latent_channels: int = 32, edge: int = 2) -> None:
        super().__init__(latent_channels, edge, dims=3)

    def decode(self, z: Tensor) -> Tensor:
        """Fractions ``(B, K, X, Y, Z)`` of latents: the linear reconstruction, 0 below :data:`COARSE_DOUBT`."""
        fractions = self.reconstruct(z)
        kept = fractions * (fractions > COARSE_DOUBT)
        return kept / kept.sum(1, keepdim=True)


class FractionCodec(LinearLatent):
    """Tissue fractions -> latent -> tissue fractions. Defaults are the shipped network.

    The latent is linear, of blocks of 8 x 8 voxels. Back from there, the logits of the fractions are the linear
    reconstruction, sharpened, plus those of a convolutional decoder, which is trained alone.

    Args:
        latent_channels: L.
        channels: width of the decoder at each level, the finest first; that one has voxels of 2 mm.
        num_res_blocks: residual blocks at each level.
        norm_num_groups: groups of every GroupNorm.
        field_strength: whose literature values give the log maps [T].

    Raises:
        UserError: for a field strength that tissue is not known at.
    """

    def __init__(
        self,
        latent_channels: int = 32,
        channels: Sequence[int] = (64, 96, 128),
        num_res_blocks: Sequence[int] = (1, 2, 2),
        norm_num_groups: int = 16,
        field_strength: float = 3.0,
    ) -> None:
        super().__init__(latent_channels, BLOCK, 2, field_strength)
        self.decoder = Decoder(
            spatial_dims=2,
            channels=channels,
            in_channels=latent_channels,
            out_channels=4 * len(FRACTIONS),
            num_res_blocks=num_res_blocks,
            norm_num_groups=norm_num_groups,
            norm_eps=1e-6,
            attention_levels=[False] * len(channels),
            with_nonlocal_attn=False,
            include_fc=False,
        )
        use_fast_group_norm(self)
        self.sharpness = nn.Parameter(torch.tensor(8.0))

    def logits(self, z: Tensor) -> Tensor:
        """Logarithms of the fractions up to a constant ``(B, K, H, W)``."""
        return self.sharpness * self.reconstruct(z) + F.pixel_shuffle(self.decoder(z), 2).float()

    def crisp(self, z: Tensor) -> Tensor:
        """Fractions ``(B, K, H, W)`` of latents before what is small is left out, float32; see :data:`CRISPNESS`."""
        return (CRISPNESS * self.logits(z)).softmax(1)

    def decode(self, z: Tensor) -> Tensor:
        """Fractions ``(B, K, H, W)`` of latents, float32: crisp, and 0 below :data:`DOUBT`."""
        fractions = self.crisp(z)
        kept = fractions * (fractions > DOUBT)
        return kept / kept.sum(1, keepdim=True)

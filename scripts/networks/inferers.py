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

"""The network's estimate of a volume, slice by slice or whole."""

from collections.abc import Sequence
from itertools import pairwise
from math import floor, inf

import torch
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from tqdm import tqdm

from ..acquisition import is_number
from ..errors import UserError
from ..parallel import in_parallel
from ..tissue import Estimate
from .device import bf16


class MapInferer(Inferer):
    """The network's estimate of a volume.

    A 2D network sees axial slices, each by itself, a 3D network the whole volume. Slices run side by side on a CPU, one
    after the other elsewhere, and only what a network call needs is on its device, so memory does not grow with their
    number. (MONAI's SliceInferer knows no side by side.) Slices without foreground are skipped. Of thin slices the
    network sees some; between them its estimate, logarithms and Cholesky factor, is interpolated linearly.

    Args:
        spatial_dims: those of the network.
        amp: bfloat16 autocast. It changes the network's T1 by about a percent. Data consistency leaves less than a
            tenth of that in white and grey matter.
        distance: how far apart the slices are that the network sees, at most, where the scans have thinner ones [mm].

    Raises:
        UserError: for a distance that is none.
    """

    def __init__(self, spatial_dims: int = 2, amp: bool = False, distance: float = 2.0) -> None:
        if not (is_number(distance) and distance > 0):
            raise UserError("distance", repr(distance), "give millimetres, such as 2")
        self.spatial_dims, self.amp, self.distance = spatial_dims, amp, distance

    @torch.no_grad()
    def __call__(
        self, inputs: Tensor, network: nn.Module, rows: Tensor, mask: Tensor | None = None, spacing: float = inf
    ) -> Estimate:
        """The estimate ``(1, 3, X, Y, Z)``, on the CPU in float32.

        Args:
            inputs: contrasts ``(1, M, X, Y, Z)`` scaled to about [-1, 1].
            network: a physics VAE, see :meth:`scripts.networks.PhysicsVAE.estimate`; it is used in eval mode.
            rows: acquisitions ``(1, M, A)``.
            mask: foreground ``(1, 1, X, Y, Z)``; slices far from it are 0 in the result.
            spacing: distance of one slice from the next [mm]; slices that are no neighbours are infinitely far.
        """
        device = next(network.parameters()).device
        mask = torch.ones_like(inputs[:, :1]) if mask is None else mask.to(inputs)

        def estimate(image: Tensor, inside: Tensor) -> Estimate:
            if not inside.any():
                return Estimate(*(torch.zeros(len(image), channels, *image.shape[2:]) for channels in (3, 6)))
            with bf16(device, self.amp):
                found = network.estimate(image.to(device), rows.to(device))
            return Estimate(*(part.float().cpu() for part in found))

        with eval_mode(network):
            if self.spatial_dims == 3:
                return estimate(inputs, mask)
            step = max(1, floor(self.distance / spacing + 1e-3))
            last = inputs.shape[-1] - 1
            seen = [*range(0, last, step), last]
            # A slice counts for the foreground of those on which its estimate bears.
            near = (mask[..., max(z - step + 1, 0) : z + step] for z in seen)
            slices = in_parallel(lambda pair: estimate(inputs[..., pair[0]], pair[1]), [*zip(seen, near)], device)
            parts = zip(*tqdm(slices, "network", len(seen), unit=" slices"))
            return Estimate(*(_between(part, seen) for part in parts))


def _between(slices: Sequence[Tensor], places: Sequence[int]) -> Tensor:
    """Slices at these places, the first 0, and between them linearly ``(..., Z)``."""
    found = [slices[0]]
    for (low, before), (high, after) in pairwise(zip(places, slices)):
        found += [torch.lerp(before, after, (z - low) / (high - low)) for z in range(low + 1, high + 1)]
    return torch.stack(found, -1)

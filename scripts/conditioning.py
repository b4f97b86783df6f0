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

"""Adaptive group normalisation: the acquisition scales and shifts the encoder's features (paper, Eq. 2)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .acquisition import values
from .errors import UserError

HIDDEN = 128
MODES = ("per_channel", "shared_scalar", "none")
# Mean and standard deviation of TE, TR, TI [s] over all 5560 OASIS-3 scans, the TI of spin echoes counted as 0: the
# constants the published model was trained with.
CENTRE = {"te": (0.161980, 0.203746), "tr": (4.125079, 2.660667), "ti": (1.040729, 0.895721)}


class AcquisitionConditioning(nn.Module):
    """``AdaGN(h, s, b) = s GroupNorm(h) + b`` with ``(s, b) = MLP(TE, TR, TI)``: the MLP and its split over layers.

    Args:
        channels: number of channels of each conditioned GroupNorm, in the encoder's order.
        mode: ``per_channel`` (one s, b for each channel of each layer, the paper's Eq. 2), ``shared_scalar`` (a
            single pair for all, what the authors released) or ``none`` (plain GroupNorm).

    Raises:
        UserError: for an unknown mode.
    """

    def __init__(self, channels: list[int], mode: str = "per_channel") -> None:
        super().__init__()
        if mode not in MODES:
            raise UserError("adagn", repr(mode), f"use one of {', '.join(MODES)}")
        self.mode, self.channels = mode, channels
        if mode != "none":
            size = sum(channels) if mode == "per_channel" else 1
            self.mlp = nn.Sequential(nn.Linear(len(CENTRE), HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 2 * size))
            # Identity at the start: scale 1, shift 0.
            nn.init.normal_(self.mlp[2].weight, std=1e-3)
            nn.init.constant_(self.mlp[2].bias[:size], 1.0)
            nn.init.constant_(self.mlp[2].bias[size:], 0.0)

    def forward(self, rows: Tensor) -> Iterator[tuple[Tensor, Tensor] | None]:
        """One ``(scale, shift)``, each ``(N, C)`` or ``(N, 1)``, per layer; None where nothing is to be done.

        Args:
            rows: acquisitions ``(N, A)``.
        """
        if self.mode == "none":
            return iter([None] * len(self.channels))
        z = torch.stack([(values(rows, name) - centre) / scale for name, (centre, scale) in CENTRE.items()], -1)
        scale, shift = self.mlp(z).chunk(2, -1)
        if self.mode == "shared_scalar":
            return iter([(scale, shift)] * len(self.channels))
        return zip(scale.split(self.channels, -1), shift.split(self.channels, -1))


def adaptive_group_norm(norm: nn.GroupNorm, h: Tensor, condition: tuple[Tensor, Tensor] | None) -> Tensor:
    """``s GroupNorm(h) + b`` of ``h (N, C, ...)``, with ``condition = (s, b)``, each ``(N, C)`` or ``(N, 1)``."""
    h = norm(h)
    if condition is None:
        return h
    scale, shift = (c.to(h.dtype).view(*c.shape, *[1] * (h.ndim - 2)) for c in condition)
    return scale * h + shift

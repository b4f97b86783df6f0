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

from ..acquisition import UNKNOWN, has_sequence, known, values
from ..errors import UserError
from ..render import T2_STAR_RATIO, SignalModel

HIDDEN = 128
MODES = ("per_channel", "shared_scalar", "none")
CONDITIONS = ("parameters", "fingerprint")
# Mean and standard deviation of TE, TR, TI [s] over all 5560 OASIS-3 scans, the TI of spin echoes counted as 0: the
# constants the published model was trained with.
CENTRE = {"te": (0.161980, 0.203746), "tr": (4.125079, 2.660667), "ti": (1.040729, 0.895721)}
CANONICAL = (
    (0.25, 0.06),
    (0.4, 0.13),
    (0.7, 0.04),
    (0.7, 0.08),
    (1.0, 0.05),
    (1.0, 0.1),
    (1.4, 0.04),
    (1.4, 0.09),
    (1.8, 0.16),
    (2.5, 0.3),
    (4.3, 0.5),
    (4.3, 2.0),
)
"""(T1, T2) [s] of the tissues whose signals are an acquisition's fingerprint: fat, brain, lesions, fluid."""
TYPICAL = {"te": 0.05, "tr": 2.0, "ti": 1.0, "flip_angle": 30.0, "te_equivalent": 0.1, "field_strength": 3.0}
"""Parameters that are features beside the signals, with the value [s, degrees, T] whose feature is 0."""
FAINTEST = 1e-3
"""Smallest magnitude of which the logarithm is taken, relative to the root mean square."""


def fingerprint(rows: Tensor) -> Tensor:
    """What an acquisition does to the tissues of :data:`CANONICAL`: ``(N, A)`` -> ``(N, 2 x 12 + 13)``.

    The features are, in this order: the signed signals over their root mean square, the logarithms of their
    magnitudes, the logarithms of the parameters, and 1 for each parameter and for a sequence that is known. The signals
    of an unknown sequence are 0. A sequence that is added later needs no new weights, since its signals describe it.
    """
    tissues = torch.tensor([(1.0, t1, t2) for t1, t2 in CANONICAL], device=rows.device).T[None]
    with torch.no_grad():
        signal = SignalModel(signed=True)(tissues, rows[None], t2_star=T2_STAR_RATIO * tissues[:, 2])[0]
    certain = (~has_sequence(rows, UNKNOWN)).float()[:, None]
    signal = signal / signal.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
    logs = signal.abs().clamp_min(FAINTEST).log() / 2 * certain
    given = torch.stack([known(rows, name) for name in TYPICAL], 1).float()
    times = torch.stack([values(rows, name).clamp_min(1e-6) / typical for name, typical in TYPICAL.items()], 1).log()
    return torch.cat([signal, logs, times / 2 * given, given, certain], 1)


def parameters(rows: Tensor) -> Tensor:
    """TE, TR, TI as z-scores, the features of the published model: ``(N, A)`` -> ``(N, 3)``."""
    return torch.stack([(values(rows, name) - centre) / scale for name, (centre, scale) in CENTRE.items()], -1)


class AcquisitionConditioning(nn.Module):
    """``AdaGN(h, s, b) = s GroupNorm(h) + b`` with ``(s, b) = MLP(acquisition)``: the MLP and its split over layers.

    Args:
        channels: number of channels of each conditioned GroupNorm, in the encoder's order.
        mode: ``per_channel`` (one s, b for each channel of each layer, the paper's Eq. 2), ``shared_scalar`` (a
            single pair for all, what the authors released) or ``none`` (plain GroupNorm).
        condition: ``parameters`` (TE, TR, TI as the paper) or ``fingerprint`` (see :func:`fingerprint`).

    Raises:
        UserError: for an unknown mode or condition.
    """

    def __init__(self, channels: list[int], mode: str = "per_channel", condition: str = "parameters") -> None:
        super().__init__()
        if mode not in MODES:
            raise UserError("adagn", repr(mode), f"use one of {', '.join(MODES)}")
        if condition not in CONDITIONS:
            raise UserError("condition", repr(condition), f"use one of {', '.join(CONDITIONS)}")
        self.mode, self.channels = mode, channels
        self.features = fingerprint if condition == "fingerprint" else parameters
        if mode != "none":
            size = sum(channels) if mode == "per_channel" else 1
            inputs = len(CENTRE) if condition == "parameters" else 2 * len(CANONICAL) + 2 * len(TYPICAL) + 1
            self.mlp = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, 2 * size))
            # Identity at the start: scale 1, shift 0.
            nn.init.normal_(self.mlp[2].weight, std=1e-3)
            nn.init.constant_(self.mlp[2].bias[:size], 1.0)
            nn.init.constant_(self.mlp[2].bias[size:], 0.0)

    def forward(self, features: Tensor) -> Iterator[tuple[Tensor, Tensor] | None]:
        """One ``(scale, shift)``, each ``(N, C)`` or ``(N, 1)``, per layer; None for a plain GroupNorm.

        Args:
            features: what enters of each acquisition ``(N, F)``, from ``self.features(rows)`` of rows ``(N, A)``.
        """
        if self.mode == "none":
            return iter([None] * len(self.channels))
        scale, shift = self.mlp(features).chunk(2, -1)
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

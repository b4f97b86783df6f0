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

"""Maps + acquisitions -> contrasts."""

import torch
from torch import Tensor, nn

from .acquisition import present, sequence_code, values
from .signal import SEQUENCES


class SignalModel(nn.Module):
    """Renders tissue maps as the contrasts of a batch of acquisitions, each sequence only on its own rows.

    Args:
        signed: keep the sign of inverted magnetisation; the default is magnitude, as scanners store it.
    """

    def __init__(self, signed: bool = False) -> None:
        super().__init__()
        self.signed = signed

    def forward(self, maps: Tensor, acquisition: Tensor) -> Tensor:
        """Contrasts ``(B, M, ...)`` from maps ``(B, 3, ...)`` (PD, T1 [s], T2 [s]) and rows ``(B, M, A)``.

        Absent contrasts are zero. Where T1 or T2 is not positive (air) the signal is zero too. Runs in float32.
        """
        batch, contrasts = acquisition.shape[:2]
        with torch.autocast(maps.device.type, enabled=False):
            pd, t1, t2 = maps.float().unbind(1)
            tissue = (t1 > 0) & (t2 > 0)
            pd, t1, t2 = pd * tissue, torch.where(tissue, t1, 1.0), torch.where(tissue, t2, 1.0)
            rows = acquisition.reshape(batch * contrasts, -1).float()
            owner = torch.arange(batch, device=maps.device).repeat_interleave(contrasts)
            signal = pd.new_zeros(batch * contrasts, *pd.shape[1:])
            for name, sequence in SEQUENCES.items():
                mine = (rows[:, 0] == sequence_code(name)).nonzero().squeeze(1)
                if not len(mine):
                    continue
                fields = {f: values(rows[mine], f).view(-1, *[1] * (pd.ndim - 1)) for f in sequence.fields}
                of = owner[mine]
                signal = signal.index_copy(0, mine, sequence.signal(pd[of], t1[of], t2[of], **fields))
            signal = signal.view(batch, contrasts, *pd.shape[1:])
            return signal if self.signed else signal.abs()


def profile_gain(target: Tensor, signal: Tensor, acquisition: Tensor) -> Tensor:
    """Least-squares gain of each contrast, ``g = <target, signal> / <signal, signal>``, not below 0.

    Args:
        target: measured contrasts ``(B, M, ...)``.
        signal: rendered contrasts ``(B, M, ...)`` for unit gain.
        acquisition: rows ``(B, M, A)``; the gain of an absent contrast is 0.

    Returns:
        Gains ``(B, M)`` in float32.
    """
    signal = signal.float()
    over = tuple(range(2, signal.ndim))
    gain = (signal * target).sum(over) / signal.square().sum(over).clamp_min(1e-12)
    return gain.clamp_min(0) * present(acquisition)

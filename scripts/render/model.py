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

"""The signal model: tissue maps and acquisition rows -> contrasts."""

import torch
from torch import Tensor, nn

from ..acquisition import has_sequence, values
from ..signal import SEQUENCES
from .contrast import contrast
from .volumes import render_volumes


class SignalModel(nn.Module):
    """Renders tissue maps as the contrasts of a batch of acquisitions, each sequence only on its own rows.

    Args:
        signed: keep the sign of inverted magnetisation; the default is magnitude, as scanners store it. Sequences
            whose images are signed by definition keep their sign in both cases.
    """

    def __init__(self, signed: bool = False) -> None:
        super().__init__()
        self.signed = signed

    def forward(
        self,
        maps: Tensor,
        rows: Tensor,
        *,
        b1: Tensor | float | None = None,
        t2_star: Tensor | float | None = None,
        inversion_efficiency: Tensor | float | None = None,
        fluid: Tensor | float | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Contrasts ``(B, M, ...)`` from maps ``(B, 3, ...)`` (PD, T1 [s], T2 [s]) and rows ``(B, M, A)``.

        Absent contrasts are zero. Where T1 or T2 is not positive (air), or T2* in an image that depends on it, the
        signal is zero too. Runs in float32. B1+, T2*, inversion efficiency and the share of fluid are numbers or maps
        ``(B, ...)``; each reaches only the sequences that know it.

        Args:
            maps: the tissue maps.
            rows: the acquisitions.
            b1: B1+ relative to nominal; None for 1.
            t2_star: T2* [s]; None for :data:`scripts.render.T2_STAR_RATIO` times T2.
            inversion_efficiency: what an inversion makes of the magnetisation, ``m -> -efficiency m``; None for 1.
            fluid: share of fluid in the PD of each voxel, whose signal and that of the rest add up, with their signs;
                None for voxels of one T1 and T2. See :mod:`scripts.render.fluid`.
            mask: foreground ``(B, ...)``; elsewhere nothing is computed and the signal is zero.
        """
        given = {"b1": b1, "t2_star": t2_star, "inversion_efficiency": inversion_efficiency, "fluid": fluid}
        with torch.autocast(maps.device.type, enabled=False):
            maps, rows = maps.float(), rows.float()
            given = {
                name: torch.as_tensor(value, dtype=torch.float32, device=maps.device)
                for name, value in given.items()
                if value is not None
            }
            inputs = (maps, rows, *given.values())
            if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
                signal = render_batch(maps, rows, given, self.signed)
                return signal if mask is None else signal * (mask > 0).unsqueeze(1)
            with torch.no_grad():
                return render_volumes(maps, rows, given, mask, self.signed)


def render_batch(maps: Tensor, rows: Tensor, given: dict[str, Tensor], signed: bool) -> Tensor:
    """Differentiable contrasts ``(B, M, ...)``, all rows of a sequence at once; ``given`` holds the options."""
    batch, contrasts = rows.shape[:2]
    rows = rows.flatten(0, 1)
    owner = torch.arange(batch, device=maps.device).repeat_interleave(contrasts)
    signal = maps.new_zeros(batch * contrasts, *maps.shape[2:])
    for name, sequence in SEQUENCES.items():
        mine = has_sequence(rows, name).nonzero().squeeze(1)
        if len(mine):
            fields = {f: values(rows[mine], f).view(-1, *[1] * (maps.ndim - 2)) for f in sequence.fields}
            of = owner[mine]
            options = {option: value[of] if value.ndim else value for option, value in given.items()}
            signal = signal.index_copy(0, mine, contrast(sequence, maps[of].unbind(1), fields, options, signed))
    return signal.view(batch, contrasts, *maps.shape[2:])

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

"""Gradient echoes without a preparation train: spoiled, balanced, and after a saturation.

Notation: ``E(t) = exp(-t/T1)``, a the flip angle.
"""

import torch
from torch import Tensor

from .longitudinal import regrowth


def spoiled_gradient_echo(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    tr: Tensor,
    flip_angle: Tensor,
    b1: Tensor | float = 1.0,
    t2_star: Tensor | None = None,
) -> Tensor:
    """Spoiled gradient echo: ``S = PD sin(a) (1 - E(TR)) / (1 - cos(a) E(TR)) exp(-TE/T2*)``.

    Largest at the Ernst angle, ``cos(a) = E(TR)``.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: echo time [s].
        tr: time from excitation to excitation [s]. Valid for TE < TR.
        flip_angle: flip angle [degrees].
        b1: B1+ relative to nominal; scales the flip angle.
        t2_star: T2* [s]; T2 where it is None.

    Source: Ernst & Anderson 1966; Zur 1991 for RF spoiling.

    Known limits: ideal spoiling. Against RF spoiling by 50 degrees without diffusion it is off by +0.1 % (WM), +0.5 %
    (GM), -47 % (CSF), -0.6 % (fat) at TR 7.3 ms and 8 degrees, by +1.9, +3.6, -26, +0.7 % at TR 18 ms and 20 degrees;
    diffusion makes the error of CSF smaller. T2* decay is exponential only where the field is smooth across a voxel.
    """
    angle, gained = torch.deg2rad(b1 * flip_angle), regrowth(tr, t1)
    tipped = 2 * torch.sin(angle / 2).square()  # 1 - cos(a), with all its digits
    m = gained / (gained + tipped * (1 - gained))
    return pd * angle.sin() * m * torch.exp(-te / (t2 if t2_star is None else t2_star))


def bssfp(
    pd: Tensor, t1: Tensor, t2: Tensor, *, te: Tensor, tr: Tensor, flip_angle: Tensor, b1: Tensor | float = 1.0
) -> Tensor:
    """Balanced SSFP: ``S = PD sin(a) (1 - E1) / (1 - (E1 - E2) cos(a) - E1 E2) exp(-TE/T2)``, E1 and E2 over one TR.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: echo time [s].
        tr: time from excitation to excitation [s]. Valid for TE < TR.
        flip_angle: flip angle [degrees], of alternating sign.
        b1: B1+ relative to nominal; scales the flip angle.

    Source: Carr 1958; Freeman & Hill 1971.

    Known limits: on resonance only, so without banding.
    """
    angle, gained, lost = torch.deg2rad(b1 * flip_angle), regrowth(tr, t1), regrowth(tr, t2)  # 1 - E1, 1 - E2
    tipped = 2 * torch.sin(angle / 2).square()
    m = gained / (gained * (2 - tipped) + lost * (tipped - gained))
    return pd * angle.sin() * m * torch.exp(-te / t2)


def saturation_recovery(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    ti: Tensor,
    flip_angle: Tensor,
    b1: Tensor | float = 1.0,
    t2_star: Tensor | None = None,
) -> Tensor:
    """Saturation recovery: ``S = PD sin(a) (1 - E(TI)) exp(-TE/T2*)``.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: echo time [s].
        ti: time from the saturation to the excitation [s].
        flip_angle: excitation angle [degrees].
        b1: B1+ relative to nominal; scales the flip angle.
        t2_star: T2* [s]; T2 where it is None.

    Source: follows from the Bloch equations.

    Known limits: perfect saturation whatever ``b1`` is; one excitation per saturation.
    """
    m = -torch.expm1(-ti / t1)
    return pd * torch.deg2rad(b1 * flip_angle).sin() * m * torch.exp(-te / (t2 if t2_star is None else t2_star))

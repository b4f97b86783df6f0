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

"""Gradient echo trains after an inversion: MPRAGE and MP2RAGE.

Notation: ``E(t) = exp(-t/T1)``; N excitations by the angle a with spacing d, nc of them before the centre of k-space;
eta the efficiency of the inversion.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .longitudinal import Step, recover, regrowth, steady_state


def mprage(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    tr: Tensor,
    ti: Tensor,
    flip_angle: Tensor,
    echo_train_length: Tensor,
    echo_spacing: Tensor,
    echoes_before_centre: Tensor,
    b1: Tensor | float = 1.0,
    t2_star: Tensor | None = None,
    inversion_efficiency: Tensor | float = 1.0,
) -> Tensor:
    """MPRAGE with its readout train: ``S = PD sin(a) (m_0 r^nc + B_nc) exp(-TE/T2*)``.

    With ``r = cos(a) E(d)``, ``B_k = (1 - E(d)) (1 - r^k) / (1 - r)``, ``TA = TI - nc d`` and ``TC = TR - TA - N d``,
    the magnetisation is ``m_e = (1 - E(TC) + E(TC) (r^N (1 - E(TA)) + B_N)) / (1 + eta r^N E(TA) E(TC))`` before the
    inversion and ``m_0 = 1 - (1 + eta m_e) E(TA)`` before the first excitation. For a -> 0, eta 1 and TE << T2* it is
    sin(a) times :func:`scripts.signal.paper_mprage`.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: echo time [s].
        tr: time from inversion to inversion [s].
        ti: time from the inversion to the excitation at the centre of k-space [s].
        flip_angle: flip angle a [degrees]. Valid below 90 degrees (after ``b1``).
        echo_train_length: number N of excitations after one inversion.
        echo_spacing: time d between them [s].
        echoes_before_centre: number nc of excitations before the centre of k-space. Valid for TA >= 0 and TC >= 0.
        b1: B1+ relative to nominal; scales the flip angle, not the adiabatic inversion.
        t2_star: T2* [s]; T2 where it is None.
        inversion_efficiency: eta; the inversion turns m into -eta m. 1 is perfect, 0 a saturation.

    Source: Mugler & Brookeman 1990 for the sequence; Deichmann 2000 and Marques 2010 for the steady state.

    Known limits: ideal spoiling. Against RF spoiling by 50 degrees it is off by -1.1 % (WM), -2.5 % (GM), -29 % (CSF,
    without diffusion), -0.9 % (fat). The recovery during the train filters k-space, which is left out.
    """
    angle = torch.deg2rad(b1 * flip_angle)
    readout = excitations(angle, echo_spacing, t1)
    prepared = recover(ti - echoes_before_centre * echo_spacing, t1, after=-inversion_efficiency)
    rest = recover(tr - ti - (echo_train_length - echoes_before_centre) * echo_spacing, t1)
    start = prepared(steady_state(prepared, readout(echo_train_length), rest))
    decay = torch.exp(-te / (t2 if t2_star is None else t2_star))
    return pd * angle.sin() * readout(echoes_before_centre)(start) * decay


def mp2rage_images(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    tr: Tensor,
    ti: Tensor,
    ti2: Tensor,
    flip_angle: Tensor,
    flip_angle2: Tensor,
    echo_train_length: Tensor,
    echo_spacing: Tensor,
    echoes_before_centre: Tensor,
    b1: Tensor | float = 1.0,
    t2_star: Tensor | None = None,
    inversion_efficiency: Tensor | float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The two images of MP2RAGE, each as in :func:`mprage`, with two readouts after one inversion.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: echo time [s].
        tr: time from inversion to inversion [s].
        ti: time from the inversion to the centre of the first readout [s].
        ti2: time from the inversion to the centre of the second readout [s]. Valid for TI2 - TI >= N d.
        flip_angle: flip angle of the first readout [degrees]. Valid below 90 degrees (after ``b1``).
        flip_angle2: flip angle of the second readout [degrees]. Valid below 90 degrees (after ``b1``).
        echo_train_length: number N of excitations of one readout.
        echo_spacing: time d between them [s].
        echoes_before_centre: number nc of excitations before the centre of k-space. Valid for TI >= nc d and
            TR - TI2 >= (N - nc) d.
        b1: B1+ relative to nominal; scales the flip angles, not the adiabatic inversion.
        t2_star: T2* [s]; T2 where it is None.
        inversion_efficiency: eta; the inversion turns m into -eta m. 1 is perfect, 0 a saturation.

    Returns:
        Images ``(S1, S2)``, signed.

    Source: Marques 2010.

    Known limits: those of :func:`mprage`.
    """
    angle1, angle2 = torch.deg2rad(b1 * flip_angle), torch.deg2rad(b1 * flip_angle2)
    readout1, readout2 = excitations(angle1, echo_spacing, t1), excitations(angle2, echo_spacing, t1)
    first, second = readout1(echo_train_length), readout2(echo_train_length)
    prepared = recover(ti - echoes_before_centre * echo_spacing, t1, after=-inversion_efficiency)
    between = recover(ti2 - ti - echo_train_length * echo_spacing, t1)
    rest = recover(tr - ti2 - (echo_train_length - echoes_before_centre) * echo_spacing, t1)
    start1 = prepared(steady_state(prepared, first, between, second, rest))
    start2 = between(first(start1))
    scale = pd * torch.exp(-te / (t2 if t2_star is None else t2_star))
    return (
        scale * angle1.sin() * readout1(echoes_before_centre)(start1),
        scale * angle2.sin() * readout2(echoes_before_centre)(start2),
    )


def mp2rage(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    tr: Tensor,
    ti: Tensor,
    ti2: Tensor,
    flip_angle: Tensor,
    flip_angle2: Tensor,
    echo_train_length: Tensor,
    echo_spacing: Tensor,
    echoes_before_centre: Tensor,
    b1: Tensor | float = 1.0,
    inversion_efficiency: Tensor | float = 1.0,
) -> Tensor:
    """Uniform image of MP2RAGE: ``UNI = S1 S2 / (S1^2 + S2^2)``, from -0.5 to 0.5, of the :func:`mp2rage_images`.

    Gain, proton density, T2* and receive field cancel. It is 0 where ``pd`` is 0 and where both images are.

    Args:
        pd: proton density; only whether it is 0 matters.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s]; cancels.
        te: echo time [s]; cancels.
        tr: time from inversion to inversion [s].
        ti: time from the inversion to the centre of the first readout [s].
        ti2: time from the inversion to the centre of the second readout [s].
        flip_angle: flip angle of the first readout [degrees].
        flip_angle2: flip angle of the second readout [degrees].
        echo_train_length: number of excitations of one readout.
        echo_spacing: time between them [s].
        echoes_before_centre: number of excitations before the centre of k-space.
        b1: B1+ relative to nominal; scales the flip angles, not the adiabatic inversion.
        inversion_efficiency: eta; the inversion turns m into -eta m. 1 is perfect, 0 a saturation.

    Source: Marques 2010.

    Known limits: those of :func:`mp2rage_images`; noise, which makes air of UNI bright, is not part of it.
    """
    # PD and T2* cancel: leaving them out keeps the squares from underflowing, but air has to stay air
    s1, s2 = mp2rage_images(
        (pd != 0).to(t1.dtype),
        t1,
        t2,
        te=torch.zeros_like(te),
        tr=tr,
        ti=ti,
        ti2=ti2,
        flip_angle=flip_angle,
        flip_angle2=flip_angle2,
        echo_train_length=echo_train_length,
        echo_spacing=echo_spacing,
        echoes_before_centre=echoes_before_centre,
        b1=b1,
        inversion_efficiency=inversion_efficiency,
    )
    power = s1.square() + s2.square()
    return s1 * s2 / torch.where(power > 0, power, 1.0)


def excitations(angle: Tensor, spacing: Tensor, t1: Tensor) -> Callable[[Tensor], Step]:
    """A readout train, as a function of its number of excitations.

    Each excitation leaves the part ``cos(a)`` and is followed by the recovery of one spacing d. With
    ``r = cos(a) E(d)``, k of them make ``m -> r^k m + (1 - E(d)) (1 - r^k) / (1 - r)``.

    Args:
        angle: flip angle a [rad], below a quarter turn.
        spacing: time d between excitations [s].
        t1: longitudinal relaxation time [s].
    """
    gained = regrowth(spacing, t1)
    tipped = 2 * torch.sin(angle / 2).square()  # 1 - cos(a), with all its digits
    limit = gained / (gained + tipped * (1 - gained))
    log_r = 0.5 * torch.log1p(-angle.sin().square()) - spacing / t1

    def train(k: Tensor) -> Step:
        less = torch.expm1(k * log_r)  # r^k - 1
        return Step(1 + less, -less * limit)

    return train

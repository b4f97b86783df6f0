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

"""Inversions in front of spin echoes: STIR, FLAIR, double inversion recovery.

Notation: ``E(t) = exp(-t/T1)``, N echoes with spacing d, eta the efficiency of the inversion.
"""

import torch
from torch import Tensor

from .longitudinal import quarter_turn, recover, steady_state
from .spin_echo import refocusing_train, vfa_decay, vfa_residual


def inversion_recovery(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    tr: Tensor,
    ti: Tensor,
    b1: Tensor | float = 1.0,
    inversion_efficiency: Tensor | float = 1.0,
) -> Tensor:
    """Inversion recovery, spin echo: ``S = PD (1 - 2 E(TI) + 2 E(TR - TE/2) - E(TR)) exp(-TE/T2)``.

    For eta below 1 it is ``PD (1 - (1 + eta M) E(TI)) exp(-TE/T2)`` with the magnetisation
    ``M = 1 - 2 E(TR - TI - TE/2) + E(TR - TI)`` before the inversion; where B1+ is not nominal, what the imperfect
    pulses leave is carried on into the next repetition and S has a further factor ``sin(90 b1)^3``.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: echo time [s].
        tr: time from inversion to inversion [s]. Valid for TI + TE < TR.
        ti: time from the inversion to the excitation [s].
        b1: B1+ relative to nominal; scales the 90 and the 180 degree pulse, not the adiabatic inversion.
        inversion_efficiency: eta; the inversion turns m into -eta m. 1 is perfect, 0 a saturation.

    Source: Bydder & Young 1985 (STIR and the sequence), Hajnal 1992 and De Coene 1992 (FLAIR); form derived here.

    Known limits: ideal slice profile, crushers and spoiling; no magnetisation transfer; the inflow of cerebrospinal
    fluid that was not inverted is left out. Near the null of a tissue the relative error of any of this is large.
    """
    excitation = quarter_turn(b1, t1)
    m = steady_state(
        recover(te / 2, t1, after=excitation.cos()),
        recover(tr - ti - te / 2, t1, after=(2 * excitation).cos()),
        recover(ti, t1, after=-inversion_efficiency),
    )
    return pd * excitation.sin() ** 3 * m * torch.exp(-te / t2)


def inversion_recovery_turbo_spin_echo(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    tr: Tensor,
    ti: Tensor,
    echo_train_length: Tensor,
    echo_spacing: Tensor,
    b1: Tensor | float = 1.0,
    inversion_efficiency: Tensor | float = 1.0,
) -> Tensor:
    """Inversion recovery, turbo spin echo: ``S = PD (1 - (1 + eta M) E(TI)) exp(-TE/T2)``.

    The magnetisation before the inversion is ``M = 1 - (1 - m_N) E(TR - TI - (N - 1/2) d)``, with m_N left by the last
    180 degree pulse (:func:`scripts.signal.spin_echo.refocusing_train`).

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: effective echo time [s]: of the echo at the centre of k-space.
        tr: time from inversion to inversion [s]. Valid for TI + N d < TR.
        ti: time from the inversion to the excitation [s].
        echo_train_length: number N of echoes after one excitation.
        echo_spacing: time d between them [s].
        b1: B1+ relative to nominal; scales the 90 degree excitation only.
        inversion_efficiency: eta; the inversion turns m into -eta m. 1 is perfect, 0 a saturation.

    Source: Rydberg 1995 for the sequence; m_N derived here.

    Known limits: those of :func:`inversion_recovery` and :func:`scripts.signal.turbo_spin_echo`; no T2 preparation.
    """
    excitation = quarter_turn(b1, t1)
    m = steady_state(
        refocusing_train(echo_train_length, echo_spacing, t1, after=excitation.cos()),
        recover(tr - ti - (echo_train_length - 0.5) * echo_spacing, t1),
        recover(ti, t1, after=-inversion_efficiency),
    )
    return pd * excitation.sin() * m * torch.exp(-te / t2)


def inversion_recovery_vfa_turbo_spin_echo(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    te_equivalent: Tensor,
    tr: Tensor,
    ti: Tensor,
    echo_train_length: Tensor,
    echo_spacing: Tensor,
    b1: Tensor | float = 1.0,
    inversion_efficiency: Tensor | float = 1.0,
) -> Tensor:
    """Inversion recovery, variable flip angles: ``S = PD (1 - (1 + eta M) E(TI)) A``.

    The magnetisation before the inversion is ``M = 1 - (1 - r) E(TR - TI - N d)``; see
    :func:`scripts.signal.spin_echo.vfa_residual` for r and :func:`scripts.signal.spin_echo.vfa_decay` for the decay A.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: nominal echo time [s]: of the echo at the centre of k-space.
        te_equivalent: contrast-equivalent echo time [s], as in :func:`scripts.signal.vfa_turbo_spin_echo`.
        tr: time from inversion to inversion [s]. Valid for TI + N d < TR.
        ti: time from the inversion to the excitation [s].
        echo_train_length: number N of echoes after one excitation.
        echo_spacing: time d between them [s].
        b1: B1+ relative to nominal; scales the 90 degree excitation only.
        inversion_efficiency: eta; the inversion turns m into -eta m. 1 is perfect, 0 a saturation.

    Source: Mugler 2014 and Busse 2006 for the train; A and r are this package's own.

    Known limits: those of :func:`scripts.signal.vfa_turbo_spin_echo`. Without the T2 preparation that vendors add, and
    no sidecar mentions, cerebrospinal fluid is not nulled at the usual settings: it has 19 % of the
    signal of grey matter at TE 0.392 s, TR 5 s, TI 1.8 s with 250 echoes every 3.5 ms, in a simulation 15 %. So near
    its null it hangs on r, and its relative error is whatever the distance from the null makes of it.
    """
    before = recover(tr - ti - echo_train_length * echo_spacing, t1)(vfa_residual(te, te_equivalent))
    m = recover(ti, t1, after=-inversion_efficiency)(before)
    return pd * quarter_turn(b1, t1).sin() * m * vfa_decay(t1, t2, te, te_equivalent)


def double_inversion_recovery(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    tr: Tensor,
    ti: Tensor,
    ti2: Tensor,
    b1: Tensor | float = 1.0,
    inversion_efficiency: Tensor | float = 1.0,
) -> Tensor:
    """Double inversion: ``S = PD (1 - 2 E(TI2) + 2 E(TI) - 2 E(TR - TE/2) + E(TR)) exp(-TE/T2)``, for perfect pulses.

    Both inversion times end at the excitation. Elsewhere the first is often stated from inversion to inversion, which
    is TI - TI2 here.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: echo time [s].
        tr: time from first inversion to first inversion [s]. Valid for TI + TE < TR.
        ti: time from the first inversion to the excitation [s].
        ti2: time from the second inversion to the excitation [s]. Valid for TI2 < TI.
        b1: B1+ relative to nominal; scales the 90 and the 180 degree pulse, not the adiabatic inversion.
        inversion_efficiency: eta; each inversion turns m into -eta m. 1 is perfect, 0 a saturation.

    Source: Redpath & Smith 1994; form for imperfect pulses derived here.

    Known limits: those of :func:`inversion_recovery`; in practice the readout is a train, see
    :func:`inversion_recovery_turbo_spin_echo`.
    """
    excitation = quarter_turn(b1, t1)
    m = steady_state(
        recover(te / 2, t1, after=excitation.cos()),
        recover(tr - ti - te / 2, t1, after=(2 * excitation).cos()),
        recover(ti - ti2, t1, after=-inversion_efficiency),
        recover(ti2, t1, after=-inversion_efficiency),
    )
    return pd * excitation.sin() ** 3 * m * torch.exp(-te / t2)

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

"""Spin echoes: a single one, a train of 180 degree pulses, a train of variable flip angles.

Notation: ``E(t) = exp(-t/T1)``, N echoes with spacing d, a the excitation angle.
"""

import math

import torch
from torch import Tensor

from .longitudinal import Step, quarter_turn, recover, steady_state

REFERENCE_T1, REFERENCE_T2 = 0.94, 0.1
"""Relaxation times [s] of the tissue for which a contrast-equivalent echo time is stated."""
SHAPE = 2.1
"""Shape of the distribution of transverse times of a variable-flip-angle train, per ``TE_eq / (TE - TE_eq)``."""
RESIDUAL = 0.1
"""Longitudinal magnetisation that such a train leaves, per ``(TE - TE_eq) / TE``."""
INSTANT = 1e-9
"""Shortest time [s] to divide by, so that an echo time of zero is no decay instead of 0/0."""


def spin_echo(
    pd: Tensor, t1: Tensor, t2: Tensor, *, te: Tensor, tr: Tensor, flip_angle: Tensor, b1: Tensor | float = 1.0
) -> Tensor:
    """Spin echo: ``S = PD sin(a) m exp(-TE/T2)``, ``m = (1 - 2 E(TR - TE/2) + E(TR)) / (1 + cos(a) E(TR))``.

    Where B1+ is not nominal the refocusing angle is b = 180 b1, and
    ``m = (1 - E(TR - TE/2) + cos(b) (E(TR - TE/2) - E(TR))) / (1 - cos(a) cos(b) E(TR))`` with a further factor
    ``sin(b/2)^2`` on S.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: echo time [s].
        tr: repetition time [s]. Valid for TE < TR.
        flip_angle: excitation angle [degrees].
        b1: B1+ relative to nominal; scales the excitation and the refocusing pulse.

    Source: Bernstein 2004 for a = 90; other angles derived here: residual magnetisation is inverted by the refocusing
    pulse, hence the plus sign.

    Known limits: ideal slice profile, crushers and spoiling; no magnetisation transfer, which darkens white and grey
    matter of interleaved slices.
    """
    excitation, half_refocusing = torch.deg2rad(b1 * flip_angle), quarter_turn(b1, t1)
    m = steady_state(
        recover(te / 2, t1, after=excitation.cos()), recover(tr - te / 2, t1, after=(2 * half_refocusing).cos())
    )
    return pd * excitation.sin() * half_refocusing.sin().square() * m * torch.exp(-te / t2)


def turbo_spin_echo(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    tr: Tensor,
    echo_train_length: Tensor,
    echo_spacing: Tensor,
    b1: Tensor | float = 1.0,
) -> Tensor:
    """Turbo spin echo: ``S = PD (1 - (1 - m_N) E(TR - (N - 1/2) d)) exp(-TE/T2)``, m_N left by the last 180.

    See :func:`refocusing_train` for m_N. It is nearly the practical form ``1 - E(TR - N d)``.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: effective echo time [s]: of the echo at the centre of k-space.
        tr: repetition time [s]. Valid for N d < TR.
        echo_train_length: number N of echoes after one excitation.
        echo_spacing: time d between them [s].
        b1: B1+ relative to nominal; scales the 90 degree excitation only.

    Source: Hennig 1986 for the sequence; m_N derived here.

    Known limits: refocusing is 180 degrees whatever ``b1`` is. Against refocusing by 150 degrees the signal is too
    large by 0.8 % (WM), 1.2 % (GM), 2.9 % (CSF), 1.9 % (fat); against 120 degrees by 4.2, 7.1, 15.5, 10.8 %. The decay
    during the train blurs the image; fat is brighter in reality (J-coupling); no magnetisation transfer.
    """
    excitation = quarter_turn(b1, t1)
    train = refocusing_train(echo_train_length, echo_spacing, t1, after=excitation.cos())
    m = steady_state(train, recover(tr - (echo_train_length - 0.5) * echo_spacing, t1))
    return pd * excitation.sin() * m * torch.exp(-te / t2)


def vfa_turbo_spin_echo(
    pd: Tensor,
    t1: Tensor,
    t2: Tensor,
    *,
    te: Tensor,
    te_equivalent: Tensor,
    tr: Tensor,
    echo_train_length: Tensor,
    echo_spacing: Tensor,
    b1: Tensor | float = 1.0,
) -> Tensor:
    """Turbo spin echo of variable flip angles (SPACE, CUBE, VISTA): ``S = PD (1 - (1 - r) E(TR - N d)) A``.

    See :func:`vfa_decay` for the decay ``A = exp(-TE/T1) (1 + theta u)^-m`` with ``u = 1/T2 - 1/T1``, and
    :func:`vfa_residual` for the magnetisation r that the train leaves; :func:`scripts.signal.epg.equivalent_te`
    estimates ``te_equivalent`` where it is not known.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: nominal echo time [s]: of the echo at the centre of k-space.
        te_equivalent: contrast-equivalent echo time [s]: that of a plain spin echo in which the reference tissue (T1
            0.94 s, T2 0.1 s) decays as much; between 0.106 ``te`` and ``te``.
        tr: repetition time [s]. Valid for N d < TR.
        echo_train_length: number N of echoes after one excitation.
        echo_spacing: time d between them [s].
        b1: B1+ relative to nominal; scales the 90 degree excitation only.

    Source: Busse 2006 and Mugler 2014 for the equivalent echo time, Hennig 1991 for the pathways; the gamma
    distribution of their transverse times and the residual are this module's own.

    Known limits: refocusing angles do not follow ``b1``, and r is the same for every tissue. Against an
    extended-phase-graph simulation of a whole prescribed-signal train (TE 0.455 s, TR 3.2 s, 282 echoes every 3.5 ms)
    the signal is off by -0.9 % (WM), -1.7 % (GM), -4.5 % (CSF), +0.4 % (fat). A plain spin echo at the nominal TE makes
    white matter 80 times too dark relative to cerebrospinal fluid.
    """
    m = recover(tr - echo_train_length * echo_spacing, t1)(vfa_residual(te, te_equivalent))
    return pd * quarter_turn(b1, t1).sin() * m * vfa_decay(t1, t2, te, te_equivalent)


def refocusing_train(n: Tensor, spacing: Tensor, t1: Tensor, after: Tensor | float) -> Step:
    """From the excitation, which leaves the part ``after``, to just after the last of ``n`` 180 degree pulses.

    With ``h = E(d/2)`` the first leaves ``m_1 = h - 1 - after h m``; the others draw the magnetisation, with
    alternating sign, towards ``m* = -(1 - E(d)) / (1 + E(d))``: ``m_n = m* + (-E(d))^(n-1) (m_1 - m*)``.

    Args:
        n: number of pulses.
        spacing: time d between them [s]; the first comes d/2 after the excitation.
        t1: longitudinal relaxation time [s].
        after: cosine of the excitation angle.
    """
    half = recover(spacing / 2, t1, after)
    gained = half.offset * (2 - half.offset)  # 1 - E(d)
    limit = gained / (gained - 2)
    others = torch.cos(math.pi * (n - 1)) * torch.exp((1 - n) * spacing / t1)  # the cosine is (-1)^(n-1)
    return Step(-others * half.scale, limit - others * (half.offset + limit))


def vfa_decay(t1: Tensor, t2: Tensor, te: Tensor, te_equivalent: Tensor) -> Tensor:
    """Decay ``A = exp(-TE/T1) (1 + theta u)^-m``, ``u = 1/T2 - 1/T1``, of the echo at ``te`` of a train.

    Every coherence pathway to that echo is transverse for a time t_T and longitudinal for the rest of TE, so it decays
    by ``exp(-TE/T1) exp(-u t_T)``. The times t_T are taken to have a gamma distribution of shape m and scale theta:
    ``m = 2.1 s / (1 - s)`` with ``s = TE_eq / TE``, and theta is what makes the reference tissue decay by
    ``exp(-TE_eq/T2)``. Where nothing is stored along z, s = 1, that is ``exp(-TE/T2)`` for every tissue.

    It is evaluated in units of the reference tissue, ``y = u / u_ref`` and ``x = theta u_ref``, as
    ``(1 + theta u)^m = exp(K y L(x y) / L(x))`` with its ``K = TE_eq/T2 - TE/T1``, ``x = exp(K/m) - 1``, and
    ``L(x) = ln(1 + x) / x``, which has no singularity at s = 1. Where T2 exceeds T1, as in no tissue, the exponent goes
    on along its tangent.

    Args:
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: nominal echo time [s].
        te_equivalent: contrast-equivalent echo time [s].

    Source: Hennig 1991 for the pathways. The constant of m was fitted to extended phase graphs of prescribed-signal
    trains. In ten of them (60 to 314 echoes, TE 0.1 to 0.57 s) the decay is off by at most 0.4 % (WM), 0.1 % (GM, CSF),
    0.5 % (fat, blood), 1.4 % (putamen), and 5 % where T2 is 46 ms (WM at 7 T).

    Known limits: trains whose angles prescribe no signal have other distributions. Where the angles rise linearly from
    35 to 70 and 120 degrees (282 echoes, TE 0.455 s) it is off by 4 % (WM), -5 % (fat), 12 % (putamen).
    """
    k = te_equivalent / REFERENCE_T2 - te / REFERENCE_T1
    x = torch.expm1(k * (te - te_equivalent) / (SHAPE * te_equivalent.clamp_min(INSTANT)))
    y = (1 / t2 - 1 / t1) / (1 / REFERENCE_T2 - 1 / REFERENCE_T1)
    return torch.exp(-te / t1 - k * y * log1p_ratio(x * y.clamp_min(0)) / log1p_ratio(x))


def vfa_residual(te: Tensor, te_equivalent: Tensor) -> Tensor:
    """Longitudinal magnetisation ``r = 0.1 (TE - TE_eq) / TE`` after a train, in units of its equilibrium.

    Small refocusing angles leave what they store along z; a train of half turns, ``TE_eq = TE``, leaves nothing. The
    constant was chosen for cerebrospinal fluid, whose slow recovery needs it most, by simulations of prescribed-signal
    trains with all their pathways. In five with TE 0.2 to 0.57 s and TR 2 to 3.2 s its magnetisation before the
    excitation comes out right to 7 %, where without r it is 4 to 14 % too small; that of grey matter to 2 %, of white
    matter to 0.7 %.

    Known limits: what is really left differs between tissues and trains, 0.03 to 0.11 of cerebrospinal fluid, 0.06 to
    0.18 of white matter, 0.15 to 0.36 of fat, which has recovered by the next excitation in any case.
    """
    return RESIDUAL * (te - te_equivalent) / te.clamp_min(INSTANT)


def log1p_ratio(x: Tensor) -> Tensor:
    """``ln(1 + x) / x``, 1 at zero, with all its digits and those of its derivatives."""
    small = x.abs() < 0.01
    series = 1 - x * (1 / 2 - x * (1 / 3 - x * (1 / 4 - x / 5)))
    safe = torch.where(small, 1.0, x)
    return torch.where(small, series, torch.log1p(safe) / safe)

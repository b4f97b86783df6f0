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

"""Extended phase graph of a refocusing train: what its echoes are, and which plain echo time they amount to.

The transverse magnetisation is along the axis of the refocusing pulses (CPMG), so all states are real. At a pulse only
odd orders of half an echo spacing exist among the descendants of the excitation; what recovers during the train starts
at order 0 and has even ones, so it never meets an echo and is left out.

Source: Hennig 1991 (extended phase graphs); Busse 2006 and Mugler 2014 (trains of prescribed signal, equivalent echo
time). The states, the search and its constants are this module's own.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import UserError
from .spin_echo import REFERENCE_T1, REFERENCE_T2

States = tuple[Tensor, Tensor, Tensor]
"""Dephasing, rephasing and longitudinal states, each ``(..., K)``: order 2k + 1 of half an echo spacing."""

MAX_ANGLE = 125.0
"""Largest refocusing angle of a designed train [degrees]."""
DECAY, PLATEAU, TAIL = 0.05, 0.5, 0.5
"""Prescribed signal: down to the plateau in the first 5 % of the train, flat up to its middle, then down to a half."""
LEVELS = torch.logspace(-2, -0.1, 128, dtype=torch.float64)
"""Candidates for the plateau, as parts of the excited magnetisation."""


def epg_train(refocusing: Tensor, echo_spacing: float, t1: Tensor, t2: Tensor) -> Tensor:
    """Echo amplitudes ``(..., N)`` of a CPMG train after an ideal 90 degree excitation of unit magnetisation.

    Args:
        refocusing: refocusing angles ``(..., N)`` [degrees].
        echo_spacing: time between pulses [s]; echo n comes n of them after the excitation.
        t1: longitudinal relaxation times ``(...)`` [s]; infinity for none.
        t2: transverse relaxation times ``(...)`` [s]; infinity for none.
    """
    e1, e2 = (torch.exp(-echo_spacing / t.double())[..., None] for t in (t1, t2))
    states, echoes = _excited(e2, refocusing.shape[-1]), []
    for angle in torch.deg2rad(refocusing.double()).unbind(-1):
        states = _refocused(states, angle[..., None])
        echoes.append(states[1][..., 0] * e2[..., 0].sqrt())
        states = _advanced(states, e1, e2)
    return torch.stack(echoes, -1)


def prescribed_signal_train(echo_train_length: int, echo_spacing: float) -> Tensor:
    """Refocusing angles ``(N,)`` [degrees] that give the reference tissue (T1 0.94 s, T2 0.1 s) a prescribed signal.

    The signal falls exponentially to a plateau, stays there, and falls again (:data:`DECAY`, :data:`PLATEAU`,
    :data:`TAIL`). The plateau is the highest of :data:`LEVELS` that keeps all angles within :data:`MAX_ANGLE`. Trains
    of vendors are not published; this stands for them.

    Args:
        echo_train_length: number N of refocusing pulses.
        echo_spacing: time between them [s].

    Raises:
        UserError: when the train is so long that even the lowest plateau needs larger angles.
    """
    relaxation = (torch.tensor(t, dtype=torch.float64) for t in (REFERENCE_T1, REFERENCE_T2))
    e1, e2 = (torch.exp(-echo_spacing / t) for t in relaxation)
    states, angles = _excited(e2.expand(len(LEVELS), 1), echo_train_length), []
    for target in (_prescribed_signal(echo_train_length, e2) / e2.sqrt()).unbind(-1):
        angles.append(_angle_for(states, target))
        states = _advanced(_refocused(states, angles[-1][:, None]), e1, e2)
    trains = torch.rad2deg(torch.stack(angles, -1))
    possible = (trains.amax(-1) < MAX_ANGLE + 0.01).nonzero()  # the first angle is the largest, but for rounding
    if not len(possible):
        found = f"{echo_train_length} echoes every {1000 * echo_spacing:g} ms"
        raise UserError("EchoTrainLength", found, "give a shorter train, or its ContrastEquivalentEchoTime")
    return trains[possible.max()]


@lru_cache
def equivalent_te(te: float, echo_train_length: int, echo_spacing: float) -> float:
    """Contrast-equivalent echo time [s] of a train by :func:`prescribed_signal_train`.

    It is the echo time of a plain spin echo in which the reference tissue decays as much: ``-T2 ln(A / A_0)`` with the
    echo amplitudes A of the reference tissue and A_0 without relaxation.

    Args:
        te: nominal echo time [s]: of the echo at the centre of k-space.
        echo_train_length: number of refocusing pulses.
        echo_spacing: time between them [s].

    Raises:
        UserError: when the train has no echo at that time, or is too long.
    """
    echo = round(te / echo_spacing)
    if not 1 <= echo <= echo_train_length:
        found = f"{te:g} s, but {echo_train_length} echoes every {echo_spacing:g} s"
        raise UserError("EchoTime", found, "give the time of an echo of the train")
    train = prescribed_signal_train(echo_train_length, echo_spacing)
    t1, t2 = (torch.tensor([t, math.inf], dtype=torch.float64) for t in (REFERENCE_T1, REFERENCE_T2))
    decayed, whole = epg_train(train, echo_spacing, t1, t2)[:, echo - 1]
    return float(REFERENCE_T2 * torch.log(whole / decayed)) * te / (echo * echo_spacing)


def _prescribed_signal(n: int, e2: Tensor) -> Tensor:
    """Echo amplitudes ``(levels, n)``; the first is what :data:`MAX_ANGLE` gives."""
    echo = torch.arange(n, dtype=torch.float64)
    first = torch.log(e2 * math.sin(math.radians(MAX_ANGLE) / 2) ** 2)
    level = torch.log(LEVELS)[:, None]
    falling = (1 - echo / (DECAY * n)).clamp_min(0)
    ending = (echo / n - PLATEAU).clamp_min(0) / (1 - PLATEAU)
    return torch.exp(level + falling * (first - level) + ending * math.log(TAIL))


def _angle_for(states: States, target: Tensor) -> Tensor:
    """Least angle [rad] after which the first rephasing state is ``target``; a half turn where none is."""
    plus, minus, z = (state[..., 0] for state in states)
    # target = mean - difference cos(a) - z sin(a), a cosine of a about the angle `phase`
    mean, difference = (plus + minus) / 2, (plus - minus) / 2
    phase, cosine = torch.atan2(-z, -difference), (target - mean) / torch.hypot(difference, z)
    either = torch.stack([phase - torch.acos(cosine), phase + torch.acos(cosine)]) % (2 * math.pi)
    return torch.where(cosine.abs() <= 1, either.amin(0), math.pi)


def _excited(e2: Tensor, n: int) -> States:
    """States at the first of ``n`` refocusing pulses. Half as many orders do: higher ones never return in time."""
    empty = e2.new_zeros(*e2.shape[:-1], n // 2 + 1)
    return torch.cat([e2.sqrt(), empty[..., 1:]], -1), empty, empty


def _refocused(states: States, angle: Tensor) -> States:
    plus, minus, z = states
    mean, difference, cos, sin = (plus + minus) / 2, (plus - minus) / 2, angle.cos(), angle.sin()
    turned = cos * difference + sin * z
    return mean + turned, mean - turned, cos * z - sin * difference


def _advanced(states: States, e1: Tensor, e2: Tensor) -> States:
    """One echo spacing on: orders rise by 2, the lowest rephasing state passes through the echo."""
    plus, minus, z = states
    return (
        e2 * torch.cat([minus[..., :1], plus[..., :-1]], -1),
        e2 * torch.cat([minus[..., 1:], torch.zeros_like(minus[..., :1])], -1),
        e1 * z,
    )

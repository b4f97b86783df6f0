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

"""Timing diagrams of the sequences, run event by event to the steady state on either simulator.

The names and arguments are those of ``scripts.signal``, in seconds and degrees; ``refocusing`` is the angle of those
pulses. ``b1`` scales every pulse but inversions, which are adiabatic, and the refocusing of trains, whose angles are as
they reach the spins. Every function returns the signed signal of each tissue.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import count, pairwise

import numpy as np

from .bloch import Isochromats
from .epg import Configurations
from .tissues import Tissues

Spins = Isochromats | Configurations
Signal = np.ndarray


def steady(shot: Callable[[], Signal], tolerance: float = 1e-9, limit: int = 30000) -> Signal:
    """Repeats a shot until its signal changes by less than ``tolerance``."""
    before = shot()
    for _ in range(limit):
        after = shot()
        if np.abs(after - before).max() < tolerance:
            return after
        before = after
    raise RuntimeError(f"no steady state after {limit} repetitions")


def echo_train(spins: Spins, refocusing: Sequence[float], spacing: float, excitation: float = 90.0) -> list[Signal]:
    """Excitation and a CPMG train between equal crushers, one echo after each refocusing pulse."""
    spins.pulse(excitation, 90.0)
    echoes = []
    for angle in refocusing:
        spins.wait(spacing / 2)
        spins.dephase()
        spins.pulse(angle)
        spins.dephase()
        spins.wait(spacing / 2)
        echoes.append(spins.transverse().real)
    return echoes


def repeated_train(
    spins: Spins,
    *,
    te: float,
    tr: float,
    refocusing: Sequence[float],
    spacing: float,
    inversions: tuple[float, ...] = (),
    inversion_efficiency: float = 1.0,
    excitation: float = 90.0,
    saturated: bool = False,
) -> Signal:
    """Inversions, each its time before the excitation, then an echo train of which the echo at TE is kept.

    ``saturated``: the train leaves no longitudinal magnetisation, whatever its angles would leave.
    """
    kept = round(te / spacing) - 1
    assert np.isclose((kept + 1) * spacing, te), "TE must be an echo of the train"

    def shot() -> Signal:
        for before, after in pairwise((*inversions, 0.0)):
            spins.invert(inversion_efficiency)
            spins.wait(before - after)
        echo = echo_train(spins, refocusing, spacing, excitation)[kept]
        if saturated:
            spins.saturate()
        spins.wait(tr - max(inversions, default=0.0) - spacing * len(refocusing))
        spins.spoil()
        return echo

    return steady(shot)


def spin_echo(
    spins: Spins, *, te: float, flip_angle: float = 90.0, b1: float = 1.0, refocusing: float = 180.0, **timing
) -> Signal:
    return repeated_train(spins, te=te, refocusing=[b1 * refocusing], spacing=te, excitation=b1 * flip_angle, **timing)


def turbo_spin_echo(
    spins: Spins, *, echo_train_length: int, echo_spacing: float, b1: float = 1.0, refocusing: float = 180.0, **timing
) -> Signal:
    train = [refocusing] * echo_train_length
    return repeated_train(spins, refocusing=train, spacing=echo_spacing, excitation=b1 * 90.0, **timing)


def inversion_recovery(spins: Spins, *, ti: float, **timing) -> Signal:
    return spin_echo(spins, inversions=(ti,), **timing)


def inversion_recovery_turbo_spin_echo(spins: Spins, *, ti: float, **timing) -> Signal:
    return turbo_spin_echo(spins, inversions=(ti,), **timing)


def double_inversion_recovery(spins: Spins, *, ti: float, ti2: float, **timing) -> Signal:
    return spin_echo(spins, inversions=(ti, ti2), **timing)


def vfa_turbo_spin_echo(spins: Spins, *, te: float, refocusing: Sequence[float], spacing: float, **timing) -> Signal:
    """Train of any angles, in units of what it would give without relaxation: a gain that all tissues share."""
    forever = np.array([np.inf])
    lossless = Configurations(Tissues(np.ones(1), forever, forever, forever), len(refocusing))
    gain = echo_train(lossless, refocusing, spacing)[round(te / spacing) - 1]
    return repeated_train(spins, te=te, refocusing=refocusing, spacing=spacing, **timing) / gain


def rf_phases(increment: float | None) -> Iterator[float]:
    """Phase of each pulse [degrees]: quadratic for RF spoiling, zero without."""
    return ((increment or 0.0) * n * (n + 1) / 2 for n in count())


def excite(spins: Spins, angle: float, phase: float) -> Signal:
    """Magnitude right after a pulse, with the sign that a receiver sees which follows its phase."""
    spins.pulse(angle, 90.0 + phase)
    signal = spins.transverse() * np.exp(-1j * np.deg2rad(phase))
    return np.copysign(np.abs(signal), signal.real)


def read(spins: Spins, angle: float, pulses: int, spacing: float, kept: int, rf_spoiling: float | None) -> Signal:
    """Pulses ``spacing`` apart, spoiled ideally or, given ``rf_spoiling`` [degrees], by gradient and RF phase."""
    signals = []
    for _, phase in zip(range(pulses), rf_phases(rf_spoiling), strict=False):
        signals.append(excite(spins, angle, phase))
        spins.wait(spacing)
        spins.spoil() if rf_spoiling is None else spins.dephase()
    return signals[kept]


def prepared_readouts(
    spins: Spins,
    readouts: Sequence[tuple[float, float]],
    *,
    te: float,
    tr: float,
    echo_train_length: int,
    echo_spacing: float,
    echoes_before_centre: int,
    b1: float = 1.0,
    t2_star: np.ndarray | None = None,
    inversion_efficiency: float = 1.0,
    rf_spoiling: float | None = None,
) -> Signal:
    """An inversion and then, for each (inversion time, flip angle), a readout: shape (readouts, tissues)."""
    pulses = (echo_train_length, echo_spacing, echoes_before_centre, rf_spoiling)

    def shot() -> Signal:
        spins.invert(inversion_efficiency)
        now, images = 0.0, []
        for ti, angle in readouts:
            start = ti - echoes_before_centre * echo_spacing
            spins.wait(start - now)
            images.append(read(spins, b1 * angle, *pulses))
            now = start + echo_train_length * echo_spacing
        spins.wait(tr - now)
        return np.stack(images)

    return steady(shot) * static_decay(spins, te, t2_star)


def mprage(spins: Spins, *, ti: float, flip_angle: float, **timing) -> Signal:
    return prepared_readouts(spins, [(ti, flip_angle)], **timing)[0]


def mp2rage_images(spins: Spins, *, ti: float, ti2: float, flip_angle: float, flip_angle2: float, **timing) -> Signal:
    """Both images, shape (2, tissues)."""
    return prepared_readouts(spins, [(ti, flip_angle), (ti2, flip_angle2)], **timing)


def mp2rage(spins: Spins, **arguments) -> Signal:
    first, second = mp2rage_images(spins, **arguments)
    return first * second / (first**2 + second**2)


def spoiled_gradient_echo(
    spins: Spins,
    *,
    te: float,
    tr: float,
    flip_angle: float,
    b1: float = 1.0,
    t2_star: np.ndarray | None = None,
    rf_spoiling: float | None = None,
) -> Signal:
    phases = rf_phases(rf_spoiling)

    def shot() -> Signal:
        signal = excite(spins, b1 * flip_angle, next(phases))
        spins.wait(tr)
        spins.spoil() if rf_spoiling is None else spins.dephase()
        return signal

    return steady(shot) * static_decay(spins, te, t2_star)


def bssfp(spins: Spins, *, te: float, tr: float, flip_angle: float, b1: float = 1.0, precession: float = 0.0) -> Signal:
    """Pulses of alternating phase; ``precession`` off resonance [degrees per TR] is the same as a phase that lags."""
    phases = ((180.0 - precession) * n for n in count())

    def shot() -> Signal:
        phase = next(phases)
        excite(spins, b1 * flip_angle, phase)
        spins.wait(te)
        signal = np.abs(spins.transverse())
        spins.wait(tr - te)
        return signal

    return steady(shot)


def saturation_recovery(
    spins: Spins, *, te: float, ti: float, flip_angle: float, b1: float = 1.0, t2_star: np.ndarray | None = None
) -> Signal:
    spins.saturate()
    spins.wait(ti)
    return excite(spins, b1 * flip_angle, 0.0) * static_decay(spins, te, t2_star)


def static_decay(spins: Spins, te: float, t2_star: np.ndarray | None) -> Signal:
    """exp(-TE / T2*), T2* = T2 unless given."""
    return np.exp(-te / (spins.tissues.t2 if t2_star is None else t2_star))

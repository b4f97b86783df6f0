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

"""Equations where one of their assumptions does not hold."""

from collections.abc import Iterator
from functools import cache
from itertools import chain

import numpy as np

from scripts.signal.epg import equivalent_te, prescribed_signal_train
from tests.simulators import TISSUES, Configurations, Isochromats, sequences

from .compare import READOUT, SHOT, SPACE, STATIC, TRAIN, Signal, equation, percent

Row = tuple[str, str, Signal]
"""Equation, what really happens, error [%]."""


def paper_spin_echo() -> Iterator[Row]:
    """TE that is not much shorter than TR."""
    for te, tr in ((0.015, 0.5), (0.1, 2.0), (0.09, 4.0)):
        truth = sequences.spin_echo(Isochromats(TISSUES, 8), te=te, tr=tr)
        yield "paper_spin_echo", f"TE {te:g}, TR {tr:g} s", percent(equation("paper_spin_echo", te=te, tr=tr), truth)


def paper_flair() -> Iterator[Row]:
    """Refocusing pulses that invert what has recovered."""
    for te, tr, ti, length in ((0.091, 9.0, 2.5, 1), (0.091, 9.0, 2.5, 16), (0.394, 5.0, 1.8, 1), (0.02, 2.0, 0.5, 1)):
        timing = {"te": te, "tr": tr, "ti": ti}
        if length == 1:
            truth = sequences.inversion_recovery(Isochromats(TISSUES, 8), **timing)
        else:
            train = {"echo_train_length": length, "echo_spacing": te / 9}
            truth = sequences.inversion_recovery_turbo_spin_echo(Isochromats(TISSUES, 34), **timing, **train)
        what = f"TE {te:g}, TR {tr:g}, TI {ti:g} s, {length} echo{'es' if length > 1 else ''}"
        yield "paper_flair", what, percent(equation("paper_flair", **timing), truth)


def paper_mprage() -> Iterator[Row]:
    """Readout pulses that drive the magnetisation; signals per sine of the flip angle, without T2* decay."""
    timing = {"tr": SHOT["tr"], "ti": SHOT["ti"]}
    for angle in (8.0, 0.5):
        truth = sequences.mprage(Isochromats(TISSUES), te=0.0, flip_angle=angle, **timing, **READOUT)
        what = f"TR 2.4, TI 1 s, 176 pulses of {angle:g}° 7.3 ms apart"
        yield "paper_mprage", what, percent(equation("paper_mprage", **timing), truth / np.sin(np.deg2rad(angle)))


def refocusing() -> Iterator[Row]:
    """Pulses below 180 degrees, as prescribed or because of B1+."""
    timing = {"te": 0.09, "tr": 4.0, **TRAIN}
    where = "TE 90 ms, TR 4 s, 16 echoes 10 ms apart, refocusing of"
    for angle in (150.0, 120.0):
        truth = sequences.turbo_spin_echo(Configurations(TISSUES, 16), **timing, refocusing=angle)
        yield "turbo_spin_echo", f"{where} {angle:.0f}°", percent(equation("turbo_spin_echo", **timing), truth)
    truth = sequences.turbo_spin_echo(Configurations(TISSUES, 16), **timing, b1=0.8, refocusing=0.8 * 180.0)
    weak = equation("turbo_spin_echo", **timing, b1=0.8)
    yield "turbo_spin_echo", f"{where} 144° (B1+ 0.8)", percent(weak, truth)


def spoiling() -> Iterator[Row]:
    """Quadratic RF phase and a constant gradient instead of ideal spoiling."""
    for tr, angle in ((0.0073, 8.0), (0.018, 20.0)):
        timing = {"te": 0.0, "tr": tr, "flip_angle": angle}
        truth = sequences.spoiled_gradient_echo(Configurations(TISSUES, 250), **timing, rf_spoiling=50.0)
        what = f"TR {1000 * tr:g} ms, {angle:.0f}°, RF spoiling of 50°"
        yield "spoiled_gradient_echo", what, percent(equation("spoiled_gradient_echo", **timing), truth)
    timing = {**SHOT, **READOUT, "flip_angle": 8.0}
    truth = sequences.mprage(Configurations(TISSUES, 180), **timing, rf_spoiling=50.0)
    what = "176 pulses of 8° 7.3 ms apart, RF spoiling of 50°"
    yield "mprage", what, percent(equation("mprage", **timing), truth)


def static_field() -> Iterator[Row]:
    """Precession between the pulses, a T2* that is not known."""
    timing = {"te": 0.005, "tr": 0.01, "flip_angle": 50.0}
    for frequency in (12.5, 25.0):
        truth = sequences.bssfp(Isochromats(TISSUES), **timing, precession=360.0 * frequency * timing["tr"])
        yield "bssfp", f"TR 10 ms, 50°, {frequency:g} Hz off resonance", percent(equation("bssfp", **timing), truth)
    for te in (0.00316, 0.02):
        timing = {"te": te, "tr": 0.6, "flip_angle": 25.0}
        truth = sequences.spoiled_gradient_echo(Isochromats(TISSUES), **timing, **STATIC)
        for what, guess in (("T2* taken for T2", TISSUES.t2), ("T2* taken for 0.63 T2", 0.63 * TISSUES.t2)):
            value = equation("spoiled_gradient_echo", **timing, t2_star=guess)
            yield "spoiled_gradient_echo", f"TE {1000 * te:g} ms, {what}", percent(value, truth)


def variable_angles() -> Iterator[Row]:
    """The decay and the recovery of VFA trains against all their pathways."""
    inverted = {"tr": 5.0, "ti": 1.8}
    short = {**inverted, "te": 0.3944, "echo_train_length": 220, "echo_spacing": 0.0034}
    usual = {**inverted, "te": 0.392, "echo_train_length": 250, "echo_spacing": 0.0035}
    long = {"te": 0.5652, "tr": 3.2, "echo_train_length": 314, "echo_spacing": 0.0036}
    for name, timing in (
        ("vfa_turbo_spin_echo", SPACE),
        ("vfa_turbo_spin_echo", long),
        ("inversion_recovery_vfa_turbo_spin_echo", short),
        ("inversion_recovery_vfa_turbo_spin_echo", usual),
    ):
        length, spacing = timing["echo_train_length"], timing["echo_spacing"]
        equivalent = equivalent_te(timing["te"], length, spacing)
        where = f"TE {timing['te']:.3f} s, {length} echoes {1000 * spacing:g} ms apart"
        recovered = {**timing, "tr": 1e3}  # so long that what the train leaves does not matter
        for what, given in (("decay alone", recovered), ("decay and recovery", timing)):
            value = equation(name, **given, te_equivalent=equivalent)
            yield name, f"{where}: {what}", percent(value, prescribed(**given))
    paper = equation("paper_spin_echo", te=SPACE["te"], tr=SPACE["tr"])
    yield "paper_spin_echo", "the first of these trains at its nominal TE", percent(paper, prescribed(**SPACE))


def prescribed(*, echo_train_length: int, echo_spacing: float, **timing) -> Signal:
    """A prescribed-signal train with all its coherence pathways, per its signal without relaxation."""
    angles = prescribed_signal_train(echo_train_length, echo_spacing).numpy()
    inversions = (timing.pop("ti"),) if "ti" in timing else ()
    spins = Configurations(TISSUES, echo_train_length)
    return sequences.vfa_turbo_spin_echo(
        spins, refocusing=angles, spacing=echo_spacing, inversions=inversions, **timing
    )


@cache
def rows() -> tuple[Row, ...]:
    """The table."""
    parts = (paper_spin_echo, paper_flair, paper_mprage, refocusing, spoiling, static_field, variable_angles)
    return tuple(chain.from_iterable(part() for part in parts))

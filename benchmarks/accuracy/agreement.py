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

"""Every equation where its assumptions hold."""

from functools import cache

import numpy as np

from tests.simulators import TISSUES, Isochromats, sequences

from .compare import PARTIAL, READOUT, SHOT, STATIC, TRAIN, Signal, equation, percent

LOW, HIGH, WEAK = {"b1": 0.8}, {"b1": 1.2}, {"inversion_efficiency": 0.95}
MP2RAGE = {"te": 0.003, "tr": 5.0, "ti": 0.7, "ti2": 2.5, "flip_angle": 4.0, "flip_angle2": 5.0, **READOUT}

SETTINGS = [
    ("spin_echo", {"te": 0.015, "tr": 0.5, "flip_angle": 90.0}),
    ("spin_echo", {"te": 0.1, "tr": 2.0, "flip_angle": 70.0}),
    ("spin_echo", {"te": 0.1, "tr": 2.0, "flip_angle": 70.0, **LOW}),
    ("turbo_spin_echo", {"te": 0.09, "tr": 4.0, **TRAIN}),
    ("turbo_spin_echo", {"te": 0.012, "tr": 0.6, "echo_train_length": 4, "echo_spacing": 0.012, **LOW}),
    ("vfa_turbo_spin_echo", {"te": 0.1, "te_equivalent": 0.1, "tr": 3.2, **TRAIN}),
    ("vfa_turbo_spin_echo", {"te": 0.05, "te_equivalent": 0.05, "tr": 1.0, **TRAIN, **LOW}),
    ("inversion_recovery", {"te": 0.091, "tr": 9.0, "ti": 2.5}),
    ("inversion_recovery", {"te": 0.02, "tr": 2.0, "ti": 0.15, **LOW, **WEAK}),
    ("inversion_recovery_turbo_spin_echo", {"te": 0.09, "tr": 9.0, "ti": 2.5, **TRAIN}),
    ("inversion_recovery_turbo_spin_echo", {"te": 0.04, "tr": 3.0, "ti": 0.2, **TRAIN, **LOW, **WEAK}),
    ("inversion_recovery_vfa_turbo_spin_echo", {"te": 0.1, "te_equivalent": 0.1, "tr": 5.0, "ti": 1.8, **TRAIN}),
    (
        "inversion_recovery_vfa_turbo_spin_echo",
        {"te": 0.05, "te_equivalent": 0.05, "tr": 9.0, "ti": 2.5, **TRAIN, **LOW, **WEAK},
    ),
    ("double_inversion_recovery", {"te": 0.09, "tr": 9.0, "ti": 3.5, "ti2": 0.5}),
    ("double_inversion_recovery", {"te": 0.02, "tr": 5.0, "ti": 2.5, "ti2": 0.3, **LOW, **WEAK}),
    ("mprage", {**SHOT, "flip_angle": 8.0, **READOUT}),
    ("mprage", {**SHOT, "flip_angle": 8.0, **PARTIAL, **STATIC}),
    ("mprage", {**SHOT, "flip_angle": 9.0, **READOUT, **STATIC, **WEAK, **HIGH}),
    ("mp2rage", MP2RAGE),
    ("mp2rage", {**MP2RAGE, **WEAK, **LOW}),
    ("spoiled_gradient_echo", {"te": 0.004, "tr": 0.0073, "flip_angle": 8.0}),
    ("spoiled_gradient_echo", {"te": 0.02, "tr": 0.6, "flip_angle": 25.0, **STATIC, **HIGH}),
    ("bssfp", {"te": 0.005, "tr": 0.01, "flip_angle": 50.0}),
    ("bssfp", {"te": 0.003, "tr": 0.012, "flip_angle": 30.0, **LOW}),
    ("saturation_recovery", {"te": 0.003, "ti": 0.5, "flip_angle": 90.0}),
    ("saturation_recovery", {"te": 0.003, "ti": 1.5, "flip_angle": 20.0, **STATIC, **HIGH}),
    ("paper_spin_echo", {"te": 1e-4, "tr": 0.5}),
    ("paper_spin_echo", {"te": 1e-3, "tr": 4.0}),
    ("paper_flair", {"te": 1e-4, "tr": 9.0, "ti": 2.5}),
    ("paper_flair", {"te": 1e-5, "tr": 2.0, "ti": 0.5}),
    ("paper_mprage", {"tr": 2.4, "ti": 1.0}),
    ("paper_mprage", {"tr": 2.3, "ti": 0.9}),
]
"""Equation and settings, in the words of its arguments."""


Row = tuple[str, dict, Signal]
"""Equation, settings, error [%]."""


def undisturbed_mprage(spins: Isochromats, **timing) -> Signal:
    """The magnetisation that a readout of vanishing angle samples."""
    angle, train = 0.01, {"echo_train_length": 1, "echo_spacing": 0.01, "echoes_before_centre": 0}
    return sequences.mprage(spins, te=0.0, flip_angle=angle, **train, **timing) / np.sin(np.deg2rad(angle))


def perfect_train(spins: Isochromats, *, te_equivalent: float, **timing) -> Signal:
    """Train of 180 degrees, the only one whose equivalent echo time is TE for every tissue, saturated at its end."""
    assert te_equivalent == timing["te"]
    name = "inversion_recovery_turbo_spin_echo" if "ti" in timing else "turbo_spin_echo"
    return getattr(sequences, name)(spins, saturated=True, **timing)


ASSUMED = {
    "paper_spin_echo": sequences.spin_echo,
    "paper_flair": sequences.inversion_recovery,
    "paper_mprage": undisturbed_mprage,
    "vfa_turbo_spin_echo": perfect_train,
    "inversion_recovery_vfa_turbo_spin_echo": perfect_train,
}
"""What an equation assumes, where that is not the sequence of its own name."""


def error(name: str, settings: dict) -> Signal:
    """An equation against isochromats that run what it assumes [%]."""
    spins = Isochromats(TISSUES, 2 * settings["echo_train_length"] + 2 if name.endswith("turbo_spin_echo") else 8)
    simulate = ASSUMED.get(name) or getattr(sequences, name)
    return percent(equation(name, **settings), simulate(spins, **settings))


@cache
def rows() -> tuple[Row, ...]:
    """The table."""
    return tuple((name, settings, error(name, settings)) for name, settings in SETTINGS)

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

"""What the paper's equations and the exact ones make of the contrast between tissues."""

from functools import cache

import numpy as np

from scripts.signal.epg import equivalent_te
from tests.simulators import TISSUES, Isochromats, sequences

from .compare import PARTIAL, READOUT, SHOT, SPACE, STATIC, Signal, equation
from .limits import prescribed

Row = tuple[str, np.ndarray]
"""Model, and GM/WM, CSF/WM, fat/WM, (WM - GM) / (WM + GM)."""


def ratios(signal: Signal) -> np.ndarray:
    white, grey, fluid, fat = signal
    return np.array([grey / white, fluid / white, fat / white, (white - grey) / (white + grey)])


def mprage(**changes) -> Signal:
    """Simulated; the protocol of most T1w scans of OASIS-3, whose readout is assumed."""
    return sequences.mprage(Isochromats(TISSUES), **{**SHOT, **STATIC, **READOUT, "flip_angle": 8.0, **changes})


@cache
def rows() -> tuple[Row, ...]:
    """The table."""
    shot, plain = {**SHOT, **READOUT, **STATIC, "flip_angle": 8.0}, {"te": SPACE["te"], "tr": SPACE["tr"]}
    equivalent = equivalent_te(SPACE["te"], SPACE["echo_train_length"], SPACE["echo_spacing"])
    signals = {
        "T1w: `paper_mprage`": equation("paper_mprage", tr=SHOT["tr"], ti=SHOT["ti"]),
        "T1w: `mprage`, 176 pulses of 8° 7.3 ms apart": equation("mprage", **shot),
        "T1w: the same, simulated": mprage(),
        "T1w: simulated, 0.5°": mprage(flip_angle=0.5),
        "T1w: simulated, inversion efficiency 0.96": mprage(inversion_efficiency=0.96),
        "T1w: simulated, 132 pulses, 44 before the centre": mprage(**PARTIAL),
        "T1w: simulated, B1+ 0.7": mprage(b1=0.7),
        "T1w: simulated, B1+ 1.3": mprage(b1=1.3),
        "T2w: `paper_spin_echo` at TE 0.455 s": equation("paper_spin_echo", **plain),
        f"T2w: `vfa_turbo_spin_echo`, equivalent TE {1000 * equivalent:.1f} ms": equation(
            "vfa_turbo_spin_echo", **SPACE, te_equivalent=equivalent
        ),
        "T2w: the same train, simulated": prescribed(**SPACE),
    }
    return tuple((model, ratios(signal)) for model, signal in signals.items())

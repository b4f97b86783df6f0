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

"""Usual settings of every sequence, and the signal of one tissue, for the tests of the signal equations."""

import pytest
import torch
from torch import Tensor

from scripts.signal import SEQUENCES

from . import simulators

PD, T1, T2, T2_STARS = (values.tolist() for values in simulators.TISSUES)
WM, GM, CSF, FAT = TISSUES = tuple(zip(PD, T1, T2))
T2_STAR = dict(zip(TISSUES, T2_STARS))

FLAIR = {"te": 0.091, "tr": 9.0, "ti": 2.5}
TRAIN = {"echo_train_length": 16.0, "echo_spacing": 0.0101}
SPACE = {"te_equivalent": 0.11, "echo_train_length": 282.0, "echo_spacing": 0.0035}
READOUT = {"flip_angle": 8.0, "echo_train_length": 176.0, "echo_spacing": 0.0073, "echoes_before_centre": 88.0}
MPRAGE = {"te": 0.00316, "tr": 2.4, "ti": 1.0, **READOUT}
PROTOCOLS = {
    "spin_echo": {"te": 0.1, "tr": 2.0, "flip_angle": 70.0},
    "turbo_spin_echo": {"te": 0.09, "tr": 4.0, **TRAIN},
    "vfa_turbo_spin_echo": {"te": 0.455, "tr": 3.2, **SPACE},
    "inversion_recovery": FLAIR,
    "inversion_recovery_turbo_spin_echo": {**FLAIR, **TRAIN},
    "inversion_recovery_vfa_turbo_spin_echo": {"te": 0.394, "tr": 5.0, "ti": 1.8, **SPACE},
    "double_inversion_recovery": {"te": 0.02, "tr": 8.0, "ti": 3.5, "ti2": 0.5},
    "mprage": MPRAGE,
    "mp2rage": {**MPRAGE, "tr": 5.0, "ti": 0.8, "ti2": 2.7, "flip_angle": 4.0, "flip_angle2": 5.0},
    "spoiled_gradient_echo": {"te": 0.005, "tr": 0.018, "flip_angle": 20.0},
    "bssfp": {"te": 0.002, "tr": 0.004, "flip_angle": 40.0},
    "saturation_recovery": {"te": 0.003, "ti": 1.1, "flip_angle": 15.0},
    "paper_mprage": {"tr": 2.4, "ti": 1.0},
    "paper_spin_echo": {"te": 0.09, "tr": 4.0},
    "paper_flair": FLAIR,
}
"""Sequence name -> its fields in seconds and degrees."""

each_tissue = pytest.mark.parametrize("tissue", TISSUES, ids=simulators.tissues.NAMES)


def signal(name: str, tissue: tuple[float, float, float], **settings: float) -> Tensor:
    """Signal of one tissue (PD, T1, T2) in float64 at the usual settings, but for those given; the sequence takes what
    it knows."""
    sequence, settings = SEQUENCES[name], {**PROTOCOLS[name], **settings}
    known = {key: exact(settings[key]) for key in (*sequence.fields, *sequence.options) if key in settings}
    return sequence.signal(*exact(tissue), **known)


def exact(number: object) -> Tensor:
    """A tensor in float64."""
    return torch.as_tensor(number, dtype=torch.float64)


def near(value: float) -> object:
    """Equal to the precision of float64."""
    return pytest.approx(float(value), rel=1e-9, abs=1e-12)

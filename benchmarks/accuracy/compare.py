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

"""What all comparisons share: the equations in float64, the error, the settings of usual protocols."""

import numpy as np
import torch

from scripts.signal import SEQUENCES
from tests.simulators import TISSUES, Tissues

Signal = np.ndarray
"""Of each tissue, shape (tissues,)."""

TRAIN = {"echo_train_length": 16, "echo_spacing": 0.01}
READOUT = {"echo_train_length": 176, "echo_spacing": 0.0073, "echoes_before_centre": 88}
PARTIAL = {"echo_train_length": 132, "echo_spacing": 0.0073, "echoes_before_centre": 44}
SHOT = {"te": 0.00316, "tr": 2.4, "ti": 1.0}
STATIC = {"t2_star": TISSUES.t2_star}
SPACE = {"te": 0.455, "tr": 3.2, "echo_train_length": 282, "echo_spacing": 0.0035}


def equation(name: str, tissues: Tissues = TISSUES, **settings) -> Signal:
    """The function of :data:`scripts.signal.SEQUENCES`."""
    maps = (torch.as_tensor(values) for values in tissues[:3])
    arguments = {key: torch.as_tensor(value, dtype=torch.float64) for key, value in settings.items()}
    return SEQUENCES[name].signal(*maps, **arguments).numpy()


def percent(value: Signal, truth: Signal) -> Signal:
    """Error in % of the magnitude of the truth."""
    return 100 * (value - truth) / np.abs(truth)

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

"""The tissues of every comparison, at 3 T: one array entry per tissue."""

from typing import NamedTuple

import numpy as np


class Tissues(NamedTuple):
    """Proton density relative to water, relaxation times [s]; arrays of shape (tissues,)."""

    pd: np.ndarray
    t1: np.ndarray
    t2: np.ndarray
    t2_star: np.ndarray


NAMES = ("WM", "GM", "CSF", "fat")
TISSUES = Tissues(
    pd=np.array([0.70, 0.82, 1.0, 0.90]),
    t1=np.array([0.83, 1.33, 4.3, 0.37]),
    t2=np.array([0.080, 0.110, 2.0, 0.133]),
    t2_star=np.array([0.053, 0.066, 1.0, 0.060]),
)

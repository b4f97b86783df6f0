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

"""What the real data of ../shared say through our own reading and equations."""

import numpy as np
import torch

from scripts.bids import find_sessions, load_image, resolve
from scripts.render import SignalModel


def test_the_two_echoes_of_the_test_object_give_its_t2(shared):
    """T2 whose rendered ratio of the echoes is the measured one; both were read after the same excitation.

    The gain and PD cancel. T1 hardly matters at TR 4.32 s: it is that of water-like gels, and another one as well.
    """
    (session,) = find_sessions(shared / "data" / "test_object")
    first, second = (load_image(contrast.path)[0] for contrast in session.contrasts)
    rows = torch.stack([acquisition.to_row() for acquisition in resolve(session)])[None]
    inside = first > 0.3 * np.percentile(first, 99)
    measured = np.median(second[inside] / first[inside])
    t2 = torch.linspace(0.02, 0.3, 2801, dtype=torch.float64)
    for t1 in (0.3, 1.0):
        maps = torch.stack([torch.ones_like(t2), torch.full_like(t2, t1), t2.clamp_max(t1)])[None]
        echoes = SignalModel()(maps, rows)[0]
        fitted = float(t2[((echoes[1] / echoes[0]) - measured).abs().argmin()])
        assert abs(fitted - 0.098) <= 0.003


def test_scans_without_parameters_are_resolved_by_a_protocol(shared):
    for session in find_sessions(shared / "data" / "real" / "open_ms"):
        sequences = [acquisition.sequence for acquisition in resolve(session, "clinical_2d")]
        assert sequences == ["inversion_recovery_turbo_spin_echo", "spin_echo", "turbo_spin_echo"]

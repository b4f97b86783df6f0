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

"""T2 of a real, uniform test object from two echoes of one series."""

from collections.abc import Mapping
from pathlib import Path

import torch
from scipy.ndimage import binary_erosion

from scripts.evaluate.estimators import Estimator

from .measures import HALF_90
from .page import table, verdict
from .real_scans import find_session, load_scans

SUBJECT = "pdt2tse"
STEP, FEWEST = 4, 500
RIM = 3
"""Voxels at the surface that are left out: they hold air too."""
TRUE, TOLERANCE = 0.098, 0.005
"""What the ratio of the two echoes says through the signal equation, and how far off an estimate may be [s]."""


def run(folder: Path, ways: Mapping[str, Estimator]) -> str:
    """Table of T2 by every way to estimate."""
    scans, chosen = load_scans(find_session(folder, SUBJECT), None, STEP, FEWEST)
    scans = scans._replace(gains=torch.zeros_like(scans.gains))
    inside = [binary_erosion(one, iterations=RIM) for one in scans.mask[0].movedim(-1, 0).numpy()]
    inside = torch.stack([torch.from_numpy(one) for one in inside], -1)
    rows = []
    for way, estimator in ways.items():
        estimate = estimator(scans).estimate
        log_t2, sd = estimate.log_maps[0, 2][inside], estimate.sd[0, 2][inside]
        t2 = log_t2.exp() * 1000
        found = float(t2.median())
        low, high = (float(one) for one in torch.quantile(t2, torch.tensor([0.05, 0.95])))
        width = float((2 * HALF_90 * sd).mean())
        met = abs(found / 1000 - TRUE) <= TOLERANCE
        rows.append((way, f"{found:.1f}", f"{low:.1f}–{high:.1f}", f"{width:.2f}", verdict(met)))
    head = ("Way", "T2, median [ms]", "5–95 % of voxels [ms]", "mean width of the 90 % interval of ln T2", "98 ± 5 ms")
    return f"{len(chosen)} slices, {int(inside.sum())} voxels.\n\n{table(head, rows)}"

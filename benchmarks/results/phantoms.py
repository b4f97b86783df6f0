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

"""Truth from the quantitative heads of the package asldro: every tissue one value, no skull, no partial volume."""

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

from benchmarks.phantom import CSF as PHANTOM_CSF
from benchmarks.phantom import LABEL, M0, T1, T2

from .label_maps import filled
from .truth import CSF, GM, WM, Truth

LABELS = {1: GM, 2: WM, 3: CSF}
FILES = {1.5: "hrgt_icbm_2009a_nls_1.5t.nii.gz", 3.0: "hrgt_icbm_2009a_nls_3t.nii.gz"}
"""Field strength [T] -> file."""


def phantom_truth(path: Path, slices: Sequence[int], field_strength: float) -> Truth:
    """Truth of some axial slices of a head of asldro; PD is M0 relative to that of CSF.

    Args:
        path: the file, see :mod:`benchmarks.phantom`.
        slices: their numbers from the feet.
        field_strength: of its values [T].
    """
    head = np.asarray(nib.load(path).dataobj, np.float32)[:, :, :, 0]
    level = head[head[..., LABEL] == PHANTOM_CSF, M0].mean()
    head = head[:, :, list(slices)]
    maps = torch.from_numpy(np.stack([head[..., M0] / level, head[..., T1], head[..., T2]]))
    labels = torch.zeros(maps.shape[1:], dtype=torch.int64)
    for number, tissue in LABELS.items():
        labels[torch.from_numpy(head[..., LABEL] == number)] = tissue
    brain = filled(torch.from_numpy(head[..., LABEL] > 0))
    return Truth(f"asldro {field_strength:g} T", maps, labels, brain, brain, maps, field_strength)

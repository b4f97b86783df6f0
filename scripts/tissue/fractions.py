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

"""Tissue fractions: which share of a voxel belongs to which class, and what follows from them.

Shapes: K classes of :data:`scripts.tissue.FRACTIONS`; fractions ``(B, K, H, W)`` sum to 1 in every voxel.
"""

import torch.nn.functional as F
from torch import Tensor

from .labels import CLASSES, FRACTIONS, REGIONS

FINER = 2
"""Points along each axis of a voxel, which its fractions are counted from."""
_BRAIN = range(REGIONS.index("CSF"), REGIONS.index("lesion") + 1)
AREAS: dict[str, tuple[str, ...]] = {
    "ventricle": ("ventricle",),
    "brain": tuple(name for name in FRACTIONS if REGIONS.index(CLASSES[name].region) in _BRAIN),
    "lesions": ("lesion",),
}
"""Name of an area -> the classes in it. ``brain`` is the brain with its fluid: all within the skull."""


def count_fractions(numbers: Tensor) -> Tensor:
    """Fractions ``(B, K, H, W)`` of voxels of :data:`FINER` x :data:`FINER` points.

    Args:
        numbers: of the points in :data:`scripts.tissue.FRACTIONS` ``(B, FINER H, FINER W)``.
    """
    points = F.one_hot(numbers.long(), len(FRACTIONS)).movedim(-1, 1)
    return F.avg_pool2d(points.float(), FINER)


def measure_areas(fractions: Tensor) -> dict[str, Tensor]:
    """Area of each of :data:`AREAS` in slices with voxels of 1 mm ``(B,)`` [cm²]."""
    sums = fractions.flatten(2).sum(2) / 100
    return {name: sums[:, [FRACTIONS.index(one) for one in names]].sum(1) for name, names in AREAS.items()}

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

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .labels import CLASSES, FRACTIONS, REGIONS

FINER = 2
"""Points along each axis of a voxel, which its fractions are counted from."""
LEAST_PD = 0.05
"""Below this PD a voxel counts as air: its T1 and T2 are undefined."""
_BRAIN = range(REGIONS.index("CSF"), REGIONS.index("lesion") + 1)
AREAS: dict[str, tuple[str, ...]] = {
    "ventricle": ("ventricle",),
    "brain": tuple(name for name in FRACTIONS if REGIONS.index(CLASSES[name].region) in _BRAIN),
    "lesions": ("lesion",),
}
"""Name of an area -> the classes in it. ``brain`` is the brain with its fluid: all within the skull."""
VOLUMES: dict[str, tuple[str, ...]] = {
    **AREAS,
    "grey": ("cortex", "caudate and putamen", "thalamus", "pallidum"),
    "white": ("white matter",),
    "head": FRACTIONS[1:],
}
"""Name of a volume -> the classes in it. ``grey`` and ``white`` are with the cerebellum, ``head`` is all but air."""


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


def measure_volumes(fractions: Tensor, voxel_ml: float) -> dict[str, Tensor]:
    """Volume of each of :data:`VOLUMES` ``(B,)`` [ml].

    Args:
        fractions: of heads ``(B, K, X, Y, Z)``.
        voxel_ml: volume of a voxel [ml].
    """
    sums = fractions.flatten(2).sum(2) * voxel_ml
    return {name: sums[:, [FRACTIONS.index(one) for one in names]].sum(1) for name, names in VOLUMES.items()}


def mix_fractions(fractions: Tensor, values: Tensor) -> Tensor:
    """Maps PD, T1 [s], T2 [s] ``(B, 3, ...)`` of voxels with fractions ``(B, K, ...)``, see :func:`mix`; zeros in air.

    Args:
        fractions: of the classes.
        values: PD, T1 [s], T2 [s] of each class ``(K, 3)``; zeros for those without signal.
    """
    weights = fractions.movedim(1, 0)
    return mix(values.T, lambda x: torch.tensordot(x.to(weights), weights, 1)).movedim(0, 1)


def mix(fine: Tensor, mean: Callable[[Tensor], Tensor]) -> Tensor:
    """Maps ``(3, ...)`` of larger voxels: mean PD, rates 1/T1 and 1/T2 averaged with PD as weight.

    As if water exchanged fast between the tissues of a voxel. That is a simplification: their signals add up, so that
    no single T1 or T2 describes such a voxel.

    Args:
        fine: maps ``(3, ...)`` of the points of the voxels.
        mean: from points to voxels.
    """
    pd, t1, t2 = fine
    r1, r2 = pd / t1.clamp_min(1e-6), pd / t2.clamp_min(1e-6)
    pd, r1, r2 = mean(torch.stack([pd, r1, r2]))
    maps = torch.stack([pd, pd / r1.clamp_min(1e-6), pd / r2.clamp_min(1e-6)])
    return maps * (pd >= LEAST_PD)

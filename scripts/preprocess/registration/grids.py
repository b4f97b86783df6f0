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

"""Grids of scans: which one the others are brought to, with which voxels, and whether two are the same."""

from collections.abc import Sequence

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor

TIE = 1e-3
"""Difference of voxel edges [mm] that does not count: headers round."""
VOXEL = 1.0
"""Edge of the voxels that maps are estimated on [mm]."""
THICK = 1.5
"""From this distance [mm] on, axial slices stay as they are: interpolation would only repeat them."""


def reference_index(images: Sequence[MetaTensor]) -> int:
    """Which of M scans ``(1, X, Y, Z)`` the others are brought to: the first whose largest voxel edge is smallest."""
    edges = np.array([float(image.pixdim.max()) for image in images])
    return int(np.argmax(edges < edges.min() + TIE))


def estimation_edges(affine: np.ndarray) -> tuple[float, float, float]:
    """Edges of the voxels that maps are estimated on [mm], of a reference scan with this affine ``(4, 4)``.

    They are :data:`VOXEL` along all axes of RAS; along the third one the distance of the slices, where these are axial
    and thick.
    """
    right_anterior_superior = nib.orientations.io_orientation(affine)[:, 0]
    across = int(np.flatnonzero(right_anterior_superior == 2)[0])
    distance = float(nib.affines.voxel_sizes(affine)[across])
    return VOXEL, VOXEL, distance if distance >= THICK else VOXEL


def same_grid(image: MetaTensor, other: MetaTensor) -> bool:
    """Whether two scans have the same shape and affine, but for what headers round."""
    return image.shape == other.shape and torch.allclose(image.affine, other.affine, atol=1e-4)

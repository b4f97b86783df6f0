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

"""Grids of scans: which one the others are brought to, and whether two are the same."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.data import MetaTensor

TIE = 1e-3
"""Difference of voxel edges [mm] that does not count: headers round."""


def reference_index(images: Sequence[MetaTensor]) -> int:
    """Which of M scans ``(1, X, Y, Z)`` the others are brought to: the first whose largest voxel edge is smallest."""
    edges = np.array([float(image.pixdim.max()) for image in images])
    return int(np.argmax(edges < edges.min() + TIE))


def same_grid(image: MetaTensor, other: MetaTensor) -> bool:
    """Whether two scans have the same shape and affine, but for what headers round."""
    return image.shape == other.shape and torch.allclose(image.affine, other.affine, atol=1e-4)

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

"""Rigid alignment of the scans of one head: what moved between two scans, how sure that is, and its files."""

from .alignment import Alignment, figures, sidecar_about, transform_path, write_transforms
from .grids import estimation_edges, reference_index, same_grid
from .kept import kept_motion
from .rigid import Motion, Refused, register

__all__ = [
    "Alignment",
    "Motion",
    "Refused",
    "estimation_edges",
    "figures",
    "kept_motion",
    "sidecar_about",
    "reference_index",
    "register",
    "same_grid",
    "transform_path",
    "write_transforms",
]

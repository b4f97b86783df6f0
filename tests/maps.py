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

"""Tiny folders of tissue maps for the tests of rendering."""

from pathlib import Path

import numpy as np

from scripts.bids import Session, output_path, write_image

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
TISSUES = np.array([[0, 0, 0], [0.82, 1.33, 0.11], [0.70, 0.83, 0.08], [1.0, 4.3, 2.0]], np.float32)
"""PD, T1, T2 of air, grey matter, white matter and CSF."""
GM, WM = (3, 3, 0), (7, 7, 0)
"""Voxels of them."""


def quantities(shape: tuple = (24, 20, 3)) -> dict[str, np.ndarray]:
    """Maps of boxes inside each other: air, grey matter, white matter, CSF."""
    labels = np.zeros(shape, int)
    labels[2:-2, 2:-2], labels[6:-6, 6:-6], labels[9:-9, 8:-8] = 1, 2, 3
    return {suffix: TISSUES[labels][..., i] for i, suffix in enumerate(("PDmap", "T1map", "T2map"))}


def write_maps(
    folder: Path,
    maps: dict[str, np.ndarray],
    subject: str = "01",
    session: str | None = None,
    affine: np.ndarray = AFFINE,
    **entities: str,
) -> None:
    """Writes maps of a session below ``folder``."""
    for suffix, values in maps.items():
        write_image(output_path(folder, Session(subject, session, ()), suffix, **entities), values, affine)

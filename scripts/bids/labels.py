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

"""Segmentations: a label map, what its numbers mean, and the volume of each region."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .images import write_image

LABEL_TABLE = "dseg.tsv"
"""At the top of a folder: what the numbers of all its label maps mean."""
COLUMNS = ("index", "name", "volume_ml", "volume_dseg_ml")


def label_table(regions: Sequence[str]) -> str:
    """Content of :data:`LABEL_TABLE`; the number of a region is its place."""
    return "\n".join(["index\tname", *(f"{number}\t{region}" for number, region in enumerate(regions)), ""])


def write_segmentation(
    path: Path,
    labels: np.ndarray,
    affine: np.ndarray,
    regions: Mapping[int, str],
    sidecar: dict,
    shares: Mapping[int, float] | None = None,
) -> None:
    """Writes a label map with its sidecar, and ``*_volumes.tsv`` beside it: the volume [ml] of each region.

    ``volume_dseg_ml`` counts the voxels of a label; ``volume_ml`` adds up the shares of voxels, ``n/a`` where unknown.

    Args:
        path: of the label map, ending in ``_dseg.nii.gz``.
        labels: numbers of regions ``(X, Y, Z)``; 0 is background.
        affine: voxel to mm.
        regions: number -> name of the regions that may be there.
        sidecar: what the sidecar says besides ``Labels``.
        shares: number -> sum of the shares of a region over all voxels.
    """
    names = {str(number): name for number, name in sorted(regions.items())}
    write_image(path, labels.astype(np.uint8), affine, {**sidecar, "Labels": names})
    voxel_ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    counts = np.bincount(labels.astype(np.int64).ravel(), minlength=max(regions) + 1)
    rows = ["\t".join(COLUMNS)]
    for number, name in sorted(regions.items()):
        whole = "n/a" if shares is None else f"{shares[number] * voxel_ml:.3f}"
        rows.append(f"{number}\t{name}\t{whole}\t{counts[number] * voxel_ml:.3f}")
    table = path.with_name(path.name.replace("_dseg.nii.gz", "_volumes.tsv"))
    table.write_text("\n".join([*rows, ""]))

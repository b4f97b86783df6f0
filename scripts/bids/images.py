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

"""NIfTI files: what can be told from the header, and the data."""

import gzip
import json
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from ..errors import UserError

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
)
"""What nibabel raises for files that are no image, or not a whole one."""

HOW_TO_SPLIT = "split it into one 3D file per contrast or echo (echo-1, echo-2, …), each with a sidecar of its own"
"""A sidecar has one echo time, so nothing tells what each volume of a 4D file is."""


def check_image(path: str | Path) -> nib.spatialimages.SpatialImage:
    """The image, its header read and checked: one real 3D volume with a usable affine. The data are not read.

    Raises:
        UserError: for unreadable files, more or fewer than three dimensions, colour or complex images.
    """
    try:
        image = nib.load(path)
    except UNREADABLE as error:
        raise UserError(path, f"no readable image ({_one_line(error)})", "replace the file") from None
    shape, dtype = image.shape, image.get_data_dtype()
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        found = f"{len(shape)} dimensions ({' x '.join(map(str, shape))})"
        raise UserError(path, found, HOW_TO_SPLIT if len(shape) > 3 else "give one 3D volume per file")
    if min(shape[:3]) < 1:
        raise UserError(path, f"an empty volume ({' x '.join(map(str, shape))})", "replace the file")
    if dtype.fields is not None or dtype.kind not in "iuf":
        raise UserError(path, f"{'colour' if dtype.fields else dtype.name} voxels", "give a real magnitude image")
    affine = image.affine
    if affine is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UserError(path, "an affine that is not invertible", "repair the header's orientation")
    return image


def load_image(path: str | Path, uniform: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Data ``(X, Y, Z)`` in float32 and affine ``(4, 4)`` voxel to mm.

    Args:
        path: the file.
        uniform: accept one value in all voxels, which a map may have and a scan never has.

    Raises:
        UserError: as :func:`check_image`, and for truncated files, NaN or infinite voxels and uniform images.
    """
    image = check_image(path)
    try:
        data = image.get_fdata(dtype=np.float32, caching="unchanged").reshape(image.shape[:3])
    except UNREADABLE as error:
        raise UserError(path, f"a damaged or truncated file ({_one_line(error)})", "copy it anew") from None
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise UserError(path, f"{bad} of {data.size} voxels NaN or infinite", "replace them, for instance by 0")
    if not uniform and data.min() == data.max():
        raise UserError(path, f"the value {data.min():g} in all voxels", "replace the file")
    return data, image.affine


def write_image(path: Path, data: np.ndarray, affine: np.ndarray, sidecar: dict | None = None) -> None:
    """A NIfTI ``path``, ending in .nii.gz, and its sidecar: equal content gives equal bytes at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    image.header.set_xyzt_units("mm", "sec")
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
    if sidecar:
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar, indent=4) + "\n")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

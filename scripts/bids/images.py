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
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import SerializableImage

from ..errors import UserError

UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    OverflowError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
)
"""What nibabel raises for files that are no image, or not a whole one."""

MOST_VOXELS = 1 << 28
"""Of one volume: 1.1 GB in float32, about twice a head with voxels of 0.4 mm."""
VOXEL_SIZES = (0.05, 25.0)
"""Smallest and largest edge of a voxel [mm]: from microscopes to single thick slices."""
LARGEST_EXTENT = 1000.0
"""Of a volume along one axis [mm]: no scanner sees farther."""
MOST_BEFORE_VOXELS = 1 << 24
"""Bytes of a file before its first voxel: header and extensions."""
BLOCK = 1 << 20
"""Bytes read at a time."""
HOW_TO_SPLIT = "split it into one 3D file per contrast or echo (echo-1, echo-2, …), each with a sidecar of its own"
"""A sidecar has one echo time, so nothing tells what each volume of a 4D file is."""


def check_image(path: str | Path) -> nib.spatialimages.SpatialImage:
    """The image, its header read and checked: one real 3D volume with a usable affine. The data are not read.

    Raises:
        UserError: for unreadable files, more or fewer than three dimensions, colour or complex images, more than
            :data:`MOST_VOXELS`, voxels beyond :data:`VOXEL_SIZES`, and other units than mm.
    """
    image = open_image(path)
    _check_count(path, image)
    shape, dtype = image.shape, image.get_data_dtype()
    if len(shape) < 3 or any(size != 1 for size in shape[3:]):
        found = f"{len(shape)} dimensions ({' x '.join(map(str, shape))})"
        raise UserError(path, found, HOW_TO_SPLIT if len(shape) > 3 else "give one 3D volume per file")
    if min(shape[:3]) < 1:
        raise UserError(path, f"an empty volume ({' x '.join(map(str, shape))})", "replace the file")
    if dtype.fields is not None or dtype.kind not in "iuf":
        raise UserError(path, f"{'colour' if dtype.fields else dtype.name} voxels", "give a real magnitude image")
    affine = image.affine
    edges = None if affine is None else np.linalg.norm(affine[:3, :3], axis=0)
    if edges is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * edges.prod():
        raise UserError(path, "an affine that is not invertible", "repair the header's orientation")
    _check_size(path, shape[:3], edges, image.header)
    return image


def open_image(path: str | Path) -> nib.spatialimages.SpatialImage:
    """The image, of any dimensions, its header read.

    Raises:
        UserError: for unreadable files.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(ascii(str(path)), "a name that is not UTF-8", "rename the file or its folder") from None
    try:
        with _opened(path) as stream:
            offset = _offset(stream.read(348))
        # nibabel takes memory for all that lies before.
        if not offset <= MOST_BEFORE_VOXELS:
            raise ValueError(f"its first voxel after {offset:.3g} bytes")
        return nib.load(path)
    except UNREADABLE as error:
        raise UserError(path, f"no readable image ({_one_line(error)})", "replace the file") from None


def read_voxels(path: str | Path, image: nib.spatialimages.SpatialImage) -> np.ndarray:
    """Voxels of an image in float32, its file read to the end: a gzip tells there whether it is damaged.

    Args:
        path: the file.
        image: from :func:`open_image`.

    Raises:
        UserError: for damaged and truncated files, those that hold more than their header says, and more than
            :data:`MOST_VOXELS`.
    """
    _check_count(path, image)
    try:
        if not isinstance(image, SerializableImage):
            return image.get_fdata(dtype=np.float32, caching="unchanged")
        with _opened(path) as stream:
            # A mapped file would not be read here, nor to its end.
            whole = type(image).from_file_map(image.make_file_map({"image": stream}), mmap=False)
            data = whole.get_fdata(dtype=np.float32, caching="unchanged")
            # In other formats there may be something behind the voxels.
            while stream.read(BLOCK):
                if isinstance(image, nib.Nifti1Image):
                    raise ValueError("more bytes than its header says")
        return data
    except UNREADABLE as error:
        raise UserError(path, f"a damaged or truncated file ({_one_line(error)})", "copy it anew") from None


def load_image(path: str | Path, uniform: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Data ``(X, Y, Z)`` in float32 and affine ``(4, 4)`` voxel to mm.

    Args:
        path: the file.
        uniform: accept one value in all voxels, which a map may have and a scan never has.

    Raises:
        UserError: as :func:`check_image` and :func:`read_voxels`, and for NaN or infinite voxels and uniform images.
    """
    image = check_image(path)
    data = read_voxels(path, image).reshape(image.shape[:3])
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


def _check_count(path: str | Path, image: nib.spatialimages.SpatialImage) -> None:
    """Refuses an image that does not fit into memory, before that is taken."""
    if math.prod(image.shape) > MOST_VOXELS:
        found = f"{' x '.join(map(str, image.shape))} voxels, more than {MOST_VOXELS}"
        raise UserError(path, found, "resample it, or repair the header")


def _check_size(path: str | Path, shape: tuple[int, ...], edges: np.ndarray, header) -> None:
    """Refuses what is no head by its size."""
    unit = header.get_xyzt_units()[0] if isinstance(header, nib.Nifti1Header) else "mm"
    named = " x ".join(f"{edge:.4g}" for edge in edges)
    if unit not in ("mm", "unknown"):
        raise UserError(path, f"voxels of {named} {unit}", "write the header in mm")
    if min(edges) < VOXEL_SIZES[0] or max(edges) > VOXEL_SIZES[1]:
        found = f"voxels of {named} mm"
        raise UserError(path, found, f"repair the header: {VOXEL_SIZES[0]:g} to {VOXEL_SIZES[1]:g} mm can be read")
    extents = edges * shape
    if max(extents) > LARGEST_EXTENT:
        found = f"a volume of {' x '.join(f'{extent:.4g}' for extent in extents)} mm"
        raise UserError(path, found, f"repair the header: at most {LARGEST_EXTENT:g} mm can be read")


def _opened(path: str | Path) -> BinaryIO:
    return gzip.open(path) if str(path).lower().endswith((".gz", ".mgz")) else open(path, "rb")


def _offset(start: bytes) -> float:
    """Where the header of a NIfTI file says that the voxels begin; 0 for other files."""
    for order in "<>":
        if start[:4] == struct.pack(f"{order}i", 348):
            return struct.unpack_from(f"{order}f", start.ljust(348), 108)[0]
        if start[:4] == struct.pack(f"{order}i", 540):
            return struct.unpack_from(f"{order}q", start.ljust(348), 168)[0]
    return 0


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

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

import gzip
import os
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.bids import check_image, load_image
from scripts.errors import UserError

IMAGE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def write(path: Path, data: np.ndarray = IMAGE) -> Path:
    nib.save(nib.Nifti1Image(data, np.diag([1, 2, 3, 1])), path)
    return path


def refusal(call, *arguments) -> UserError:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return caught.value


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 1)])
def test_image_is_read_as_float32_with_its_affine(tmp_path, extension, shape):
    data, affine = load_image(write(tmp_path / f"x{extension}", IMAGE.reshape(shape).astype(np.int16)))
    assert data.dtype == np.float32 and np.array_equal(data, IMAGE)
    assert np.array_equal(affine, np.diag([1, 2, 3, 1]))


def test_stored_integers_are_scaled_and_oblique_affines_kept(tmp_path):
    oblique = nib.affines.from_matvec([[0.9, -0.1, 0], [0.1, 0.9, -0.6], [0, 0.2, 2.9]], [-90, 20, 7])
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), oblique)
    image.header.set_slope_inter(0.5, -3)
    nib.save(image, tmp_path / "x.nii")
    raw = np.asanyarray(nib.load(tmp_path / "x.nii").dataobj.get_unscaled())
    data, affine = load_image(tmp_path / "x.nii")
    assert raw.dtype == np.int16
    np.testing.assert_allclose(data, 0.5 * raw - 3)
    np.testing.assert_allclose(affine, oblique, atol=1e-6)


def test_a_4d_file_is_refused_with_what_to_do(tmp_path):
    assert "echo-1" in refusal(check_image, write(tmp_path / "x.nii", np.zeros((2, 3, 4, 2), np.float32))).do


@pytest.mark.parametrize(
    "data, found",
    [
        (np.zeros((2, 3, 4, 2), np.float32), "4 dimensions"),
        (np.zeros((2, 3), np.float32), "2 dimensions"),
        (np.zeros((2, 3, 4), np.complex64), "complex"),
        (np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "colour"),
    ],
)
def test_unusable_headers_are_refused(tmp_path, data, found):
    assert found in refusal(check_image, write(tmp_path / "x.nii.gz", data)).found


def test_unusable_data_are_refused(tmp_path):
    holes = IMAGE.copy()
    holes[0, 0, :2] = np.nan, np.inf
    assert "2 of 24 voxels" in refusal(load_image, write(tmp_path / "holes.nii.gz", holes)).found
    assert "the value 3" in refusal(load_image, write(tmp_path / "flat.nii", np.full((2, 3, 4), 3.0))).found
    image = nib.Nifti1Image(IMAGE, np.diag([1, 1, 1, 1]))
    image.set_sform(np.diag([1, 0, 1, 1]), code=1)
    nib.save(image, tmp_path / "singular.nii")
    assert "affine" in refusal(check_image, tmp_path / "singular.nii").found


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_truncated_files_are_refused(tmp_path, extension):
    noise = np.random.default_rng(0).normal(size=(32, 32, 32)).astype(np.float32)
    path = write(tmp_path / f"x{extension}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    check_image(path)
    assert "truncated" in refusal(load_image, path).found


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_no_flipped_bit_of_a_compressed_file_gives_other_voxels(tmp_path, dtype):
    path = write(tmp_path / "x.nii.gz", np.random.default_rng(0).normal(100, 20, (12, 10, 8)).astype(dtype))
    whole, (voxels, affine) = path.read_bytes(), load_image(path)
    refused = 0
    for place in np.random.default_rng(1).choice(len(whole), 300, replace=False):
        content = bytearray(whole)
        content[place] ^= 1 << (place % 8)
        path.write_bytes(content)
        try:
            data, its_affine = load_image(path)
        except UserError as error:
            refused += error.where == path
        else:
            # The compressor's time stamp, for instance, is no part of the image.
            assert np.array_equal(data, voxels) and np.array_equal(its_affine, affine)
    assert refused >= 290


@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
@pytest.mark.parametrize("change", ["cut by one byte", "garbage behind it", "more voxels than the header says"])
def test_a_file_is_read_to_its_end(tmp_path, extension, change):
    path = write(tmp_path / f"x{extension}", np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32))
    content = path.read_bytes()
    if change == "cut by one byte":
        path.write_bytes(content[:-1])
    elif change == "garbage behind it":
        path.write_bytes(content + b"garbage")
    else:
        content = (gzip.decompress(content) if extension == ".nii.gz" else content) + b"\0\0"
        path.write_bytes(gzip.compress(content) if extension == ".nii.gz" else content)
    assert "a damaged or truncated file" in refusal(load_image, path).found


def test_a_format_with_something_behind_the_voxels_is_read(tmp_path):
    nib.save(nib.MGHImage(IMAGE, np.diag([1, 2, 3, 1])), tmp_path / "x.mgz")
    with gzip.open(tmp_path / "x.mgz", "ab") as file:
        file.write(b"a tag")
    assert np.array_equal(load_image(tmp_path / "x.mgz")[0], IMAGE)
    content = (tmp_path / "x.mgz").read_bytes()
    (tmp_path / "x.mgz").write_bytes(content[:-6] + bytes([content[-6] ^ 1]) + content[-5:])
    assert "damaged" in refusal(load_image, tmp_path / "x.mgz").found


def header_only(path: Path, shape=(2, 3, 4), zooms=(1, 1, 1), unit="mm", offset=352) -> Path:
    """A file of a few bytes whose header promises anything."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_zooms(zooms)
    header.set_xyzt_units(unit)
    header.set_sform(np.diag([*zooms, 1]), 1)
    header["vox_offset"], header["magic"] = offset, b"n+1"
    content = header.binaryblock + bytes(4 + 48)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    "options, found",
    [
        ({"shape": (2000, 2000, 1000)}, "2000 x 2000 x 1000 voxels"),
        ({"shape": (32767, 32767, 32767)}, "32767 x 32767 x 32767 voxels"),
        ({"zooms": (0.01, 0.01, 0.01)}, "voxels of 0.01 x 0.01 x 0.01 mm"),
        ({"zooms": (1, 1, 100)}, "voxels of 1 x 1 x 100 mm"),
        ({"zooms": (1000, 1000, 1000), "unit": "micron"}, "voxels of 1000 x 1000 x 1000 micron"),
        ({"zooms": (0.001, 0.001, 0.001), "unit": "meter"}, "voxels of 0.001 x 0.001 x 0.001 meter"),
        ({"shape": (300, 3, 4), "zooms": (5, 5, 5)}, "a volume of 1500 x 15 x 20 mm"),
        ({"offset": 2e9}, "its first voxel after 2e+09 bytes"),
    ],
    ids=str,
)
@pytest.mark.parametrize("extension", [".nii", ".nii.gz"])
def test_what_is_no_head_by_its_size_is_refused_with_the_number(tmp_path, options, found, extension):
    path = header_only(tmp_path / f"x{extension}", **options)
    tracemalloc.start()
    refused = refusal(load_image, path)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found in refused.found and refused.where == path
    assert taken < 1e6, "before memory is taken"


def test_eight_gigabytes_of_zeros_in_a_small_file_take_no_memory(tmp_path):
    path = header_only(tmp_path / "x.nii")
    block = gzip.compress(bytes(1 << 20))
    # Members of a gzip follow each other.
    with open(tmp_path / "x.nii.gz", "wb") as file:
        file.write(gzip.compress(path.read_bytes()))
        for _ in range(8000):
            file.write(block)
    assert (tmp_path / "x.nii.gz").stat().st_size < 1e7
    tracemalloc.start()
    assert "more bytes than its header says" in refusal(load_image, tmp_path / "x.nii.gz").found
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 1e7


@pytest.mark.parametrize("zooms", [(0.4, 0.4, 0.4), (0.9, 0.9, 12), (1, 1, 1)])
def test_heads_of_any_scanner_pass(tmp_path, zooms):
    shape = tuple(int(256 / edge) for edge in zooms)
    assert check_image(header_only(tmp_path / "x.nii.gz", shape, zooms)).shape == shape
    assert check_image(header_only(tmp_path / "y.nii.gz", shape, zooms, unit="unknown")).shape == shape


def test_a_name_that_is_not_utf8_is_refused_in_words_that_can_be_printed(tmp_path):
    path = write(tmp_path / "x.nii").rename(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.nii"))
    refused = refusal(check_image, path)
    assert "a name that is not UTF-8" in refused.found and "caf\\udce9.nii" in str(refused).encode().decode()


@pytest.mark.parametrize("content", [b"", b"no image", gzip.compress(b"no image", mtime=0), b"\x00" * 400])
def test_files_that_are_no_image_are_refused(tmp_path, content):
    (tmp_path / "x.nii.gz").write_bytes(content)
    assert "no readable image" in refusal(check_image, tmp_path / "x.nii.gz").found
    assert "no readable image" in refusal(check_image, tmp_path / "absent.nii").found

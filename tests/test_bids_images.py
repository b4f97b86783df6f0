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


@pytest.mark.parametrize("content", [b"", b"no image", gzip.compress(b"no image", mtime=0), b"\x00" * 400])
def test_files_that_are_no_image_are_refused(tmp_path, content):
    (tmp_path / "x.nii.gz").write_bytes(content)
    assert "no readable image" in refusal(check_image, tmp_path / "x.nii.gz").found
    assert "no readable image" in refusal(check_image, tmp_path / "absent.nii").found

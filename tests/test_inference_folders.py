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

"""Folders as clinics have them: broken subjects and reruns, scans on other grids, results on the user's own grid."""

import json

import nibabel as nib
import numpy as np
import pytest

from .studies import RENDER, SHAPE, files, true_maps, write_study


def test_a_rerun_does_only_the_subjects_that_were_broken(infer, tmp_path, estimates):
    scans = write_study(tmp_path / "clinic", subjects=5)
    anat = scans / "sub-02" / "anat"
    image, sidecar = anat / "sub-02_T2w.nii.gz", scans / "sub-04" / "anat" / "sub-04_T1w.json"
    whole, told = image.read_bytes(), sidecar.read_text()
    image.write_bytes(whole[: len(whole) // 2])
    sidecar.write_text("{")
    for _ in range(2):
        infer(dataset_dir=str(scans))
        assert sorted(infer.failures) == ["sub-02", "sub-04"] and len(estimates) == 3
    image.write_bytes(whole)
    sidecar.write_text(told)
    infer(dataset_dir=str(scans))
    assert not infer.failures and len(estimates) == 5


def test_native_results_are_on_the_grid_of_the_reference_scan(infer, scans):
    anat = scans / "sub-01" / "anat"
    affine = nib.affines.from_matvec([[-1.1, 0.1, 0], [0.1, 1.1, -0.2], [0, 0.1, 2.0]], [10, -20, 5])
    for path in anat.glob("*.nii.gz"):
        nib.save(nib.Nifti1Image(nib.load(path).get_fdata(dtype=np.float32), affine), path)
    out = infer(native="true", render=RENDER[:1])
    for path in [*(out / "sub-01" / "anat").glob("*.nii.gz")]:
        image = nib.load(path)
        assert image.shape == SHAPE, path.name
        np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    mask = nib.load(out / "sub-01" / "anat" / "sub-01_desc-foreground_mask.nii.gz").get_fdata() > 0
    assert mask.mean() == pytest.approx((true_maps()[0] > 0).mean(), rel=0.3)
    assert files(infer(native="true"))["sub-01/anat/sub-01_acq-two_T2w.nii.gz"]


def test_what_moved_is_in_the_sidecars_and_beside_the_maps(infer, scans):
    path = scans / "sub-01" / "anat" / "sub-01_T2w.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32)[1:, 1:], nib.affines.from_matvec(np.eye(3), 2.5)), path)
    anat = infer() / "sub-01" / "anat"
    told = json.loads((anat / "sub-01_T1map.json").read_text())["Alignment"]
    assert told["Reference"] == "bids:raw:sub-01/anat/sub-01_FLAIR.nii.gz"
    [scan] = {**told["Registered"], **told["Refused"]}
    assert scan == "bids:raw:sub-01/anat/sub-01_T2w.nii.gz"
    assert (anat / "sub-01_from-T2w_to-FLAIR_mode-image_xfm.txt").exists() is bool(told["Registered"])

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
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.bids import find_sessions

from .studies import RENDER, SHAPE, files, true_maps, write_study

RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
BROKEN = {
    "4 dimensions (32 x 40 x 6 x 2); split it": lambda voxels: np.stack([voxels, voxels], -1),
    "colour voxels; give a real": lambda voxels: np.zeros(SHAPE, RGB),
    "complex64 voxels; give a real": lambda voxels: voxels.astype(np.complex64),
    "1 of 7680 voxels NaN": lambda voxels: np.where(np.arange(voxels.size).reshape(SHAPE), voxels, np.nan),
}
"""Reason of a refusal -> what gives it."""


def test_broken_subjects_have_reasons_the_others_results_and_a_rerun_does_only_the_broken(infer, tmp_path, estimates):
    scans = write_study(tmp_path / "clinic", subjects=len(BROKEN) + 3)
    images = [scans / f"sub-{n:02d}" / "anat" / f"sub-{n:02d}_T2w.nii.gz" for n in range(2, len(BROKEN) + 3)]
    whole = [image.read_bytes() for image in images]
    for image, spoil in zip(images, BROKEN.values()):
        scan = nib.load(image)
        nib.save(nib.Nifti1Image(spoil(scan.get_fdata(dtype=np.float32)), scan.affine), image)
    images[-1].write_bytes(whole[-1][: len(whole[-1]) // 2])
    for _ in range(2):
        infer(dataset_dir=str(scans))
        assert sorted(infer.failures) == [image.name[:6] for image in images] and len(estimates) == 2
        for image, reason in zip(images, [*BROKEN, "a damaged or truncated file"]):
            assert str(infer.failures[image.name[:6]]).startswith(f"{image}: found {reason}")
    for image, content in zip(images, whole):
        image.write_bytes(content)
    infer(dataset_dir=str(scans))
    assert not infer.failures and len(estimates) == len(images) + 2


def test_a_closed_folder_and_a_name_that_is_not_utf8_are_the_reasons_of_their_subjects(infer, tmp_path, monkeypatch):
    scans, iterdir = write_study(tmp_path / "clinic", subjects=3), Path.iterdir
    for path in [*(scans / "sub-03" / "anat").glob("*_T2w.*")]:
        path.rename(os.fsdecode(bytes(path).replace(b"_T2w", b"_acq-caf\xe9_T2w")))

    def refuse_the_second(folder):
        if "sub-02" in folder.parts:
            raise PermissionError(13, "Permission denied")
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", refuse_the_second)
    out = infer(dataset_dir=str(scans))
    assert sorted(infer.failures) == ["sub-02", "sub-03"]
    closed = f"{scans / 'sub-02' / 'anat'}: found a folder that cannot be read (Permission denied); make it readable"
    assert str(infer.failures["sub-02"]) == closed
    assert "found a name that is not UTF-8; rename the file" in str(infer.failures["sub-03"]).encode().decode()
    assert (out / "sub-01" / "anat" / "sub-01_manifest.json").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("closed", ["sub-02", "sub-02/anat"])
def test_a_subject_that_may_not_be_looked_into_is_not_passed_over(tmp_path, closed):
    scans = write_study(tmp_path / "clinic", subjects=2)
    (scans / closed).chmod(0)
    one, two = find_sessions(scans)
    (scans / closed).chmod(0o700)
    assert not one.problem and "a folder that cannot be read" in str(two.problem) and two.name == "sub-02"


def test_scaled_integers_without_compression_give_the_same_maps(infer, scans):
    t1 = infer("floats", data_consistency=False) / "sub-01" / "anat" / "sub-01_T1map.nii.gz"
    for path in [*(scans / "sub-01" / "anat").glob("*.nii.gz")]:
        scan = nib.load(path)
        integers = nib.Nifti1Image(scan.get_fdata(), scan.affine)
        integers.set_data_dtype(np.int16)
        nib.save(integers, path.with_suffix(""))
        assert nib.load(path.with_suffix("")).dataobj.slope != 1
        path.unlink()
    again = infer("integers", data_consistency=False) / "sub-01" / "anat" / "sub-01_T1map.nii.gz"
    np.testing.assert_allclose(nib.load(again).get_fdata(), nib.load(t1).get_fdata(), rtol=1e-2)


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


def test_what_is_no_scan_and_what_is_stored_twice_are_refused_and_the_neighbour_is_not(infer, tmp_path):
    scans = write_study(tmp_path / "clinic", subjects=3)
    first = scans / "sub-01" / "anat" / "sub-01_T1w.nii.gz"
    noise = np.random.default_rng(0).uniform(1, 9, SHAPE).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), first)
    second = scans / "sub-02" / "anat"
    (second / "sub-02_acq-b_T1w.nii.gz").write_bytes((second / "sub-02_T1w.nii.gz").read_bytes())
    (second / "sub-02_acq-b_T1w.json").write_text((second / "sub-02_T1w.json").read_text())
    out = infer(dataset_dir=str(scans))
    reasons = {name: str(error) for name, error in infer.failures.items()}
    assert "no picture" in reasons["sub-01"] and str(first) in reasons["sub-01"]
    assert "the same content as bids:raw:sub-02/anat/sub-02_" in reasons["sub-02"]
    assert [path.name for path in out.glob("sub-*")] == ["sub-03"]


def test_one_subjects_folder_is_a_study_of_one(infer, scans):
    out = infer(dataset_dir=str(scans / "sub-02"))
    assert not infer.failures and [path.name for path in out.glob("sub-*")] == ["sub-02"]
    sidecar = json.loads((out / "sub-02" / "anat" / "sub-02_T1map.json").read_text())
    assert "bids:raw:anat/sub-02_T1w.nii.gz" in sidecar["Sources"]

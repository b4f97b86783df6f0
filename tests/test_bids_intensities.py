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

"""Voxels that are no intensities of a scan, and headers that may mislead."""

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from scripts.bids import check_intensities, header_doubts
from scripts.errors import UserError
from scripts.preprocess import LoadSessiond
from scripts.simulate import Simulator

RNG = np.random.default_rng(0)
SHAPE = (32, 40, 24)
GRID = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
RADIUS = np.sqrt((GRID**2).sum(0))
HEAD = ndimage.gaussian_filter(np.where(RADIUS < 0.85, 400.0, 0) + np.where(RADIUS < 0.6, 300.0, 0), 0.7)
SCAN = np.abs(HEAD + RNG.normal(0, 12, SHAPE)).astype(np.float32)
BRAIN = np.where(RADIUS < 0.7, SCAN, 0)
LABELS = (RADIUS < 0.85).astype(int) + (RADIUS < 0.6) + (RADIUS < 0.3)
CHECKS = np.indices(SHAPE).sum(0) % 2


def z_scored(data: np.ndarray) -> np.ndarray:
    inside = data > 0
    return np.where(inside, (data - data[inside].mean()) / data[inside].std(), 0)


NO_INTENSITIES = {
    "z-scores": (z_scored(SCAN), "% of the voxels that are not 0 are negative: z-scores"),
    "z-scores of a brain": (z_scored(BRAIN), "% of the voxels that are not 0 are negative: z-scores"),
    "shifted z-scores": (z_scored(BRAIN) - z_scored(BRAIN).min(), "a background that is not 0"),
    "an offset": (SCAN - 200, "are negative"),
    "values that wrapped": (np.where(SCAN > 600, SCAN - 1400, SCAN), "are negative"),
    "a mask": ((RADIUS < 0.8).astype(np.float32), "2 different values only"),
    "labels": (LABELS, "4 whole numbers"),
    "many labels": (LABELS * 10 + (GRID[0] > 0) * 1000, "whole numbers, equal in"),
    "probabilities": (np.clip(4 - 5 * RADIUS, 0, 1), "a map of probability"),
    "noise": (RNG.normal(size=SHAPE) ** 2, "no picture"),
    "a checkerboard": (CHECKS, "2 different values"),
    "a noisy checkerboard": (CHECKS * 100 + np.abs(RNG.normal(0, 5, SHAPE)), "no picture"),
}
INTENSITIES = {
    "a scan": SCAN,
    "whole numbers": SCAN.astype(np.int16),
    "few bits": (SCAN / SCAN.max() * 255).astype(np.uint8),
    "a stripped brain": BRAIN,
    "a scale from 0 to 1": SCAN / SCAN.max(),
    "one slice": SCAN[..., 12:13],
    "tissues without noise": np.where(RADIUS < 0.6, 700.3, np.where(RADIUS < 0.85, 400.7, 0)),
}


@pytest.mark.parametrize("name", NO_INTENSITIES)
def test_what_is_no_intensity_is_refused_with_the_reason(name):
    data, words = NO_INTENSITIES[name]
    with pytest.raises(UserError) as error:
        check_intensities(data.astype(np.float32), "x.nii.gz")
    assert words in error.value.found and error.value.where == "x.nii.gz"


@pytest.mark.parametrize("name", INTENSITIES)
def test_intensities_pass_in_silence(name, caplog):
    check_intensities(INTENSITIES[name].astype(np.float32), "x.nii.gz")
    assert not caplog.records


def test_small_negatives_of_interpolation_are_told_with_their_share(caplog):
    data = SCAN.copy()
    data[RADIUS > 0.95] *= -1
    with caplog.at_level(logging.WARNING):
        check_intensities(data, "x.nii.gz")
    share = 100 * (data < 0).mean()
    assert f"{share:.3g} % of the voxels that are not 0 are negative" in caplog.text and "set to 0" in caplog.text


def test_a_simulated_scan_passes_and_a_mask_in_its_place_does_not(tmp_path):
    from scripts.bids import find_sessions, resolve

    root = Simulator(tmp_path / "study", subjects=1, resolution=4).run()
    (session,) = find_sessions(root)
    record = {"session": session, "acquisitions": resolve(session)}
    assert len(LoadSessiond()(record)["image"]) == len(session.contrasts)
    path: Path = session.contrasts[0].path
    image = nib.load(path)
    mask = (image.get_fdata() > image.get_fdata().mean()).astype(np.float32)
    nib.save(nib.Nifti1Image(mask, image.affine), path)
    with pytest.raises(UserError, match="2 different values"):
        LoadSessiond()(record)


def test_a_header_that_agrees_with_itself_raises_no_doubt():
    oblique = nib.affines.from_matvec([[0.9, -0.1, 0], [0.1, 0.9, -0.6], [0, 0.2, 2.9]], [-90, 20, 7])
    image = nib.Nifti1Image(SCAN, oblique)
    image.set_qform(oblique, 1)
    image.set_sform(oblique, 1)
    assert header_doubts(image) == () == header_doubts(nib.MGHImage(SCAN, np.eye(4)))


def test_doubtful_headers_are_told():
    image = nib.Nifti1Image(SCAN, np.eye(4))
    image.header["qform_code"] = image.header["sform_code"] = 0
    assert "qform_code and sform_code 0" in header_doubts(image)[0]
    image = nib.Nifti1Image(SCAN, np.diag([1, 1, 1, 1]))
    image.header["pixdim"][1:4] = 1, 1, 3
    assert header_doubts(image) == ("voxels of 1 x 1 x 3 mm by pixdim, of 1 x 1 x 1 mm by the affine, which is used",)
    image = nib.Nifti1Image(SCAN, np.eye(4))
    image.set_sform(np.eye(4), 1)
    image.set_qform(nib.affines.from_matvec(np.eye(3), [0, 0, 30]), 1)
    assert "30 mm apart" in header_doubts(image)[0]

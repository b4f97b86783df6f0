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

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy.spatial.transform import Rotation

from scripts.errors import UserError
from scripts.preprocess import AlignContrastsd, CropAroundForegroundd, ForegroundMaskd, LoadSessiond, ScaleContrastsd
from scripts.simulate import REGIONS
from scripts.train.data import SessionDataset

BLOB = np.array([6.0, -4.0, 5.0])
"""World coordinates of the brightest point of every image [mm]."""
SIDECAR = {"EchoTime": 0.09, "RepetitionTime": 4.0}
# Columns are the voxel axes: to the left, to the inferior, to the posterior.
LIP = np.array([[-1.2, 0, 0], [0, 0, -0.9], [0, -0.9, 0]])


def write_scan(anat: Path, suffix: str, axes: np.ndarray, shape: tuple[int, ...], offset: float = 1.0) -> None:
    """An image around the origin of a Gaussian blob, 5 mm wide, on a floor."""
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = -axes @ (np.array(shape) - 1) / 2
    world = np.indices(shape).reshape(3, -1).T @ axes.T + affine[:3, 3]
    data = offset + 100 * np.exp(-0.5 * np.square((world - BLOB) / 5).sum(1)).reshape(shape)
    anat.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), anat / f"sub-01_{suffix}.nii.gz")
    (anat / f"sub-01_{suffix}.json").write_text(json.dumps(SIDECAR))


def align(folder: Path, spacing: float | None = 1.0, truth: bool = False) -> dict:
    return Compose([LoadSessiond(truth), AlignContrastsd(spacing)])(SessionDataset(str(folder))[0])


def centroid(contrast: torch.Tensor, affine: torch.Tensor) -> np.ndarray:
    """World coordinates of the blob [mm]."""
    weight = (contrast - 20).clamp_min(0).numpy()
    voxel = np.array([np.average(axis, weights=weight) for axis in np.indices(weight.shape)])
    return affine[:3, :3].numpy() @ voxel + affine[:3, 3].numpy()


@pytest.mark.parametrize("angle", [0, 15], ids=["straight", "oblique"])
def test_one_world_coordinate_is_one_voxel(tmp_path, angle):
    tilt = Rotation.from_euler("xz", [angle, -angle], degrees=True).as_matrix()
    anat = tmp_path / "sub-01" / "anat"
    write_scan(anat, "PDw", np.diag([0.8, -0.8, 3.0]), (64, 64, 17))
    write_scan(anat, "T1w", tilt @ LIP, (42, 56, 60))
    write_scan(anat, "T2w", tilt.T @ np.diag([-0.5, 0.6, 4.0]), (90, 80, 12))
    aligned = align(tmp_path)
    image = aligned["image"]
    assert len(image) == len(aligned["acquisition"]) == 3
    assert nib.aff2axcodes(image.affine.numpy()) == tuple("RAS")
    for contrast in image.as_tensor():
        assert np.abs(centroid(contrast, image.affine) - BLOB).max() < 0.35
        peak = np.unravel_index(int(contrast.argmax()), contrast.shape)
        assert np.abs(image.affine.numpy() @ [*peak, 1] - [*BLOB, 1]).max() < 2.5


def test_grid_is_that_of_the_finest_scan_at_1_mm_with_its_whole_field_of_view(tmp_path):
    anat = tmp_path / "sub-01" / "anat"
    # Finer in the plane and larger, but with thick slices.
    write_scan(anat, "PDw", np.diag([0.5, 0.5, 4.0]), (120, 120, 30))
    write_scan(anat, "T1w", LIP, (42, 56, 60))
    image = align(tmp_path)["image"]
    assert image.pixdim.tolist() == pytest.approx([1, 1, 1])
    extent = np.array([42 * 1.2, 60 * 0.9, 56 * 0.9])
    assert np.abs(np.array(image.shape[1:]) - extent).max() <= 1
    centre = image.affine.numpy() @ [*(np.array(image.shape[1:]) - 1) / 2, 1]
    assert np.abs(centre[:3]).max() < 0.6
    assert image[1].min() > 0.99, "the floor of the reference reaches every voxel"


THICK_AXIAL, THICK_CORONAL = np.diag([0.6, -0.6, 4.0]), np.array([[0.6, 0, 0], [0, 0, 4.0], [0, 0.6, 0]])


@pytest.mark.parametrize(
    "axes, edges",
    [(THICK_AXIAL, (1, 1, 4)), (THICK_CORONAL, (1, 1, 1)), (np.diag([1.0, 1.0, 1.4]), (1, 1, 1))],
    ids=["axial", "coronal", "thin"],
)
def test_thick_axial_slices_stay_as_they_are(tmp_path, axes, edges):
    write_scan(tmp_path / "sub-01" / "anat", "T2w", axes, (90, 90, 15) if edges[2] > 1 else (60, 60, 60))
    image = align(tmp_path, None)["image"]
    assert image.pixdim.tolist() == pytest.approx(edges)
    if edges[2] > 1:
        stored = nib.as_closest_canonical(nib.load(tmp_path / "sub-01/anat/sub-01_T2w.nii.gz"))
        assert image.shape[-1] == 15 and np.allclose(image.affine[2, 3], stored.affine[2, 3])
        profile = stored.get_fdata().max((0, 1))
        assert image[0].amax((0, 1)).numpy() == pytest.approx(profile, rel=0.02), "no slice is mixed with another"


def test_outside_its_field_of_view_a_contrast_is_zero(tmp_path):
    anat = tmp_path / "sub-01" / "anat"
    write_scan(anat, "T1w", np.diag([1.0, 1.0, 1.0]), (40, 40, 40))
    write_scan(anat, "T2w", np.diag([1.5, 1.5, 1.5]), (16, 16, 16))
    contrast = align(tmp_path)["image"][1]
    border = torch.ones_like(contrast, dtype=torch.bool)
    border[7:-7, 7:-7, 7:-7] = False
    assert contrast[border].abs().max() == 0 and contrast[20, 20, 20] > 1


def test_negative_intensities_are_clipped(tmp_path):
    anat = tmp_path / "sub-01" / "anat"
    for suffix in ("T1w", "T2w"):
        write_scan(anat, suffix, np.diag([1.0, -1.0, 1.0]), (30, 30, 30), offset=-5.0)
    image = align(tmp_path)["image"]
    assert image.min() == 0 and image.amax((1, 2, 3)).min() > 90


def test_own_grid_is_kept_untouched(tmp_path):
    write_scan(tmp_path / "sub-01" / "anat", "T1w", np.diag([1.0, 1.0, 1.0]), (20, 22, 24))
    stored = nib.load(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz")
    image = align(tmp_path)["image"]
    np.testing.assert_allclose(image[0].numpy(), stored.get_fdata(), rtol=1e-5)
    np.testing.assert_allclose(image.affine.numpy(), stored.affine)


def test_true_maps_and_labels_come_along_when_asked_for(tiny_study):
    assert not {"maps", "labels", "truth"} & set(align(tiny_study, 4.0))
    aligned = align(tiny_study, 4.0, truth=True)
    truth = tiny_study / "derivatives" / "truth" / "sub-01" / "anat"
    stored = np.stack([nib.load(truth / f"sub-01_{name}map.nii.gz").get_fdata() for name in ("PD", "T1", "T2")])
    np.testing.assert_allclose(aligned["maps"].numpy(), stored, atol=1e-6)
    assert aligned["labels"].shape == (1, *aligned["image"].shape[1:])
    finer = align(tiny_study, 3.0, truth=True)
    assert set(finer["labels"].unique().tolist()) <= set(range(len(REGIONS)))
    assert finer["maps"].shape[1:] == finer["image"].shape[1:] == finer["labels"].shape[1:]


@pytest.fixture
def hollow() -> dict:
    """Two contrasts with half a hollow head each, a noise floor, and something small beside the head."""
    image = 0.04 * torch.rand(2, 40, 40, 40, generator=torch.Generator().manual_seed(0))
    image[0, 8:20, 8:32, 8:32] = 1.0
    image[1, 20:32, 8:32, 8:32] = 1.0
    image[:, 14:26, 14:26, 14:26] = 0.0
    image[0, 36:39, 36:39, 36:39] = 1.0
    return {"image": MetaTensor(image * torch.tensor([3.0, 900.0]).view(2, 1, 1, 1))}


def test_mask_is_one_filled_component(hollow):
    mask = ForegroundMaskd()(hollow)["mask"]
    assert mask.shape == (1, 40, 40, 40) and mask.unique().tolist() == [0, 1]
    assert mask[0, 9:31, 9:31, 9:31].all(), "the cavity is inside"
    assert not mask[0, 34:].any(), "what lies beside the head is not"
    assert mask.sum() < 30**3, "air is not"


def test_mask_of_a_single_slice_is_filled_too(hollow):
    mask = ForegroundMaskd()({"image": hollow["image"][..., 20:21]})["mask"]
    assert mask.shape == (1, 40, 40, 1) and mask[0, 9:31, 9:31].all() and not mask[0, 34:].any()


def test_mask_does_not_depend_on_units_or_order(hollow):
    mask, image = ForegroundMaskd()(hollow)["mask"], hollow["image"]
    other = MetaTensor(image.flip(0) * 1000)
    assert torch.equal(ForegroundMaskd()({"image": other})["mask"], mask)


def test_scaling_is_undone_by_the_window(hollow):
    hollow["image"] *= 0.7 + 0.3 * torch.rand(40, 40, 40, generator=torch.Generator().manual_seed(1))
    hollow["image"][1, 10, 10, 10] = 5000.0
    raw = hollow["image"].as_tensor().clone()
    scaled = ScaleContrastsd()(ForegroundMaskd()(hollow))
    low, high = scaled["window"].view(2, 2, 1, 1, 1).unbind(1)
    torch.testing.assert_close(low + (scaled["image"].as_tensor() + 1) / 2 * (high - low), raw, atol=1e-2, rtol=1e-5)
    assert scaled["image"].amin((1, 2, 3)).tolist() == [-1, -1], "the darkest air is -1 in every contrast"
    assert scaled["image"][1].max() > 5, "nothing is clipped"
    inside = scaled["image"].as_tensor()[:, scaled["mask"][0] > 0]
    assert np.percentile(inside.numpy(), 99.5, axis=1) == pytest.approx([1, 1], abs=1e-3)


def test_a_contrast_without_signal_stays_finite(hollow):
    hollow["image"][1] = 0
    scaled = ScaleContrastsd()(ForegroundMaskd()(hollow))
    assert scaled["image"].isfinite().all() and scaled["image"][1].unique().tolist() == [-1]


PLACES = {
    "middle": ((10, 22), (8, 24), (12, 20)),
    "start": ((0, 12), (0, 16), (0, 8)),
    "end": ((20, 32), (20, 36), (22, 30)),
}
SHAPE = (32, 36, 30)


def crop(place: str, size: tuple[int, int, int]) -> tuple[dict, dict]:
    """A volume whose voxels all differ and its crop."""
    mask = torch.zeros(1, *SHAPE)
    mask[(0, *[slice(a, b) for a, b in PLACES[place]])] = 1
    image = torch.arange(mask.numel(), dtype=torch.float32).view(mask.shape) / 1000 + 1
    record = {"image": torch.cat([image, 2 * image]), "mask": mask, "labels": 3 * mask, "maps": image * mask}
    return record, CropAroundForegroundd(size)(record)


@pytest.mark.parametrize("size", [(20, 24, 16), (48, 40, 44), (20, 40, -1), (-1, -1, -1)], ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_crop_is_centred_on_the_foreground(place, size):
    record, cropped = crop(place, size)
    expected = [n if want < 0 else want for n, want in zip(SHAPE, size)]
    assert list(cropped["image"].shape) == [2, *expected] and list(cropped["mask"].shape) == [1, *expected]
    middle = [float(axis.float().mean()) + 0.5 for axis in cropped["mask"][0].nonzero(as_tuple=True)]
    for axis, want in enumerate(size):
        centre = sum(PLACES[place][axis]) / 2 if want < 0 else want / 2
        assert abs(middle[axis] - centre) <= 1, f"axis {axis}: foreground at {middle[axis]} of {expected[axis]}"
    assert abs(cropped["centre"] - middle[2]) <= 1


@pytest.mark.parametrize("place", PLACES)
def test_crop_keeps_the_foreground_and_pads_with_air(place):
    record, cropped = crop(place, (48, 40, 44))
    inside, outside = record["mask"][0] > 0, cropped["image"][0] == -1
    assert torch.equal(cropped["image"][:, cropped["mask"][0] > 0], record["image"][:, inside])
    assert outside.sum() >= 48 * 40 * 44 - record["mask"].numel() and (cropped["image"][1][outside] == -1).all()
    assert cropped["maps"][0][outside].abs().max() == 0
    assert torch.equal(cropped["labels"], 3 * cropped["mask"])


def test_crop_takes_what_exists():
    record, _ = crop("middle", (8, 8, 8))
    del record["maps"], record["labels"]
    assert set(CropAroundForegroundd((8, 8, 8))(record)) == {"image", "mask", "centre"}


def test_a_contrast_of_another_place_is_refused(tmp_path):
    write_scan(tmp_path / "sub-01" / "anat", "T1w", np.diag([1.0, 1, 1]), (12, 12, 12))
    far = np.diag([1.0, 1, 1, 1])
    far[:3, 3] = 500
    image = nib.Nifti1Image(np.indices((12, 12, 12)).prod(0).astype(np.float32), far)
    nib.save(image, tmp_path / "sub-01" / "anat" / "sub-01_T2w.nii.gz")
    (tmp_path / "sub-01" / "anat" / "sub-01_T2w.json").write_text('{"EchoTime": 0.09, "RepetitionTime": 4}')
    with pytest.raises(RuntimeError) as caught:
        align(tmp_path)
    assert isinstance(caught.value.__cause__, UserError)
    assert "sub-01_T2w.nii.gz: found nothing inside the reference's field of view" in str(caught.value.__cause__)

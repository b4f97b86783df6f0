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

"""The heads behind docs/results.md: truth from label maps and phantoms, scans, pictures."""

import nibabel as nib
import numpy as np
import pytest
import torch

from benchmarks.results.label_maps import CLASSES, label_truth, literature
from benchmarks.results.patient import rescaled
from benchmarks.results.phantoms import phantom_truth
from benchmarks.results.pictures import LARGEST, contrasts_picture, maps_picture
from benchmarks.results.settings import load_settings
from benchmarks.results.truth import CSF, GM, WM, Truth, acquire, signals
from scripts.errors import UserError
from scripts.evaluate.contrasts import render
from scripts.tissue import Estimate

SHAPE = (84, 100, 64)
SHELLS = ((511, 1.0), (515, 0.92), (24, 0.84), (3, 0.78), (2, 0.62), (4, 0.3))
"""Labels and the radii of nested ellipsoids, relative to the outermost."""


def label_map(path, seed=0, flip=False):
    """Writes nested ellipsoids, a little different for each seed, on an RAS grid or one that runs to the left."""
    stretch = 1 + 0.05 * np.random.default_rng(seed).uniform(-1, 1, 3)
    axes = np.meshgrid(*[np.linspace(-1.1, 1.1, size) for size in SHAPE], indexing="ij")
    radius = sum((axis / s) ** 2 for axis, s in zip(axes, stretch)) ** 0.5
    labels = np.zeros(SHAPE, np.int16)
    for label, r in SHELLS:
        labels[radius < r] = label
    labels[:10] = 0
    affine = np.eye(4)
    if flip:
        labels, affine = labels[::-1], np.diag([-1.0, 1, 1, 1])
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> Truth:
    """Three slices of a made-up head."""
    return label_truth(label_map(tmp_path_factory.mktemp("labels") / "head.nii.gz"), (26, 32, 38), 0, 0)


def test_tissues_have_their_values_and_labels_are_where_voxels_are_pure(truth):
    names = {GM: "cortex", WM: "white matter", CSF: "CSF"}
    for tissue, name in names.items():
        expected = literature()[list(CLASSES).index(name)]
        median = truth.maps[:, truth.labels == tissue].median(1).values.numpy()
        assert np.abs(np.log(median / expected)).max() < 0.4
    assert (truth.maps[2] <= truth.maps[1] + 1e-6).all()
    share = sum((truth.labels == tissue).float().mean() for tissue in names)
    assert 0.2 < share < truth.brain.float().mean() <= truth.mask.float().mean()


def test_bone_is_air_inside_the_head_and_everything_is_air_outside(truth):
    assert not truth.maps[:, :2].any() and not truth.mask[:2].any()
    inside = truth.mask & ~truth.brain
    assert (truth.maps[0][inside] == 0).float().mean() > 0.2
    assert (truth.brain <= truth.mask).all()


def test_signals_of_mixed_voxels_add_up(truth):
    """A voxel half fluid, half tissue gives the mean of two signals, in white matter that of its maps."""
    rows = load_settings().unseen.rows
    summed, of_maps = signals(truth, rows).abs(), render(truth.maps.clamp_min(1e-6).log(), rows, truth.mask)
    white, mixed = truth.labels == WM, truth.brain & (truth.labels == 0)
    relative = (of_maps - summed).abs() / summed.amax((1, 2, 3)).view(-1, 1, 1, 1)
    assert relative[:, white].median() < 1e-3 < relative[:, mixed].mean()


def test_a_head_is_the_same_however_it_is_stored(tmp_path, truth):
    other = label_truth(label_map(tmp_path / "head.nii.gz", flip=True), (26, 32, 38), 0, 0)
    torch.testing.assert_close(other.maps, truth.maps)
    another = label_truth(label_map(tmp_path / "head.nii.gz"), (26, 32, 38), 0, 1)
    assert (another.maps - truth.maps).abs().max() > 0.01


def test_a_label_without_a_class_is_refused(tmp_path):
    labels = np.full((8, 8, 8), 999, np.int16)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "head.nii.gz")
    with pytest.raises(UserError, match="999"):
        label_truth(tmp_path / "head.nii.gz", (4,), 0, 0)


def test_scans_of_one_series_share_their_gain_and_others_do_not(truth):
    settings = load_settings()
    protocol, quiet = settings.protocols[4], settings.nuisance._replace(snr=1e6)
    scans = acquire(truth, protocol, quiet, 0, 0)
    white = truth.labels == WM
    gain = (scans.image[0] / signals(truth, protocol.rows).abs())[:, white].median(1).values
    assert protocol.gains == (0, 0, 1, 2)
    assert gain[1] == pytest.approx(gain[0].item(), rel=0.02)
    assert abs(gain[2] / gain[0] - 1) > 0.1 and abs(gain[3] / gain[2] - 1) > 0.1
    again = acquire(truth, protocol, quiet, 0, 0)
    assert torch.equal(again.image, scans.image) and not torch.equal(
        acquire(truth, protocol, quiet, 0, 1).image, scans.image
    )


def test_noise_is_as_stated(truth):
    settings = load_settings()
    protocol = settings.protocols[3]
    scans, quiet = (
        acquire(truth, protocol, settings.nuisance._replace(snr=snr), 0, 0).image[0, 0] for snr in (40.0, 1e6)
    )
    noise = (scans - quiet)[truth.mask & (quiet > 0.2 * quiet.max())].std()
    brighter = max(quiet[truth.labels == tissue].mean() for tissue in (GM, WM))
    assert brighter / noise == pytest.approx(40, rel=0.05)


def test_a_phantom_is_read_with_its_own_labels(tmp_path):
    head = np.zeros((12, 14, 6, 1, 7), np.float32)
    for label, pd, t1, t2 in ((1, 74.0, 1.33, 0.08), (2, 64.0, 0.83, 0.11), (3, 68.0, 3.0, 0.3)):
        head[3 * label : 3 * label + 3, 2:12, :, 0, 2:] = (t1, t2, t2, pd, label)
    nib.save(nib.Nifti1Image(head, np.eye(4)), tmp_path / "head.nii.gz")
    found = phantom_truth(tmp_path / "head.nii.gz", (1, 3), 3.0)
    assert found.maps.shape == (3, 12, 14, 2) and found.factor == 1
    torch.testing.assert_close(found.maps[:, found.labels == CSF].mean(1), torch.tensor([1.0, 3.0, 0.3]))
    torch.testing.assert_close(found.maps[1:, found.labels == WM].mean(1), torch.tensor([0.83, 0.11]))


def test_pictures_are_small(tmp_path, truth):
    settings = load_settings()
    log_maps = truth.maps.clamp_min(0.05).log()[None]
    estimate = Estimate.independent(log_maps, torch.full_like(log_maps, 0.1))
    maps_picture(tmp_path / "maps.jpg", "test", truth, estimate)
    target = signals(truth, settings.unseen.rows).abs()[..., 1]
    names = [request.name for request in settings.unseen.requests]
    contrasts_picture(
        tmp_path / "contrasts.jpg", "test", names, target, target, truth.mask[..., 1], truth.brain[..., 1]
    )
    for name in ("maps.jpg", "contrasts.jpg"):
        assert 0 < (tmp_path / name).stat().st_size <= LARGEST


def test_the_closest_input_is_fitted_by_a_line_and_by_a_curve():
    draw = torch.rand(2, 12, 12, 2, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(12, 12, 2, dtype=torch.bool)
    line, curve = rescaled(3 - 2 * draw[1], draw, ("T1w", "T2w"), mask)
    assert line.way.endswith("(T2w)")
    for one in (line, curve):
        torch.testing.assert_close(one.image, 3 - 2 * draw[1], rtol=1e-4, atol=1e-4)
    line, curve = rescaled(draw[1] ** 6, draw, ("T1w", "T2w"), mask)
    assert (curve.image - draw[1] ** 6).norm() < 0.1 * (line.image - draw[1] ** 6).norm()

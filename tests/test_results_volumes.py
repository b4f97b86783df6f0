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

"""What is measured of generated heads, on heads with a known answer."""

import nibabel as nib
import numpy as np
import pytest

from benchmarks.results import volumes
from benchmarks.results.thinned import KEPT, thin
from scripts.bids import Session
from scripts.commands.study.brains import Brain, write_fractions
from scripts.commands.study.products import write_maps
from scripts.errors import UserError
from scripts.estimate.maps import Maps
from scripts.evaluate.layout import NUMBER
from scripts.simulate import LabelMaps
from scripts.tissue import FRACTIONS

SIZE = (64, 72, 56)
SHELLS = {"scalp": 26, "bone": 23, "CSF": 20, "cortex": 18, "white matter": 14, "ventricle": 6}


def ball(ventricle: float = 6) -> np.ndarray:
    """A head of shells, smaller ones inside larger ones."""
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SIZE), indexing="ij")
    radius, numbers = np.linalg.norm(axes, axis=0), np.zeros(SIZE, np.uint8)
    for name, edge in (SHELLS | {"ventricle": ventricle}).items():
        numbers[radius < edge] = NUMBER[name]
    return numbers


def head(numbers: np.ndarray) -> volumes.Head:
    return volumes.Head(numbers, {}, volumes.volumes(numbers))


def test_volumes_are_those_of_the_shells():
    found = volumes.volumes(ball())
    assert found["ventricle"] == pytest.approx(4 / 3 * np.pi * 6**3 / 1000, rel=0.02)
    assert found["head"] == pytest.approx(4 / 3 * np.pi * 26**3 / 1000, rel=0.02)


def test_a_skull_in_two_pieces_is_not_whole():
    whole = ball() == NUMBER["bone"]
    cut = whole.copy()
    cut[:, :, 30:36] = False
    assert volumes.largest_share(whole) == 1.0 and 0.4 < volumes.largest_share(cut) < 0.7
    assert volumes.largest_share(np.zeros(SIZE, bool)) == 0.0


def test_jumps_of_one_slice_show_along_its_axis_alone():
    smooth, jumping = ball(), ball()
    jumping[:, :, 28][jumping[:, :, 28] == NUMBER["white matter"]] = NUMBER["cortex"]
    across, along = ([volumes.changes(one, axis) for one in (smooth, jumping)] for axis in (0, 2))
    # At the poles neighbouring slices differ anyway.
    assert along[1][20:30].max() > 2 * along[0][20:30].max()
    assert np.median(across[1]) < 1.3 * np.median(across[0])


def test_equal_heads_are_alike_and_others_are_less():
    assert volumes.likeness([head(ball()), head(ball())]) == pytest.approx(1.0, abs=1e-4)
    assert volumes.likeness([head(ball(3)), head(ball(13))]) < 0.98


def test_samples_are_compared_with_heads_and_with_estimates(tmp_path, monkeypatch):
    monkeypatch.setattr(volumes, "HEADS", 2)
    monkeypatch.setattr(volumes, "LabelMaps", lambda *_: LabelMaps())
    for number, ventricle in enumerate((5, 6, 7, 9)):
        session, affine, numbers = Session(f"000{number}", None, ()), np.eye(4), ball(ventricle)
        fractions = np.moveaxis(np.eye(len(FRACTIONS), dtype=np.float32)[numbers], -1, 0)
        inside = numbers > 0
        maps = inside * np.array([0.8, 1.0, 0.08], np.float32).reshape(3, 1, 1, 1)
        measured = volumes.volumes(numbers)
        requested = {"ventricle": measured["ventricle"] * 1.1, "brain": None}
        about = {"GeneratedFrom": {"requested": requested}, "Measured": measured}
        write_maps(tmp_path / "samples", session, Maps(maps, None, inside, affine), about)
        write_fractions(tmp_path / "samples", session, Brain(maps, fractions), affine, about)
        nib.save(
            nib.Nifti1Image(maps[1], affine), tmp_path / f"samples/sub-000{number}/anat/sub-000{number}_T1w.nii.gz"
        )
        # PD has a scale of its own.
        wrong = maps * np.array([2.0, 1.05, 0.9], np.float32).reshape(3, 1, 1, 1)
        write_maps(tmp_path / "maps", session, Maps(wrong, None, inside, affine), {})
        thinned = Maps(wrong[..., KEPT], None, inside[..., KEPT], affine)
        write_maps(tmp_path / "thinned", session, thinned, {})
    text = volumes.run(tmp_path / "samples", tmp_path / "maps", tmp_path, tmp_path, 0)
    assert (tmp_path / "results_volumes.jpg").exists()
    assert "4 of 4 (least 100.0 %)" in text and "| ventricle | 4 |" in text and "| 1.000 (1.000–1.000) |" in text
    assert "| WM | 0.0 % (0.0 %) | 5.0 % (5.0 %) | 10.0 % (10.0 %) |" in text
    for number in range(4):
        every, third = (
            volumes.map_errors(tmp_path / "samples", tmp_path / maps, f"000{number}", ball((5, 6, 7, 9)[number]))
            for maps in ("maps", "thinned")
        )
        assert third["WM"] == pytest.approx(every["WM"])
    with pytest.raises(UserError, match="no samples"):
        volumes.run(tmp_path, None, tmp_path, tmp_path, 0)


def test_thinned_scans_lie_where_they_lay(tmp_path):
    anat = tmp_path / "in" / "sub-0001" / "anat"
    anat.mkdir(parents=True)
    image = nib.Nifti1Image(np.random.default_rng(0).random((4, 5, 8), np.float32), np.diag([1.0, 1, 1, 1]))
    nib.save(image, anat / "sub-0001_acq-x_T1w.nii.gz")
    for name in ("sub-0001_acq-x_T1w.json", "../../dataset_description.json"):
        (anat / name).write_text("{}")
    thin(tmp_path / "in", tmp_path / "out")
    made = nib.load(tmp_path / "out/sub-0001/anat/sub-0001_acq-x_T1w.nii.gz")
    for number in range(made.shape[2]):
        z = int((made.affine @ [0, 0, number, 1])[2])
        np.testing.assert_array_equal(made.get_fdata()[:, :, number], image.get_fdata()[:, :, z])
    assert {path.name for path in (tmp_path / "out").rglob("*.json")} == {
        "dataset_description.json",
        "sub-0001_acq-x_T1w.json",
    }

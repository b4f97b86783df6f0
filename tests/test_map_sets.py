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

"""Sets of tissue maps in a folder: which belong together, which are refused and why."""

import nibabel as nib
import numpy as np
import pytest

from scripts.bids import find_maps, write_image
from scripts.commands.report import overview
from scripts.commands.study.renders import MapSets, load_maps, to_ras
from scripts.errors import UserError
from scripts.estimate.maps import Maps

from .maps import AFFINE, quantities, write_maps


@pytest.fixture()
def folder(tmp_path):
    """A folder with the maps of one session."""
    write_maps(tmp_path, quantities())
    return tmp_path


def problem(folder) -> str:
    """Why the first session cannot be used."""
    session = find_maps(folder)[0]
    with pytest.raises(UserError) as caught:
        if session.problem:
            raise session.problem
        load_maps(session.maps)
    return str(caught.value)


def test_a_set_is_found_with_what_belongs_to_it(folder):
    write_maps(folder, {**quantities(), "T2starmap": quantities()["T2map"]}, "02", "b", space="mni")
    write_maps(folder, quantities(), "02", "b", desc="sd")
    write_image(
        folder / "sub-02" / "ses-b" / "fmap" / "sub-02_ses-b_space-mni_TB1map.nii.gz", np.ones((24, 20, 3)), AFFINE
    )
    write_image(folder / "sub-02" / "ses-b" / "fmap" / "sub-02_ses-b_TB1map.nii.gz", np.ones((24, 20, 3)), AFFINE)
    one, two = find_maps(folder)
    assert (one.name, two.name) == ("sub-01", "sub-02_ses-b")
    assert set(one.maps) == {"PDmap", "T1map", "T2map"}
    assert set(two.maps) == {"PDmap", "T1map", "T2map", "T2starmap", "TB1map"}
    assert all("space-mni" in path.name for path in two.maps.values())
    assert [path.name for path in two.ignored] == ["sub-02_ses-b_TB1map.nii.gz"]


@pytest.mark.parametrize(
    "suffix,change,message",
    [
        ("T1map", lambda v: 1000 * v, "T1map.nii.gz: found the median 1330; give seconds"),
        ("T2map", lambda v: 1000 * v, "T2map.nii.gz: found the median 110; give seconds"),
        ("T2map", lambda v: np.where(v == 0, np.nan, v), "T2map.nii.gz: found 480 of 1440 voxels NaN or infinite"),
        ("T1map", lambda v: np.where(v == 0, np.inf, v), "T1map.nii.gz: found 480 of 1440 voxels NaN or infinite"),
        ("PDmap", lambda v: np.where(v == 0, -1, v), "PDmap.nii.gz: found 480 of 1440 voxels negative"),
        ("T1map", lambda v: v[:-1], "T1map.nii.gz: found another shape than that of sub-01_PDmap.nii.gz"),
        ("T1map", lambda v: v[..., None, None] * [1, 2], "5 dimensions"),
        ("PDmap", lambda v: np.where(v == 0, 1, 0), "no voxel where PD, T1 and T2 are positive"),
        ("TB1map", lambda v: np.linspace(70, 130, 1440).reshape(24, 20, 3), "found the median 100; give values rel"),
        ("T2starmap", lambda v: 40 + quantities()["T2map"], "T2starmap.nii.gz: found the median 40.11; give seconds"),
    ],
)
def test_maps_that_cannot_be_are_refused(folder, suffix, change, message):
    values = change(quantities().get(suffix)).astype(np.float32)
    (folder / "sub-01" / "anat" / f"sub-01_{suffix}.nii.gz").unlink(missing_ok=True)
    write_maps(folder, {suffix: values})
    assert message in problem(folder)


def test_maps_that_lie_elsewhere_are_refused(folder):
    write_maps(folder, {"T2map": quantities()["T2map"]}, affine=AFFINE + np.eye(4, k=3))
    assert "sub-01_T2map.nii.gz: found another affine than that of sub-01_PDmap.nii.gz" in problem(folder)


def test_a_damaged_file_is_refused(folder):
    path = folder / "sub-01" / "anat" / "sub-01_T2map.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    assert "sub-01_T2map.nii.gz: found a damaged or truncated file" in problem(folder)


def test_sets_are_never_mixed(folder, tmp_path_factory):
    write_maps(folder, quantities(), space="mni")
    assert "sub-01/anat: found 2 sets of maps (no entities, space-mni)" in problem(folder)
    other = tmp_path_factory.mktemp("other")
    for suffix, values in quantities().items():
        write_maps(other, {suffix: values}, acq=suffix)
    assert "of equal entities (maps there: acq-PDmap_PDmap, acq-T1map_T1map, acq-T2map_T2map)" in problem(other)


def test_two_files_of_one_name_are_refused(folder):
    path = folder / "sub-01" / "anat" / "sub-01_T1map.nii.gz"
    nib.save(nib.load(path), path.with_name("sub-01_T1map.nii"))
    assert "another file of this name" in problem(folder)


def test_a_folder_without_any_usable_set_is_refused_in_one_message(folder):
    write_maps(folder, quantities(), "02")
    assert [session.name for session in MapSets(str(folder))] == ["sub-01", "sub-02"]
    for name in ("sub-01", "sub-02"):
        (folder / name / "anat" / f"{name}_PDmap.nii.gz").unlink()
    with pytest.raises(UserError, match="maps there: T1map, T2map.* in sub-01/anat, sub-02/anat"):
        MapSets(str(folder)).sessions


def test_one_slice_in_any_orientation_is_turned_upright(folder, tmp_path):
    upright = quantities((24, 20, 1))
    turned = {suffix: np.flip(values.transpose(1, 0, 2), 1) for suffix, values in upright.items()}
    affine = np.array([[0, -1.0, 0, 23], [2, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    write_maps(folder, turned, "02", affine=affine)
    write_maps(folder, upright, "03")
    _, two, three = (load_maps(session.maps) for session in find_maps(folder))
    again = to_ras(two)
    np.testing.assert_array_equal(again.values, three.values)
    np.testing.assert_allclose(again.affine, three.affine)
    pictures = []
    for maps in (again, three):
        shown: Maps = maps.axial(maps.middle)
        overview(tmp_path / "a.png", "one slice", shown.values, None, shown.mask, {}, {})
        pictures.append((tmp_path / "a.png").read_bytes())
    assert pictures[0] == pictures[1] and len(pictures[0]) > 10_000

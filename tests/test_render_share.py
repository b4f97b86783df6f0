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

"""The share of fluid that an estimate wrote: contrasts of the folder are those of the estimate, and say so."""

import json

import nibabel as nib
import numpy as np
import pytest

from scripts.acquisition import load_render
from scripts.bids import Session, find_maps, write_image
from scripts.commands.report import overview
from scripts.commands.study.products import ADDED, read_maps, write_contrasts, write_maps
from scripts.commands.study.renders import load_maps, to_ras
from scripts.errors import UserError
from scripts.estimate.maps import Maps
from scripts.estimate.posterior import CLASSES

from .maps import AFFINE, quantities
from .studies import workflow

FLAIR = {"name": "flair", "suffix": "FLAIR", "EchoTime": 0.09, "RepetitionTime": 9.0, "InversionTime": 2.5}
UNI = {"name": "uni", "suffix": "UNIT1", "sequence": "mp2rage", "EchoTime": 0.003, "RepetitionTime": 5.0}
UNI |= {"InversionTime": 0.7, "InversionTime2": 2.5, "FlipAngle": 4, "FlipAngle2": 5, "EchoTrainLength": 160}
UNI |= {"EchoSpacing": 0.007, "EchoesBeforeCentre": 80}
SESSION = Session("01", None, ())
SHARE = "sub-01/anat/sub-01_label-CSF_probseg.nii.gz"


def estimate() -> Maps:
    """Boxes of tissue around a ventricle whose border is half fluid."""
    values = np.stack([*quantities((24, 20, 5)).values()])
    shares = np.zeros((len(CLASSES), *values.shape[1:]), np.float32)
    fluid = shares[CLASSES.index("CSF")]
    fluid[values[1] > 4] = 1
    fluid[8, 8:-8] = 0.5
    shares[CLASSES.index("WM")] = (values[0] > 0) * (1 - fluid)
    return Maps(values, None, values[0] > 0, AFFINE, fractions=shares)


@pytest.fixture()
def folder(tmp_path):
    """What an estimate of one session writes, with its shares of tissues."""
    write_maps(tmp_path / "maps", SESSION, estimate(), {})
    write_contrasts(tmp_path / "maps", SESSION, estimate(), load_render([FLAIR, UNI]))
    return tmp_path / "maps"


def contrast(root, name: str) -> tuple[np.ndarray, dict]:
    path = root / "sub-01" / "anat" / f"sub-01_acq-{name}.nii.gz"
    return nib.load(path).get_fdata(dtype=np.float32), json.loads(
        path.with_name(path.name.replace(".nii.gz", ".json")).read_text()
    )


def test_folder_and_estimate_give_the_same_contrasts(folder, tmp_path):
    workflow("render", dataset_dir=str(folder), output_dir=str(tmp_path / "out"), render=[FLAIR, UNI]).run()
    write_contrasts(tmp_path / "again", SESSION, read_maps(folder, SESSION), load_render([FLAIR, UNI]))
    for name in ("flair_FLAIR", "uni_UNIT1"):
        image, said = contrast(folder, name)
        assert (ADDED in said["Description"]) == (name == "flair_FLAIR")
        assert any("label-CSF_probseg" in source for source in said["Sources"]) == (name == "flair_FLAIR")
        for other in (tmp_path / "out", tmp_path / "again"):
            found, about = contrast(other, name)
            np.testing.assert_allclose(found, image, rtol=1e-5, atol=1e-6)
            assert about["Description"] == said["Description"] and len(about["Sources"]) == len(said["Sources"])


def test_border_differs_without_the_share_and_the_rest_does_not(folder, tmp_path):
    (folder / SHARE).unlink()
    workflow("render", dataset_dir=str(folder), output_dir=str(tmp_path / "out"), render=[FLAIR]).run()
    (whole, said), (image, _) = contrast(tmp_path / "out", "flair_FLAIR"), contrast(folder, "flair_FLAIR")
    border = estimate().fractions[CLASSES.index("CSF")] == 0.5
    assert (np.abs(whole - image)[border] > 0.05 * whole[border]).all()
    np.testing.assert_allclose(whole[~border], image[~border], rtol=1e-4, atol=1e-6)
    assert ADDED not in said["Description"]


def test_share_belongs_to_maps_of_its_entities(folder):
    assert {*find_maps(folder)[0].maps} == {"PDmap", "T1map", "T2map", "probseg"}
    (folder / SHARE).rename(folder / "sub-01" / "anat" / "sub-01_space-mni_label-CSF_probseg.nii.gz")
    assert {*find_maps(folder)[0].maps} == {"PDmap", "T1map", "T2map"}


def test_what_is_no_share_is_refused(folder):
    write_image(folder / SHARE, np.full((24, 20, 5), 30.0), AFFINE)
    with pytest.raises(UserError, match="CSF_probseg.*30.*from 0 to 1"):
        load_maps(find_maps(folder)[0].maps)


def test_share_on_another_grid_is_refused(folder):
    write_image(folder / SHARE, np.zeros((24, 20, 4)), AFFINE)
    assert "another shape" in str(find_maps(folder)[0].problem)


def test_share_is_in_the_picture(folder, tmp_path):
    maps = to_ras(load_maps(find_maps(folder)[0].maps))
    shown = maps.axial(2)
    overview(tmp_path / "a.png", "a", shown.values, None, shown.mask, {}, {}, options=shown.options)
    assert (tmp_path / "a.png").stat().st_size > 0 and shown.options["fluid"].max() == 1

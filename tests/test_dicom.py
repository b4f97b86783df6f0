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

"""DICOM folders: converted where dcm2niix is installed, never into the input, never over what is there."""

import locale
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from scripts.bids import find_scans
from scripts.commands import dicom
from scripts.commands.listing import Listing
from tests.test_acquisition import refusal

SERIES = {"t2_tse_tra": (90, 4000), "t1_se_tra": (12, 600)}


def write_series(folder: Path, patient: str, study: str, number: int, name: str, slices: int = 4) -> None:
    """A series of 2D spin echo slices, one DICOM file each."""
    folder.mkdir(parents=True, exist_ok=True)
    # Writing DICOM sets the locale of the process, and with it the encoding of files that are opened later.
    before = locale.setlocale(locale.LC_ALL)
    te, tr = SERIES[name]
    volume = (np.random.default_rng(number).random((slices, 24, 20)) * 400).astype(np.int16)
    for z in range(slices):
        image = sitk.GetImageFromArray(volume[z : z + 1])
        image.SetSpacing((2, 2, 3))
        for tag, value in {
            **{"0008|0016": "1.2.840.10008.5.1.4.1.1.4", "0008|0060": "MR", "0008|0070": "SIEMENS"},
            **{"0008|0008": "ORIGINAL\\PRIMARY\\M\\ND", "0008|103e": name, "0018|1030": name},
            **{"0010|0010": patient, "0010|0020": patient, "0020|000d": study, "0020|000e": f"{study}.{number}"},
            **{"0020|0011": str(number), "0020|0013": str(z + 1), "0020|0032": f"0\\0\\{3 * z}"},
            **{"0020|0037": "1\\0\\0\\0\\1\\0", "0018|0020": "SE", "0018|0023": "2D", "0018|0087": "3"},
            **{"0008|0020": "20200101", "0008|0030": "101010", "0008|0032": "101010", "0028|0030": "2\\2"},
            **{"0018|0080": str(tr), "0018|0081": str(te), "0018|1314": "90", "0018|0050": "3"},
        }.items():
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"IM{number}{z}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)


@pytest.fixture
def scanner(tmp_path):
    """Two studies of patients with one and the same name, two series and one."""
    root = tmp_path / "in"
    write_series(root / "anon" / "s1", "anon", "1.2.3.4", 1, "t2_tse_tra")
    write_series(root / "anon" / "s2", "anon", "1.2.3.4", 2, "t1_se_tra")
    write_series(root / "b", "anon", "1.2.3.5", 1, "t2_tse_tra")
    return root


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_dicom_folder_is_converted_and_listed(tmp_path, scanner, capsys):
    if dicom.find_converter() is None:
        pytest.skip("needs dcm2niix, which is not installed")
    before = names(scanner)
    assert Listing(str(scanner), str(tmp_path / "out")).run() == 0
    target = tmp_path / "out_nifti"
    scans = {scan.path.relative_to(target).as_posix(): scan for scan in find_scans(target)}
    # Studies of one patient's name may be of two people.
    assert scans.keys() == {"anon/1_t2_tse_tra.nii.gz", "anon/2_t1_se_tra.nii.gz", "anon-2/1_t2_tse_tra.nii.gz"}
    first = scans["anon/1_t2_tse_tra.nii.gz"]
    assert (first.suffix, first.sidecar["EchoTime"], first.sidecar["RepetitionTime"]) == ("T2w", 0.09, 4)
    assert names(scanner) == before and [path.name for path in tmp_path.iterdir() if path.name[0] == "."] == []
    assert f"From now on name {target}" in capsys.readouterr().out

    # What was changed in it since is kept.
    (target / "anon" / "note.txt").write_text("")
    assert Listing(str(scanner), str(tmp_path / "out")).run() == 0
    assert (target / "anon" / "note.txt").exists() and "converted before" in capsys.readouterr().out


def test_without_dcm2niix_the_command_is_told(tmp_path, scanner, monkeypatch):
    monkeypatch.setattr(dicom, "find_converter", lambda: None)
    error = refusal(Listing(str(scanner), str(tmp_path / "out")).run)
    assert "dcm2niix is not installed" in error.found
    assert "apt install dcm2niix" in error.do and "dcm2niix -z y -b y" in error.do
    assert not (tmp_path / "out_nifti").exists()


def test_nothing_is_written_into_the_input(tmp_path, scanner):
    for inside in (scanner, scanner / "nifti", scanner / "anon" / ".." / "x"):
        error = refusal(Listing(str(scanner), str(tmp_path / "out"), nifti_dir=str(inside)).run)
        assert error.where == "nifti_dir" and "inside the folder of DICOM files" in error.found
    assert not (tmp_path / "out").exists()


def test_a_converter_that_fails_leaves_nothing_behind(tmp_path, scanner, monkeypatch):
    monkeypatch.setattr(dicom, "find_converter", lambda: shutil.which("false"))
    assert "dcm2niix cannot convert" in refusal(dicom.nifti_folder, scanner, tmp_path / "made").found
    monkeypatch.setattr(dicom, "find_converter", lambda: shutil.which("true"))
    assert "makes no image" in refusal(dicom.nifti_folder, scanner, tmp_path / "made").found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_folder_of_nifti_files_is_used_as_it_is(tmp_path, scanner):
    (scanner / "anon" / "t1.nii.gz").touch()
    assert dicom.nifti_folder(scanner, tmp_path / "made") == scanner
    assert dicom.nifti_folder(tmp_path / "absent", tmp_path / "made") == tmp_path / "absent"

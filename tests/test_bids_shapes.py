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

"""Shapes of folders: each runs, or gets one sentence that names the shape and what to do."""

import json
import logging
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.bids import find_scans, find_sessions, resolve
from scripts.commands.listing import Listing
from tests.test_acquisition import refusal

SIDECAR = {"EchoTime": 0.09, "RepetitionTime": 4.0}


def touch(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def bids(root: Path, *sessions: str) -> Path:
    for session in sessions:
        anat = root / session / "anat"
        touch(anat / f"{session.replace('/', '_')}_T2w.nii.gz")
    (root / "T2w.json").write_text(json.dumps(SIDECAR))
    return root


@pytest.mark.parametrize(
    "named, found",
    [
        ("", ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]),
        ("sub-01", ["sub-01"]),
        ("sub-01/anat", ["sub-01"]),
        ("sub-02", ["sub-02_ses-a", "sub-02_ses-b"]),
        ("sub-02/ses-b", ["sub-02_ses-b"]),
        ("sub-02/ses-b/anat", ["sub-02_ses-b"]),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_a_study_a_subject_and_a_session_run(tmp_path, monkeypatch, named, found, relative):
    folder = bids(tmp_path / "study", "sub-01", "sub-02/ses-a", "sub-02/ses-b") / named
    if relative:
        monkeypatch.chdir(folder)
        folder = Path(".")
    sessions = find_sessions(folder)
    assert [session.name for session in sessions] == found
    # Sidecars above the named folder are inherited; images stay below it.
    assert all(resolve(session)[0].te == 0.09 for session in sessions)
    assert all(scan.path.relative_to(folder) for scan in find_scans(folder))


@pytest.mark.parametrize(
    "image, sidecar",
    [
        ("anat3/{}.nii.gz", "anat3/{}.json"),
        ("anat3/NIFTI/{}.nii.gz", "anat3/BIDS/{}.json"),
        ("scans/anat3-T2w/resources/NIFTI/files/{}.nii.gz", "scans/anat3-T2w/resources/BIDS/files/{}.json"),
    ],
)
def test_a_download_of_oasis_3_runs_as_it_is(tmp_path, image, sidecar):
    for name, sidecars in (
        ("sess-d0129_T2w", {"EchoTime": 0.08, "RepetitionTime": 3}),
        ("ses-d0129_acq-TSE_T2w", SIDECAR),
    ):
        stem = f"sub-OAS30001_{name}"
        touch(tmp_path / "OAS30001_MR_d0129" / image.format(stem))
        touch(tmp_path / "OAS30001_MR_d0129" / sidecar.format(stem), json.dumps(sidecars).encode())
    touch(tmp_path / "OAS30001_MR_d0129" / "func1" / "sub-OAS30001_ses-d0129_task-rest_bold.nii.gz")
    [session] = find_sessions(tmp_path)
    assert session.name == "sub-OAS30001_ses-d0129" and not session.ignored
    assert [one.te for one in resolve(session)] == [0.09, 0.08] and len(find_scans(tmp_path)) == 2


def download(root: Path, *names: str) -> Path:
    """A session as OASIS-3 is downloaded; the n-th scan lies in ``anatn``, its sidecar states an echo time of .0n s."""
    for number, name in enumerate(names, 1):
        scan = root / "OAS30001_MR_d0129" / f"anat{number}" / f"sub-OAS30001_ses-d0129_{name}.nii.gz"
        touch(scan)
        sidecar = {"EchoTime": number / 100} | ({"EchoTrainLength": 9} if number > 1 else {})
        touch(scan.with_name(scan.name.replace(".nii.gz", ".json")), json.dumps(sidecar).encode())
    return root / "OAS30001_MR_d0129"


def test_a_scan_of_a_download_has_the_sidecar_of_its_name_and_nothing_of_another(tmp_path):
    download(tmp_path, "acq-TSE_T2w", "T2w")
    [session] = find_sessions(tmp_path)
    sidecars = {scan.entities.get("acq"): scan.sidecar for scan in session.contrasts}
    assert sidecars == {"TSE": {"EchoTime": 0.01}, None: {"EchoTime": 0.02, "EchoTrainLength": 9}}


def test_one_session_of_a_download_can_be_named(tmp_path, monkeypatch):
    folder = download(tmp_path, "T1w", "T2w")
    for named in (folder, Path(".")):
        monkeypatch.chdir(folder)
        [session] = find_sessions(named)
        assert session.name == "sub-OAS30001_ses-d0129" and len(session.contrasts) == 2


@pytest.mark.parametrize("beside", ["sub-01/anat/sub-01_T1w.nii.gz", "patient7/t1.nii.gz"])
def test_a_download_beside_other_scans_is_told(tmp_path, caplog, beside):
    download(tmp_path, "T1w")
    touch(tmp_path / beside)
    with caplog.at_level(logging.WARNING):
        assert len(find_sessions(tmp_path)) == 1
    assert "left out beside it OAS30001_MR_d0129/" in caplog.text


def test_a_scan_that_a_download_holds_twice_is_told(tmp_path):
    scan = download(tmp_path, "T1w") / "anat1" / "sub-OAS30001_ses-d0129_T1w.nii.gz"
    touch(tmp_path / "OAS30001_MR_d0129" / "scans" / "anat1" / scan.name)
    [session] = find_sessions(tmp_path)
    assert session.problem.where == scan and session.problem.found.startswith("another image of this name")


@pytest.mark.parametrize(
    "files, found, do",
    [
        (["a_t1.nii.gz", "b_t1.nii.gz"], "images in the folder itself (a_t1.nii.gz, b_t1.nii.gz)", "per subject"),
        (["1000001_20252_2_0/T1/T1.nii.gz"], "deeper (1000001_20252_2_0/T1/T1.nii.gz)", "per subject"),
        (["sub-01/func/sub-01_bold.nii.gz"], "deeper (sub-01/func/sub-01_bold.nii.gz)", "sub-*/anat"),
        (["IXI-T1/IXI1-T1.nii.gz", "IXI-T2/IXI1-T2.nii.gz"], "one folder per contrast (IXI-T1, IXI-T2)", "one person"),
        (["T1/T1.nii.gz", "T2_FLAIR/T2_FLAIR.nii.gz"], "one folder per contrast (T1, T2_FLAIR)", "one person"),
        (["T1/anna.nii.gz", "T2/anna.nii.gz"], "one folder per contrast (T1, T2)", "one person"),
        (["IXI-T1/IXI01-T1.nii.gz", "IXI-T1/IXI02-T1.nii.gz"], "a folder named by a contrast, with 2 images", "person"),
        (["all/IXI01-T1.nii.gz", "all/IXI02-T1.nii.gz"], "several people or visits in one folder", "of their own"),
        (["bert/mri/aseg.mgz"], "no NIfTI images, but bert/mri/aseg.mgz", "mri_convert"),
        (["IXI-T1.tar"], "IXI-T1.tar", "unpack"),
        (["OAS30001_MR_d0129/anat1.tar.gz"], "no NIfTI images, but OAS30001_MR_d0129/anat1.tar.gz", "unpack"),
        (["p1/scan.nrrd"], "p1/scan.nrrd", "convert them to NIfTI"),
        (["notes.txt"], "no images", "put .nii"),
        (["sub-01/anat/sub-01_desc-preproc_T1w.nii.gz"], "a derivative (desc-preproc)", "raw scans"),
        (["sub-01/anat/sub-01_T2starw.nii.gz"], "the suffix T2starw", "sub-*/anat"),
        (["p1/swi.nii.gz"], "the suffix T2starw", "per subject"),
    ],
)
def test_other_shapes_are_named_in_one_sentence(tmp_path, files, found, do):
    for file in files:
        touch(tmp_path / file)
    try:
        sessions = find_sessions(tmp_path)
    except ValueError:
        error = refusal(find_sessions, tmp_path)
    else:
        assert all(session.problem for session in sessions)
        error = sessions[0].problem
    assert found in error.found and do in error.do and "\n" not in str(error)


def test_dicom_is_told_with_the_command(tmp_path):
    touch(tmp_path / "patient" / "series" / "IM0001", b"\0" * 128 + b"DICM" + b"\0" * 64)
    error = refusal(find_sessions, tmp_path)
    assert error.found == "DICOM files, no NIfTI" and "dcm2niix -z y -b y" in error.do


def test_a_patient_of_parkinsons_disease_is_no_contrast(tmp_path):
    for number in ("012", "013"):
        touch(tmp_path / f"PD-{number}" / "t1.nii.gz")
        touch(tmp_path / f"PD-{number}" / "flair.nii.gz")
    assert [len(session.contrasts) for session in find_sessions(tmp_path) if not session.problem] == [2, 2]


def test_plain_subjects_beside_bids_are_told(tmp_path, caplog):
    bids(tmp_path, "sub-01")
    for file in ("patient7/t1.nii.gz", "sub-02/sub-02_T1w.nii.gz", "extra.nii.gz", "derivatives/x.nii.gz"):
        touch(tmp_path / file)
    with caplog.at_level(logging.WARNING):
        assert [session.name for session in find_sessions(tmp_path)] == ["sub-01"]
    assert "left out beside it patient7/, sub-02/, extra.nii.gz" in caplog.text


@pytest.mark.parametrize(
    "content, do",
    [
        (None, "datalad get, or git annex get"),
        (b"/annex/objects/MD5E-s1--x.nii.gz\n", "datalad get"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
@pytest.mark.parametrize("name", ["sub-01_T2w.nii.gz", "sub-01_T2w.json"])
def test_data_that_are_elsewhere_are_to_be_got_first(tmp_path, content, do, name):
    path = bids(tmp_path, "sub-01", "sub-02") / "sub-01" / "anat" / name
    path.unlink(missing_ok=True)
    if content is None:
        os.symlink("../../.git/annex/objects/X/x", path)
    else:
        path.write_bytes(content)
    first, second = find_sessions(tmp_path)
    assert "data that are not here" in first.problem.found and do in first.problem.do
    assert str(first.problem.where).endswith(name) and second.problem is None


def test_upper_case_and_latin_1_are_read(tmp_path):
    anat = tmp_path / "sub-01" / "anat"
    touch(anat / "sub-01_T1w.NII.GZ")
    touch(anat / "sub-01_T2w.nii.gz")
    (anat / "sub-01_T1w.JSON").write_text(json.dumps(SIDECAR))
    text = json.dumps({**SIDECAR, "InstitutionName": "Universit\u00e4t"}, ensure_ascii=False)
    for encoding in ("latin-1", "utf-8-sig", "utf-16"):
        (anat / "sub-01_T2w.json").write_bytes(text.encode(encoding))
        (session,) = find_sessions(tmp_path)
        assert [contrast.sidecar["EchoTime"] for contrast in session.contrasts] == [0.09, 0.09]
        assert session.contrasts[1].sidecar["InstitutionName"] == "Universit\u00e4t" and not session.problem


@pytest.mark.parametrize(
    "tr, shown", [(10.0, "10000"), (11.39, "11390"), (9.0, "9000"), (0.0083, "8.3"), (2.4, "2400")]
)
def test_a_long_repetition_time_is_printed_in_full(tmp_path, capsys, tr, shown):
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.eye(4)), anat / "sub-01_T1w.nii")
    sidecar = {"EchoTime": 0.004, "RepetitionTime": tr, "ScanningSequence": "GR", "FlipAngle": 20}
    (anat / "sub-01_T1w.json").write_text(json.dumps(sidecar))
    Listing(str(tmp_path), str(tmp_path / "out")).run()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sub-01_T1w")]
    assert line.split()[4] == shown


def test_the_listing_tells_a_contrast_agent_and_a_doubtful_header(tmp_path, capsys):
    anat = tmp_path / "sub-01" / "anat"
    anat.mkdir(parents=True)
    image = nib.Nifti1Image(np.arange(24, dtype=np.float32).reshape(2, 3, 4), None)
    nib.save(image, anat / "sub-01_ce-gd_T1w.nii")
    Listing(str(tmp_path), str(tmp_path / "out"), "oasis3").run()
    text = capsys.readouterr().out
    assert "looks as if taken after a contrast agent" in text and "left and right may be exchanged" in text


def test_a_folder_that_cannot_be_read_is_a_problem_of_its_own(tmp_path, monkeypatch, caplog):
    for name in ("p1", "p2"):
        touch(tmp_path / name / "t1.nii.gz")
    original = Path.iterdir

    def iterdir(path: Path):
        if path.name == "p1":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "p1")
    first, second = find_sessions(tmp_path)
    assert "cannot be read (Permission denied)" in first.problem.found and second.problem is None
    assert [scan.path.parent.name for scan in find_scans(tmp_path)] == ["p2"] and "p1: left out" in caplog.text


def test_sidecars_of_all_levels_are_inherited(tmp_path):
    """Root, subject, session and image, the nearest first, as BIDS has it."""
    anat = tmp_path / "sub-01" / "ses-a" / "anat"
    touch(anat / "sub-01_ses-a_acq-x_T2w.nii.gz")
    levels = {
        tmp_path / "T2w.json": {"EchoTime": 0.1, "RepetitionTime": 1.0, "FlipAngle": 1, "EchoTrainLength": 2},
        tmp_path / "sub-01" / "sub-01_T2w.json": {"RepetitionTime": 2.0, "FlipAngle": 2, "EchoTrainLength": 3},
        tmp_path / "sub-01" / "ses-a" / "sub-01_ses-a_acq-x_T2w.json": {"FlipAngle": 3, "EchoTrainLength": 4},
        anat / "sub-01_ses-a_acq-x_T2w.json": {"EchoTrainLength": 5},
        tmp_path / "acq-y_T2w.json": {"EchoTime": 9.0},
        tmp_path / "T1w.json": {"EchoTime": 8.0},
        tmp_path / "sub-01" / "sub-02_T2w.json": {"EchoTime": 7.0},
    }
    for path, content in levels.items():
        path.write_text(json.dumps(content))
    expected = {"EchoTime": 0.1, "RepetitionTime": 2.0, "FlipAngle": 3, "EchoTrainLength": 5}
    for folder in (tmp_path, tmp_path / "sub-01", tmp_path / "sub-01" / "ses-a", anat):
        (session,) = find_sessions(folder)
        assert session.contrasts[0].sidecar == expected

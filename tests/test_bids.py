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
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.bids import (
    MAP_UNITS,
    Session,
    check_image,
    dataset_description,
    find_scans,
    find_sessions,
    output_path,
    resolve,
    resolve_all,
)
from scripts.errors import UserError

SPIN_ECHO = {"EchoTime": 0.09, "RepetitionTime": 4.0}
FLAIR = {**SPIN_ECHO, "RepetitionTime": 9.0, "InversionTime": 2.5}
IMAGE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def write(path: Path, data: np.ndarray = IMAGE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, np.diag([1, 2, 3, 1])), path)
    return path


def sidecar(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def refusal(call, *arguments) -> UserError:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return caught.value


def test_every_image_of_a_session_is_a_contrast_of_its_own(tmp_path):
    anat = tmp_path / "sub-01" / "ses-a" / "anat"
    stems = ("acq-2d_T1w", "acq-3d_run-2_T1w", "echo-1_T2w", "echo-2_T2w", "inv-1_part-mag_T1w", "FLAIR", "PDw")
    for name in stems:
        write(anat / f"sub-01_ses-a_{name}.nii.gz")
    write(tmp_path / "sub-02" / "anat" / "sub-02_T1w.nii")
    first, second = find_sessions(tmp_path)
    assert (first.name, first.subject, first.session) == ("sub-01_ses-a", "01", "a")
    assert (second.name, second.session) == ("sub-02", None)
    assert {c.path.name.removeprefix("sub-01_ses-a_")[:-7] for c in first.contrasts} == set(stems)
    assert {"acq": "3d", "run": "2"} in [c.entities for c in first.contrasts]


def test_masks_are_passed_over_and_other_images_reported(tmp_path):
    anat = tmp_path / "sub-01" / "anat"
    for name in ("T1w", "desc-brain_mask", "dseg", "label-lesion_mask", "label-lesion_T1w", "probseg", "T1map"):
        write(anat / f"sub-01_{name}.nii.gz")
    for name in ("T2starw", "desc-preproc_T1w", "part-phase_T2w"):
        write(anat / f"sub-01_{name}.nii.gz")
    write(anat / "._sub-01_T1w.nii.gz")
    (session,) = find_sessions(tmp_path)
    assert [c.suffix for c in session.contrasts] == ["T1w"]
    assert [path.name[7:-7] for path in session.ignored] == ["T2starw", "desc-preproc_T1w", "part-phase_T2w"]
    assert {scan.path.name[7:-7]: scan.unused for scan in find_scans(tmp_path)} == {
        "T1w": "",
        "T2starw": "the suffix T2starw",
        "desc-preproc_T1w": "a derivative (desc-preproc)",
        "part-phase_T2w": "no magnitude image (part-phase)",
    }
    sidecar(anat / "sub-01_T2starw.json", {**SPIN_ECHO, "SignalModel": "paper_spin_echo"})
    assert [c.suffix for c in find_sessions(tmp_path)[0].contrasts] == ["T1w", "T2starw"]


@pytest.mark.parametrize(
    "name, suffix",
    [
        ("IXI002-Guys-0828-T1", "T1w"),
        ("brain_t2", "T2w"),
        ("T2-FLAIR", "FLAIR"),
        ("flair_t2space", "FLAIR"),
        ("PDw", "PDw"),
        ("3dt1", "T1w"),
        ("x_mprage", "T1w"),
        ("BraTS_001_t1ce", "T1w"),
        ("sub-7_acq-a_T2w", "T2w"),
    ],
)
def test_plain_folders_tell_the_contrast_by_words(tmp_path, name, suffix):
    write(tmp_path / "IXI002-Guys 0828" / f"{name}.nii.gz")
    for other in ("t1_mask", "flair_lesions", "t2_seg", "brainmask_t1"):
        write(tmp_path / "IXI002-Guys 0828" / f"{other}.nii.gz")
    write(tmp_path / "derivatives" / "t1.nii.gz")
    (session,) = find_sessions(tmp_path)
    assert session.name == "sub-IXI002Guys0828"
    assert [c.suffix for c in session.contrasts] == [suffix]
    assert session.contrasts[0].where == f"{'' if name.startswith('sub-') else 'IXI002-Guys 0828/'}{name}.json"


def test_plain_images_of_unknown_contrast_are_ignored_not_guessed(tmp_path):
    for name in ("t1", "t2_star", "dwi", "T1map"):
        write(tmp_path / "p1" / f"{name}.nii.gz")
    (session,) = find_sessions(tmp_path)
    assert [c.suffix for c in session.contrasts] == ["T1w"] and len(session.ignored) == 3


def test_nearest_sidecar_wins(tmp_path):
    write(tmp_path / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_acq-a_T2w.nii.gz")
    sidecar(tmp_path / "T2w.json", {"EchoTime": 0.1, "RepetitionTime": 3.0, "FlipAngle": 90})
    sidecar(tmp_path / "acq-b_T2w.json", {"RepetitionTime": 1.0})
    sidecar(tmp_path / "acq-a_T2w.json", {"RepetitionTime": 5.0})
    sidecar(tmp_path / "sub-01" / "sub-01_T2w.json", {"EchoTime": 0.11})
    sidecar(tmp_path / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_acq-a_T2w.json", {"FlipAngle": 160})
    (session,) = find_sessions(tmp_path)
    assert session.contrasts[0].sidecar == {"EchoTime": 0.11, "RepetitionTime": 5.0, "FlipAngle": 160}
    (acquisition,) = resolve(session)
    assert (acquisition.te, acquisition.tr) == (0.11, 5.0)
    assert "160" in acquisition.remarks["flip_angle"]
    assert resolve(session, equations="paper")[0].sequence == "paper_spin_echo"


def test_sidecar_of_a_plain_image(tmp_path):
    write(tmp_path / "p1" / "my_t2.nii.gz")
    sidecar(tmp_path / "p1" / "my_t2.json", SPIN_ECHO)
    assert resolve(find_sessions(tmp_path)[0])[0].te == 0.09


def test_post_contrast_scans_are_recognised(tmp_path):
    names = ["ce-gd_T1w", "acq-gado_T1w", "acq-post_T1w", "acq-posterior_T1w", "T1w", "T2w", "FLAIR"]
    for name in names:
        write(tmp_path / "sub-post" / "ses-postop" / "anat" / f"sub-post_ses-postop_{name}.nii.gz")
    sidecar(tmp_path / "T2w.json", {"ContrastBolusAgent": "Gadovist"})
    (session,) = find_sessions(tmp_path)
    flagged = {c.path.name[20:-7] for c in session.contrasts if c.post_contrast}
    assert flagged == {"ce-gd_T1w", "acq-gado_T1w", "acq-post_T1w", "T2w"}


@pytest.mark.parametrize("broken", ["{", "[1]", "\xff"])
def test_a_broken_sidecar_is_a_problem_of_its_session_only(tmp_path, broken):
    for subject in ("01", "02"):
        write(tmp_path / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w.nii.gz")
        sidecar(tmp_path / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w.json", SPIN_ECHO)
    (tmp_path / "sub-01" / "anat" / "sub-01_T2w.json").write_text(broken, encoding="latin-1")
    sessions = find_sessions(tmp_path)
    assert "sub-01_T2w.json" in str(refusal(resolve, sessions[0]).where)
    resolved, failures = resolve_all(sessions)
    assert (list(resolved), list(failures)) == (["sub-02"], ["sub-01"])
    assert [scan.problem is None for scan in find_scans(tmp_path)] == [False, True]


def test_two_files_of_one_name_are_a_problem(tmp_path):
    write(tmp_path / "sub-01" / "anat" / "sub-01_T2w.nii.gz")
    write(tmp_path / "sub-01" / "anat" / "sub-01_T2w.nii")
    error = refusal(resolve, find_sessions(tmp_path)[0], "oasis3")
    assert str(error.where).endswith("sub-01_T2w.nii") and ".nii.gz" in error.found


def test_absent_empty_and_ambiguous_folders_are_refused(tmp_path):
    assert refusal(find_sessions, tmp_path / "absent").found == "no such folder"
    assert refusal(find_sessions, tmp_path).found == refusal(find_scans, tmp_path).found == "no images"
    (tmp_path / "sub-01" / "anat").mkdir(parents=True)
    assert refusal(find_sessions, tmp_path).found.startswith("no T1w")
    write(tmp_path / "sub-02" / "anat" / "sub-02_T1w.nii.gz")
    assert refusal(resolve, find_sessions(tmp_path)[0], "oasis3").where == "sub-01"
    for folder in ("a_1", "a-1"):
        write(tmp_path / "plain" / folder / "t1.nii.gz")
    assert "sub-a1" in refusal(find_sessions, tmp_path / "plain").found


def test_all_missing_fields_of_a_folder_stand_in_one_line(tmp_path):
    for subject in ("01", "02"):
        write(tmp_path / f"sub-{subject}" / "anat" / f"sub-{subject}_T2w.nii.gz")
        write(tmp_path / f"sub-{subject}" / "anat" / f"sub-{subject}_FLAIR.nii.gz")
    sidecar(tmp_path / "T2w.json", {"EchoTime": 0.1})
    error = refusal(resolve_all, find_sessions(tmp_path))
    assert "no RepetitionTime in sub-01_T2w.json, sub-02_T2w.json" in error.found
    assert "no EchoTime, RepetitionTime, InversionTime in sub-01_FLAIR.json, sub-02_FLAIR.json" in error.found
    assert str(error).count("accept wider intervals with --protocol unknown") == 1 and "\n" not in str(error)
    resolved, failures = resolve_all(find_sessions(tmp_path), "clinical_2d")
    assert list(resolved) == ["sub-01", "sub-02"] and failures == {}


def test_true_maps_are_found_and_estimates_never_pass_for_them(tmp_path):
    write(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    estimate, truth = (tmp_path / "derivatives" / name / "sub-01" / "anat" for name in ("estimate", "truth"))
    for suffix in (*MAP_UNITS, "dseg", "mask", "desc-sd_T1map"):
        write(estimate / f"sub-01_{suffix}.nii.gz")
    for suffix in ("PDmap", "T1map", "dseg"):
        write(truth / f"sub-01_{suffix}.nii.gz")
    assert find_sessions(tmp_path)[0].maps == {}
    write(truth / "sub-01_T2map.nii.gz")
    assert find_sessions(tmp_path)[0].maps == {s: truth / f"sub-01_{s}.nii.gz" for s in (*MAP_UNITS, "dseg")}


def test_output_names_follow_bids_and_stay_inside(tmp_path):
    session = Session("01", "1", ())
    path = output_path(tmp_path, session, "T1map", desc="sd", acq="fig3a")
    assert path == tmp_path / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_acq-fig3a_desc-sd_T1map.nii.gz"
    assert output_path("o", Session("2", None, ()), "T1w", ".json") == Path("o/sub-2/anat/sub-2_T1w.json")
    assert refusal(lambda: output_path("o", session, "T1w", acq="../x")).where == "acq"
    write(tmp_path / "in" / "sub-.._x" / "anat" / "sub-x_T1w.nii.gz")
    assert find_sessions(tmp_path / "in")[0].name == "sub-x"


def test_dataset_description_has_what_bids_requires():
    description = dataset_description("maps", "0.1.0")
    assert description["DatasetType"] == "derivative" and description["GeneratedBy"][0]["Version"] == "0.1.0"
    assert {"Name", "BIDSVersion"} <= description.keys()


def test_sessions_can_be_sent_to_workers(tmp_path):
    write(tmp_path / "sub-01" / "anat" / "sub-01_T2w.nii.gz")
    write(tmp_path / "sub-01" / "anat" / "sub-01_T2w.nii")
    (session,) = find_sessions(tmp_path)
    assert str(pickle.loads(pickle.dumps(session)).problem) == str(session.problem)


def test_real_folder_of_raw_clinical_scans(shared):
    sessions = find_sessions(shared / "data" / "real" / "open_ms")
    assert [session.name for session in sessions] == ["sub-03_ses-2", "sub-12_ses-1", "sub-12_ses-2", "sub-26"]
    for session in sessions:
        assert [contrast.suffix for contrast in session.contrasts] == ["FLAIR", "T1w", "T2w"]
        assert [check_image(contrast.path).ndim for contrast in session.contrasts] == [3, 3, 3]
        assert len(resolve(session, "clinical_2d")) == 3
    assert "sub-26_space-MNI_FLAIR.json" in refusal(resolve_all, sessions).found


def test_real_sidecars_of_a_dual_echo_scan(shared):
    (session,) = find_sessions(shared / "data" / "test_object")
    assert [(a.te, a.tr) for a in resolve(session)] == [(0.011, 4.32), (0.092, 4.32)]

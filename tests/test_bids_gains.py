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


"""Which scans share one gain: what names and sidecars prove, and nothing else."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.bids import find_sessions, gain_groups, resolve

ECHO = {"EchoTime": 0.011, "RepetitionTime": 4.3, "EchoTrainLength": 10, "FlipAngle": 160}
SERIES = {
    **{"SeriesNumber": 3, "SeriesDescription": "pd+t2", "EchoNumber": 1, "ImageType": ["ORIGINAL", "PRIMARY", "M"]},
    **{"SeriesInstanceUID": "1.2.3", "AcquisitionTime": "13:07:33.045000"},
}
FIRST = {**ECHO, **SERIES}
SECOND = {**FIRST, "EchoTime": 0.092, "EchoNumber": 2, "AcquisitionTime": "13:7:33.126"}


def without(sidecar: dict, *keys: str) -> dict:
    return {key: value for key, value in sidecar.items() if key not in keys}


def groups(folder: Path, scans: dict[str, dict], protocol: str | None = None) -> list[int]:
    """The gains of the scans of one session, in the order of their names."""
    anat = folder / "sub-01" / "anat"
    anat.mkdir(parents=True)
    for name, sidecar in scans.items():
        nib.save(
            nib.Nifti1Image(np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.eye(4)), anat / f"sub-01_{name}.nii"
        )
        (anat / f"sub-01_{name}.json").write_text(json.dumps(sidecar))
    (session,) = find_sessions(folder)
    return gain_groups(session.contrasts, resolve(session, protocol))


def test_every_scan_has_its_own_gain_where_nothing_is_stated(tmp_path):
    scans = {"PDw": ECHO, "T1w": {**ECHO, "RepetitionTime": 0.6}, "T2w": {**ECHO, "EchoTime": 0.092}}
    assert groups(tmp_path, scans) == [0, 1, 2]


def test_echoes_of_one_series_share_their_gain_whatever_their_names(tmp_path):
    scans = {"FLAIR": {**ECHO, "InversionTime": 1.5}, "PDw": FIRST, "T2w": SECOND}
    scans["run-2_PDw"] = {**FIRST, "AcquisitionTime": "13:07:34.5"}
    # The second run has the echo number of the first image, so nothing proves that it belongs to it.
    assert groups(tmp_path, scans) == [0, 1, 1, 2]


def test_echoes_in_the_words_of_bids_share_their_gain(tmp_path):
    times = {f"run-{run}_echo-{echo}_T2w": {**ECHO, "EchoTime": 0.02 * echo} for run in (1, 2) for echo in (1, 2, 3)}
    assert groups(tmp_path, times) == [0, 0, 0, 1, 1, 1]


def test_a_user_states_it_with_series_and_echo_number(tmp_path):
    own = [{"SeriesNumber": 5, "EchoNumber": number} for number in (1, 2)]
    assert groups(tmp_path, {"PDw": {**ECHO, **own[0]}, "T2w": {**ECHO, "EchoTime": 0.092, **own[1]}}) == [0, 0]


@pytest.mark.parametrize(
    "change",
    [
        {"SeriesInstanceUID": "1.2.4"},
        {"SeriesNumber": 4},
        {"StudyInstanceUID": "1.1"},
        {"SeriesDescription": "t2"},
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "NORM"]},
        {"RepetitionTime": 4.4},
        {"EchoTime": 0.011},
        {"EchoNumber": 1},
        {"SequenceName": "*se2d1"},
        {"MagneticFieldStrength": 3},
        {"AcquisitionTime": "13:12:33.045000"},
        {"PhilipsScaleSlope": 0.02},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_differs_denies_it(tmp_path, change):
    first = {**FIRST, "StudyInstanceUID": "1", "PhilipsScaleSlope": 0.01}
    second = {**SECOND, "StudyInstanceUID": "1", "PhilipsScaleSlope": 0.01}
    assert groups(tmp_path / "same", {"PDw": first, "T2w": second}) == [0, 0]
    assert groups(tmp_path / "changed", {"PDw": first, "T2w": {**second, **change}}) == [0, 1]


@pytest.mark.parametrize("keys", [("EchoNumber",), ("SeriesNumber", "SeriesInstanceUID")])
def test_a_series_alone_or_an_echo_number_alone_prove_nothing(tmp_path, keys):
    assert groups(tmp_path, {"PDw": FIRST, "T2w": without(SECOND, *keys)}) == [0, 1]


def test_names_of_echoes_do_not_outweigh_two_series(tmp_path):
    scans = {"echo-1_T2w": FIRST, "echo-2_T2w": {**SECOND, "SeriesInstanceUID": "1.2.4", "SeriesNumber": 4}}
    assert groups(tmp_path / "series", scans) == [0, 1]
    scans = {"acq-a_echo-1_T2w": ECHO, "acq-b_echo-2_T2w": {**ECHO, "EchoTime": 0.092}}
    assert groups(tmp_path / "names", scans) == [0, 1]


def test_scans_without_echo_times_share_nothing(tmp_path):
    assert groups(tmp_path / "unknown", {"echo-1_T2w": {}, "echo-2_T2w": {}}, "unknown") == [0, 1]
    assert groups(tmp_path / "assumed", {"echo-1_T2w": {}, "echo-2_T2w": {}}, "clinical_2d") == [0, 1]


def test_a_time_that_is_none_denies_nothing(tmp_path):
    assert groups(tmp_path, {"PDw": FIRST, "T2w": {**SECOND, "AcquisitionTime": "n/a"}}) == [0, 0]


def test_the_order_of_the_scans_only_renumbers(tmp_path):
    groups(tmp_path, {"FLAIR": {**ECHO, "InversionTime": 1.5}, "PDw": FIRST, "T2w": SECOND})
    (session,) = find_sessions(tmp_path)
    flair, *echoes = zip(session.contrasts, resolve(session))
    assert gain_groups(*zip(echoes[1], flair, echoes[0])) == [0, 1, 0]
    assert gain_groups([], []) == []


def test_the_two_echoes_of_the_test_object_share_their_gain(shared):
    (session,) = find_sessions(shared / "data" / "test_object")
    assert gain_groups(session.contrasts, resolve(session)) == [0, 0]

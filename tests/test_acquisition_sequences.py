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

"""Which signal equation a scan gets: from names, from codes, from times, from its suffix."""

import pytest

from scripts.acquisition import from_sidecar, load_protocol
from scripts.signal import SEQUENCES
from tests.test_acquisition import refusal

TSE = {"EchoTime": 0.09, "RepetitionTime": 4.0}
MPRAGE = {"EchoTime": 0.003, "RepetitionTime": 2.4, "InversionTime": 1.0, "FlipAngle": 8}
FLAIR = {"EchoTime": 0.09, "RepetitionTime": 9.0, "InversionTime": 2.5}
SHORT = {"EchoTime": 0.012, "RepetitionTime": 0.6}
SPACE = {"EchoTime": 0.455, "RepetitionTime": 3.2}
GRE = {"EchoTime": 0.02, "RepetitionTime": 0.65, "FlipAngle": 20}
MP2RAGE = {"EchoTime": 0.003, "RepetitionTime": 5.0, "InversionTime": [0.7, 2.5], "FlipAngle": [4, 5]}

IR_TSE, IR_VFA = "inversion_recovery_turbo_spin_echo", "inversion_recovery_vfa_turbo_spin_echo"


@pytest.mark.parametrize(
    "suffix, sidecar, sequence, confidence",
    [
        # Siemens, as dcm2niix writes it.
        ("T1w", {**MPRAGE, "SequenceName": "*tfl3d1_16ns", "ScanningSequence": "GR\\IR"}, "mprage", "high"),
        ("T1w", {**MPRAGE, "ScanningSequence": "GR_IR", "SequenceVariant": "SK_SP_MP"}, "mprage", "high"),
        ("T1w", {**MPRAGE, "ScanningSequence": ["GR", "IR"]}, "mprage", "high"),
        ("T1w", {**MPRAGE, "ScanningSequence": "MPRAGE"}, "mprage", "high"),
        ("T1w", {**MPRAGE, "PulseSequenceName": "tfl_me3d1_16ns"}, "mprage", "high"),
        ("T2w", {**TSE, "SequenceName": "*tse2d1_17", "ScanningSequence": "SE"}, "turbo_spin_echo", "high"),
        ("T2w", {**SPACE, "SequenceName": "*spc_314ns", "ScanningSequence": "SE"}, "vfa_turbo_spin_echo", "high"),
        ("T2w", {**SPACE, "PulseSequenceDetails": "%SiemensSeq%\\tse_vfl"}, "vfa_turbo_spin_echo", "high"),
        ("T1w", {**SHORT, "SequenceName": "*spcR3d1"}, "vfa_turbo_spin_echo", "high"),
        ("FLAIR", {**FLAIR, "SequenceName": "*spcir_278ns", "EchoTime": 0.39}, IR_VFA, "high"),
        ("FLAIR", {**FLAIR, "PulseSequenceDetails": "%SiemensSeq%\\space"}, IR_VFA, "high"),
        ("FLAIR", {**FLAIR, "SequenceName": "*tir2d1rs15"}, IR_TSE, "high"),
        ("T2w", {**FLAIR, "SequenceName": "*tse2d1_9"}, IR_TSE, "high"),
        ("T1w", {**SHORT, "SequenceName": "*se2d1"}, "spin_echo", "high"),
        ("T1w", {**GRE, "SequenceName": "*fl2d1"}, "spoiled_gradient_echo", "high"),
        ("T2w", {**GRE, "SequenceName": "*ci3d1"}, "bssfp", "high"),
        # GE and Philips.
        ("T1w", {**MPRAGE, "PulseSequenceName": "BRAVO"}, "mprage", "high"),
        ("T1w", {**MPRAGE, "PulseSequenceName": "FSPGR"}, "mprage", "high"),
        ("T1w", {**GRE, "PulseSequenceName": "FSPGR"}, "spoiled_gradient_echo", "high"),
        ("T2w", {**SPACE, "PulseSequenceName": "CUBE"}, "vfa_turbo_spin_echo", "high"),
        ("T2w", {**TSE, "PulseSequenceName": "FRFSE-XL"}, "turbo_spin_echo", "high"),
        ("T2w", {**GRE, "PulseSequenceName": "FIESTA"}, "bssfp", "high"),
        ("T1w", {**MPRAGE, "PulseSequenceName": "T1TFE"}, "mprage", "high"),
        ("T2w", {**SPACE, "PulseSequenceName": "VISTA"}, "vfa_turbo_spin_echo", "high"),
        ("T2w", {**GRE, "PulseSequenceName": "bFFE"}, "bssfp", "high"),
        ("T1w", {**GRE, "PulseSequenceName": "T1FFE"}, "spoiled_gradient_echo", "high"),
        ("PDw", {**TSE, "PulseSequenceType": "Fast Spin Echo"}, "turbo_spin_echo", "high"),
        # DICOM's codes.
        ("T1w", {**FLAIR, "ScanningSequence": "SE\\IR", "EchoTrainLength": 12}, IR_TSE, "high"),
        ("T1w", {**FLAIR, "ScanningSequence": "SE\\IR", "EchoTrainLength": 1}, "inversion_recovery", "high"),
        ("T1w", {**SHORT, "ScanningSequence": "SE"}, "spin_echo", "medium"),
        ("T1w", {**GRE, "ScanningSequence": "GR"}, "spoiled_gradient_echo", "high"),
        ("T1w", {**MPRAGE, "ScanningSequence": "GR", "SequenceVariant": "SK\\MP"}, "mprage", "high"),
        # What the operator called it.
        ("T2w", {**TSE, "ScanningSequence": "SE", "ProtocolName": "t2_space_sag"}, "vfa_turbo_spin_echo", "medium"),
        ("T1w", {**SHORT, "ScanningSequence": "SE", "SeriesDescription": "mprage"}, "spin_echo", "medium"),
        # Times.
        ("T1w", MPRAGE, "mprage", "medium"),
        ("T1w", SHORT, "spin_echo", "medium"),
        ("T1w", {**SHORT, "EchoTrainLength": 3}, "turbo_spin_echo", "medium"),
        ("T1w", {**GRE, "EchoTime": 0.0025, "RepetitionTime": 0.2}, "spoiled_gradient_echo", "medium"),
        ("T1w", {**GRE, "EchoTime": 0.005, "RepetitionTime": 0.018}, "spoiled_gradient_echo", "medium"),
        ("PDw", {"EchoTime": 0.0025, "RepetitionTime": 0.025, "FlipAngle": 6}, "spoiled_gradient_echo", "medium"),
        ("T2w", SPACE, "vfa_turbo_spin_echo", "medium"),
        ("FLAIR", {**FLAIR, "EchoTime": 0.394}, IR_VFA, "medium"),
        ("T2w", {**TSE, "EchoTrainLength": 1}, "spin_echo", "medium"),
        ("T2w", {**TSE, "MRAcquisitionType": "3D", "EchoTrainLength": 120}, "vfa_turbo_spin_echo", "medium"),
        ("T2w", {**TSE, "MRAcquisitionType": "2D", "EchoTrainLength": 120}, "turbo_spin_echo", "medium"),
        ("T2w", {**TSE, "RepetitionTime": 1.0}, "spin_echo", "medium"),
        ("T2w", FLAIR, IR_TSE, "low"),
        ("T1w", MP2RAGE, "mp2rage", "medium"),
        ("T2w", {**TSE, "RepetitionTime": 9.0, "InversionTime": [3.0, 0.5]}, "double_inversion_recovery", "low"),
        # The suffix alone.
        ("T2w", TSE, "turbo_spin_echo", "low"),
        ("PDw", TSE, "turbo_spin_echo", "low"),
        ("FLAIR", FLAIR, IR_TSE, "low"),
        ("T2starw", GRE, "spoiled_gradient_echo", "low"),
        ("UNIT1", MP2RAGE, "mp2rage", "low"),
        # The user's word.
        ("T2starw", {**TSE, "sequence": "spin_echo"}, "spin_echo", "high"),
        ("T1w", {**MPRAGE, "SignalModel": "paper_mprage"}, "paper_mprage", "high"),
    ],
)
def test_the_sequence_follows_from_what_is_known(suffix, sidecar, sequence, confidence):
    acquisition = from_sidecar(suffix, sidecar, "x.json")
    assert (acquisition.sequence, acquisition.confidence) == (sequence, confidence)
    assert acquisition.evidence
    assert all(getattr(acquisition, name) is not None for name in SEQUENCES[sequence].fields)


def test_a_protocol_names_the_sequence_only_of_the_scans_it_describes():
    own = {"EchoTime": 0.1, "RepetitionTime": 5.0}
    assert from_sidecar("T2w", own, "x", load_protocol("hcp_ya")) == from_sidecar("T2w", own, "x")
    filled = from_sidecar("T2w", {"EchoTime": 0.565}, "x", load_protocol("hcp_ya"))
    assert (filled.sequence, filled.confidence) == ("vfa_turbo_spin_echo", "medium")
    assert "protocol" in filled.evidence and filled.echo_train_length == 314


@pytest.mark.parametrize(
    "sidecar",
    [
        {"EchoTime": 0.003, "RepetitionTime": 2.4},
        {"RepetitionTime": 2.4},
        {**TSE, "ScanningSequence": "GR\\IR"},
        {**TSE, "ScanningSequence": ["GR", "IR"]},
        {**TSE, "SequenceName": "*tfl3d1_16ns"},
        {**TSE, "PulseSequenceDetails": "%CustomerSeq%\\MPRAGE"},
    ],
)
def test_an_mprage_without_inversion_time_is_no_spin_echo(sidecar):
    assert "InversionTime" in refusal(from_sidecar, "T1w", sidecar, "x").found
    own = {**sidecar, "EchoTime": 0.003, "RepetitionTime": 2.4}
    completed = from_sidecar("T1w", own, "x", load_protocol("oasis3"))
    assert (completed.sequence, completed.ti, completed.provenance["ti"]) == ("mprage", 1.0, "assumed")


def test_a_gradient_echo_without_name_may_be_inverted_and_is_not_guessed():
    unnamed = {"EchoTime": 0.0046, "RepetitionTime": 0.0096}
    error = refusal(from_sidecar, "T1w", unnamed, "x")
    assert "InversionTime" in error.found and '"SignalModel": "spoiled_gradient_echo" and FlipAngle' in error.do
    named = {**unnamed, "ScanningSequence": "GR"}
    assert refusal(from_sidecar, "T1w", named, "x").found == "no FlipAngle"
    assert from_sidecar("T1w", {**named, "FlipAngle": 8}, "x").sequence == "spoiled_gradient_echo"


@pytest.mark.parametrize(
    "sidecar, sequence",
    [
        ({"RepetitionTimeExcitation": 0.6}, "spin_echo"),
        ({"RepetitionTimePreparation": 0.6, "InversionTime": 0.1}, "inversion_recovery"),
    ],
)
def test_any_repetition_time_counts_as_one(sidecar, sequence):
    acquisition = from_sidecar("T1w", {"EchoTime": 0.012, "FlipAngle": 90, **sidecar}, "x")
    assert (acquisition.sequence, acquisition.tr, acquisition.provenance["tr"]) == (sequence, 0.6, "derived")


def test_an_mprage_stored_as_t2w_is_refused():
    error = refusal(from_sidecar, "T2w", {"EchoTime": 0.00316, "RepetitionTime": 2.4}, "x.json")
    assert error.where == "x.json" and "MPRAGE" in error.found and "T1w" in error.do


def test_unknown_suffix_and_sequence_are_refused():
    assert "bold" in refusal(from_sidecar, "bold", TSE, "x").found
    assert "UNIT1" in refusal(from_sidecar, "MP2RAGE", MP2RAGE, "x").do
    assert "paper_flair" in refusal(from_sidecar, "T2w", {**TSE, "sequence": "se"}, "x").do
    assert refusal(from_sidecar, "T2w", {**TSE, "SignalModel": []}, "x").where == "x: SignalModel"


@pytest.mark.parametrize(
    "suffix, sidecar, sequence",
    [
        ("T1w", MPRAGE, "paper_mprage"),
        ("T1w", SHORT, "paper_spin_echo"),
        ("T2w", SPACE, "paper_spin_echo"),
        ("T2w", {**TSE, "SignalModel": "turbo_spin_echo"}, "paper_spin_echo"),
        ("FLAIR", FLAIR, "paper_flair"),
        ("FLAIR", {**FLAIR, "EchoTime": 0.394}, "paper_flair"),
    ],
)
def test_the_published_equation_takes_the_place_of_the_exact_one(suffix, sidecar, sequence):
    acquisition = from_sidecar(suffix, sidecar, "x", equations="paper")
    assert acquisition.sequence == sequence
    assert acquisition.echo_train_length is None and acquisition.te == sidecar["EchoTime"]


def test_equations_without_a_published_counterpart_are_refused():
    error = refusal(from_sidecar, "T2starw", GRE, "x", equations="paper")
    assert "spoiled_gradient_echo" in error.found and "exact" in error.do
    assert refusal(from_sidecar, "T2w", TSE, "x", equations="publshed").where == "equations"

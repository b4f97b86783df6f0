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

"""What misleads about a sequence: prose, shared names, contradictions, and what no signal equation is for."""

import pytest

from scripts.acquisition import from_sidecar
from tests.test_acquisition import refusal
from tests.test_acquisition_sequences import FLAIR, GRE, IR_TSE, IR_VFA, MP2RAGE, MPRAGE, SHORT, TSE

DIR = {"EchoTime": 0.02, "RepetitionTime": 7.5, "InversionTime": [3.0, 0.45]}
IR_SE = {"EchoTime": 0.015, "RepetitionTime": 2.5, "InversionTime": 0.4, "FlipAngle": 90}
HASTE = {"EchoTime": 0.3, "RepetitionTime": 4.0, "SequenceName": "*h2d1_256"}


@pytest.mark.parametrize(
    "suffix, sidecar, sequence, confidence",
    [
        # Prose is weaker than a name, and words contain others.
        (
            "T1w",
            {**MPRAGE, "SequenceName": "*tfl3d1_16ns", "PulseSequenceDetails": "MPRAGE, linear k-space ordering"},
            "mprage",
            "high",
        ),
        (
            "T1w",
            {**MPRAGE, "SequenceName": "*tfl3d1_16ns", "PulseSequenceDetails": "SPACE navigator"},
            "mprage",
            "high",
        ),
        ("T2w", {**TSE, "SequenceName": "*tse2d1_17", "PulseSequenceName": "SPACE"}, "turbo_spin_echo", "high"),
        ("T2w", {**TSE, "PulseSequenceDetails": "SPACE with elliptical scanning"}, "vfa_turbo_spin_echo", "medium"),
        ("T1w", {**GRE, "ScanningSequence": "GR", "PulseSequenceDetails": "a turbo spin echo follows"}, None, "high"),
        *(
            ("T1w", {**GRE, "ScanningSequence": "GR", "ProtocolName": words}, None, "high")
            for words in ("k-space", "kspace", "FOV offset", "outset", "Space-occupying lesion")
        ),
        *(
            ("T2w", {**TSE, "SeriesDescription": words}, "turbo_spin_echo", "low")
            for words in ("k-space", "k_space", "FOV offset", "different", "medical", "Space-occupying", "lavage")
        ),
        # Two scans share a name.
        ("UNIT1", {**MP2RAGE, "SequenceName": "*tfl3d1_16ns"}, "mp2rage", "medium"),
        ("UNIT1", {**MP2RAGE, "ScanningSequence": "GR\\IR"}, "mp2rage", "medium"),
        ("T1w", {**MP2RAGE, "SequenceName": "*tfl3d1_16ns", "ProtocolName": "t1_mp2rage_sag"}, "mp2rage", "medium"),
        # DICOM's codes together.
        ("T2w", {**TSE, "ScanningSequence": ["SE", "GR"]}, "turbo_spin_echo", "high"),
        ("T2w", {**TSE, "SequenceName": "*tgse3d1_21"}, "turbo_spin_echo", "high"),
        # An inversion makes no MPRAGE.
        ("T1w", {**IR_SE, "ScanningSequence": "IR"}, "inversion_recovery", "medium"),
        ("T1w", {**IR_SE, "ScanningSequence": "IR", "EchoTrainLength": 6}, IR_TSE, "medium"),
        ("T1w", {**IR_SE, "ScanningSequence": "IR", "EchoTime": 0.0078}, "inversion_recovery", "medium"),
        ("T1w", {**IR_SE, "PulseSequenceName": "IR-SE"}, "inversion_recovery", "high"),
        ("T1w", {**MPRAGE, "ScanningSequence": "IR"}, "mprage", "medium"),
        ("T2w", {**FLAIR, "PulseSequenceName": "IR TSE"}, IR_TSE, "high"),
        # One slice has no need of variable angles.
        ("T2w", HASTE, "turbo_spin_echo", "high"),
        ("T2w", {**TSE, "EchoTime": 0.25, "SequenceName": "*tse2d1_31"}, "turbo_spin_echo", "high"),
        ("T2w", {**TSE, "EchoTime": 0.25, "MRAcquisitionType": "2D"}, "turbo_spin_echo", "low"),
        ("T2w", {**TSE, "EchoTime": 0.25, "SequenceName": "*tse3d1_31"}, "vfa_turbo_spin_echo", "medium"),
        # What is said of other scans, and zeros for none.
        *(
            (suffix, {**TSE, "SeriesDescription": "AX T2 FSE (after FLAIR)"}, "turbo_spin_echo", "medium")
            for suffix in ("T1w", "T2w", "PDw")
        ),
        ("T1w", {**SHORT, "SeriesDescription": "T1 before FLAIR", "ScanningSequence": "SE"}, "spin_echo", "medium"),
        ("T1w", {**SHORT, "SeriesDescription": "T1 before FLAIR", "InversionTime": 0}, "spin_echo", "medium"),
        ("T2w", {**TSE, "ScanningSequence": "SE\\IR", "InversionTime": 0.16}, IR_TSE, "medium"),
        # Two inversions.
        ("T2w", {**DIR, "ProtocolName": "dir"}, "double_inversion_recovery", "low"),
        ("T2w", {**DIR, "EchoTime": 0.12, "SequenceName": "*spcir_256ns"}, "double_inversion_recovery", "high"),
        ("T2w", {**TSE, "SequenceName": "*tse2d1_9", "ProtocolName": "T2w_dir-AP"}, "turbo_spin_echo", "high"),
        ("FLAIR", {**FLAIR, "SequenceName": "*tir2d1_15", "ProtocolName": "direct"}, IR_TSE, "high"),
        ("FLAIR", {**FLAIR, "EchoTime": 0.39, "SequenceName": "*spcir_278ns"}, IR_VFA, "high"),
    ],
)
def test_what_misleads_does_not(suffix, sidecar, sequence, confidence):
    acquisition = from_sidecar(suffix, sidecar, "x.json")
    assert (acquisition.sequence, acquisition.confidence) == (sequence or "spoiled_gradient_echo", confidence)


@pytest.mark.parametrize("long", [{"SequenceName": "*spcir_256ns"}, {"MRAcquisitionType": "3D"}, {}])
def test_no_equation_is_for_double_inversion_with_variable_angles(long):
    error = refusal(from_sidecar, "T2w", {**DIR, "EchoTime": 0.318, **long}, "x.json")
    assert error.where == "x.json" and "0.318 s" in error.found and "double inversion" in error.found
    assert "leave the scan out" in error.do and "SignalModel" in error.do
    named = from_sidecar("T2w", {**DIR, "EchoTime": 0.318, **long, "SignalModel": "double_inversion_recovery"}, "x")
    assert named.sequence == "double_inversion_recovery"


@pytest.mark.parametrize(
    "suffix, sidecar",
    [
        ("T2w", {**TSE, "InversionTime": 3.0, "SeriesDescription": "AX DIR"}),
        ("T2w", {**TSE, "InversionTime": 3.0, "ProtocolName": "t2_dir_3d", "SequenceName": "*tir2d1_15"}),
        ("FLAIR", {**FLAIR, "PulseSequenceType": "Double inversion recovery"}),
        ("UNIT1", {**MPRAGE, "SequenceName": "*tfl3d1_16ns"}),
        ("T1w", {**MPRAGE, "SequenceName": "*tfl3d1_16ns", "ProtocolName": "MP2RAGE_INV2"}),
        ("T1w", {**MPRAGE, "ScanningSequence": "GR\\IR", "SeriesDescription": "mp2rage"}),
    ],
)
def test_a_second_inversion_time_is_asked_for(suffix, sidecar):
    error = refusal(from_sidecar, suffix, sidecar, "x")
    assert error.found == "no InversionTime2 (or two values in InversionTime)"


@pytest.mark.parametrize(
    "sidecar, kind",
    [
        ({"ScanningSequence": "EP\\SE"}, "echo-planar"),
        ({"ScanningSequence": ["EP", "GR"], "ProtocolName": "t2_tse"}, "echo-planar"),
        ({"SequenceName": "*epfid2d1_64"}, "echo-planar"),
        ({"PulseSequenceType": "Spin Echo EPI"}, "echo-planar"),
        ({"SequenceName": "*psif3d1rs", "ScanningSequence": "GR"}, "PSIF"),
        ({"SequenceName": "*de3d1", "ScanningSequence": "GR"}, "DESS"),
        ({"ScanningSequence": "GR", "ProtocolName": "t2_de3d_we"}, "DESS"),
    ],
)
def test_what_no_equation_is_for_is_refused(sidecar, kind):
    error = refusal(from_sidecar, "T2w", {**GRE, **sidecar}, "x.json")
    assert error.where == "x.json" and kind in error.found and "leave the scan out" in error.do

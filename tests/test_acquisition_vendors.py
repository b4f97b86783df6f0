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

"""What manufacturers write: TR between excitations, trains that are not stated, names of older software."""

import pytest

from scripts.acquisition import NAMES, UNKNOWN, from_sidecar, load_protocol
from scripts.errors import UserError
from tests.test_acquisition import refusal
from tests.test_acquisition_defaults import field

PHILIPS = {"Manufacturer": "Philips", "MRAcquisitionType": "3D", "ScanningSequence": "GR", "FlipAngle": 8}
PHILIPS |= {"EchoTime": 0.00293, "RepetitionTime": 0.0065}
INVERTED = [
    {**PHILIPS, "PulseSequenceName": "T1TFE", "SequenceVariant": "MP", "InversionTime": 0.9},
    {**PHILIPS, "Manufacturer": "UIH", "PulseSequenceName": "gre_fsp", "InversionTime": 0.9},
    {**PHILIPS, "Manufacturer": "GE MEDICAL SYSTEMS", "PulseSequenceName": "BRAVO", "InversionTime": 0.9},
    {"EchoTime": 0.003, "RepetitionTime": 0.0071, "InversionTime": 0.9},
]
TURBO_FLASH = {"MRAcquisitionType": "3D", "ScanningSequence": "GR", "SequenceVariant": "SP", "EchoTime": 0.0025}
TURBO_FLASH |= {"SequenceName": "*tfl3d1_ns", "FlipAngle": 5, "RepetitionTime": 1.44}
SE = {"ScanningSequence": "SE", "MRAcquisitionType": "2D", "EchoTime": 0.09, "FlipAngle": 90}
SPACE = {
    "MRAcquisitionType": "3D",
    "ScanningSequence": "SE",
    "EchoTime": 0.455,
    "RepetitionTime": 3.2,
    "FlipAngle": 120,
}


@pytest.mark.parametrize("sidecar", INVERTED)
def test_the_time_between_inversions_is_the_protocols_where_te_and_ti_agree(sidecar):
    acquisition = from_sidecar("T1w", sidecar, "x.json", load_protocol("adni3"))
    assert acquisition.sequence == "mprage"
    assert field(acquisition, "tr") == (2.3, "assumed", "the protocol's RepetitionTimePreparation")
    assert field(acquisition, "echo_spacing")[:2] == (sidecar["RepetitionTime"], "derived")
    # Its readout is of another scanner.
    assert acquisition.echo_train_length != 208 and acquisition.field_strength is None


@pytest.mark.parametrize("sidecar", INVERTED)
def test_only_protocols_that_complete_a_scan_are_offered(sidecar):
    error = refusal(from_sidecar, "T1w", sidecar, "x.json")
    assert '"RepetitionTimePreparation": 2.3' in error.do and "--protocol (oasis3, adni3)" in error.do
    other = {**sidecar, "InversionTime": 0.45}
    error = refusal(from_sidecar, "T1w", other, "x.json")
    assert '"RepetitionTimePreparation": 2.3' in error.do and not any(name in error.do for name in NAMES)
    error = refusal(from_sidecar, "T1w", other, "x.json", load_protocol("adni3"))
    assert "is of another scan: InversionTime 0.9" in error.do and "RepetitionTime 2.3" not in error.do
    own = from_sidecar("T1w", {**other, "RepetitionTimePreparation": 2.3}, "x.json")
    assert (own.tr, own.ti, own.echo_spacing) == (2.3, 0.45, sidecar["RepetitionTime"])


@pytest.mark.parametrize("name", [None, *NAMES])
def test_advice_that_is_followed_helps(name):
    """An inversion is stated, its time is not: what the message asks for completes the scan under any protocol."""
    sidecar = {**PHILIPS, "PulseSequenceName": "T1TFE", "SequenceVariant": "SK\\MP"}
    protocol = load_protocol(name)
    error = refusal(from_sidecar, "T1w", sidecar, "x.json", protocol)
    assert '"RepetitionTimePreparation": 2.3, "InversionTime": 0.9' in error.do
    added = {"RepetitionTimePreparation": 2.3, "InversionTime": 0.9}
    assert from_sidecar("T1w", {**sidecar, **added}, "x.json", protocol).sequence == "mprage"
    assert '"SignalModel": "spoiled_gradient_echo"' in error.do
    model = {"SignalModel": "spoiled_gradient_echo"}
    assert from_sidecar("T1w", {**sidecar, **model}, "x.json", protocol).tr == 0.0065


@pytest.mark.parametrize(
    "suffix, sidecar",
    [(suffix, sidecar) for suffix in ("T1w", "T2w", "FLAIR", "PDw") for sidecar in ({}, {"EchoTime": 0.1})],
)
def test_every_protocol_that_is_offered_completes_the_scan(suffix, sidecar):
    offered = refusal(from_sidecar, suffix, sidecar, "x").do.partition("--protocol (")[2].partition(")")[0]
    for name in NAMES:
        try:
            complete = from_sidecar(suffix, sidecar, "x", load_protocol(name)) is not None
        except UserError:
            complete = False
        assert complete == (name in offered.split(", "))


@pytest.mark.parametrize(
    "sidecar, confidence",
    [
        ({**PHILIPS, "PulseSequenceName": "T1TFE", "SequenceVariant": "SK\\SS\\SP"}, "medium"),
        ({**PHILIPS, "PulseSequenceName": "TFE"}, "medium"),
        ({**PHILIPS, "PulseSequenceType": "Turbo Field Echo", "ScanningSequence": None}, "low"),
    ],
)
def test_a_turbo_field_echo_without_preparation_is_a_spoiled_gradient_echo(sidecar, confidence):
    acquisition = from_sidecar("T1w", sidecar, "x.json")
    assert (acquisition.sequence, acquisition.confidence) == ("spoiled_gradient_echo", confidence)
    assert acquisition.tr == 0.0065 and "no inversion is stated" in acquisition.evidence


@pytest.mark.parametrize("suffix", ["PDw", "T1w"])
def test_a_turbo_flash_without_inversion_is_not_asked_for_its_time(suffix):
    error = refusal(from_sidecar, suffix, TURBO_FLASH, "x.json")
    assert "no inversion is stated" in error.found and "which no signal equation is for" in error.found
    assert "InversionTime" not in error.do and "leave the scan out" in error.do and "--protocol unknown" in error.do
    accepted = from_sidecar(suffix, TURBO_FLASH, "x.json", UNKNOWN)
    assert (accepted.sequence, accepted.tr) == (UNKNOWN, 1.44) and "no inversion is stated" in accepted.evidence
    assert "no InversionTime" not in accepted.evidence and not accepted.remarks
    inverted = {**TURBO_FLASH, "SequenceVariant": "SP\\MP"}
    assert refusal(from_sidecar, suffix, inverted, "x.json").found.startswith("no InversionTime")
    named = {**TURBO_FLASH, "ProtocolName": "t1_mprage_sag"}
    assert refusal(from_sidecar, suffix, named, "x.json").found.startswith("no InversionTime")


@pytest.mark.parametrize(
    "sidecar, sequence, confidence, reason",
    [
        ({"RepetitionTime": 0.6}, "spin_echo", "medium", "usual at this TR"),
        ({"RepetitionTime": 2.5}, "spin_echo", "low", "TR below 3 s and FlipAngle 90"),
        ({"RepetitionTime": 3.5, "SequenceVariant": "SP\\OSP"}, "spin_echo", "medium", "without SK"),
        ({"RepetitionTime": 2.5, "SequenceVariant": "SK\\SP"}, "turbo_spin_echo", "medium", "SequenceVariant SK"),
        ({"RepetitionTime": 4.5, "SequenceVariant": "NONE"}, "turbo_spin_echo", "low", "may be a plain spin echo"),
        ({"RepetitionTime": 2.5, "FlipAngle": 150}, "turbo_spin_echo", "medium", "a refocusing angle"),
        ({"RepetitionTime": 2.5, "MRAcquisitionType": "3D"}, "turbo_spin_echo", "medium", "a 3D scan"),
        ({"RepetitionTime": 4.5}, "turbo_spin_echo", "low", "it may be a plain spin echo (then add EchoTrainLength 1)"),
        ({"RepetitionTime": 4.5, "EchoTrainLength": 1}, "spin_echo", "high", "EchoTrainLength 1"),
    ],
)
def test_a_train_that_is_not_stated_is_told_with_the_reason(sidecar, sequence, confidence, reason):
    acquisition = from_sidecar("T2w", {**SE, **sidecar}, "x.json")
    assert (acquisition.sequence, acquisition.confidence) == (sequence, confidence)
    assert reason in acquisition.evidence
    assert ("EchoTrainLength is not stated" in acquisition.evidence) == ("EchoTrainLength" not in sidecar)
    if sequence == "spin_echo":
        assert field(acquisition, "flip_angle") == (90, "given", "")
    elif sidecar.get("FlipAngle", 90) == 90:
        assert "taken for the excitation angle" in acquisition.remarks["flip_angle"]
    else:
        assert "it is the refocusing angle" in acquisition.remarks["flip_angle"]


@pytest.mark.parametrize("name", ["*spc_282ns", "*spc3d1_282ns", "spcR3d1rr_282", "*spcir3d1_282ns"])
@pytest.mark.parametrize("echoes", [{}, {"EchoTrainLength": 1}, {"EchoTrainLength": 141}, {"EchoTrainLength": 94}])
def test_the_echoes_of_a_train_in_names_of_any_software(name, echoes):
    inversion = {"InversionTime": 1.8} if "ir" in name else {}
    acquisition = from_sidecar("T2w", {**SPACE, **echoes, **inversion, "SequenceName": name}, "x.json")
    assert field(acquisition, "echo_train_length")[:2] == (282, "derived")
    assert acquisition.echo_spacing == pytest.approx(2 * 0.455 / 282)
    remark = acquisition.remarks["echo_train_length"]
    assert ("one of several shots" in remark) == (echoes.get("EchoTrainLength", 1) > 1)


def test_a_train_that_differs_a_little_from_its_name_is_the_stated_one():
    flair = {**SPACE, "EchoTime": 0.395, "RepetitionTime": 5.0, "InversionTime": 1.8}
    acquisition = from_sidecar("FLAIR", {**flair, "SequenceName": "*spcir_284ns", "EchoTrainLength": 254}, "x.json")
    assert field(acquisition, "echo_train_length") == (254, "given", "")


@pytest.mark.parametrize(
    "suffix, words, sequence",
    [
        ("T1w", "Gradient echo", "spoiled_gradient_echo"),
        ("T1w", "3D spoiled gradient recalled echo", "spoiled_gradient_echo"),
        ("T1w", "field_echo", "spoiled_gradient_echo"),
        ("T2w", "gradient and spin echo", "turbo_spin_echo"),
        ("T2w", "Turbo Spin Echo", "turbo_spin_echo"),
        ("T1w", "Magnetization-prepared rapid gradient echo", "mprage"),
        ("T2w", "fse_mx_3d", "vfa_turbo_spin_echo"),
        ("T2w", "isoFSE", "vfa_turbo_spin_echo"),
    ],
)
def test_sequences_in_words(suffix, words, sequence):
    times = {"EchoTime": 0.01, "RepetitionTime": 2.5, "FlipAngle": 15}
    times |= {"InversionTime": 0.9} if sequence == "mprage" else {}
    acquisition = from_sidecar(suffix, {**times, "PulseSequenceType": words}, "x.json")
    assert (acquisition.sequence, acquisition.confidence) == (sequence, "high")


@pytest.mark.parametrize("echoes, sequence", [(12, "turbo_spin_echo"), (1, "spin_echo"), (None, "spin_echo")])
def test_converters_write_spin_echo_for_trains_too(echoes, sequence):
    sidecar = {**SE, "RepetitionTime": 2.5, "EchoTrainLength": echoes, "PulseSequenceType": "Spin Echo"}
    assert from_sidecar("T2w", sidecar, "x.json").sequence == sequence


@pytest.mark.parametrize("variant", [{}, {"SequenceVariant": "OSP"}])
def test_an_inverted_spin_echo_of_unstated_length_has_a_train(variant):
    flair = {**SE, **variant, "ScanningSequence": "SE\\IR", "RepetitionTime": 9.0, "InversionTime": 2.5}
    acquisition = from_sidecar("FLAIR", flair, "x.json")
    assert (
        acquisition.sequence == "inversion_recovery_turbo_spin_echo" and "since it is inverted" in acquisition.evidence
    )

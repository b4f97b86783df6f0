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

"""What else a signal equation needs: given, derived from what is known, or assumed, and said to be so."""

import pytest

from scripts.acquisition import from_sidecar, load_protocol
from scripts.signal.epg import equivalent_te
from tests.test_acquisition import refusal

TSE = {"EchoTime": 0.09, "RepetitionTime": 4.0}
MPRAGE = {"EchoTime": 0.00316, "RepetitionTime": 2.4, "InversionTime": 1.0, "FlipAngle": 8}
SPACE = {"EchoTime": 0.455, "RepetitionTime": 3.2, "SequenceName": "*spc3d1"}
EXCITATION_TR = {"EchoTime": 0.003, "RepetitionTime": 0.007, "InversionTime": 0.9}


def field(acquisition, name: str) -> tuple:
    return getattr(acquisition, name), acquisition.provenance.get(name, "unknown"), acquisition.remarks.get(name, "")


def test_the_readout_of_an_mprage_is_given_by_the_number_of_shots():
    shots = {"NumberShots": [44, 88], "RepetitionTimeExcitation": 0.0073}
    acquisition = from_sidecar("T1w", {**MPRAGE, **shots}, "x")
    assert field(acquisition, "echo_train_length") == (132, "given", "")
    assert field(acquisition, "echoes_before_centre") == (44, "given", "")
    assert field(acquisition, "echo_spacing") == (0.0073, "given", "")
    for one in (208, [208]):
        scalar = from_sidecar("T1w", {**MPRAGE, "NumberShots": one}, "x")
        assert field(scalar, "echo_train_length") == (208, "given", "")
        assert field(scalar, "echoes_before_centre") == (104, "assumed", "half of the readout")


def test_the_readout_of_an_mprage_is_derived_and_assumed_where_nothing_tells_it():
    acquisition = from_sidecar("T1w", {**MPRAGE, "EchoTrainLength": 1}, "x")
    assert field(acquisition, "echo_spacing") == (0.00632, "derived", "2 x EchoTime")
    assert field(acquisition, "echo_train_length")[:2] == (176, "assumed")
    assert field(acquisition, "echoes_before_centre")[:2] == (88, "assumed")
    spaced = from_sidecar("T1w", {**MPRAGE, "EchoSpacing": 0.0076}, "x")
    assert field(spaced, "echo_spacing") == (0.0076, "given", "EchoSpacing")
    partial = from_sidecar("T1w", {**MPRAGE, "PartialFourier": 0.75}, "x")
    assert partial.echo_train_length == 132 and "PartialFourier 0.75" in partial.remarks["echo_train_length"]
    phase = from_sidecar("T1w", {**MPRAGE, "PartialFourier": 0.75, "PartialFourierDirection": "PHASE"}, "x")
    assert phase.echo_train_length == 176


@pytest.mark.parametrize("times", [{"InversionTime": 0.25}, {"InversionTime": 2.2}, {"InversionTime": 0.004}])
def test_an_assumed_readout_is_cut_to_fit(times):
    acquisition = from_sidecar("T1w", {**MPRAGE, **times}, "x")
    half = min(times["InversionTime"], 2.4 - times["InversionTime"]) / acquisition.echo_spacing
    assert acquisition.echo_train_length == max(1, 2 * int(half + 1e-3))
    assert "fit" in acquisition.remarks["echo_train_length"]


def test_a_given_readout_that_does_not_fit_is_refused():
    shots = {"NumberShots": [88, 88], "RepetitionTimeExcitation": 0.0073, "InversionTime": 0.25}
    error = refusal(from_sidecar, "T1w", {**MPRAGE, **shots}, "x.json")
    assert error.where == "x.json: NumberShots" and "TA = -0.3924 s < 0" in error.found


def test_the_readouts_of_an_mp2rage_fit_between_its_inversion_times():
    pair = {"EchoTime": 0.003, "RepetitionTime": 5.0, "InversionTime": [0.7, 1.2], "FlipAngle": 4}
    acquisition = from_sidecar("UNIT1", pair, "x")
    assert (acquisition.ti, acquisition.ti2) == (0.7, 1.2)
    assert acquisition.echo_train_length == int(0.5 / 0.006)
    assert field(acquisition, "flip_angle2") == (4, "assumed", "that of the first readout")
    angles = from_sidecar("UNIT1", {**pair, "FlipAngle": [4, 5]}, "x")
    assert field(angles, "flip_angle2") == (5, "given", "") and angles.flip_angle == 4


@pytest.mark.parametrize("key", ["RepetitionTimePreparation", "RepetitionTimePreperation"])
def test_excitation_tr_is_replaced_by_the_time_between_inversions(key):
    error = refusal(from_sidecar, "T1w", EXCITATION_TR, "x")
    assert "RepetitionTimePreparation" in error.found and "between excitations" in error.found
    derived = from_sidecar("T1w", {**EXCITATION_TR, key: 2.2}, "x")
    assert field(derived, "tr") == (2.2, "derived", key)
    assert field(derived, "echo_spacing") == (0.007, "derived", "RepetitionTime, which is between excitations")
    assumed = from_sidecar("T1w", EXCITATION_TR, "x", load_protocol("ixi"))
    assert field(assumed, "tr") == (3.0, "assumed", "the protocol's RepetitionTimePreparation")
    assert assumed.provenance["ti"] == "given"


def test_usual_flip_angles_are_assumed_where_the_contrast_hardly_depends_on_them():
    without = {key: value for key, value in MPRAGE.items() if key != "FlipAngle"}
    assert field(from_sidecar("T1w", without, "x"), "flip_angle") == (8, "assumed", "usual")
    spin_echo = {"EchoTime": 0.012, "RepetitionTime": 0.6, "ScanningSequence": "SE"}
    assert field(from_sidecar("T1w", spin_echo, "x"), "flip_angle") == (90, "assumed", "usual")
    assert field(from_sidecar("T1w", {**spin_echo, "FlipAngle": 70}, "x"), "flip_angle") == (70, "given", "")
    assert "FlipAngle" in refusal(from_sidecar, "T2starw", TSE, "x").found


def test_a_refocusing_angle_is_never_an_excitation_angle():
    turbo = from_sidecar("T2w", {**TSE, "FlipAngle": 150}, "x")
    assert field(turbo, "flip_angle")[:2] == (None, "unknown") and "150" in turbo.remarks["flip_angle"]
    spin_echo = {"EchoTime": 0.012, "RepetitionTime": 0.6, "FlipAngle": 180, "ScanningSequence": "SE"}
    assert field(from_sidecar("T1w", spin_echo, "x"), "flip_angle")[:2] == (90, "assumed")
    meant = from_sidecar("T1w", {**spin_echo, "sequence": "spin_echo"}, "x")
    assert field(meant, "flip_angle") == (180, "given", "")


@pytest.mark.parametrize(
    "sidecar, length, origin",
    [
        ({"EchoTrainLength": 12}, 12, "given"),
        ({}, 16, "assumed"),
        ({"SequenceName": "*tse2d1_17"}, 17, "derived"),
        ({"SequenceName": "*tse2d2_5", "EchoTrainLength": 1}, 10, "derived"),
        ({"SequenceName": "*tseR2d1rr19"}, 19, "derived"),
        ({"EchoTime": 0.19}, 19, "assumed"),
        ({"EchoTime": 0.01, "RepetitionTime": 0.105, "SequenceName": "*tse2d1"}, 10, "assumed"),
    ],
)
def test_the_length_of_a_turbo_train(sidecar, length, origin):
    acquisition = from_sidecar("T2w", {**TSE, **sidecar}, "x")
    assert field(acquisition, "echo_train_length")[:2] == (length, origin)
    echo = acquisition.te / acquisition.echo_spacing
    assert echo == pytest.approx(round(echo), abs=1e-4) and 0.007 < acquisition.echo_spacing < 0.015


def test_a_short_train_is_spaced_to_reach_the_echo_time_and_a_given_one_must():
    assert from_sidecar("T2w", {**TSE, "EchoTrainLength": 4}, "x").echo_spacing == pytest.approx(0.0225)
    error = refusal(from_sidecar, "T2w", {**TSE, "EchoTrainLength": 4, "EchoSpacing": 0.01}, "x")
    assert error.where == "x: EchoTrainLength" and "< TE" in error.found


def test_a_given_equivalent_echo_time_counts():
    acquisition = from_sidecar("T2w", {**SPACE, "ContrastEquivalentEchoTime": 0.13}, "x")
    assert field(acquisition, "te_equivalent") == (0.13, "given", "")


def test_the_equivalent_echo_time_is_computed_for_a_known_train():
    acquisition = from_sidecar("T2w", {**SPACE, "EchoTrainLength": 282, "EchoSpacing": 0.0035}, "x")
    value, origin, remark = field(acquisition, "te_equivalent")
    assert value == pytest.approx(equivalent_te(0.455, 282, 0.0035), abs=1e-6) and 0.098 <= value <= 0.121
    assert origin == "derived" and "phase graphs" in remark


def test_the_equivalent_echo_time_is_assumed_otherwise():
    acquisition = from_sidecar("T2w", SPACE, "x")
    assert field(acquisition, "te_equivalent") == (0.11375, "assumed", "0.25 x EchoTime, usual")
    assert field(acquisition, "echo_spacing")[:2] == (0.0035, "assumed")
    assert field(acquisition, "echo_train_length")[:2] == (260, "assumed")
    named = from_sidecar("T2w", {**SPACE, "SequenceName": "*spc_260ns"}, "x")
    assert field(named, "echo_train_length")[:2] == (260, "derived")
    assert named.echo_spacing == pytest.approx(0.0035)
    # So short an echo time is the contrast-equivalent one, which some scanners state.
    short = from_sidecar("T2w", {**SPACE, "EchoTime": 0.1}, "x")
    assert field(short, "te_equivalent")[:2] == (0.1, "assumed")


@pytest.mark.parametrize("tr", [0.46, 0.6, 0.91, 1.0, 5.0])
def test_an_assumed_train_fits_into_any_tr(tr):
    acquisition = from_sidecar("T2w", {**SPACE, "RepetitionTime": tr}, "x")
    train = acquisition.echo_train_length * acquisition.echo_spacing
    assert 0.455 <= train + 1e-6 and train < tr


def test_what_follows_from_an_assumption_is_no_better_than_that():
    acquisition = from_sidecar("T1w", {}, "x", load_protocol("oasis3"))
    assert field(acquisition, "echo_spacing") == (0.00632, "assumed", "2 x EchoTime")


def test_field_strength_is_kept():
    assert field(from_sidecar("T2w", {**TSE, "MagneticFieldStrength": 3}, "x"), "field_strength") == (3, "given", "")
    assert field(from_sidecar("T2w", TSE, "x"), "field_strength") == (None, "unknown", "")


def test_a_scan_needs_its_echo_time_even_where_its_equation_does_not():
    without = {key: value for key, value in MPRAGE.items() if key != "EchoTime"}
    assert refusal(from_sidecar, "T1w", without, "scan.json", equations="paper").found == "no EchoTime"
    assert from_sidecar("T1w", without, "request", {}, "paper").te is None
    assert refusal(from_sidecar, "T1w", without, "request", {}).found == "no EchoTime"

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


def field(acquisition, name: str) -> tuple:
    return getattr(acquisition, name), acquisition.provenance.get(name, "unknown"), acquisition.remarks.get(name, "")


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


@pytest.mark.parametrize("tr, ti", [(1.5, None), (0.5, None), (3.0, 2.2)])
@pytest.mark.parametrize("length", [{"EchoTrainLength": 256}, {"SequenceName": "*h2d1_256"}])
def test_an_assumed_spacing_makes_a_known_train_fit(tr, ti, length):
    sidecar = {"EchoTime": 0.092, "RepetitionTime": tr, "InversionTime": ti, "MRAcquisitionType": "2D", **length}
    acquisition = from_sidecar("T2w", sidecar, "x")
    echo, train = acquisition.te / acquisition.echo_spacing, 256 * acquisition.echo_spacing
    assert acquisition.echo_train_length == 256 and train < tr - (ti or 0) and echo == pytest.approx(round(echo))
    assert round(echo) == 1 or 256 * 0.092 / (round(echo) - 1) >= tr - (ti or 0), "no shorter than need be"
    long = from_sidecar("T2w", {**SPACE, "RepetitionTime": 0.9, "EchoTrainLength": 260}, "x")
    assert 260 * long.echo_spacing < 0.9


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


CUBE = {"EchoTime": 0.12, "RepetitionTime": 6.0, "PulseSequenceName": "CUBE", "EchoSpacing": 0.0045}


@pytest.mark.parametrize(
    "sidecar, remark",
    [
        ({}, "too short to be the nominal one"),
        ({"EchoTrainLength": 200}, "too short to be the nominal one"),
        ({"EchoTrainLength": 200, "InversionTime": 1.7}, "too short to be the nominal one"),
        ({"EchoTrainLength": 50, "Manufacturer": "GE MEDICAL SYSTEMS"}, "GE states the effective one"),
    ],
)
def test_a_short_echo_time_of_a_long_train_is_the_contrast_equivalent_one(sidecar, remark):
    value, origin, said = field(from_sidecar("T2w", {**CUBE, **sidecar}, "x"), "te_equivalent")
    assert (value, origin) == (0.12, "assumed") and remark in said


def test_a_short_echo_time_in_the_middle_of_its_train_is_the_nominal_one():
    value, origin, _ = field(from_sidecar("T2w", {**CUBE, "EchoTrainLength": 50}, "x"), "te_equivalent")
    assert value == pytest.approx(equivalent_te(0.12, 50, 0.0045), abs=1e-6) and origin == "derived" and value < 0.1


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

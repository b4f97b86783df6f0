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

"""The readout after an inversion, and the time from inversion to inversion."""

import pytest

from scripts.acquisition import from_sidecar, load_protocol
from tests.test_acquisition import refusal
from tests.test_acquisition_defaults import MPRAGE, TSE, field

EXCITATION_TR = {"EchoTime": 0.003, "RepetitionTime": 0.007, "InversionTime": 0.9}


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
    assert field(acquisition, "echo_spacing") == (0.00632, "assumed", "2 x EchoTime")
    assert field(acquisition, "echo_train_length")[:2] == (176, "assumed")
    assert field(acquisition, "echoes_before_centre")[:2] == (88, "assumed")
    spaced = from_sidecar("T1w", {**MPRAGE, "EchoSpacing": 0.0076}, "x")
    assert field(spaced, "echo_spacing") == (0.0076, "given", "EchoSpacing")


@pytest.mark.parametrize("along", ["SLICE_SELECT", "COMBINATION"])
def test_partial_fourier_along_the_slices_shortens_the_readout_before_its_centre(along):
    partial = {"PartialFourier": 0.75, "PartialFourierDirection": along}
    acquisition = from_sidecar("T1w", {**MPRAGE, **partial}, "x")
    # Of 176: a quarter before the centre, a half after it.
    assert field(acquisition, "echo_train_length") == (132, "assumed", "usual with PartialFourier 0.75")
    assert field(acquisition, "echoes_before_centre") == (44, "assumed", "PartialFourier 0.75")
    given = from_sidecar("T1w", {**MPRAGE, **partial, "NumberShots": 156}, "x")
    assert (given.echo_train_length, given.echoes_before_centre) == (156, 52)


@pytest.mark.parametrize("direction", [{}, {"PartialFourierDirection": "PHASE"}])
def test_other_partial_fourier_says_nothing_of_the_readout(direction):
    acquisition = from_sidecar("T1w", {**MPRAGE, "PartialFourier": 0.75, **direction}, "x")
    assert (acquisition.echo_train_length, acquisition.echoes_before_centre) == (176, 88)


@pytest.mark.parametrize("echoes", [{"SequenceName": "*tfl3d4_16ns"}, {"EchoNumber": 2}])
def test_several_echoes_per_excitation_take_longer_than_twice_the_echo_time(echoes):
    acquisition = from_sidecar("T1w", {**MPRAGE, "EchoTime": 0.00169, **echoes}, "x")
    assert field(acquisition, "echo_spacing") == (0.01, "assumed", "usual of several echoes per excitation")


@pytest.mark.parametrize("times", [{"InversionTime": 0.25}, {"InversionTime": 2.2}, {"InversionTime": 0.004}])
def test_an_assumed_readout_is_cut_to_fit(times):
    acquisition = from_sidecar("T1w", {**MPRAGE, **times}, "x")
    half = min(times["InversionTime"], 2.4 - times["InversionTime"]) / acquisition.echo_spacing
    assert acquisition.echo_train_length == max(1, 2 * int(half + 1e-3))
    assert "fit" in acquisition.remarks["echo_train_length"]


@pytest.mark.parametrize("ti, before", [(1.0, 110), (0.5, 79), (2.0, 157)])
def test_an_assumed_centre_moves_to_where_a_given_readout_fits(ti, before):
    acquisition = from_sidecar("T1w", {**MPRAGE, "InversionTime": ti, "NumberShots": 220}, "x")
    value, origin, remark = field(acquisition, "echoes_before_centre")
    assert (value, origin) == (before, "assumed") and ("fits" in remark) == (before != 110)


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


@pytest.mark.parametrize("key", ["RepetitionTimePreparation", "RepetitionTimePreperation", "RepetitionTimeInversion"])
def test_excitation_tr_is_replaced_by_the_time_between_inversions(key):
    error = refusal(from_sidecar, "T1w", EXCITATION_TR, "x")
    assert "RepetitionTimePreparation" in error.found and "between excitations" in error.found
    derived = from_sidecar("T1w", {**EXCITATION_TR, key: 2.2}, "x")
    assert field(derived, "tr") == (2.2, "derived", key)
    assert field(derived, "echo_spacing") == (0.007, "derived", "RepetitionTime, which is between excitations")
    times = {"EchoTime": 0.0046, "RepetitionTime": 0.0098, "InversionTime": 0.95}
    assumed = from_sidecar("T1w", times, "x", load_protocol("ixi"))
    assert field(assumed, "tr") == (3.0, "assumed", "the protocol's RepetitionTimePreparation")
    assert assumed.provenance["ti"] == "given"


@pytest.mark.parametrize("tr", [0.08, 2.3, 300.0])
@pytest.mark.parametrize("key", ["RepetitionTimePreparation", "RepetitionTimeInversion"])
def test_the_time_between_inversions_counts_beside_any_other(key, tr):
    acquisition = from_sidecar("T1w", {**MPRAGE, "RepetitionTime": tr, key: 3.0}, "x")
    assert field(acquisition, "tr") == (3.0, "derived", key)
    assert acquisition.echo_spacing == 0.00632, "no such TR is one between excitations"
    assert from_sidecar("T2w", {**TSE, key: 3.0, "sequence": "turbo_spin_echo"}, "x").tr == 4.0


def test_a_volume_takes_long_only_beside_the_time_between_inversions():
    assert refusal(from_sidecar, "T1w", {**MPRAGE, "RepetitionTime": 300.0}, "x").where == "x: RepetitionTime"
    turbo = {**TSE, "RepetitionTime": "300", "RepetitionTimePreparation": 3.0}
    assert refusal(from_sidecar, "T2w", turbo, "x").where == "x: RepetitionTime"


@pytest.mark.parametrize(
    "key", ["InversionTime", "EchoSpacing", "EchoTrainLength", "MagneticFieldStrength", "RepetitionTimePreparation"]
)
def test_a_zero_for_none_is_none(key):
    assert from_sidecar("T2w", {**TSE, key: 0}, "x") == from_sidecar("T2w", TSE, "x")

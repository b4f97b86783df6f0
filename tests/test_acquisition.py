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

"""The record of an acquisition: its row, and what cannot be one."""

from dataclasses import replace

import pytest
import torch

from scripts.acquisition import (
    FIELDS,
    ROW_SIZE,
    UNKNOWN,
    Acquisition,
    assumed,
    check,
    forget_field,
    forget_sequence,
    from_sidecar,
    has_sequence,
    known,
    present,
    sequence_name,
    values,
)
from scripts.errors import UserError
from scripts.signal import SEQUENCES

TRAIN = {"echo_train_length": 16, "echo_spacing": 0.01}
READOUT = {"flip_angle": 8, "echo_train_length": 176, "echo_spacing": 0.0073, "echoes_before_centre": 88}
POSSIBLE = {
    "spin_echo": Acquisition("spin_echo", te=0.09, tr=4.0, flip_angle=90),
    "turbo": Acquisition("turbo_spin_echo", te=0.09, tr=4.0, **TRAIN),
    "vfa": Acquisition("vfa_turbo_spin_echo", te=0.1, te_equivalent=0.03, tr=4.0, **TRAIN),
    "flair": Acquisition("inversion_recovery_turbo_spin_echo", te=0.09, tr=9.0, ti=2.5, **TRAIN),
    "dir": Acquisition("double_inversion_recovery", te=0.02, tr=9.0, ti=3.3, ti2=0.5),
    "mprage": Acquisition("mprage", te=0.003, tr=2.4, ti=1.0, **READOUT),
    "mp2rage": Acquisition("mp2rage", te=0.003, tr=5.0, ti=0.8, ti2=2.5, flip_angle2=5, **READOUT),
    "saturation": Acquisition("saturation_recovery", te=0.003, ti=1.0, flip_angle=90),
}


def refusal(call, *arguments, **options) -> UserError:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    return caught.value


def test_row_holds_sequence_values_and_origin():
    row = Acquisition("spin_echo", te=0.09, tr=4.0, provenance={"te": "given", "tr": "assumed"}).to_row()
    assert row.shape == (ROW_SIZE,) and present(row)
    assert values(row, "te") == torch.tensor(0.09) and values(row, "ti") == 0
    assert [name for name in FIELDS if known(row, name)] == ["te", "tr"]
    assert [name for name in FIELDS if assumed(row, name)] == ["tr"]
    assert sequence_name(row) == "spin_echo" and has_sequence(row, "spin_echo") and not has_sequence(row, UNKNOWN)
    absent = torch.zeros(ROW_SIZE)
    assert not present(absent) and sequence_name(absent) is None


def test_what_is_forgotten_of_a_row_is_unknown_and_nothing_else_changes():
    row = Acquisition("spin_echo", te=0.09, tr=4.0, provenance={"te": "given", "tr": "assumed"}).to_row()
    forget_field(row, "te")
    assert not known(row, "te") and values(row, "te") == 0
    assert known(row, "tr") and values(row, "tr") == 4 and sequence_name(row) == "spin_echo"
    forget_sequence(row)
    assert sequence_name(row) == UNKNOWN and present(row) and values(row, "tr") == 4


@pytest.mark.parametrize("name", POSSIBLE)
def test_what_is_possible_passes_and_every_required_field_is_asked_for(name):
    acquisition = POSSIBLE[name]
    check(acquisition, "a.json")
    for field in SEQUENCES[acquisition.sequence].fields:
        error = refusal(check, replace(acquisition, **{field: None}), "a.json")
        assert error.where == "a.json" and error.found.startswith("no ")


@pytest.mark.parametrize(
    "name, changes, key, reason",
    [
        ("spin_echo", {"te": 0.5, "tr": 0.4}, "EchoTime", "TE 0.5 s ≥ TR 0.4 s"),
        ("spin_echo", {"flip_angle": 400}, "FlipAngle", "400"),
        ("spin_echo", {"flip_angle": 0}, "FlipAngle", "0"),
        ("spin_echo", {"field_strength": 15000}, "MagneticFieldStrength", "15000"),
        ("flair", {"tr": 2.5}, "InversionTime", "TI 2.5 s ≥ TR 2.5 s"),
        ("flair", {"tr": 2.4}, "InversionTime", "TI 2.5 s ≥ TR 2.4 s"),
        ("flair", {"tr": 2.55}, "InversionTime", "TI + TE"),
        ("flair", {"tr": 2.65}, "EchoTrainLength", "together > TR"),
        ("turbo", {"echo_train_length": 8}, "EchoTrainLength", "< TE"),
        ("turbo", {"tr": 0.16}, "EchoTrainLength", "≥ TR"),
        ("turbo", {"echo_train_length": 0}, "EchoTrainLength", "0"),
        ("turbo", {"echo_train_length": 15.5}, "EchoTrainLength", "15.5"),
        ("turbo", {"echo_spacing": 10}, "EchoSpacing", "10"),
        ("vfa", {"te_equivalent": 0.2}, "ContrastEquivalentEchoTime", "0.2 s"),
        ("vfa", {"te_equivalent": 0.005}, "ContrastEquivalentEchoTime", "0.005 s"),
        ("dir", {"ti2": 3.3}, "InversionTime2", "≥ TI"),
        ("mprage", {"ti": 0.6}, "NumberShots", "TA = -0.0424 s < 0"),
        ("mprage", {"tr": 1.6}, "NumberShots", "TC = -0.0424 s < 0"),
        ("mprage", {"echoes_before_centre": 177}, "NumberShots", "177 excitations before"),
        ("mp2rage", {"ti2": 2.0}, "InversionTime2", "after the first"),
        ("mp2rage", {"tr": 3.0}, "NumberShots", "TC"),
        ("mp2rage", {"ti": 0.6}, "NumberShots", "TA"),
    ],
)
def test_impossible_acquisitions_are_refused_with_the_reason(name, changes, key, reason):
    error = refusal(check, replace(POSSIBLE[name], **changes), "a.json")
    assert error.where == f"a.json: {key}" and reason in error.found


def test_a_readout_may_begin_with_the_centre_and_pulses_may_touch():
    check(replace(POSSIBLE["mprage"], echoes_before_centre=0, tr=1.0 + 176 * 0.0073), "a.json")
    check(replace(POSSIBLE["mprage"], ti=88 * 0.0073), "a.json")
    check(replace(POSSIBLE["flair"], tr=2.5 + 16 * 0.01), "a.json")


@pytest.mark.parametrize("value", [True, "0.09", "n/a", [0.09, 0.1], float("nan"), float("inf"), 0, -0.09])
def test_a_value_must_be_one_positive_number(value):
    error = refusal(from_sidecar, "T2w", {"EchoTime": value, "RepetitionTime": 4.0}, "sub-01_T2w.json")
    assert error.where == "sub-01_T2w.json: EchoTime"


@pytest.mark.parametrize(
    "key, value, seconds",
    [
        ("EchoTime", 90, "0.09"),
        ("RepetitionTime", 9000, "9"),
        ("InversionTime", 2500, "2.5"),
        ("InversionTime", [2500, 500], "2.5"),
        ("EchoSpacing", 9.5, "0.0095"),
        ("RepetitionTimePreparation", 9000, "9"),
    ],
)
def test_milliseconds_are_told_and_converted(key, value, seconds):
    flair = {"EchoTime": 0.09, "RepetitionTime": 9.0, "InversionTime": 2.5}
    error = refusal(from_sidecar, "FLAIR", {**flair, key: value}, "sub-01_FLAIR.json")
    first = value[0] if isinstance(value, list) else value
    assert str(error) == f"sub-01_FLAIR.json: {key}: found {first}; give seconds ({seconds})"


@pytest.mark.parametrize("shots", [0, -1, "all", [1, 2, 3], [0, 0], [88, "x"], True])
def test_the_number_of_shots_is_a_number_or_a_pair(shots):
    error = refusal(from_sidecar, "T1w", {"NumberShots": shots}, "x.json")
    assert error.where == "x.json: NumberShots"

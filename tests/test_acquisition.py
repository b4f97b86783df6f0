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
from dataclasses import replace

import pytest
import torch

from scripts.acquisition import (
    FIELDS,
    NAMES,
    ROW_SIZE,
    Acquisition,
    check,
    from_sidecar,
    load_protocol,
    load_render,
    present,
    to_sidecar,
    values,
)
from scripts.errors import UserError
from scripts.signal import SEQUENCES

SPIN_ECHO = {"EchoTime": 0.09, "RepetitionTime": 4.0}
MPRAGE = {"EchoTime": 0.003, "RepetitionTime": 2.4, "InversionTime": 1.0, "FlipAngle": 8}
FLAIR = {"EchoTime": 0.09, "RepetitionTime": 9.0, "InversionTime": 2.5}
EXCITATION_TR = {"EchoTime": 0.003, "RepetitionTime": 0.007, "InversionTime": 0.9}


def refusal(call, *arguments) -> UserError:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return caught.value


def test_row_holds_sequence_values_and_origin():
    row = Acquisition("paper_spin_echo", te=0.09, tr=4.0, provenance={"te": "given", "tr": "assumed"}).to_row()
    assert row.shape == (ROW_SIZE,) and present(row)
    assert values(row, "te") == torch.tensor(0.09) and values(row, "ti") == 0
    assert row[1 + len(FIELDS) :].tolist() == [3, 1, 0, 0]
    assert not present(torch.zeros(ROW_SIZE))


@pytest.mark.parametrize(
    "suffix, sidecar, sequence",
    [
        ("T1w", MPRAGE, "paper_mprage"),
        ("T1w", {"EchoTime": 0.012, "RepetitionTime": 0.6}, "paper_spin_echo"),
        ("T1w", {**FLAIR, "ScanningSequence": "SE\\IR"}, "paper_flair"),
        ("T2w", SPIN_ECHO, "paper_spin_echo"),
        ("T2w", FLAIR, "paper_flair"),
        ("PDw", SPIN_ECHO, "paper_spin_echo"),
        ("FLAIR", FLAIR, "paper_flair"),
        ("T2starw", {**SPIN_ECHO, "sequence": "paper_spin_echo"}, "paper_spin_echo"),
    ],
)
def test_sequence_follows_from_suffix_and_sidecar(suffix, sidecar, sequence):
    acquisition = from_sidecar(suffix, sidecar, "x.json")
    assert acquisition.sequence == sequence
    assert set(acquisition.provenance.values()) == {"given"}
    assert all(getattr(acquisition, name) is not None for name in SEQUENCES[sequence].fields)


@pytest.mark.parametrize("value", [True, "0.09", "n/a", [0.09, 0.1], float("nan"), float("inf"), 0, -0.09])
def test_a_value_must_be_one_positive_number(value):
    error = refusal(from_sidecar, "T2w", {**SPIN_ECHO, "EchoTime": value}, "sub-01_T2w.json")
    assert error.where == "sub-01_T2w.json: EchoTime"


@pytest.mark.parametrize(
    "key, value, seconds", [("EchoTime", 90, "0.09"), ("RepetitionTime", 9000, "9"), ("InversionTime", 2500, "2.5")]
)
def test_milliseconds_are_told_and_converted(key, value, seconds):
    error = refusal(from_sidecar, "FLAIR", {**FLAIR, key: value}, "sub-01_FLAIR.json")
    assert str(error) == f"sub-01_FLAIR.json: {key}: found {value}; do give seconds ({seconds})"


@pytest.mark.parametrize(
    "changes, key, reason",
    [
        ({"te": 0.5, "tr": 0.4}, "EchoTime", "TE 0.5 s ≥ TR 0.4 s"),
        ({"tr": 2.5}, "InversionTime", "TI 2.5 s ≥ TR 2.5 s"),
        ({"tr": 2.55}, "InversionTime", "TI + TE"),
        ({"flip_angle": 400}, "FlipAngle", "400"),
        ({"flip_angle": 0}, "FlipAngle", "0"),
        ({"ti": None}, "a.json", "no InversionTime"),
    ],
)
def test_impossible_acquisitions_are_refused_with_the_reason(changes, key, reason):
    possible = Acquisition("paper_flair", te=0.09, tr=9.0, ti=2.5, flip_angle=360)
    check(possible, "a.json")
    error = refusal(check, replace(possible, **changes), "a.json")
    assert key in error.where and reason in error.found


def test_all_missing_fields_are_named_with_what_to_do():
    error = refusal(from_sidecar, "FLAIR", {"InversionTime": 2.5}, "sub-01_FLAIR.json")
    assert error.found == "no EchoTime, RepetitionTime"
    assert "--protocol" in error.do and all(name in error.do for name in NAMES)
    error = refusal(from_sidecar, "PDw", {}, "x", load_protocol("oasis3"))
    assert "protocol's PDw entry" in error.do


@pytest.mark.parametrize(
    "sidecar",
    [
        {"EchoTime": 0.003, "RepetitionTime": 2.4},
        {"RepetitionTime": 2.4},
        {**SPIN_ECHO, "ScanningSequence": "GR\\IR"},
        {**SPIN_ECHO, "ScanningSequence": ["GR", "IR"]},
        {**SPIN_ECHO, "SequenceName": "*tfl3d1_16ns"},
        {**SPIN_ECHO, "PulseSequenceDetails": "%CustomerSeq%\\MPRAGE"},
    ],
)
def test_an_mprage_without_inversion_time_is_no_spin_echo(sidecar):
    assert "InversionTime" in refusal(from_sidecar, "T1w", sidecar, "x").found
    completed = from_sidecar("T1w", sidecar, "x", load_protocol("oasis3"))
    assert (completed.sequence, completed.ti, completed.provenance["ti"]) == ("paper_mprage", 1.0, "assumed")


@pytest.mark.parametrize("key", ["RepetitionTimePreparation", "RepetitionTimePreperation"])
def test_excitation_tr_is_replaced_by_the_time_between_inversions(key):
    error = refusal(from_sidecar, "T1w", EXCITATION_TR, "x")
    assert "RepetitionTimePreparation" in error.found and "between excitations" in error.found
    derived = from_sidecar("T1w", {**EXCITATION_TR, key: 2.2}, "x")
    assert (derived.tr, derived.provenance["tr"], derived.provenance["ti"]) == (2.2, "derived", "given")
    assumed = from_sidecar("T1w", EXCITATION_TR, "x", load_protocol("ixi"))
    assert (assumed.tr, assumed.provenance["tr"]) == (3.0, "assumed")


def test_a_gradient_echo_without_inversion_is_no_spin_echo():
    assert "InversionTime" in refusal(from_sidecar, "T1w", {"EchoTime": 0.0046, "RepetitionTime": 0.0096}, "x").found


def test_protocol_fills_only_what_the_sidecar_lacks():
    filled = from_sidecar("T2w", {"EchoTime": 0.1, "RepetitionTime": None}, "x", load_protocol("oasis3"))
    assert (filled.te, filled.tr, filled.provenance) == (0.1, 3.2, {"te": "given", "tr": "assumed"})
    own = from_sidecar("T1w", {"EchoTime": 0.012, "RepetitionTime": 0.6}, "x", load_protocol("oasis3"))
    assert own == from_sidecar("T1w", {"EchoTime": 0.012, "RepetitionTime": 0.6}, "x")


def test_unknown_suffix_and_sequence_are_refused():
    assert "bold" in refusal(from_sidecar, "bold", SPIN_ECHO, "x").found
    assert "paper_flair" in refusal(from_sidecar, "T2w", {**SPIN_ECHO, "sequence": "se"}, "x").do
    assert refusal(from_sidecar, "T2w", {**SPIN_ECHO, "SignalModel": []}, "x").where == "x: SignalModel"


@pytest.mark.parametrize("suffix, protocol", [("T1w", "ixi"), ("T2w", "oasis3"), ("FLAIR", "clinical_2d")])
def test_sidecars_keep_values_equation_and_origin(suffix, protocol):
    acquisition = from_sidecar(suffix, {}, "x", load_protocol(protocol))
    written = json.loads(json.dumps(to_sidecar(acquisition)))
    assert from_sidecar(suffix, written, "x") == acquisition
    assert written["ParameterProvenance"]["EchoTime"] == "assumed"


@pytest.mark.parametrize("name", NAMES)
def test_named_protocols_are_complete_and_possible(name):
    for suffix in load_protocol(name):
        assert set(from_sidecar(suffix, {}, name, load_protocol(name)).provenance.values()) == {"assumed"}


def test_protocol_names_and_the_reserved_word():
    assert NAMES == ("oasis3", "adni3", "ixi", "hcp_ya", "ukb", "clinical_2d")
    assert load_protocol(None) is None
    assert "none ships yet" in refusal(load_protocol, "unknown").found
    assert refusal(load_protocol, "oasis_3").do.startswith("use oasis3")


def test_own_protocol_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"source": "our scanner", "T2w": {**SPIN_ECHO, "note": "2D"}}))
    assert load_protocol(path) == {"T2w": SPIN_ECHO}


@pytest.mark.parametrize(
    "text, found",
    [
        ("{", "broken JSON"),
        ("[]", "list"),
        ('{"T2w": 3}', "3"),
        ('{"T2w": {"EchoTme": 0.1}}', "EchoTme"),
        ('{"T2w": {"EchoTime": 90}}', "90"),
    ],
)
def test_broken_protocol_files_are_named(tmp_path, text, found):
    path = tmp_path / "mine.json"
    path.write_text(text)
    error = refusal(load_protocol, path)
    assert str(path) in str(error.where) and found in error.found
    assert "absent.json" in str(refusal(load_protocol, tmp_path / "absent.json").where)


def test_presets_hold_what_is_possible():
    figure = load_render("fig3")
    assert [request.name for request in figure] == [f"fig3{letter}" for letter in "acdefghijkl"]
    sequences = {request.acquisition.sequence for request in load_render("clinical")}
    assert sequences == {"paper_mprage", "paper_spin_echo", "paper_flair"}


def test_the_impossible_setting_of_figure_3_is_refused_with_the_reason():
    request = {"name": "fig3b", "suffix": "T1w", "EchoTime": 0.003, "RepetitionTime": 0.1, "InversionTime": 1.0}
    error = refusal(load_render, [request])
    assert error.where == "render fig3b: InversionTime" and "TI 1 s ≥ TR 0.1 s" in error.found


@pytest.mark.parametrize("wrap", [list, lambda requests: {"render": requests}])
def test_requests_from_a_file_or_inline_are_the_same(tmp_path, wrap):
    requests = [{"name": "long", "suffix": "T2w", **SPIN_ECHO}, {"name": "x2", "suffix": "T1w", **MPRAGE}]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(wrap(requests)))
    assert load_render(str(path)) == load_render(requests)
    assert load_render([]) == []


@pytest.mark.parametrize(
    "request_, found",
    [
        ({"suffix": "T2w"}, "nothing"),
        ({"name": "../up", "suffix": "T2w"}, "'../up'"),
        ({"name": "a", "suffix": "T2w", "TE": 0.1}, "'TE'"),
        ({"name": "a", "suffix": "T2w"}, "no EchoTime, RepetitionTime"),
        ("fig3", "'fig3'"),
    ],
)
def test_bad_requests_are_refused(request_, found):
    assert found in refusal(load_render, [request_]).found


def test_request_names_are_unique_and_presets_suggested():
    twice = [{"name": name, "suffix": "T2w", **SPIN_ECHO} for name in ("a", "A")]
    assert "twice" in refusal(load_render, twice).found
    assert refusal(load_render, "fig4").do.startswith("use fig3")


def test_a_scan_needs_its_echo_time_even_where_its_equation_does_not():
    without = {key: value for key, value in MPRAGE.items() if key != "EchoTime"}
    with pytest.raises(UserError, match="no EchoTime"):
        from_sidecar("T1w", without, "scan.json")
    assert from_sidecar("T1w", without, "request", {}).te is None

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

"""Sidecars, named protocols and render requests."""

import json

import pytest
import torch

from scripts.acquisition import NAMES, SIDECAR_KEYS, from_sidecar, load_protocol, load_render, to_sidecar
from scripts.acquisition.protocols import FOLDER
from scripts.errors import UserError
from scripts.signal import SEQUENCES
from tests.test_acquisition import POSSIBLE, refusal

TSE = {"EchoTime": 0.09, "RepetitionTime": 4.0}
MPRAGE = {"EchoTime": 0.003, "RepetitionTime": 2.4, "InversionTime": 1.0, "FlipAngle": 8}
EXCITATION_TR = {"EchoTime": 0.003, "RepetitionTime": 0.007}
SCANS = {
    "T1w": MPRAGE,
    "T2w": {**TSE, "FlipAngle": 160, "SequenceName": "*tse2d1_17", "MagneticFieldStrength": 3},
    "PDw": {"EchoTime": 0.012, "RepetitionTime": 0.6, "EchoTrainLength": 1},
    "FLAIR": {"EchoTime": 0.394, "RepetitionTime": 5.0, "InversionTime": 1.8},
    "T2starw": {"EchoTime": 0.02, "RepetitionTime": 0.65, "FlipAngle": 20},
    "UNIT1": {"EchoTime": 0.003, "RepetitionTime": 5.0, "InversionTime": [0.7, 2.5], "FlipAngle": [4, 5]},
}


@pytest.mark.parametrize("equations", ["exact", "paper"])
@pytest.mark.parametrize("suffix", ["T1w", "T2w", "PDw", "FLAIR"])
def test_sidecars_keep_values_equation_origin_and_reasons(suffix, equations):
    acquisition = from_sidecar(suffix, SCANS[suffix], "x", equations=equations)
    written = json.loads(json.dumps(to_sidecar(acquisition)))
    assert from_sidecar(suffix, written, "x", equations=equations) == acquisition


@pytest.mark.parametrize("suffix", ["T2starw", "UNIT1"])
def test_sidecars_of_other_scans_do_too(suffix):
    acquisition = from_sidecar(suffix, SCANS[suffix], "x")
    assert from_sidecar(suffix, json.loads(json.dumps(to_sidecar(acquisition))), "x") == acquisition


@pytest.mark.parametrize("name", POSSIBLE)
def test_sidecars_of_any_sequence_give_the_same_row(name):
    fields = {field: "given" for field in SIDECAR_KEYS if getattr(POSSIBLE[name], field) is not None}
    acquisition = type(POSSIBLE[name])(**{**vars(POSSIBLE[name]), "provenance": fields})
    again = from_sidecar("T1w", to_sidecar(acquisition), "x", {})
    assert again.to_row().tolist() == acquisition.to_row().tolist()


@pytest.mark.parametrize("name", NAMES)
def test_sidecars_of_named_protocols_say_what_was_assumed(name):
    for suffix in load_protocol(name):
        acquisition = from_sidecar(suffix, {}, name, load_protocol(name))
        # Complete, possible, and nothing of it is known of the scan at hand.
        assert set(acquisition.provenance.values()) == {"assumed"} and acquisition.confidence != "high"
        written = json.loads(json.dumps(to_sidecar(acquisition)))
        assert written["ParameterProvenance"]["EchoTime"] == "assumed: the protocol"
        assert from_sidecar(suffix, written, "x") == acquisition


def test_a_readout_is_written_in_the_words_of_bids():
    written = to_sidecar(from_sidecar("T1w", {**MPRAGE, "NumberShots": [44, 88]}, "x"))
    assert written["NumberShots"] == [44, 88] and written["RepetitionTimeExcitation"] == 0.006
    assert not {"EchoTrainLength", "EchoSpacing", "EchoesBeforeCentre"} & written.keys()
    assert written["ParameterProvenance"]["RepetitionTimeExcitation"] == "assumed: 2 x EchoTime"
    assert written["SignalModelEvidence"] == "medium: the suffix T1w; InversionTime 1"


def test_all_missing_fields_are_named_with_what_to_do():
    error = refusal(from_sidecar, "FLAIR", {"InversionTime": 2.5}, "sub-01_FLAIR.json")
    assert error.found == "no EchoTime, RepetitionTime"
    # Of the named protocols, those with this inversion time.
    assert "--protocol (oasis3, clinical_2d)" in error.do
    error = refusal(from_sidecar, "PDw", {}, "x", load_protocol("oasis3"))
    assert "protocol's PDw entry" in error.do


def test_protocol_fills_what_the_sidecar_lacks():
    filled = from_sidecar("T2w", {"EchoTime": 0.45, "RepetitionTime": None}, "x", load_protocol("oasis3"))
    assert (filled.te, filled.tr, filled.sequence) == (0.45, 3.2, "vfa_turbo_spin_echo")
    assert (filled.provenance["te"], filled.provenance["tr"]) == ("given", "assumed")
    own = from_sidecar("T1w", {"EchoTime": 0.012, "RepetitionTime": 0.6}, "x", load_protocol("oasis3"))
    assert own == from_sidecar("T1w", {"EchoTime": 0.012, "RepetitionTime": 0.6}, "x")


@pytest.mark.parametrize(
    "suffix, sidecar, protocol, missing, differing",
    [
        ("T1w", {"EchoTime": 0.012}, "oasis3", "RepetitionTime", "EchoTime 0.00316"),
        ("FLAIR", {"EchoTime": 0.09, "RepetitionTime": 5.0}, "clinical_2d", "no InversionTime", "RepetitionTime 9.0"),
        ("FLAIR", {"RepetitionTime": 5.0}, "clinical_2d", "no EchoTime, InversionTime", "RepetitionTime 9.0"),
        ("T1w", {**EXCITATION_TR, "InversionTime": 0.9}, "ixi", "RepetitionTimePreparation", "EchoTime 0.0046"),
    ],
)
def test_a_protocol_of_another_scan_fills_nothing(suffix, sidecar, protocol, missing, differing):
    error = refusal(from_sidecar, suffix, sidecar, "x", load_protocol(protocol))
    assert missing in error.found and "another scan" in error.do and differing in error.do


def test_protocol_names():
    assert NAMES == ("oasis3", "adni3", "ixi", "hcp_ya", "ukb", "clinical_2d")
    assert load_protocol(None) is None
    assert refusal(load_protocol, "oasis_3").do.startswith("use oasis3")
    assert "unknown" in refusal(load_protocol, "clinical").do


def test_own_protocol_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"source": "our scanner", "T2w": {**TSE, "SequenceName": "*tse2d1_9", "note": "2D"}}))
    assert load_protocol(path) == {"T2w": {**TSE, "SequenceName": "*tse2d1_9"}}


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


@pytest.mark.parametrize("equations", ["exact", "paper"])
def test_presets_hold_what_is_possible(equations):
    figure = load_render("fig3", equations)
    assert [request.name for request in figure] == [f"fig3{letter}" for letter in "acdefghijkl"]
    sequences = [{request.acquisition.sequence for request in load_render(name, equations)} for name in ("clinical",)]
    exact = {"mprage", "spin_echo", "turbo_spin_echo", "inversion_recovery_turbo_spin_echo"}
    paper = {"paper_mprage", "paper_spin_echo", "paper_flair"}
    assert sequences == [exact if equations == "exact" else paper]
    assert len(load_render("sweep", equations)) == 13


def test_figure_3_has_variable_flip_angles_and_short_readouts():
    figure = {request.name[-1]: request.acquisition for request in load_render("fig3")}
    assert {figure[letter].sequence for letter in "efgh"} == {"vfa_turbo_spin_echo"}
    assert {figure[letter].sequence for letter in "jl"} == {"inversion_recovery_vfa_turbo_spin_echo"}
    assert figure["d"].echo_train_length == 82 and "fit" in figure["d"].remarks["echo_train_length"]


@pytest.mark.parametrize("equations", ["exact", "paper"])
def test_the_echo_times_of_figure_3_darken_white_matter_before_csf(equations):
    sweep = {request.name[-1]: request.acquisition for request in load_render("fig3", equations)}
    ratios = []
    for acquisition in (sweep[letter] for letter in "gef"):
        sequence = SEQUENCES[acquisition.sequence]
        fields = {name: torch.tensor(float(getattr(acquisition, name))) for name in sequence.fields}
        csf, wm = sequence.signal(
            torch.tensor([1.0, 0.7]), torch.tensor([4.3, 0.83]), torch.tensor([2.0, 0.08]), **fields
        )
        ratios.append(float(csf / wm))
    assert 1 < ratios[0] < 0.8 * ratios[1] < 0.64 * ratios[2]


def test_the_impossible_setting_of_figure_3_is_refused_with_the_reason():
    request = {"name": "fig3b", "suffix": "T1w", "EchoTime": 0.003, "RepetitionTime": 0.1, "InversionTime": 1.0}
    for equations in ("exact", "paper"):
        error = refusal(load_render, [request], equations)
        assert error.where == "render fig3b: InversionTime" and "TI 1 s ≥ TR 0.1 s" in error.found


@pytest.mark.parametrize("name", NAMES)
def test_a_protocol_can_be_rendered(name):
    requests = load_render(name)
    assert [request.suffix for request in requests] == list(load_protocol(name))
    assert requests[0].name == name.replace("_", "") + requests[0].suffix


@pytest.mark.parametrize("wrap", [list, lambda requests: {"render": requests}])
def test_requests_from_a_file_or_inline_are_the_same(tmp_path, wrap):
    requests = [{"name": "long", "suffix": "T2w", **TSE}, {"name": "x2", "suffix": "T1w", **MPRAGE}]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(wrap(requests)))
    assert load_render(str(path)) == load_render(requests)
    assert load_render([]) == []


def test_a_request_may_name_any_sequence_and_field():
    keys = {"sequence": "vfa_turbo_spin_echo", "ContrastEquivalentEchoTime": 0.1, "EchoTrainLength": 200}
    (request,) = load_render([{"name": "x", "suffix": "PDw", "EchoTime": 0.4, "RepetitionTime": 3.0, **keys}])
    assert (request.acquisition.sequence, request.acquisition.te_equivalent) == ("vfa_turbo_spin_echo", 0.1)
    saturation = {"sequence": "saturation_recovery", "InversionTime": 0.5, "EchoTime": 0.003, "FlipAngle": 90}
    assert load_render([{"name": "x", "suffix": "T1w", **saturation}])[0].acquisition.ti == 0.5


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
    twice = [{"name": name, "suffix": "T2w", **TSE} for name in ("a", "A")]
    assert "twice" in refusal(load_render, twice).found
    assert refusal(load_render, "fig4").do.startswith("use fig3")


def test_an_own_protocol_file_has_one_protocol_or_several_by_name(tmp_path):
    clinic, ward = {"T2w": {"EchoTime": 0.09, "RepetitionTime": 4.0}}, {"T1w": "unknown", "source": "a letter"}
    path = tmp_path / "mine.json"
    for content, name, expected in (
        (clinic, "", clinic),
        ({"clinic": clinic}, "", clinic),
        ({"clinic": clinic, "ward": ward}, ":ward", {"T1w": "unknown"}),
    ):
        path.write_text(json.dumps(content), encoding="utf-8")
        assert load_protocol(f"{path}{name}") == expected
    assert load_protocol(f"{FOLDER / 'protocols.json'}:ixi") == load_protocol("ixi")


@pytest.mark.parametrize(
    "name, message",
    [("", "found 2 protocols"), (":wart", "no such protocol in the file; .*use ward"), (":", "no such protocol")],
)
def test_a_protocol_file_with_several_asks_for_a_name(tmp_path, name, message):
    entry = {"T2w": {"EchoTime": 0.09, "RepetitionTime": 4.0}}
    (tmp_path / "mine.json").write_text(json.dumps({"clinic": entry, "ward": entry}), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_protocol(f"{tmp_path / 'mine.json'}{name}")

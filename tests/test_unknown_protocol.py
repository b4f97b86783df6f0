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


"""Scans of which too little is stated: refused, or accepted as unknown; never guessed, never a cloak for errors."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.acquisition import (
    FIELDS,
    UNKNOWN,
    Acquisition,
    check,
    from_sidecar,
    known,
    load_protocol,
    load_render,
    present,
    sequence_code,
    to_sidecar,
    values,
)
from scripts.bids import find_sessions, resolve, resolve_all
from scripts.commands.listing import Listing
from scripts.commands.protocol_report import ProtocolReport
from scripts.errors import UserError
from scripts.render import SignalModel
from tests.test_acquisition import refusal

TSE = {"EchoTime": 0.09, "RepetitionTime": 4.0}
MPRAGE = {"EchoTime": 0.003, "RepetitionTime": 2.4, "InversionTime": 1.0, "FlipAngle": 8}
COMPLETE = [
    ("T1w", MPRAGE),
    ("T2w", TSE),
    ("T2w", {"EchoTime": 0.455, "RepetitionTime": 3.2}),
    ("FLAIR", {"EchoTime": 0.09, "RepetitionTime": 9.0, "InversionTime": 2.5}),
    ("T2starw", {"EchoTime": 0.02, "RepetitionTime": 0.65, "FlipAngle": 20}),
]
INSUFFICIENT = [
    # suffix, sidecar, fields that stay, what is missing
    ("T1w", {}, {}, ("EchoTime", "RepetitionTime", "InversionTime (MPRAGE only)")),
    ("T2w", {}, {}, ("EchoTime", "RepetitionTime")),
    ("T2w", {"EchoTime": 0.09, "MagneticFieldStrength": 3}, {"te": 0.09, "field_strength": 3}, ("RepetitionTime",)),
    ("FLAIR", TSE, {"te": 0.09, "tr": 4.0}, ("InversionTime",)),
    ("T1w", {"EchoTime": 0.003, "RepetitionTime": 0.007, "InversionTime": 0.9}, {"te": 0.003, "ti": 0.9}, ()),
    ("T1w", {"EchoTime": 0.012, "InversionTime": 0.4}, {"te": 0.012, "ti": 0.4}, ("RepetitionTime",)),
    ("T2starw", TSE, {"te": 0.09, "tr": 4.0}, ("FlipAngle",)),
    ("PDw", {"EchoTime": 0.004, "FlipAngle": 12}, {"te": 0.004}, ("RepetitionTime",)),
    ("bold", {"SignalModel": "turbo_spin_echo", "RepetitionTime": 4.0}, {"tr": 4.0}, ("EchoTime",)),
    ("UNIT1", {"EchoTime": 0.003, "InversionTime": [0.7, 2.5]}, {"te": 0.003, "ti": 0.7, "ti2": 2.5}, ()),
    ("T1w", {"RepetitionTimePreparation": 2.4, "EchoTime": 0.003}, {"te": 0.003, "tr": 2.4}, ("InversionTime",)),
]
IMPOSSIBLE = [
    ("T2w", {"EchoTime": 90}, "EchoTime"),
    ("T2w", {"EchoTime": "n/a"}, "EchoTime"),
    ("T2w", {"EchoTime": -0.09}, "EchoTime"),
    ("T2w", {"MagneticFieldStrength": 30000}, "MagneticFieldStrength"),
    ("FLAIR", {"EchoTime": 0.5, "RepetitionTime": 0.4}, "EchoTime"),
    ("FLAIR", {"RepetitionTime": 2.0, "InversionTime": 2.5}, "InversionTime"),
    ("FLAIR", {**TSE, "EchoTrainLength": 4, "EchoSpacing": 0.01}, "EchoTrainLength"),
    ("FLAIR", {"EchoTime": 0.09, "EchoTrainLength": 4, "EchoSpacing": 0.01}, "EchoTrainLength"),
    ("T2w", {"EchoTime": 0.4, "ContrastEquivalentEchoTime": 0.5}, "ContrastEquivalentEchoTime"),
    ("T1w", {"EchoTime": 0.003, "RepetitionTimePreparation": 0.8, "InversionTime": 0.9}, "InversionTime"),
    ("T2w", {"EchoTime": 0.003, "RepetitionTime": 2.4}, ""),
    ("T2w", {"SequenceName": "*epfid2d1_64"}, ""),
    ("T2w", {"SignalModel": "tse"}, "SignalModel"),
    ("bold", {}, ""),
    ("T2w", {"SignalModel": "unknown", "EchoTime": 5.0}, "EchoTime"),
    ("T2w", {"SignalModel": "unknown", "EchoTime": 0.5, "RepetitionTime": 0.4}, "EchoTime"),
]


@pytest.mark.parametrize("equations", ["exact", "paper"])
@pytest.mark.parametrize("suffix, sidecar", COMPLETE[:-1])
def test_what_is_complete_keeps_its_acquisition(suffix, sidecar, equations):
    assert from_sidecar(suffix, sidecar, "x", UNKNOWN, equations) == from_sidecar(suffix, sidecar, "x", None, equations)


@pytest.mark.parametrize("equations", ["exact", "paper"])
@pytest.mark.parametrize("suffix, sidecar, kept, missing", INSUFFICIENT)
def test_what_is_insufficient_is_unknown_with_what_is_stated(suffix, sidecar, kept, missing, equations):
    acquisition = from_sidecar(suffix, sidecar, "x", UNKNOWN, equations)
    assert (acquisition.sequence, acquisition.confidence) == (UNKNOWN, "low")
    assert {name: getattr(acquisition, name) for name in FIELDS if getattr(acquisition, name) is not None} == kept
    assert acquisition.provenance.keys() == kept.keys() and "assumed" not in acquisition.provenance.values()
    assert acquisition.evidence.startswith("too little is stated, no ")
    assert all(key in acquisition.evidence for key in missing)
    assert all(any(remark.startswith(f"no {key}") for remark in acquisition.remarks.values()) for key in missing)
    assert acquisition == from_sidecar(suffix, sidecar, "x", {suffix: UNKNOWN}, equations)


@pytest.mark.parametrize("suffix, sidecar, kept, missing", INSUFFICIENT)
def test_without_the_word_the_refusal_stays_and_names_it(suffix, sidecar, kept, missing):
    error = refusal(from_sidecar, suffix, sidecar, "x")
    assert all(key in error.found for key in missing)
    assert "or accept wider intervals with --protocol unknown" in error.do
    other = {"PDw" if suffix != "PDw" else "T1w": UNKNOWN}
    assert f'"{suffix}": "unknown" in a protocol file' in refusal(from_sidecar, suffix, sidecar, "x", other).do


@pytest.mark.parametrize("suffix, sidecar, key", IMPOSSIBLE)
def test_what_is_impossible_is_no_less_so(suffix, sidecar, key):
    error = refusal(from_sidecar, suffix, sidecar, "x", UNKNOWN)
    assert error.where == (f"x: {key}" if key else "x")


def test_a_published_equation_that_is_missing_is_told_before_what_is_missing():
    assert "paper" in refusal(from_sidecar, "T2starw", COMPLETE[-1][1], "x", UNKNOWN, "paper").found
    assert "paper" in refusal(from_sidecar, "T2starw", TSE, "x", None, "paper").found


@pytest.mark.parametrize("suffix, sidecar, kept, missing", INSUFFICIENT)
def test_a_sidecar_states_it_and_gives_the_same_record_again(suffix, sidecar, kept, missing):
    acquisition = from_sidecar(suffix, sidecar, "x", UNKNOWN)
    written = json.loads(json.dumps(to_sidecar(acquisition)))
    assert written["SignalModel"] == UNKNOWN and written["SignalModelEvidence"].startswith("low: too little")
    assert len([key for key in written if not key.startswith(("SignalModel", "ParameterProvenance"))]) == len(kept)
    for protocol in (None, UNKNOWN, load_protocol("oasis3")):
        again = from_sidecar(suffix, written, "x", protocol)
        if not isinstance(protocol, dict) or suffix not in protocol:
            assert again == acquisition
        assert again.sequence == UNKNOWN


def test_a_sidecar_may_say_so_itself():
    own = {"SignalModel": "unknown", "EchoTime": 0.09, "FlipAngle": 160, "SequenceName": "*epse2d1_64"}
    acquisition = from_sidecar("T2w", own, "x")
    assert (acquisition.sequence, acquisition.te, acquisition.flip_angle) == (UNKNOWN, 0.09, None)
    assert (acquisition.confidence, acquisition.evidence) == ("low", "SignalModel unknown")
    assert "unknown" in refusal(from_sidecar, "T2w", {"SequenceName": "*epse2d1_64"}, "x").do


def test_the_row_exists_has_its_own_code_and_renders_nothing():
    row = from_sidecar("T2w", {"EchoTime": 0.09}, "x", UNKNOWN).to_row()
    assert present(row) and row[0] == sequence_code(UNKNOWN) > sequence_code("paper_flair")
    assert known(row, "te") and values(row, "te") == torch.tensor(0.09) and not known(row, "tr")
    assert known(row[None].expand(2, 3, -1), "te").shape == (2, 3)
    maps = torch.tensor([0.7, 0.8, 0.08])[None, :, None, None].expand(1, 3, 2, 2)
    tse = from_sidecar("T2w", TSE, "x").to_row()
    first, second = SignalModel()(maps, torch.stack([row, tse])[None])[0]
    assert torch.all(first == 0) and torch.all(second > 0)


def test_what_no_equation_needs_is_not_asked_for_but_checked():
    check(Acquisition(UNKNOWN), "x")
    check(Acquisition(UNKNOWN, te=0.09, echo_train_length=4, echo_spacing=0.01), "x")
    assert refusal(check, Acquisition(UNKNOWN, te=0.5, tr=0.4), "x").where == "x: EchoTime"
    assert refusal(check, Acquisition(UNKNOWN, tr=2.0, ti=2.0), "x").where == "x: InversionTime"
    assert refusal(check, Acquisition(UNKNOWN, te=90), "x").where == "x: EchoTime"


def test_nothing_unknown_can_be_rendered():
    for key in ("sequence", "SignalModel"):
        error = refusal(load_render, [{"name": "a", "suffix": "T2w", **TSE, key: "unknown"}])
        assert error.where == "render a" and "no signal equation renders" in error.found
    assert refusal(load_render, "unknown").where == "render"
    assert "unknown" not in refusal(load_render, [{"name": "a", "suffix": "T2w"}]).do


def test_a_protocol_file_may_hold_the_word_for_a_suffix(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"T1w": MPRAGE, "T2w": "unknown", "note": "T2w from elsewhere"}))
    table = load_protocol(path)
    assert table == {"T1w": MPRAGE, "T2w": UNKNOWN} and load_protocol("unknown") == UNKNOWN
    assert from_sidecar("T1w", {}, "x", table).provenance["te"] == "assumed"
    assert from_sidecar("T2w", {}, "x", table).sequence == UNKNOWN
    assert refusal(from_sidecar, "FLAIR", {}, "x", table).found.startswith("no EchoTime")
    assert "another scan" in refusal(from_sidecar, "T1w", {"EchoTime": 0.012}, "x", table).do
    path.write_text(json.dumps({"T2w": {"sequence": "unknown"}}))
    assert 'give "unknown" instead' in refusal(load_protocol, path).do
    path.write_text(json.dumps({"T2w": "unkown"}))
    assert '"unknown"' in refusal(load_protocol, path).do


def study(folder: Path) -> Path:
    """sub-01 has a sidecar for T2w only, sub-02 for everything, sub-03 for nothing."""
    for subject, sidecars in (
        ("01", {"T1w": {}, "T2w": TSE}),
        ("02", {"T1w": MPRAGE, "T2w": TSE}),
        ("03", {"T1w": {}}),
    ):
        anat = folder / f"sub-{subject}" / "anat"
        anat.mkdir(parents=True)
        for suffix, sidecar in sidecars.items():
            image = nib.Nifti1Image(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.eye(4))
            nib.save(image, anat / f"sub-{subject}_{suffix}.nii.gz")
            (anat / f"sub-{subject}_{suffix}.json").write_text(json.dumps(sidecar))
    return folder


def test_sessions_are_resolved_with_it(tmp_path):
    sessions = find_sessions(study(tmp_path))
    resolved, failures = resolve_all(sessions, "unknown")
    found = {name: [one.sequence for one in acquisitions] for name, acquisitions in resolved.items()}
    assert failures == {} and found == {
        "sub-01": [UNKNOWN, "turbo_spin_echo"],
        "sub-02": ["mprage", "turbo_spin_echo"],
        "sub-03": [UNKNOWN],
    }
    assert resolve(sessions[1], "unknown") == resolve(sessions[1])
    assert resolve(sessions[0], {"T1w": "unknown"}) == resolved["sub-01"]
    assert resolve_all(sessions)[1].keys() == {"sub-01", "sub-03"}
    (tmp_path / "sub-03" / "anat" / "sub-03_T1w.json").write_text("{")
    assert resolve_all(find_sessions(tmp_path), "unknown")[1].keys() == {"sub-03"}


def test_the_listing_shows_it_with_the_keys_to_add(tmp_path, capsys):
    output = tmp_path / "out"
    assert Listing(str(study(tmp_path / "in")), str(output), "unknown").run() == 0
    with open(output / "acquisitions.tsv", newline="") as file:
        rows = {row["file"].split("/")[-1]: row for row in csv.DictReader(file, delimiter="\t")}
    first = rows["sub-01_T1w.nii.gz"]
    assert (first["used"], first["sequence"], first["confidence"], first["te"]) == ("yes", "unknown", "low", "n/a")
    assert (first["te_origin"], first["te_remark"]) == ("unknown", "no EchoTime")
    text = capsys.readouterr().out
    assert "5 of 5 scans can be used for estimation; 2 of them without a signal equation" in text
    assert any(line.split()[:2] == ["unknown", "EchoTime"] for line in text.splitlines())
    Listing(str(tmp_path / "in"), str(output)).run()
    assert "--protocol unknown" in capsys.readouterr().out.split("To be completed")[1]


def test_the_protocol_report_says_that_it_adds_nothing(tmp_path, capsys):
    data = study(tmp_path / "in")
    findings = ProtocolReport(str(data), "unknown", tmp_path / "out").run()
    assert sorted(one.protocol.suffixes for one in findings) == [("T1w", "T2w"), ("T2w",)]
    text = capsys.readouterr().out
    assert "left out sub-03: found no scan of known acquisition" in text
    assert "T1w left out of all that follows: an unknown acquisition adds nothing that equations can use" in text
    for suffix in ("T1w", "T2w"):
        (data / "sub-02" / "anat" / f"sub-02_{suffix}.json").unlink()
        (data / "sub-01" / "anat" / f"sub-01_{suffix}.json").unlink()
    for folder in (str(data), None):
        with pytest.raises(UserError) as caught:
            ProtocolReport(folder, "unknown", tmp_path / "none").run()
        assert "adds nothing that equations can use" in caught.value.found and not (tmp_path / "none").exists()

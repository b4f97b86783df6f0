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

"""The listing of a folder: every scan, what it is, what was assumed, and what to do about the rest."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.acquisition import FIELDS
from scripts.commands.listing import Listing
from scripts.errors import UserError

from .processes import bundle_run

ROOT = Path(__file__).resolve().parents[1]
SCANS = {
    "T1w": {"EchoTime": 0.00316, "RepetitionTime": 2.4, "InversionTime": 1.0, "SequenceName": "*tfl3d1_16ns"},
    "T2w": {"EchoTime": 0.092, "RepetitionTime": 4.32, "EchoTrainLength": 10, "FlipAngle": 160},
    "T2starw": {"EchoTime": 0.02, "RepetitionTime": 0.65, "FlipAngle": 20},
    "part-phase_T2w": {},
}
UNUSABLE = {"FLAIR": {"EchoTime": 0.09}, "PDw": {"EchoTime": 12, "RepetitionTime": 4500}}
BROKEN = {"acq-text_T2w": "{"}


def study(folder: Path, scans: dict) -> Path:
    for name, content in scans.items():
        anat = folder / "sub-01" / "anat"
        anat.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.eye(4))
        nib.save(image, anat / f"sub-01_{name}.nii.gz")
        text = content if isinstance(content, str) else json.dumps(content)
        (anat / f"sub-01_{name}.json").write_text(text)
    return folder


def run(folder: Path, output: Path, **options) -> tuple[int, dict[str, dict]]:
    """Number of failures and the rows of the table by file."""
    failed = Listing(str(folder), str(output), **options).run()
    with open(output / "acquisitions.tsv", newline="") as file:
        return failed, {row["file"].split("sub-01_")[1]: row for row in csv.DictReader(file, delimiter="\t")}


def test_every_scan_has_a_row_with_value_origin_and_remark_of_every_field(tmp_path, capsys):
    failed, rows = run(study(tmp_path / "in", {**SCANS, **UNUSABLE, **BROKEN}), tmp_path / "out")
    assert failed == 3 and len(rows) == 7
    mprage = rows["T1w.nii.gz"]
    assert (mprage["sequence"], mprage["confidence"]) == ("mprage", "high") and "tfl" in mprage["evidence"]
    assert (mprage["te"], mprage["te_origin"], mprage["te_remark"]) == ("0.00316", "given", "n/a")
    assert (mprage["echo_spacing"], mprage["echo_spacing_remark"]) == ("0.00632", "2 x EchoTime")
    assert rows["T2w.nii.gz"]["flip_angle"] == "n/a" and "160" in rows["T2w.nii.gz"]["flip_angle_remark"]
    assert {f"{name}{part}" for name in FIELDS for part in ("", "_origin", "_remark")} <= mprage.keys()
    assert all(None not in row.values() and None not in row for row in rows.values())
    text = capsys.readouterr().out
    assert all(f"sub-01_{name}" in text for name in (*SCANS, *UNUSABLE, *BROKEN))


def test_what_is_wrong_stands_in_the_row_and_below_the_table(tmp_path, capsys):
    _, rows = run(study(tmp_path / "in", {**SCANS, **UNUSABLE, **BROKEN}), tmp_path / "out")
    assert rows["FLAIR.nii.gz"]["problem"] == "no RepetitionTime, InversionTime"
    assert rows["PDw.nii.gz"]["problem"] == "EchoTime 12" and "0.012" in rows["PDw.nii.gz"]["do"]
    assert "broken JSON" in rows["acq-text_T2w.nii.gz"]["problem"]
    captured = capsys.readouterr()
    assert "--protocol" in captured.out.split("To be completed")[1]
    assert "2 of 5 scans can be used" in captured.out
    assert captured.err.splitlines()[-1].startswith("error: 3 scans: found no usable acquisition; complete")


def test_scans_that_do_not_count_are_listed_and_are_no_failures(tmp_path, capsys):
    failed, rows = run(study(tmp_path / "in", SCANS), tmp_path / "out")
    assert failed == 0 and rows["T2starw.nii.gz"]["sequence"] == "spoiled_gradient_echo"
    assert rows["T2starw.nii.gz"]["used"] == "no: the suffix T2starw" and rows["T1w.nii.gz"]["used"] == "yes"
    captured = capsys.readouterr()
    assert "not used: no magnitude image (part-phase)" in captured.out and captured.err == ""


def test_what_was_assumed_is_marked_and_told_with_the_key_to_add(tmp_path, capsys):
    run(study(tmp_path / "in", SCANS), tmp_path / "out")
    table, reasons = capsys.readouterr().out.split("Derived or assumed")
    (line,) = [line.split() for line in table.splitlines() if line.startswith("sub-01_T1w")]
    assert line[3:] == ["3.16", "2400", "1000", "8?", "176?", "6.32?", "88?"]
    assert "NumberShots" in reasons and "FlipAngle 160 is not used" in reasons


@pytest.mark.parametrize("options, sequence", [({}, "turbo_spin_echo"), ({"equations": "paper"}, "paper_spin_echo")])
def test_a_protocol_and_the_published_equations_are_followed(tmp_path, options, sequence):
    failed, rows = run(study(tmp_path / "in", {"T2w": {}}), tmp_path / "out", protocol="clinical_2d", **options)
    assert failed == 0 and rows["T2w.nii.gz"]["sequence"] == sequence
    assert rows["T2w.nii.gz"]["te_remark"] == "the protocol"


def test_an_unusable_header_is_told_and_data_are_not_read(tmp_path):
    folder = study(tmp_path / "in", {"T1w": SCANS["T1w"], "T2w": SCANS["T2w"]})
    image = folder / "sub-01" / "anat" / "sub-01_T2w.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4, 5), np.float32), np.eye(4)), image)
    failed, rows = run(folder, tmp_path / "out")
    assert failed == 1 and rows["T2w.nii.gz"]["problem"].startswith("4 dimensions")
    assert rows["T2w.nii.gz"]["sequence"] == "turbo_spin_echo"


def test_an_impossible_request_is_refused_before_anything_is_written(tmp_path):
    folder = study(tmp_path / "in", SCANS)
    (tmp_path / "file").write_text("")
    for options, where in (
        ({"dataset_dir": None, "output_dir": str(tmp_path / "out")}, "dataset_dir"),
        ({"dataset_dir": str(tmp_path / "absent"), "output_dir": str(tmp_path / "out")}, str(tmp_path / "absent")),
        ({"dataset_dir": str(folder), "output_dir": str(tmp_path / "out"), "protocol": "oasis"}, "protocol"),
        ({"dataset_dir": str(folder), "output_dir": str(tmp_path / "file")}, str(tmp_path / "file")),
    ):
        with pytest.raises(UserError) as caught:
            Listing(**options).run()
        assert str(caught.value.where) == where
    assert not (tmp_path / "out").exists()


def test_the_command_ends_with_1_where_scans_are_to_be_completed(tmp_path):
    study(tmp_path / "in", {**SCANS, **UNUSABLE})
    config = ["--config_file", str(ROOT / "configs/acquisitions.json")]
    folders = ["--dataset_dir", str(tmp_path / "in"), "--output_dir", str(tmp_path / "out")]
    result = bundle_run(*config, *folders, cwd=tmp_path)
    assert result.returncode == 1, result.stderr[-2000:]
    assert result.stderr.splitlines()[-1].startswith("error: 2 scans")
    assert (tmp_path / "out" / "acquisitions.tsv").exists()

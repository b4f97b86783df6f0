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

"""Preparation of a download shaped as OASIS-3: complete sessions come out on the template's grid, and train."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from scripts.acquisition import to_sidecar
from scripts.bids import find_sessions, load_image, write_image
from scripts.commands.study import CompleteSessions
from scripts.errors import UserError
from scripts.preprocess import AlignToTemplated
from scripts.preprocess.template import template
from scripts.shard import Part
from scripts.simulate import Heads, simulate_head

from .studies import ROOT, files, workflow

SIZE = (120, 160, 96)
SHIFT = (9.0, -12.0, 7.0)
"""How far the head moved before the T2w [mm]."""
SESSIONS = {"OAS30001_MR_d0129": "T1w T2w FLAIR", "OAS30002_MR_d0007": "T1w T2w FLAIR", "OAS30003_MR_d0001": "T1w T2w"}


def prepare(folder: Path, **overrides):
    made = workflow("prepare", dataset_dir=str(folder / "raw"), output_dir=str(folder / "out"), **overrides)
    made.run()
    return made.parser.get_parsed_content("study")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A download of four sessions and what became of it. One lacks the FLAIR, one has a damaged T2w."""
    folder = tmp_path_factory.mktemp("oasis")
    for number, (session, suffixes) in enumerate(SESSIONS.items()):
        head = simulate_head(Heads(), 0, number, 4)
        name = "sub-{}_ses-{}".format(*session.split("_MR_"))
        for place, suffix in enumerate(suffixes.split(), 1):
            scan = folder / "raw" / session / f"anat{place}"
            affine = head["scan_affine"].copy()
            affine[:3, 3] += np.array(SHIFT) * (suffix == "T2w")
            image = scan / "NIFTI" / f"{name}_run-01_{suffix}.nii.gz"
            write_image(image, head["contrasts"][suffix].numpy(), affine)
            (scan / "BIDS").mkdir()
            sidecar = {**to_sidecar(head["acquisitions"][suffix]), "SeriesDescription": suffix}
            (scan / "BIDS" / f"{name}_run-01_{suffix}.json").write_text(json.dumps(sidecar))
            if session == "OAS30002_MR_d0007":
                broken = (
                    folder
                    / "raw"
                    / "OAS30004_MR_d0000"
                    / scan.name
                    / image.name.replace("30002_ses-d0007", "30004_ses-d0000")
                )
                broken.parent.mkdir(parents=True)
                broken.write_bytes(image.read_bytes()[: 1000 if suffix == "T2w" else None])
                broken.with_name(broken.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    study = prepare(folder, crop_size=SIZE)
    assert study.done == ["sub-OAS30001_ses-d0129", "sub-OAS30002_ses-d0007"]
    [(failed, error)] = study.failures.items()
    assert failed == "sub-OAS30004_ses-d0000" and "damaged or truncated" in str(error)
    return folder


def test_scans_lie_on_the_grid_of_the_template_where_its_brain_is(prepared):
    sessions = find_sessions(prepared / "out")
    assert [session.name for session in sessions] == ["sub-OAS30001_ses-d0129", "sub-OAS30002_ses-d0007"]
    for session in sessions:
        assert [scan.suffix for scan in session.contrasts] == ["FLAIR", "T1w", "T2w"]
        images = {scan.suffix: load_image(scan.path) for scan in session.contrasts}
        for image, affine in images.values():
            assert image.shape == SIZE and np.array_equal(affine[:3, :3], np.eye(3))
        start = (images["T1w"][1][:3, 3] - template().affine.numpy()[:3, 3]).astype(int)
        average = template()[0].numpy()[tuple(slice(a, a + n) for a, n in zip(start, SIZE))]
        shifts = [(0, 0, 0), *(sign * 12 * axis for axis in np.eye(3, dtype=int) for sign in (1, -1))]
        brain = average > 0.3
        alike = [
            np.corrcoef(np.roll(images["T1w"][0], shift, (0, 1, 2))[brain], average[brain])[0, 1] for shift in shifts
        ]
        assert np.argmax(alike) == 0 and alike[0] > 0.4, "of all places the one where it is like the average"


def test_the_contrasts_of_a_session_move_together_and_say_so(prepared):
    for session in find_sessions(prepared / "out"):
        said = {scan.suffix: scan.sidecar["Registration"] for scan in session.contrasts}
        matrix = {suffix: np.array(one["MatrixFromTemplateToScan"]) for suffix, one in said.items()}
        between = matrix["T2w"] @ np.linalg.inv(matrix["T1w"])
        centre = matrix["T1w"] @ [0, -17, 5, 1]
        np.testing.assert_allclose((between @ centre - centre)[:3], SHIFT, atol=3)
        assert np.array_equal(matrix["FLAIR"], matrix["T1w"]), "on the grid of the T1w: not registered"
        assert {"ReferenceToTemplate", "ScanToReference"} <= said["T2w"].keys() and "ScanToReference" not in said[
            "FLAIR"
        ]


def test_sidecars_are_carried_over(prepared):
    for session in find_sessions(prepared / "out"):
        for scan in session.contrasts:
            [source] = scan.sidecar["Sources"]
            raw = prepared / "raw" / source.removeprefix("bids:raw:")
            stated = json.loads(Path(str(raw).replace("NIFTI", "BIDS").replace(".nii.gz", ".json")).read_text())
            assert stated["SeriesDescription"] == scan.suffix and stated.items() <= scan.sidecar.items()


def test_a_second_run_makes_only_what_is_missing(prepared, monkeypatch):
    loaded, call = [], AlignToTemplated.__call__
    monkeypatch.setattr(AlignToTemplated, "__call__", lambda self, record: loaded.append(record) or call(self, record))
    before = files(prepared / "out")
    [path] = (prepared / "out" / "sub-OAS30002").rglob("*_T2w.nii.gz")
    path.unlink()
    study = prepare(prepared, crop_size=SIZE)
    assert [record["session"].name for record in loaded] == ["sub-OAS30002_ses-d0007"]
    assert files(prepared / "out") == before and list(study.failures) == ["sub-OAS30004_ses-d0000"]


def test_the_result_trains_the_published_system(prepared, tmp_path):
    names = [str(ROOT / f"configs/{name}.json") for name in ("train_vae", "paper")]
    small = {"network_def::channels": [32, 32, 32], "discriminator_def::channels": 8, "crop_size": [96, 128, -1]}
    options = {"num_slices": 2, "max_epochs": 1, "val_interval": 1, "perceptual": "spectral", **small}
    made = ConfigWorkflow(
        names, "train", logging_file=False, dataset_dir=str(prepared / "out"), runs_dir=str(tmp_path), **options
    )
    made.initialize()
    made.run()
    made.finalize()
    assert (tmp_path / "train_vae" / "model.pt").exists()
    history = (tmp_path / "train_vae" / "history.tsv").read_text().splitlines()
    assert len(history) == 2


def test_sessions_that_lack_a_scan_are_left_out_and_the_first_run_is_taken(prepared, tmp_path):
    first, second, broken = "sub-OAS30001_ses-d0129", "sub-OAS30002_ses-d0007", "sub-OAS30004_ses-d0000"
    for shard, expected in (("0/2", [first, broken]), ("1/2", [second])):
        sessions = CompleteSessions(str(prepared / "raw"), ["T2w", "T1w", "FLAIR"], part=Part(shard))
        assert [record["session"].name for record in sessions.records] == expected
        assert [scan.suffix for scan in sessions.records[0]["session"].contrasts] == ["T2w", "T1w", "FLAIR"]
    with pytest.raises(UserError, match="4 sessions, none of them with PDw; ask for other scans with --suffixes"):
        CompleteSessions(str(prepared / "raw"), ["PDw"]).records
    anat = tmp_path / "sub-01" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    for run in (2, 1):
        nib.save(
            nib.Nifti1Image(np.eye(8)[None] + np.zeros((8, 8, 8)), np.diag([9.0, 9, 9, 1])),
            anat / f"sub-01_ses-1_run-{run}_T1w.nii.gz",
        )
    [record] = CompleteSessions(str(tmp_path), ["T1w"], protocol="oasis3").records
    [scan], [ignored] = record["session"].contrasts, record["session"].ignored
    assert "run-1" in scan.path.name and "run-2" in ignored.name


def test_a_grid_without_voxels_is_refused():
    with pytest.raises(UserError, match="crop_size"):
        AlignToTemplated((160, 224, -1))

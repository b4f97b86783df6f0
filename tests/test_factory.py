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


"""The data set factory: its catalogue, and that neither shards nor kill -9 change what it makes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from scripts.tissue import REGIONS

from .studies import ROOT, files, workflow
from .test_shard import generation
from .test_training import write_label_maps

SMALL = {"simulator::resolution": 8, "contrasts": {"T1w": "MPRAGE", "acq-short_T2w": {"sequence": "spin_echo"}}}
SMALL["contrasts"]["acq-short_T2w"] |= {"te": [0.08, 0.08], "tr": [4.0, 4.0], "flip_angle": [90, 90]}


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> str:
    return str(write_label_maps(tmp_path_factory.mktemp("label_maps") / "heads"))


def described(folder: Path) -> dict[str, bytes]:
    """All files but what each shard noted of its own subjects."""
    return {name: content for name, content in files(folder).items() if not name.startswith(".catalogue/")}


def test_shards_make_one_data_set_that_describes_itself(tmp_path, heads, capsys):
    options = {"count": 3, "label_maps": heads, **SMALL}
    workflow("factory", output_dir=str(tmp_path / "whole"), **options).run()
    workflow("factory", output_dir=str(tmp_path / "shared"), shard="1/2", **options).run()
    assert "2 of 3 subjects are still to be described" in capsys.readouterr().out
    assert not (tmp_path / "shared" / "README.md").exists()
    workflow("factory", output_dir=str(tmp_path / "shared"), shard="0/2", **options).run()
    assert "an hour in this process" in capsys.readouterr().out
    assert described(tmp_path / "shared") == described(tmp_path / "whole")

    root = tmp_path / "whole"
    sums = dict(line.split("  ")[::-1] for line in (root / "sha256sums.txt").read_text().splitlines())
    of_subjects = {name for name in files(root) if "sub-" in name}
    assert sums.keys() == of_subjects and len(sums) == 3 * (2 * 2 + 4 * 2 + 1)
    assert all(hashlib.sha256((root / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())

    truth = json.loads((root / "derivatives/truth/sub-02/anat/sub-02_dseg.json").read_text())
    assert truth["SimulatedFrom"]["Index"] == 1 and truth["SimulatedFrom"]["Seed"] == 0
    assert {"Played", "Nuisances"} == truth["Contrasts"]["acq-short_T2w"].keys()
    assert truth["Contrasts"]["acq-short_T2w"]["Played"]["EchoTime"] == pytest.approx(0.08)
    assert truth["Tissue"]["white matter"][1] > truth["Tissue"]["white matter"][2] > 0
    table = pd.read_csv(root / "participants.tsv", sep="\t", index_col="participant_id")
    assert [*table.index] == ["sub-01", "sub-02", "sub-03"] and len(table.columns) == len(REGIONS)
    assert table.GM_ml["sub-02"] == truth["Measured"]["GM"] > 0
    assert json.loads((root / "participants.json").read_text()).keys() == {*table.columns}
    card = (root / "README.md").read_text()
    assert (
        "Subjects: 3; files: 39;" in card
        and "If those are of people" in card
        and '"Seed": 0' in card
        and "| GM [mL] |" in card
    )


def test_a_changed_subject_gets_new_checksums(tmp_path, heads):
    options = {"count": 1, "label_maps": heads, "output_dir": str(tmp_path), **SMALL}
    workflow("factory", **options).run()
    image = tmp_path / "sub-01/anat/sub-01_T1w.nii.gz"
    image.write_bytes(b"changed")
    workflow("factory", **options).run()
    assert f"{hashlib.sha256(b'changed').hexdigest()}  sub-01/anat/" in (tmp_path / "sha256sums.txt").read_text()
    image.unlink()
    workflow("factory", **options).run()
    assert "sub-01_T1w.nii.gz" not in (tmp_path / "sha256sums.txt").read_text()


def test_checksums_are_those_of_the_last_run_however_it_was_shared(tmp_path, heads):
    options = {"count": 2, "label_maps": heads, "output_dir": str(tmp_path), **SMALL}
    for shard in ("0/2", "1/2"):
        workflow("factory", shard=shard, **options).run()
    workflow("factory", seed=1, overwrite=True, **options).run()
    sums = dict(line.split("  ")[::-1] for line in (tmp_path / "sha256sums.txt").read_text().splitlines())
    assert all(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())


def test_generated_samples_have_a_catalogue_too(tmp_path):
    configs, options = generation(tmp_path)
    for shard in ("0/2", "1/2"):
        given = {"output_dir": str(tmp_path / "out"), "render": [], "shard": shard}
        workflow(*configs, "catalogue", **given, **options).run()
    table = pd.read_csv(tmp_path / "out" / "participants.tsv", sep="\t", index_col="participant_id")
    about = json.loads((tmp_path / "out/sub-0002/anat/sub-0002_dseg.json").read_text())
    measured = {f"{name.replace(' ', '_')}_cm2": value for name, value in about["Measured"].items()}
    assert table.loc["sub-0002"].to_dict() == pytest.approx(measured, abs=1e-3)
    assert about["GeneratedFrom"]["index"] == 1
    assert {"*_manifest.json", "sha256sums.txt"} <= {*(tmp_path / "out" / ".bidsignore").read_text().splitlines()}
    assert '"weights"' in (tmp_path / "out/sub-0001/anat/sub-0001_manifest.json").read_text()


def test_kills_change_nothing(heads):
    """A short form of the command that docs/scale.md has: two shards at once, killed twice."""
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "2", "--count", "8"]
    result = subprocess.run(
        [*command, "--options", json.dumps({"label_maps": heads, **SMALL})],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-2000:] + result.stdout
    assert result.stdout.splitlines()[-1] == "2 kills: all 113 files equal those of the undisturbed run"


def test_the_factory_simulates_as_simulate_does():
    mine, simulate = (json.loads((ROOT / f"configs/{name}.json").read_text()) for name in ("factory", "simulate"))
    assert mine["simulator"] == simulate["simulator"] | {"subjects": "@count"}
    own = {"_desc_", "subjects", "simulator", "output_dir", "run"}
    assert {key: mine[key] for key in simulate.keys() - own} == {key: simulate[key] for key in simulate.keys() - own}

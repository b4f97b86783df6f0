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

"""What is written passes the official BIDS validator."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.bids import find_maps, find_sessions
from scripts.simulate import Simulator

from .studies import CODEC, RENDER, VAE, workflow, write_study, write_weights

BESIDE_PYTHON = str(Path(sys.executable).parent)
VALIDATOR = shutil.which("bids-validator-deno") or shutil.which("bids-validator-deno", path=BESIDE_PYTHON)


def errors(folder: Path) -> list[tuple]:
    """What the validator calls an error."""
    command = [VALIDATOR, str(folder), "--format", "json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    found = json.loads(done.stdout)["issues"]["issues"]
    return [(one["code"], one.get("subCode"), one.get("location")) for one in found if one.get("severity") == "error"]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Path]:
    """A tiny output of each command."""
    if VALIDATOR is None:
        pytest.skip("needs bids-validator-deno (requirements-dev.txt), which is not installed")
    root = tmp_path_factory.mktemp("written")
    weights, scans = write_weights(root / "weights"), write_study(root / "scans", subjects=1)
    options = {"render": RENDER, "threads": 1, "device": "$torch.device('cpu')"}
    estimate = {**options, **VAE, "dataset_dir": str(scans), "weights": weights["vae"], "correlations": True}
    workflow("inference", "harmonise", output_dir=str(root / "inference"), **estimate).run()
    workflow("render", dataset_dir=str(root / "inference"), output_dir=str(root / "render"), render=RENDER).run()
    sampling = {"count": 1, "latent_size": [4, 6], "num_inference_steps": 2, **CODEC}
    made = {**options, "codec_weights": weights["codec"], "weights": weights["transformer"], **sampling}
    workflow("generate", output_dir=str(root / "generate"), **made).run()
    Simulator(root / "simulate", subjects=1, resolution=4).run()
    return {path.name: path for path in root.iterdir()} | {"truth": root / "simulate" / "derivatives" / "truth"}


@pytest.mark.parametrize("command", ["simulate", "truth", "inference", "render", "generate"])
def test_what_is_written_is_valid(written, command):
    assert errors(written[command]) == []


def test_an_error_is_seen(written, tmp_path):
    shutil.copytree(written["inference"], tmp_path / "broken")
    next((tmp_path / "broken").glob("sub-*/anat/*_T1map.json")).unlink()
    assert errors(tmp_path / "broken")


@pytest.mark.parametrize("stated, name, expected", [(True, "T1w", True), (None, "T1w", False), (None, "brain", True)])
def test_a_stripped_scan_is_called_so(tmp_path, stated, name, expected):
    plain = name == "brain"
    folder = tmp_path / "p1" if plain else tmp_path / "sub-p1" / "anat"
    folder.mkdir(parents=True)
    stem = "t1_brain" if plain else "sub-p1_T1w"
    (folder / f"{stem}.nii.gz").touch()
    if stated is not None:
        (folder / f"{stem}.json").write_text(json.dumps({"SkullStripped": stated}))
    assert find_sessions(tmp_path)[0].skull_stripped is expected


def test_maps_of_a_stripped_scan_are_called_so(tmp_path):
    root = Simulator(tmp_path / "study", subjects=1, resolution=8).run() / "derivatives" / "truth"
    assert find_maps(root)[0].skull_stripped is False
    sidecar = next(root.glob("sub-*/anat/*_T1map.json"))
    sidecar.write_text(json.dumps({"Units": "s", "SkullStripped": True}))
    assert find_maps(root)[0].skull_stripped is True

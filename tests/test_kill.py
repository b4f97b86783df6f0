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
"""kill -9 in the middle of inference and generation, then the same command again."""

import json
import time
from pathlib import Path

import nibabel as nib
import pytest

from .processes import bundle
from .studies import CODEC, INFER, RENDER, ROOT, files, workflow, write_study, write_weights


def options_of(config: str, tmp_path: Path) -> dict:
    weights = write_weights(tmp_path / "weights")
    if config == "inference":
        scans = str(write_study(tmp_path / "scans", subjects=3))
        return {"dataset_dir": scans, "weights": weights["vae"], **INFER}
    sampling = {"count": 4, "latent_size": [4, 6], "num_inference_steps": 5}
    return {"codec_weights": weights["codec"], "weights": weights["transformer"], **sampling, **CODEC}


@pytest.mark.parametrize("config", ["inference", "generate"])
def test_killed_and_run_again_equals_undisturbed(config, tmp_path):
    options = {**options_of(config, tmp_path), "render": RENDER, "threads": 1}
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    words = [word for key, value in options.items() for word in (f"--{key}", json.dumps(value).replace('"', "'"))]
    words = ["run", "--config_file", str(ROOT / f"configs/{config}.json"), *words, "--output_dir", str(cut)]
    process = bundle(*words, cwd=tmp_path)
    deadline = time.time() + 120
    while not [*cut.glob("sub-*/anat/*_manifest.json")] and time.time() < deadline and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()

    finished = {path.name for path in cut.rglob("*_manifest.json")}
    for image in cut.glob("sub-*/anat/*.nii.gz"):
        nib.load(image).get_fdata()
    workflow(config, output_dir=str(whole), device="$torch.device('cpu')", **options).run()
    complete = {path.name for path in whole.rglob("*_manifest.json")}
    assert finished < complete, "killed too late to show anything"

    workflow(config, output_dir=str(cut), device="$torch.device('cpu')", **options).run()
    assert files(cut) == files(whole)

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

"""Ctrl-C in the middle of a command, a process of its own: one line, exit code 130, nothing half written."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from .processes import bundle
from .studies import CODEC, INFER, RENDER, ROOT, write_study, write_weights
from .test_training import TINY, simulated, write_label_maps


def inference(tmp_path: Path) -> tuple[dict, str]:
    scans = str(write_study(tmp_path / "scans", subjects=8))
    options = {
        "dataset_dir": scans,
        "threads": 2,
        "weights": write_weights(tmp_path / "weights")["vae"],
        "render": RENDER,
        **INFER,
    }
    return options, "sub-*/anat/*_manifest.json"


def generate(tmp_path: Path) -> tuple[dict, str]:
    weights = write_weights(tmp_path / "weights")
    sampling = {"count": 200, "latent_size": [4, 6], "num_inference_steps": 5, "render": RENDER}
    return {"codec_weights": weights["codec"], "weights": weights["transformer"], **sampling, **CODEC}, "sub-*"


def simulate(tmp_path: Path) -> tuple[dict, str]:
    heads = str(write_label_maps(tmp_path / "heads"))
    return {"label_maps": heads, "subjects": 50, "simulator::resolution": 4}, "sub-*"


def train_vae(tmp_path: Path) -> tuple[dict, str]:
    # In the first epoch, one process simulates ahead.
    options = simulated(tmp_path) | {"max_epochs": 1000, "slices": 16, "stream::workers": 1, "slice_crop": [24, 32]}
    return {**TINY, **{key: value for key, value in options.items() if value is not None}}, "history.tsv"


@pytest.mark.parametrize("make", [inference, generate, simulate, train_vae], ids=lambda make: make.__name__)
def test_ctrl_c_ends_in_one_line_and_leaves_nothing_partial(make, tmp_path):
    options, sign = make(tmp_path)
    out = tmp_path / "out"
    words = [word for key, value in options.items() for word in (f"--{key}", json.dumps(value).replace('"', "'"))]
    config = str(ROOT / f"configs/{make.__name__}.json")
    words = ["run", "--config_file", config, *words, "--output_dir", str(out)]
    process = bundle(*words, cwd=tmp_path, errors=tmp_path / "stderr")
    deadline = time.time() + 120
    while not [*out.glob(sign)] and time.time() < deadline and process.is_alive():
        time.sleep(0.01)
    assert process.is_alive(), (tmp_path / "stderr").read_text()
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    said = (tmp_path / "stderr").read_text()
    assert process.exitcode == 130, said
    assert said.splitlines()[-1] == "interrupted: what is complete stays" and "Traceback" not in said
    assert "terminating due to exception" not in said
    # In the cache a process that is ended with its parent may leave a slice, which goes when the next run starts.
    assert not [*out.rglob(".*.partial")]

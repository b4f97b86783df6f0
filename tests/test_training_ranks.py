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

"""Two processes train one model, simulate each slice once, and end in peace."""

import atexit
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from scripts.networks import PhysicsVAE

from .processes import run_bundle, start
from .test_training import ADVERSARIAL, ROOT, TINY, command, configs, simulated, train


def torchrun(words: list[str], tmp_path: Path) -> None:
    """Runs a training on two ranks by the command that docs give."""
    watch = "import atexit, os\nif 'RANK' in os.environ:\n    tasks = '/proc/self/task'\n"
    watch += "    names = lambda: [open(f'{tasks}/{task}/comm').read() for task in os.listdir(tasks)]\n"
    watch += f"    record = lambda: open(f'{tmp_path}/threads-' + os.environ['RANK'], 'w').write(''.join(names()))\n"
    (tmp_path / "sitecustomize.py").write_text(watch + "    atexit.register(record)\n")
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "monai.bundle"]
    paths = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **paths}
    result = subprocess.run([*launch, *words], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    assert_no_threads_left(tmp_path)


def forked(words: list[str], tmp_path: Path) -> str:
    """The same in processes that need not import anything; returns what both print."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ranks = [start(rank, number, port, words, tmp_path) for number in range(2)]
    for process in ranks:
        process.join(300)
    errors = "".join((tmp_path / f"errors-{number}").read_text() for number in range(2))
    assert [process.exitcode for process in ranks] == [0, 0], errors[-3000:]
    assert_no_threads_left(tmp_path)
    return "".join((tmp_path / f"output-{number}").read_text() for number in range(2))


def rank(number: int, port: int, words: list[str], folder: Path) -> None:
    """One of the two, as torchrun starts it."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    run_bundle(words, folder, folder / f"output-{number}", folder / f"errors-{number}")
    # Otherwise a forked process leaves out what is to be done at the end of the interpreter.
    atexit._run_exitfuncs()
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    (folder / f"threads-{number}").write_text("".join(names))


def assert_no_threads_left(folder: Path) -> None:
    """As ranks end, they have no threads of their group left, which would kill them."""
    threads = [(folder / f"threads-{number}").read_text() for number in range(2)]
    assert all("python" in names and "gloo" not in names for names in threads), threads


@pytest.mark.parametrize("stage, run", [("vae", torchrun), ("ldm", forked)], ids=["vae", "ldm"])
def test_two_ranks_train_one_model(stage, run, tiny_study, tmp_path):
    """After an epoch it is the model that one process trains with batches of the same samples."""
    files = [*configs(stage), str(ROOT / "configs/multi_gpu.json")]
    torch.save(PhysicsVAE(channels=[16, 16, 16], skip_channels=[4, 4]).state_dict(), tmp_path / "vae.pt")
    # As for scans without true maps: errors of maps are means over the tissue of a rank's samples, and heads differ in
    # size. The discriminator sets in after the comparison.
    without_truth = {"loss_weights::maps": 0.0, "loss_weights::spread": 0.0, "max_epochs": 2}
    stage_1, stage_2 = ADVERSARIAL | without_truth, {"vae_weights": str(tmp_path / "vae.pt"), "max_epochs": 1}
    own = {"amp": False} | (stage_1 if stage == "vae" else stage_2)
    run(command(stage, tiny_study, tmp_path, "--config_file", str(files), overrides=own), tmp_path)
    assert (tmp_path / f"train_{stage}/model.pt").exists()
    whole = own | {"max_epochs": 1, "batch_size": 2 * TINY["batch_size"]}
    alone = train(stage, tiny_study, tmp_path / "alone", **whole)
    mine, theirs = (pd.read_csv(one / "history.tsv", sep="\t") for one in (alone, tmp_path / f"train_{stage}"))
    assert len(theirs) == own["max_epochs"]
    judged = ["val_loss", "MAE", "T1 error WM"] if stage == "vae" else ["val_loss"]
    np.testing.assert_allclose(theirs[judged].iloc[0], mine[judged].iloc[0], rtol=1e-3)


def test_two_ranks_simulate_their_slices_once(tmp_path):
    files = [str(ROOT / f"configs/{name}.json") for name in ("train_vae", "multi_gpu")]
    options = simulated(tmp_path) | {"slices": 24, "slice_crop": [24, 32], "stream::workers": 1}
    said = forked(command("vae", None, tmp_path, "--config_file", str(files), overrides=options), tmp_path)
    assert said.count("simulating 15 of 24 slices while the training runs, ahead in 1 process") == 1
    assert len(list(tmp_path.glob("slices-*/[0-9]*.npz"))) == 24 + 2

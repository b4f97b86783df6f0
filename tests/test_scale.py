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


"""Array jobs as docs/scale.md has them: SLURM's script runs as written, that of Kubernetes asks for what exists."""

import os
import shlex
import subprocess
import sys

import pytest

from scripts.commands.options import check_names, check_value

from .studies import ROOT, files
from .test_docs import literal
from .test_training import write_label_maps

SCRIPT, JOB = ROOT / "integrations/slurm/shards.sh", ROOT / "integrations/kubernetes/shards.yaml"


def submit(*arguments: str, **slurm: str) -> subprocess.CompletedProcess:
    """Runs the script as SLURM does a task of an array."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    environment |= {f"SLURM_ARRAY_TASK_{name}": value for name, value in slurm.items()}
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_a_task_of_a_slurm_array_makes_its_shard(tmp_path):
    heads, out = write_label_maps(tmp_path / "heads"), tmp_path / "out"
    options = ["--count", "3", "--label_maps", str(heads), "--simulator::resolution", "8", "--output_dir", str(out)]
    result = submit("--config_file", "configs/factory.json", *options, ID="1", COUNT="2", MIN="0", MAX="1")
    assert result.returncode == 0, result.stderr
    assert {name.split("/")[0] for name in files(out) if name.startswith("sub-")} == {"sub-02"}
    assert "2 of 3 subjects are still to be described" in result.stdout


@pytest.mark.parametrize("low, high", [("1", "2"), ("0", "7")])
def test_an_array_with_gaps_is_refused(low, high):
    result = submit("--config_file", "configs/factory.json", ID=low, COUNT="2", MIN=low, MAX=high)
    assert result.returncode == 2 and result.stderr.startswith("the array must be all numbers from 0: --array=0-63;")


def test_the_kubernetes_job_asks_for_what_exists():
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load(JOB.read_text())["spec"]
    [container] = job["template"]["spec"]["containers"]
    [script] = container["args"]
    assert job["completionMode"] == "Indexed" and f"$JOB_COMPLETION_INDEX/{job['completions']}" in script
    echoed = ["sh", "-c", f"printf '%s\\n' {script.removeprefix('exec python -m monai.bundle run')}"]
    environment = {**os.environ, "JOB_COMPLETION_INDEX": str(job["completions"] - 1)}
    words = subprocess.run(echoed, env=environment, capture_output=True, text=True, check=True).stdout.split()
    options = {name.removeprefix("--"): literal(value) for name, value in zip(words[::2], words[1::2])}
    config = options.pop("config_file")
    check_names(options, [str(ROOT / config)], ())
    for name, value in options.items():
        check_value(name, value)
    [mount] = container["volumeMounts"]
    assert options["output_dir"].startswith(mount["mountPath"])


def test_the_page_submits_these_files():
    page = (ROOT / "docs/scale.md").read_text()
    line = next(line for line in page.replace("\\\n", " ").splitlines() if line.startswith("sbatch"))
    assert str(SCRIPT.relative_to(ROOT)) in shlex.split(line) and f"kubectl apply -f {JOB.relative_to(ROOT)}" in page

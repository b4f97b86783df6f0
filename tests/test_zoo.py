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

"""The model zoo: its unit test, files beside the repository, the traced export, the model card."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from monai.apps.utils import HashCheckError
from monai.bundle import ConfigParser, download_large_files

from .processes import finished, run_bundle

ROOT = Path(__file__).resolve().parents[1]
INTEGRATION = ROOT / "integrations/zoo"
NAME = "brain_mri_physics_latent_diffusion"
CHECKOUT = Path(os.environ.get("MODEL_ZOO", ROOT / "runs/model-zoo"))
SHIPPED = sorted(path for folder in ("configs", "docs", "models", "scripts") for path in (ROOT / folder).rglob("*"))
ZOO_LIMIT = 25 * 2**20
"""Largest file that the zoo takes without a download."""
SECTIONS = (
    "### Authors",
    "### Tags",
    "## Model Description",
    "## Data",
    "#### Preprocessing",
    "## Performance",
    "## Additional Usage Steps",
    "## System Configuration",
    "## Limitations",
    "## Citation Info",
    "## References",
)
"""Of the zoo's docs/readme_template.md, in its order."""


def run(*command: str | Path, cwd: Path) -> str:
    """Runs Python; returns what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def shipped_network() -> torch.nn.Module:
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs/inference.json"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(ROOT / "models/model.pt", weights_only=True))
    return network.eval()


def write_large_files(bundle: Path, published: Path, digest: str) -> Path:
    """A bundle whose models/model.pt is to be downloaded; returns that path."""
    entry = {"path": "models/model.pt", "url": published.as_uri(), "hash_val": digest, "hash_type": "sha256"}
    bundle.mkdir()
    (bundle / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}))
    return bundle / "models/model.pt"


@pytest.fixture(scope="module")
def traced(tmp_path_factory) -> torch.jit.ScriptModule:
    """The export that docs/zoo.md gives, by its own words, of the shipped weights."""
    [command] = re.findall(r"python -m monai\.bundle (ckpt_export.*?)\n```", (ROOT / "docs/zoo.md").read_text(), re.S)
    exported = tmp_path_factory.mktemp("traced") / "model.ts"
    words = shlex.split(command.replace("runs/model.ts", str(exported)).replace("\\\n", ""))
    done = finished(run_bundle, words, ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.jit.load(exported)


def test_the_unit_test_for_the_zoo_passes(tmp_path):
    """As it lies there, from the zoo's root."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / NAME).symlink_to(ROOT)
    test = Path(shutil.copy(INTEGRATION / f"test_{NAME}.py", tmp_path))
    assert "\nOK" in run(test, cwd=tmp_path)


@pytest.mark.skipif(not (CHECKOUT / "ci/verify_bundle.py").is_file(), reason="needs a checkout of the zoo: MODEL_ZOO")
def test_the_checks_of_the_zoo_pass(shared, tmp_path):
    schema = shared / "schema/meta_schema_20240725.json"
    # The unit test is run above.
    checks = ("schema", "bundle", "isort", "black", "flake8")
    output = run(INTEGRATION / "verify.py", "--zoo", CHECKOUT, "--schema", schema, "--checks", *checks, cwd=tmp_path)
    assert output.count("verified correctly") == 5 and "all checks passed" in output


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 160, 192), (3, 3, 45, 101)])
def test_the_traced_export_is_the_network(traced, shape):
    image = 2 * torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        expected = shipped_network()(image)
        torch.testing.assert_close(traced(image), expected)


def test_the_traced_export_takes_three_contrasts(traced):
    with pytest.raises(RuntimeError, match="shape of the mask"):
        traced(torch.zeros(1, 2, 64, 64))


def test_files_too_large_for_the_zoo_are_listed_with_their_digest():
    listed = yaml.safe_load((ROOT / "large_files.yml").read_text())["large_files"]
    assert all(entry["hash_type"] == "sha256" and len(entry["hash_val"]) == 64 and entry["url"] for entry in listed)
    large = {str(path.relative_to(ROOT)) for path in SHIPPED if path.is_file() and path.stat().st_size > ZOO_LIMIT}
    assert large <= {entry["path"] for entry in listed}


def test_monai_accepts_the_list_of_large_files_as_it_is(tmp_path):
    shutil.copy(ROOT / "large_files.yml", tmp_path)
    download_large_files(str(tmp_path))


def test_weights_published_elsewhere_are_downloaded(tmp_path):
    published = Path(shutil.copy(ROOT / "models/model.pt", tmp_path / "published.pt"))
    content = published.read_bytes()
    weights = write_large_files(tmp_path / "bundle", published, hashlib.sha256(content).hexdigest())
    download_large_files(str(tmp_path / "bundle"))
    assert weights.read_bytes() == content


def test_a_damaged_download_is_refused(tmp_path):
    published = tmp_path / "published.pt"
    published.write_bytes(b"damaged")
    write_large_files(tmp_path / "bundle", published, hashlib.sha256(b"intact").hexdigest())
    with pytest.raises(HashCheckError):
        download_large_files(str(tmp_path / "bundle"))


def test_the_model_card_follows_the_template():
    lines = (ROOT / "docs/README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line in SECTIONS] == list(SECTIONS)


def test_the_licence_of_the_data_names_what_the_weights_were_made_of():
    licence = (ROOT / "docs/data_license.txt").read_text(encoding="utf-8")
    assert all(source in licence for source in ("SynthSeg", "Apache License", "ICBM 152", "nilearn"))

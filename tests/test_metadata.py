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

"""The bundle's metadata, pins and files against what MONAI's tools and model zoo demand."""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ignite.engine import Engine
from monai.bundle import ConfigWorkflow, verify_metadata
from monai.handlers import StatsHandler

from .processes import finished, redirect

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.json"))
SOURCES = sorted(path for folder in ("scripts", "tests") for path in (ROOT / folder).rglob("*.py"))
ZOO_LIMIT = 25 * 2**20
"""Largest file that the model zoo takes without a download."""
LICENCE_HEADER = """\
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
"""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def metadata() -> dict:
    return json.loads((ROOT / "configs/metadata.json").read_text(encoding="utf-8"))


def pins(name: str) -> dict[str, str]:
    """Package -> version of a requirements file in which every line is an exact pin."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def strings(node: object) -> Iterator[str]:
    """Every string value inside a parsed JSON document."""
    if isinstance(node, str):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from strings(child)


def test_metadata_follows_the_schema(shared):
    schema = shared / "schema/meta_schema_20240725.json"
    verify_metadata(meta_file=str(ROOT / "configs/metadata.json"), filepath=str(schema))


def test_metadata_names_the_schema_it_follows(metadata):
    assert metadata["schema"].endswith("/meta_schema_20240725.json")


def test_version_is_in_the_changelog(metadata):
    assert metadata["version"] in metadata["changelog"]


def test_metadata_and_requirements_pin_the_same_versions(metadata):
    core = {"torch": "pytorch_version", "monai": "monai_version", "numpy": "numpy_version"}
    stated = {name: metadata[key] for name, key in core.items()} | metadata["required_packages_version"]
    assert stated == pins("requirements.txt")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_plain_names_and_plain_versions(name):
    for package, version in pins(name).items():
        assert re.fullmatch(r"[A-Za-z0-9-]+", package) and re.fullmatch(r"\d+(\.\d+)+", version), (package, version)


def test_network_has_one_input_image_and_one_output_pred(metadata):
    network = metadata["network_data_format"]
    assert list(network["inputs"]) == ["image"] and list(network["outputs"]) == ["pred"]


def test_every_channel_is_described(metadata):
    for tensors in metadata["network_data_format"].values():
        for tensor in tensors.values():
            assert list(tensor["channel_def"]) == [str(c) for c in range(tensor["num_channels"])]


def log(files: list[Path], output: Path, errors: Path) -> None:
    """A short training in a process of its own."""
    redirect(output, errors)
    config_file, meta_file, logging_file = map(str, files)
    ConfigWorkflow(config_file=config_file, meta_file=meta_file, logging_file=logging_file)
    engine = Engine(lambda engine, batch: 0.5)
    StatsHandler(output_transform=lambda output: output).attach(engine)
    engine.run([0])
    logging.getLogger("scripts.room").info("a room speaks")


def test_each_log_line_is_printed_once_to_stderr_and_engines_are_quiet(tmp_path):
    config = tmp_path / "empty.json"
    config.write_text("{}")
    arguments = [config, ROOT / "configs/metadata.json", ROOT / "configs/logging.conf"]
    done = finished(log, arguments)
    assert done.returncode == 0, done.stderr
    for line, times in {"Loss: 0.5": 1, "a room speaks": 1, "Epoch[1] Complete": 0}.items():
        assert (done.stdout.count(line), done.stderr.count(line)) == (0, times), line


def test_large_files_are_listed():
    assert isinstance(yaml.safe_load((ROOT / "large_files.yml").read_text())["large_files"], list)


@pytest.mark.parametrize(
    "name", ["model.pt", "codec.pt", "model_ldm.pt", "coarse.pt", "model_heads.pt", "model_refining.pt"]
)
def test_the_model_card_names_the_shipped_weights(name):
    weights = ROOT / "models" / name
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert f"`{name}` {digest}" in (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert weights.stat().st_size <= ZOO_LIMIT


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_source_starts_with_the_licence_header(path):
    assert path.read_text(encoding="utf-8").startswith(LICENCE_HEADER)


@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_config_is_indented_by_four(path):
    depth = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        brackets = re.sub(r'"(\\.|[^"\\])*"', "", line)
        leading = len(re.match(r"[\s}\]]*", brackets)[0].strip().replace(" ", ""))
        assert len(line) - len(line.lstrip()) == 4 * (depth - leading), f"line {number}: {line}"
        depth += len(re.findall(r"[{\[]", brackets)) - len(re.findall(r"[}\]]", brackets))


@pytest.mark.parametrize("path", CONFIGS, ids=relative)
def test_expressions_hold_one_idea(path):
    expressions = [text for text in strings(json.loads(path.read_text(encoding="utf-8"))) if text.startswith("$")]
    assert [text for text in expressions if len(text) > 100] == []

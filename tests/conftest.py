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

import os
import signal
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(ROOT))
os.environ["MPLBACKEND"] = "Agg"
torch.set_num_threads(1)
# A shell that runs the tests in the background hands on that Ctrl-C is ignored, and tests of Ctrl-C start programs.
signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = [
    "test_posterior_kernel",
    "test_training",
    "test_training_ranks",
    "test_zoo",
    "test_console_browser",
    "test_training_slices",
    "test_generation",
    "test_inference",
    "test_kill",
    "test_prepare",
]
"""Files that take more than 20 s, which start first: at the end, one worker would wait for another's.

The first one compiles the sums of the posterior, so that no other worker compiles them at the same time.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def bundle_root() -> Path:
    """Root of the bundle."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of third-party development data beside the bundle; tests that need it skip without it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("needs the development data in ../shared, which is absent")
    return path


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four simulated subjects at 4 mm, with true maps."""
    from scripts.simulate import Simulator

    return Simulator(tmp_path_factory.mktemp("study") / "bids", subjects=4, resolution=4).run()


@pytest.fixture
def scans(tmp_path):
    """Two tiny subjects."""
    from .studies import write_study

    return write_study(tmp_path / "in", subjects=2)


@pytest.fixture
def infer(tmp_path, scans):
    """Runs inference with a tiny network into ``out`` and returns that folder."""
    from .studies import INFER, RENDER, workflow, write_weights

    weights = write_weights(tmp_path / "weights")["vae"]

    def run(output: str = "out", **overrides):
        options = {"dataset_dir": str(scans), "weights": weights, "render": RENDER, "threads": 1, **INFER, **overrides}
        made = workflow("inference", output_dir=str(tmp_path / output), device="$torch.device('cpu')", **options)
        made.run()
        run.failures = made.parser.get_parsed_content("study").failures
        return tmp_path / output

    return run


@pytest.fixture
def estimates(monkeypatch):
    """Counts the volumes that a network sees."""
    from scripts.networks.inferers import MapInferer

    calls, original = [], MapInferer.__call__
    monkeypatch.setattr(MapInferer, "__call__", lambda *a, **k: calls.append(1) or original(*a, **k))
    return calls

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
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(ROOT))
os.environ["MPLBACKEND"] = "Agg"
torch.set_num_threads(1)


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

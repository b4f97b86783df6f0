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

"""MONAI Label itself with this bundle, where integrations/monailabel has made its environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = Path(os.environ.get("MONAILABEL_ENVIRONMENT", ROOT / "runs/monailabel"))


@pytest.mark.skipif(
    not (ENVIRONMENT / "ready").exists(), reason="needs integrations/monailabel/round_trip.py --environment"
)
def test_monai_label_answers_and_refuses(tmp_path):
    command = [sys.executable, ROOT / "integrations/monailabel/round_trip.py", "--environment", ENVIRONMENT]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert result.stdout.endswith("round trip complete\n")

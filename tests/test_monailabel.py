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

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.hostile import ADDRESSES, CODE, KEYS, LEFT, NODES, PATHS, WORD, placed

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "integrations/monailabel"
ENVIRONMENT = Path(os.environ.get("MONAILABEL_ENVIRONMENT", ROOT / "runs/monailabel"))
WITHOUT_SERVER = pytest.mark.skipif(
    not (ENVIRONMENT / "ready").exists(), reason="needs integrations/monailabel/round_trip.py --environment"
)
LONGEST_ANSWER = 1500


@WITHOUT_SERVER
def test_monai_label_answers_and_refuses(tmp_path):
    command = [sys.executable, FOLDER / "round_trip.py", "--environment", ENVIRONMENT]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert result.stdout.endswith("round trip complete\n")


@WITHOUT_SERVER
def test_monai_label_does_nothing_for_strangers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import round_trip

    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "secret.json").write_text(json.dumps({"a": WORD, "T1w": WORD}))
    (secret / "secret.txt").write_text(WORD)
    (secret / "canary.py").write_text(f"open({str(secret / LEFT)!r}, 'w').close()\nx = 1\n")
    # The server could import it if it were asked to.
    monkeypatch.setenv("PYTHONPATH", str(secret))
    round_trip.prepare(ENVIRONMENT / "study", tmp_path / "studies")
    before = sorted(path.name for path in tmp_path.iterdir())
    with round_trip.server(ENVIRONMENT, tmp_path) as url:
        client = round_trip.Client(url, tmp_path / "studies")
        first = client.image("before the attacks", "slice", protocol="oasis3")
        for key, (name, value) in itertools.product(KEYS, (CODE | NODES | PATHS).items()):
            response, _ = client.ask("slice", {"protocol": "oasis3", key: placed(value, secret)})
            assert response.status_code in (400, 500), (key, name, response.status_code)
            assert WORD not in response.text and len(response.text) < LONGEST_ANSWER, (key, name, response.text)
            assert response.status_code == 400 or key == "device", (key, name, response.text)
            assert not (secret / LEFT).exists(), (key, name)
        for name, parameters in ADDRESSES.items():
            response, _ = client.ask("slice", {**placed(parameters, secret), "protocol": "oasis3", "output": "none"})
            assert response.status_code == 400 and len(response.text) < LONGEST_ANSWER, (name, response.text)
            assert not (secret / LEFT).exists(), name
        np.testing.assert_array_equal(client.image("after them", "slice", protocol="oasis3"), first)
    assert sorted({*before, "monaibundle", "server.log"}) == sorted(path.name for path in tmp_path.iterdir())

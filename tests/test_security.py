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

"""What SECURITY.md says is never done, read off the code that runs on what strangers send."""

import ast
import json
import os
import pickle

import pytest
import torch

from tests.studies import ROOT

SOURCES = sorted((ROOT / "scripts").rglob("*.py"))
EVALUATE = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
COMMANDS = {"system", "popen", "execv", "execvp", "spawnl", "spawnv", "import_module", "run_path", "run_module"}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "yaml"}
NETWORK = {
    "socket",
    "ssl",
    "urllib",
    "http",
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "smtplib",
    "xmlrpc",
    "webbrowser",
}


ALLOWED = {"evaluate/features.py": "torch.jit.load"}
"""File -> a call that SECURITY.md names: an extractor that the user chose."""


def broken(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and name of whatever breaks a promise."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""] if not node.level else []
        else:
            modules = []
        found += [(node.lineno, name) for name in modules if name.split(".")[0] in PICKLES | NETWORK]
        if not isinstance(node, ast.Call):
            continue
        named = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if isinstance(node.func, ast.Name):
            found += [(node.lineno, node.func.id)] if node.func.id in EVALUATE else []
        elif isinstance(node.func, ast.Attribute):
            whole = ast.unparse(node.func)
            # The library of pools is fine, its files are pickles.
            if whole == "joblib.load" or node.func.attr in COMMANDS or named.get("shell") or named.get("allow_pickle"):
                found.append((node.lineno, whole))
            if whole in ("torch.load", "torch.jit.load") and named.get("weights_only") is not True:
                found.append((node.lineno, whole))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_evaluates_unpickles_or_calls_out(path):
    found = [call for _, call in broken(ast.parse(path.read_text()))]
    allowed = ALLOWED.get(str(path.relative_to(ROOT / "scripts")))
    assert found == ([allowed] if allowed else [])


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)",
        "import pickle",
        "from urllib.request import urlopen",
        "import yaml",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "joblib.load(path)",
        "importlib.import_module(text)",
    ],
)
def test_the_rule_sees_what_it_forbids(line):
    assert broken(ast.parse(line))


def test_weights_that_would_run_code_are_refused(tmp_path):
    from scripts.errors import UserError
    from scripts.networks.weights import load_file

    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"model": Attack()}, tmp_path / "model.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack()))
    for name in ("model.pt", "plain.pt"):
        with pytest.raises(UserError, match="no readable weights"):
            load_file(tmp_path / name, "train them")
    assert not (tmp_path / "ran").exists()


def test_no_config_lets_a_server_evaluate_requests():
    for path in (ROOT / "configs").glob("*.json"):
        assert "displayable_configs" not in json.loads(path.read_text()), path.name

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

"""The house of the bundle: which room may import which, how large a file may grow, what is never written."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
SOURCES = sorted(SCRIPTS.rglob("*.py"))
FILES = [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]
MAX_LINES = 400
"""Beyond it a file surely holds two subjects. No line is to be packed to stay below it: split the subject instead."""

# Room -> rooms it may import, besides what those may import. A new room needs a row: say here what it builds on.
ROOMS = {
    "errors": set(),
    "randomness": set(),
    "files": set(),
    "parallel": set(),
    "shard": set(),
    "signal": set(),
    "tissue": set(),
    "nuisance": set(),
    "acquisition": {"signal"},
    "render": {"acquisition"},
    "bids": {"acquisition"},
    "networks": {"render", "tissue"},
    "estimate": {"networks", "bids"},
    "simulate": {"render", "bids", "nuisance", "tissue"},
    "preprocess": {"bids", "render", "tissue"},
    "augment": {"nuisance", "render"},
    "train": {"estimate", "simulate", "preprocess", "augment"},
    "console": {"render", "bids"},
    "evaluate": {"train"},
    "commands": {"train", "console", "evaluate"},
}
ANYWHERE = {"errors", "randomness", "files", "parallel", "shard"}
"""Rooms that every other may import."""
TORCH_ONLY = {"signal", "tissue", "nuisance"}
"""Rooms of plain tensor functions: no package but torch."""
SLOW = {"nilearn"}
"""Packages too slow to import before they are needed."""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(path: Path) -> str:
    """``scripts/signal/paper.py`` -> ``signal``, ``scripts/render.py`` -> ``render``."""
    return path.relative_to(SCRIPTS).parts[0].removesuffix(".py")


def imports(path: Path, tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Absolute dotted names, split at the dots, of everything imported anywhere inside ``tree``."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            yield from ((*module, alias.name) for alias in node.names)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def reachable(room: str) -> set[str]:
    """The rooms that ``room`` may import: its row of the table and, through it, theirs."""
    found, rows = set(ANYWHERE), [room]
    while rows:
        new = ROOMS[rows.pop()] - found
        found |= new
        rows += new
    return found - {room}


def test_the_table_has_a_direction():
    assert [room for room in ROOMS for other in ROOMS[room] if room in reachable(other) | {other}] == []


@pytest.mark.parametrize("path", [path for path in SOURCES if room_of(path) != "__init__"], ids=relative)
def test_a_room_imports_only_what_it_builds_on(path):
    room = room_of(path)
    assert room in ROOMS, f"give the room {room} a row in ROOMS"
    used = {name[1] for name in imports(path, parse(path)) if name[0] == "scripts" and len(name) > 1} - {room}
    assert used <= reachable(room), f"{room} may not import {sorted(used - reachable(room))}"


@pytest.mark.parametrize("path", [path for path in SOURCES if room_of(path) in TORCH_ONLY], ids=relative)
def test_plain_tensor_functions_need_only_torch(path):
    packages = {name[0] for name in imports(path, parse(path))}
    assert packages - sys.stdlib_module_names <= {"torch", "scripts"}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_slow_packages_are_imported_where_they_are_used(path):
    at_import = [node for node in parse(path).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert not {name[0] for node in at_import for name in imports(path, node)} & SLOW


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_keeps_to_one_subject(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_weights_are_loaded_as_weights_only(path):
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("weights_only") == "True", f"line {node.lineno}"


def test_every_benchmark_can_be_imported():
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        if path.name != "__main__.py":
            import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))

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

"""Commands and links of README.md and docs/ are possible ones: files, verbs, options and their values exist."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from scripts import BUNDLE_ROOT
from scripts.commands.options import check_names, check_value
from scripts.commands.options.table import OPTIONS

ROOT = Path(BUNDLE_ROOT)
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def commands(page: Path) -> list[str]:
    """The shell commands of a page, in fenced blocks of shell, lines that go on joined."""
    blocks = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def runs() -> list[tuple[str, str]]:
    found = [(page.name, line) for page in PAGES for line in commands(page) if "monai.bundle run" in line]
    return list(dict.fromkeys(found))


def literal(text: str) -> object:
    """A value of the command line as fire reads it."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@pytest.mark.parametrize("page,command", runs())
def test_a_documented_run_is_possible(page, command):
    words = shlex.split(command, comments=True)
    words = words[words.index("monai.bundle") + 1 :]
    assert words[0] == "run"
    verb = words.pop(1) if not words[1].startswith("--") else "run"
    options = {name.removeprefix("--"): literal(value) for name, value in zip(words[1::2], words[2::2])}
    files = options.pop("config_file")
    paths = [str(ROOT / name) for name in (files if isinstance(files, list) else [files])]
    config = ConfigParser.load_config_files(paths)
    assert verb in config, f"{files} has no {verb}"
    check_names(options, paths, ("args_file", "meta_file", "logging_file"))
    for name, value in options.items():
        if name in OPTIONS:
            check_value(name, value)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        if anchor and path.suffix == ".md":
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, target


def test_targets_of_make_and_modules_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for line in commands(page):
            for target in re.findall(r"^make ([a-z]+)", line):
                assert re.search(rf"^{target}:", makefile, re.M), line
            for module in re.findall(r"-m ((?:scripts|benchmarks|tests)[\w.]*)", line):
                place = ROOT / Path(*module.split("."))
                assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), line

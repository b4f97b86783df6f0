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

"""The options of configs as text: for ``--help``, and as ``docs/options.md``."""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import locate

from monai.bundle import ConfigComponent, ConfigParser

from .table import OPTIONS, TABLE, accepted, as_text

ROOT = Path(__file__).parents[3]
CONFIGS, PAGE = ROOT / "configs", ROOT / "docs" / "options.md"
ABOUT = Path(__file__).with_name("about.md")
"""What stands above the tables of the page."""


def help_text(files: Sequence[str | Path]) -> str:
    """The options of config files laid over each other: default, meaning, and what they accept."""
    config, names = ConfigParser.load_config_files([str(file) for file in files]), [Path(file).stem for file in files]
    defaults = _defaults(config, names[0])
    lines = [config.get("_desc_", ""), "Options, with their defaults:"]
    for group, rows in TABLE["options"].items():
        lines += ["", f"{group}:"] * any(name in defaults for name in rows)
        for name in filter(defaults.__contains__, rows):
            lines.append(f"  --{name}  {defaults[name]}")
            lines.append(f"      {_meaning(name, names)} Give {accepted(name)}.")
    return "\n".join(lines)


def page() -> str:
    """The text of ``docs/options.md``."""
    # Overlays, which do not run on their own, last.
    files = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in CONFIGS.glob("*.json")}
    names = sorted(files, key=lambda name: ("command_line" not in files[name], name))
    configs = {name: _defaults(files[name], name) for name in names}
    lines = [ABOUT.read_text(encoding="utf-8").rstrip()]
    for group, rows in TABLE["options"].items():
        lines += ["", f"## {group}", "", "| option | meaning | accepts | default |", "|---|---|---|---|"]
        for name, row in rows.items():
            where: dict[str, list[str]] = {}
            for config, defaults in configs.items():
                if name in defaults:
                    where.setdefault(defaults[name], []).append(config)
            default = "<br>".join(f"`{text}` ({', '.join(those)})" for text, those in where.items())
            special = [f"In {config}: {text}" for config, text in row.get("in", {}).items()]
            lines.append(f"| `{name}` | {'<br>'.join([row['means'], *special])} | {accepted(name)} | {default} |")
    return "\n".join(lines) + "\n"


def _meaning(name: str, configs: Sequence[str]) -> str:
    """What an option means where these configs lie over each other: the last that says it counts."""
    special = OPTIONS[name].get("in", {})
    return next((special[config] for config in reversed(configs) if config in special), OPTIONS[name]["means"])


def _defaults(config: Mapping, where: str) -> dict[str, str]:
    """How the defaults of a config's options read; of an argument of a node, that of its class where none is given."""
    parser, texts = ConfigParser({**config, "bundle_root": "BUNDLE"}), {}
    for name in OPTIONS:
        above, _, last = name.rpartition("::")
        if name not in config:
            node = parser.get(above) if above else None
            if ConfigComponent.is_instantiable(node):
                default = inspect.signature(locate(node["_target_"])).parameters[last].default
                texts[name] = as_text(parser.get_parsed_content(name) if name in parser else default)
            continue
        raw, node, told = config[name], ConfigComponent.is_instantiable(config[name]), OPTIONS[name].get("default", {})
        if where in told or ("any" in told and str(raw).startswith("$")):
            texts[name] = told.get(where, told.get("any"))
        elif not node:
            try:
                texts[name] = as_text(parser.get_parsed_content(name))
            except (RuntimeError, ValueError, KeyError):  # of an overlay: about what it lies over
                texts[name] = str(raw).lstrip("$")
    return texts

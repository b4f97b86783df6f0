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

"""The one table of options, ``table.json``.

A row names its kind (``is``), whose keywords are those of JSON Schema and which the row may refine; ``means`` explains
the option, ``in`` what else it means in one config, ``null`` says what null stands for where it is accepted, and
``default`` how a default reads that depends on the machine.
"""

import json
from pathlib import Path

TABLE: dict[str, dict] = json.loads(Path(__file__).with_name("table.json").read_text(encoding="utf-8"))
OPTIONS: dict[str, dict] = {
    name: {**TABLE["kinds"].get(row["is"], {}), **row}
    for group in TABLE["options"].values()
    for name, row in group.items()
}


def accepted(name: str) -> str:
    """What an option accepts, in words."""
    row = OPTIONS[name]
    words = row["title"] if "title" in row else f"one of {', '.join(map(as_text, row['enum']))}"
    unit = f" [{row['unit']}]" if "unit" in row else ""
    null = f", or null for {row['null']}" if "null" in row else ""
    return words + unit + null


def as_text(value: object) -> str:
    """A value as it is written on the command line, or in a JSON file."""
    return value if isinstance(value, str) else json.dumps(value, default=str).replace("Infinity", "inf")

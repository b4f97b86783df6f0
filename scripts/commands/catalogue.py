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


"""What a large data set says of itself: a table of its subjects, checksums of its files, a data card."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import monai
import numpy as np
import torch
from tqdm import tqdm

from ..bids import volume_column
from ..errors import UserError
from ..files import lock_folder, make_folder, writable, write_atomically
from ..shard import Part
from .study.folder import bundle_version

PARTS, SUMS, CARD = ".catalogue", "sha256sums.txt", "README.md"
"""Folder of what each shard found; file of the checksums, as ``sha256sum -c`` reads it; file of the data card."""

ABOUT = (
    "No image here was scanned: tissue values were drawn at random, and contrasts follow from MR signal equations.\n"
    "The data are made for research on methods. They say nothing about any patient, and are no basis of a medical\n"
    "decision."
)
OF_LABEL_MAPS = (
    "Shapes are deformations of the label maps that are named below. If those are of people, their terms hold for the\n"
    "shapes too."
)


class Catalogue:
    """Describes a data set that :class:`scripts.simulate.Simulator` or :class:`.study.Study` writes.

    Each process looks through its own subjects. The last one to find those of all others described writes
    ``participants.tsv``, the checksums and the data card, whose content does not depend on how the work was shared.

    Args:
        output_dir: folder of the data set.
        count: subjects of the whole data set.
        digits: of a subject's number in its name: 2 where it was simulated, 4 where it was generated.
        part: which of them are this process's.
        about: what the data set was made by and with.
        contents: what a file of each kind holds, for the card: end of its name -> meaning.
    """

    def __init__(
        self, output_dir: str, count: int, digits: int, part: Part, about: dict, contents: dict[str, str]
    ) -> None:
        self.root, self.count, self.digits, self.part = Path(output_dir), count, digits, part
        self.about, self.contents = about, contents

    def start(self) -> None:
        """Notes the time, and what is there already."""
        self.there, self.began = self._complete(), time.monotonic()

    def run(self) -> None:
        """Describes the subjects of this process, prints the throughput, and completes the catalogue if it can.

        Raises:
            UserError: when a file cannot be read or written.
        """
        made, seconds = len(self._complete() - self.there), time.monotonic() - self.began
        rate = f", {3600 * made / seconds:.4g} an hour in this process" if made else ""
        print(f"{self.root}: {made} subjects made in {seconds:.0f} s{rate}", flush=True)
        path = make_folder(self.root / PARTS) / f"{self.part.index}-of-{self.part.count}.jsonl"
        known, since = _rows([path]), path.stat().st_mtime_ns if path.exists() else 0
        rows = []
        for name in tqdm(sorted(self._complete()), "checksums", unit="subject"):
            files = self._files(name)
            named = [file.relative_to(self.root).as_posix() for file in files]
            same = name in known and [*known[name]["sha256"]] == named
            fresh = same and all(file.stat().st_mtime_ns < since for file in files)
            rows.append(known[name] if fresh else self._describe(name, files))
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows))
        with lock_folder(self.root, ".lock-catalogue", wait=True), writable(self.root):
            # The newest last: it knows best what a run with other shards, or --overwrite, has replaced.
            found = _rows(sorted((self.root / PARTS).glob("*.jsonl"), key=lambda one: one.stat().st_mtime_ns))
            names = [self._name(index) for index in range(self.count)]
            missing = [name for name in names if name not in found]
            if missing:
                print(f"{self.root}: {len(missing)} of {self.count} subjects are still to be described", flush=True)
                return
            self._write([found[name] for name in names])
        print(f"{self.root}: all {self.count} subjects are there, see {CARD}", flush=True)

    def _name(self, index: int) -> str:
        return f"sub-{index + 1:0{self.digits}d}"

    def _complete(self) -> set[str]:
        """Names of the subjects of this process that are there."""
        names = map(self._name, self.part.of(range(self.count)))
        return {name for name in names if (self.root / name).is_dir()}

    def _files(self, name: str) -> list[Path]:
        folders = [self.root / name, *self.root.glob(f"derivatives/*/{name}")]
        return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())

    def _describe(self, name: str, files: Sequence[Path]) -> dict:
        """The row of a subject: columns of the table of participants, size and checksum of each file."""
        sums, size = {}, 0
        for path in files:
            try:
                with open(path, "rb") as file:
                    sums[path.relative_to(self.root).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise UserError(path, f"no readable file ({error.strerror or error})", "see its permissions") from error
            size += path.stat().st_size
        labels = next((path for path in files if path.name.endswith("_dseg.json")), None)
        said = json.loads(labels.read_text()) if labels else {}
        unit = {"mL": "ml", "cm²": "cm2"}.get(said.get("MeasuredUnits"), "")
        columns = {"field_strength": said["FieldStrength"]} if "FieldStrength" in said else {}
        columns |= {volume_column(key, unit): round(value, 3) for key, value in said.get("Measured", {}).items()}
        return {"participant_id": name, "columns": columns, "bytes": size, "sha256": sums}

    def _write(self, rows: Sequence[dict]) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row["columns"]))
        table = [["participant_id", *columns]]
        table += [[row["participant_id"], *(str(row["columns"].get(key, "n/a")) for key in columns)] for row in rows]
        write_atomically(self.root / "participants.tsv", "".join("\t".join(line) + "\n" for line in table))
        meanings = {key: {"Description": _meaning(key)} for key in columns}
        write_atomically(self.root / "participants.json", json.dumps(meanings, indent=4) + "\n")
        sums = (f"{digest}  {file}\n" for row in rows for file, digest in row["sha256"].items())
        write_atomically(self.root / SUMS, "".join(sums))
        ignored = self.root / ".bidsignore"
        lines = ignored.read_text().splitlines() if ignored.exists() else []
        write_atomically(ignored, "".join(f"{line}\n" for line in dict.fromkeys([*lines, SUMS])))
        write_atomically(self.root / CARD, self._card(rows, columns))

    def _card(self, rows: Sequence[dict], columns: Sequence[str]) -> str:
        description = json.loads((self.root / "dataset_description.json").read_text())
        files, size = sum(len(row["sha256"]) for row in rows), sum(row["bytes"] for row in rows)
        lines = [f"# {description['Name']}", "", f"Subjects: {len(rows)}; files: {files}; {size / 1e9:.3g} GB.", ""]
        lines += [ABOUT, "", "## Files", "", "| file | content |", "|---|---|"]
        lines += [f"| `{name}` | {meaning} |" for name, meaning in self.contents.items()]
        lines += [f"| `{SUMS}` | SHA-256 of every file of a subject: `sha256sum -c {SUMS}` |", ""]
        sources = [source["URL"] for source in description.get("SourceDatasets", [])]
        lines += [f"Shapes are deformations of {', '.join(sources)}.", ""] if sources else []
        lines += [OF_LABEL_MAPS, ""] if not sources and "LabelMaps" in self.about else []
        numbers = {key: [row["columns"][key] for row in rows if key in row["columns"]] for key in columns}
        lines += (
            ["## Subjects", "", "| column | mean | sd | least | most |", "|---|---|---|---|---|"] if numbers else []
        )
        for key, values in numbers.items():
            figures = (np.mean(values), np.std(values), np.min(values), np.max(values))
            lines.append(f"| {_meaning(key)} | " + " | ".join(f"{figure:.4g}" for figure in figures) + " |")
        versions = {"bundle": bundle_version(), "torch": torch.__version__, "monai": monai.__version__}
        made = json.dumps({"count": self.count, "versions": versions, **self.about}, indent=4)
        lines += [
            "",
            "## How it was made",
            "",
            "Equal settings and versions give equal files on the same kind of machine,",
        ]
        lines += ["however the work is shared.", "", "```json", made, "```", ""]
        return "\n".join(lines)


def _rows(paths: Sequence[Path]) -> dict[str, dict]:
    """What shards found, by the name of the subject; of two about one, the later."""
    lines = (line for path in paths if path.exists() for line in path.read_text().splitlines())
    return {row["participant_id"]: row for row in map(json.loads, lines)}


def _meaning(column: str) -> str:
    """What a column holds, with its unit."""
    words = {"ml": "[mL]", "cm2": "[cm²]", "field_strength": "field strength [T]"}
    return words.get(column) or " ".join(words.get(word, word) for word in column.split("_"))

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

"""What is known of every scan of a folder: its sequence, its parameters, and where each of them is from."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..acquisition import FIELDS, UNKNOWN, Acquisition, load_protocol, sidecar_key
from ..bids import Contrast, check_image, find_scans, header_doubts, resolve_contrast
from ..errors import UserError
from ..files import write_atomically
from .dicom import nifti_folder

TABLE = "acquisitions.tsv"
COLUMNS = {
    "te": "TE",
    "tr": "TR",
    "ti": "TI",
    "flip_angle": "flip",
    "echo_train_length": "echoes",
    "echo_spacing": "spacing",
    "echoes_before_centre": "centre",
    "te_equivalent": "TE equiv.",
    "ti2": "TI 2",
    "flip_angle2": "flip 2",
    "field_strength": "tesla",
}
"""Field -> its column in what is printed."""
MILLISECONDS = ("te", "tr", "ti", "echo_spacing", "te_equivalent", "ti2")
MARKS = {"derived": "~", "assumed": "?"}
LEGEND = "times in ms, angles in degrees; ~ derived, ? assumed, no mark: as the sidecar says"
AGENT = "looks as if taken after a contrast agent, which shortens T1"
WAYS_OUT = "add the key to the sidecars where you know better"


@dataclass(frozen=True)
class Row:
    """One scan and what came of it: an acquisition, a problem, or, with a header that is unusable, both."""

    scan: Contrast
    acquisition: Acquisition | None
    problem: UserError | None
    doubts: tuple[str, ...] = ()
    """About the header: what is usable and yet may mislead."""

    @property
    def name(self) -> str:
        """Of the scan, for the reader."""
        return self.scan.where.removesuffix(".json")

    @property
    def failed(self) -> bool:
        """Whether a scan that counts for estimation cannot be used."""
        return self.problem is not None and not self.scan.unused

    @property
    def found(self) -> str:
        """The problem in short, with the key at fault; nothing where there is none."""
        if self.problem is None:
            return ""
        where = str(self.problem.where)
        key = where.removeprefix(self.scan.where).strip(": ") if where.startswith(self.scan.where) else ""
        return f"{key} {self.problem.found}".strip()

    @property
    def note(self) -> str:
        """What the reader has to know besides the acquisition."""
        if self.scan.unused:
            return f"not used: {self.scan.unused}"
        return "; ".join(filter(None, (self.found, AGENT if self.scan.post_contrast else "", *self.doubts)))


class Listing:
    """Lists the acquisitions of a folder, printed and as ``acquisitions.tsv``. Image data are not read.

    Args:
        dataset_dir: BIDS folder, or one sub-folder of images per subject, or a folder of DICOM files.
        output_dir: where the table goes.
        protocol: named protocol or file for what sidecars lack, or ``unknown``, see
            :func:`scripts.acquisition.load_protocol`.
        equations: ``exact``, or ``paper`` for the published ones.
        nifti_dir: where the images of a DICOM folder go, see :func:`scripts.commands.dicom.nifti_folder`; None for
            ``<output_dir>_nifti``.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        output_dir: str,
        protocol: str | None = None,
        equations: str = "exact",
        nifti_dir: str | None = None,
    ) -> None:
        self.dataset_dir, self.output_dir, self.protocol, self.equations = dataset_dir, output_dir, protocol, equations
        output = Path(output_dir)
        self.nifti_dir = output.with_name(f"{output.name}_nifti") if nifti_dir is None else Path(nifti_dir)

    def run(self) -> int:
        """Lists all scans; returns how many of those that count for estimation cannot be used.

        Raises:
            UserError: for an absent folder, one without images, an unknown protocol, or an output that cannot be
                written. What is wrong with a scan stands in its row.
        """
        if self.dataset_dir is None:
            raise UserError("dataset_dir", "no folder", "name one with --dataset_dir")
        protocol = load_protocol(self.protocol)
        folder = nifti_folder(self.dataset_dir, self.nifti_dir)
        rows = [examine(scan, protocol, self.equations) for scan in find_scans(folder)]
        path = write_table(Path(self.output_dir) / TABLE, folder, rows)
        print(f"{describe(rows)}\n\nevery value and where it is from: {path}", flush=True)
        failed = sum(row.failed for row in rows)
        if failed:
            do = "complete them as the listing says, or leave them out"
            print(
                f"error: {UserError(_count(failed, 'scan'), 'no usable acquisition', do)}", file=sys.stderr, flush=True
            )
        return failed


def examine(scan: Contrast, protocol: Mapping | str | None = None, equations: str = "exact") -> Row:
    """The acquisition of a scan or why it has none; arguments as :func:`scripts.bids.resolve_contrast`."""
    acquisition, problem, doubts = None, None, ()
    try:
        acquisition = resolve_contrast(scan, protocol, equations)
        doubts = header_doubts(check_image(scan.path))
    except UserError as error:
        problem = error
    return Row(scan, acquisition, problem, doubts)


def write_table(path: Path, root: Path, rows: Iterable[Row]) -> Path:
    """Writes one line per scan, whole or not at all: what it is, then value, origin and remark of every field.

    Raises:
        UserError: when the folder cannot be written.
    """
    header = ["file", "suffix", "used", "sequence", "confidence", "evidence"]
    header += [part for name in FIELDS for part in (name, f"{name}_origin", f"{name}_remark")]
    lines = [[*header, "problem", "do"], *(_cells(root, row) for row in rows)]
    text = "".join("\t".join(" ".join(cell.split()) or "n/a" for cell in line) + "\n" for line in lines)
    write_atomically(path, text)
    return path


def describe(rows: list[Row]) -> str:
    """The printed listing: all scans, why these sequences, what was derived or assumed, what has to be completed."""
    known = [row for row in rows if row.acquisition]
    fields = [name for name in COLUMNS if any(getattr(row.acquisition, name) is not None for row in known)]
    header = ["scan", "sequence", "sure", *(COLUMNS[name] for name in fields), ""]
    parts = [_align([header, *(_line(row, fields) for row in rows)]), LEGEND]

    reasons = Counter((one.sequence, one.confidence, one.evidence) for one in (row.acquisition for row in known))
    parts += _section("Why these sequences", reasons)
    origins: Counter = Counter()
    for name in COLUMNS:
        for one in (row.acquisition for row in known):
            origin = one.provenance.get(name, "unknown")
            if origin in MARKS or (origin == "unknown" and name in one.remarks):
                origins[one.sequence, sidecar_key(name, one.sequence), origin, one.remarks.get(name, "")] += 1
    parts += _section(f"Derived or assumed; {WAYS_OUT}", origins)

    problems: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.failed:
            problems.setdefault((row.found, row.problem.do), []).append(row.name)
    failed = sum(row.failed for row in rows)
    if failed:
        parts.append("To be completed")
    parts += [f"  found {found}\n  {do}\n    {_names(names)}" for (found, do), names in problems.items()]
    used = sum(not row.scan.unused for row in rows)
    last = f"{used - failed} of {_count(used, 'scan')} can be used for estimation"
    unknown = sum(row.acquisition.sequence == UNKNOWN for row in known if not (row.scan.unused or row.failed))
    if unknown:
        last += f"; {unknown} of them without a signal equation, since too little is stated: intervals will be wider"
    return "\n\n".join([*parts, last])


def _line(row: Row, fields: list[str]) -> list[str]:
    if row.acquisition is None:
        return [row.name, "not resolved", *[""] * (1 + len(fields)), row.note]
    values = (_value(row.acquisition, name) for name in fields)
    return [row.name, row.acquisition.sequence, row.acquisition.confidence, *values, row.note]


def _value(acquisition: Acquisition, name: str) -> str:
    value = getattr(acquisition, name)
    if value is None:
        return ""
    value *= 1000 if name in MILLISECONDS else 1
    return (f"{value:.4g}" if value < 1000 else f"{value:.0f}") + MARKS.get(acquisition.provenance.get(name, ""), "")


def _cells(root: Path, row: Row) -> list[str]:
    one, unused = row.acquisition, row.scan.unused
    cells = [row.scan.path.relative_to(root).as_posix(), row.scan.suffix, f"no: {unused}" if unused else "yes"]
    cells += [one.sequence, one.confidence, one.evidence] if one else [""] * 3
    for name in FIELDS:
        value = getattr(one, name, None)
        cells.append("" if value is None else f"{value:.9g}")
        cells += [one.provenance.get(name, "unknown"), one.remarks.get(name, "")] if one else [""] * 2
    return cells + [row.found, row.problem.do if row.problem else ""]


def _section(title: str, counts: Counter) -> list[str]:
    """A titled table of what occurs how often, the first column only where it changes; nothing where it is empty."""
    lines, before = [], ""
    for entry, count in sorted(counts.items(), key=lambda item: item[0][0]):
        first = "" if entry[0] == before else entry[0]
        lines.append(["", first, *entry[1:], _count(count, "scan")])
        before = entry[0]
    return [f"{title}\n\n{_align(lines)}"] if lines else []


def _align(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _names(names: list[str], most: int = 8) -> str:
    more = f", … and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"

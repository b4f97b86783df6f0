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

"""One scan that is stored twice: as several reconstructions, or once more after processing."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

from .names import stem
from .records import Contrast
from .words import PROCESSED, unprocessed

RECONSTRUCTED = ("rec", "space", "res", "den")
"""BIDS entities in which two files of one scan differ."""
SAME_TIMES = ("AcquisitionTime", "EchoTime", "RepetitionTime", "InversionTime", "EchoNumber")


def mark_copies(scans: Sequence[Contrast]) -> list[Contrast]:
    """The same scans; what is stored once more says so, so that it does not count as further evidence.

    Two files are one scan if BIDS names differ in ``rec``, ``space``, ``res`` or ``den`` alone, if plain names differ
    in words of processing alone (``t1``, ``t1_brain``), or if both sidecars state one time of acquisition with the
    same echo and inversion times. The least processed one counts.
    """
    first: dict[Hashable, str] = {}
    copies: dict[int, str] = {}
    for number, scan in sorted(enumerate(scans), key=lambda item: (_processing(item[1]), item[0])):
        if scan.unused or scan.problem:
            continue
        keys = [key for key in (_by_name(scan), _by_time(scan)) if key is not None]
        known = next((first[key] for key in keys if key in first), None)
        if known is not None:
            copies[number] = known
        for key in keys:
            first.setdefault(key, known or scan.path.name)
    return [replace(scan, copy_of=copies.get(number, "")) for number, scan in enumerate(scans)]


def _processing(scan: Contrast) -> int:
    """How much was done to a scan, as far as its name tells."""
    return sum(entity in scan.entities for entity in RECONSTRUCTED) + len(PROCESSED.findall(stem(scan.path).lower()))


def _by_name(scan: Contrast) -> Hashable:
    if stem(scan.path).startswith("sub-"):
        kept = {entity: label for entity, label in scan.entities.items() if entity not in RECONSTRUCTED}
        if PROCESSED.fullmatch(kept.get("acq", "").lower()):
            del kept["acq"]
        return scan.suffix, *sorted(kept.items())
    return scan.suffix, unprocessed(stem(scan.path))


def _by_time(scan: Contrast) -> Hashable | None:
    time = scan.sidecar.get("AcquisitionTime")
    if not isinstance(time, str) or not time.strip("0:. "):
        return None
    return scan.suffix, scan.entities.get("part", "mag"), *(str(scan.sidecar.get(key)) for key in SAME_TIMES)

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

"""The one table of labels: FreeSurfer numbers of a label map, classes of a head, regions of a written label map."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

_TABLE = json.loads(Path(__file__).with_name("labels.json").read_text(encoding="utf-8"))


class LabelClass(NamedTuple):
    """A class of a head.

    Attributes:
        labels: its FreeSurfer numbers, those of parcels among them.
        region: its name in :data:`REGIONS`.
        tissue: the row of :data:`scripts.tissue.TISSUES` with its PD, T1 and T2; None where that table has none.
        values: its PD, T1 [s] and T2 [s] by field strength [T], where they are not those of the tissue.
        fraction: its name in :data:`FRACTIONS`; None for its own.
    """

    labels: tuple[int, ...]
    region: str
    tissue: str | None = None
    values: Mapping[str, list[float]] = MappingProxyType({})
    fraction: str | None = None


def _label_class(labels: list[int], ranges: list[list[int]] = (), **others) -> LabelClass:
    parcels = (number for first, last in ranges for number in range(first, last + 1))
    return LabelClass((*labels, *parcels), **others)


REGIONS: tuple[str, ...] = tuple(_TABLE["regions"])
"""Regions of a label map that this bundle writes; the number of a region there is its place here."""
CLASSES: dict[str, LabelClass] = {name: _label_class(**entry) for name, entry in _TABLE["classes"].items()}
"""Class -> its labels, region and tissue. Air is the first."""
FRACTIONS: tuple[str, ...] = tuple(name for name, entry in CLASSES.items() if entry.fraction is None)
"""Classes that a generated head is made of, in the order of the channels of tissue fractions. Air is the first."""
FRACTION_OF: tuple[int, ...] = tuple(FRACTIONS.index(entry.fraction or name) for name, entry in CLASSES.items())
"""Number in :data:`FRACTIONS` of each of :data:`CLASSES`."""


def region_numbers(*names: str) -> dict[str, int]:
    """Name -> number of some regions in a label map that this bundle writes."""
    return {name: REGIONS.index(name) for name in names}

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

"""What a generated slice or head is asked to be like: a number, a range to draw it from, or nothing."""

import logging
from collections.abc import Mapping, Sequence

from ...acquisition import is_number
from ...errors import UserError
from ...randomness import rng

logger = logging.getLogger(__name__)
STREAM = 1
"""Second address of the conditions of a sample; its noise has none."""
UNASKED = ("none", "")
HOW = "use a number, a range such as 5:20, or none"
LARGEST = 1e6
"""Larger numbers are mistakes, which the networks would turn into maps that are not finite."""


class Conditions:
    """Conditions by name, each drawn from its range for every sample by itself: one more changes no other.

    Args:
        asked: name -> a number, ``lowest:highest``, or None or ``none`` where nothing is asked. Names are those of a
            network's conditions; all but ``position`` are areas or volumes and not negative.
        columns: likewise, of columns of a ``participants.tsv``, whose numbers may be negative; or their names alone.
        unit: of the areas or volumes, for messages.

    Raises:
        UserError: for what is no number and no range, naming the option.
    """

    def __init__(
        self, asked: Mapping[str, object], columns: Mapping[str, object] | Sequence[str] = (), unit: str = "cm²"
    ) -> None:
        columns = columns if isinstance(columns, Mapping) else dict.fromkeys(columns)
        self.columns = tuple(columns)
        units = {name: None if name == "position" else unit for name in asked}
        self.ranges = {name: _range(name, value, units.get(name)) for name, value in {**asked, **columns}.items()}

    def check(self, known: Sequence[str]) -> None:
        """Refuses what a network cannot be told.

        Raises:
            UserError: in that case.
        """
        for name, asked in self.ranges.items():
            if asked is not None and name not in known:
                does = f"knows {', '.join(known)}" if known else "knows no condition"
                do = "leave it out of --columns" if name in self.columns else f"use --{name} none"
                raise UserError(name, f"a value, and a network that {does}", do)

    def compare(self, trained: Mapping[str, tuple[float, float]]) -> None:
        """Warns of what is asked outside the range that a network was trained on.

        Args:
            trained: name of a condition -> that range.
        """
        for name, (low, high) in trained.items():
            asked = self.ranges.get(name)
            if asked is not None and not low <= asked[0] <= asked[1] <= high:
                told = f"{asked[0]:g}" if asked[0] == asked[1] else f"{asked[0]:g} to {asked[1]:g}"
                logger.warning(f"{name}: {told} is asked, but training saw {low:g} to {high:g}")

    def draw(self, seed: int, index: int) -> dict[str, float | None]:
        """What is asked of a sample; None where nothing is."""
        drawn = {}
        for number, (name, asked) in enumerate(self.ranges.items()):
            random = rng(seed, index, STREAM, number)
            drawn[name] = None if asked is None else round(float(random.uniform(*asked)), 2)
        return drawn


def _range(name: str, value: object, unit: str | None) -> tuple[float, float] | None:
    """Lowest and highest value that are asked; what has a unit of size is not negative."""
    if value is None or value in UNASKED:
        return None
    try:
        ends = [float(end) for end in value.split(":")] if isinstance(value, str) else [value]
    except ValueError:
        raise UserError(name, repr(value), HOW) from None
    if len(ends) > 2 or not all(is_number(end) for end in ends):
        raise UserError(name, repr(value), HOW)
    low, high = ends[0], ends[-1]
    if max(abs(low), abs(high)) > LARGEST:
        raise UserError(name, repr(value), f"use numbers up to {LARGEST:g}")
    if low > high:
        raise UserError(name, f"a range from {low:g} down to {high:g}", "give the lower end first")
    if unit and low < 0:
        raise UserError(name, f"{low:g} {unit}", "use numbers from 0")
    return float(low), float(high)

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

"""Families of acquisitions: a sequence and how far each of its parameters ranges in practice, to draw from."""

import json
import math
import random
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Protocol

from ..errors import UserError
from .protocols import check_keys
from .record import COUNTS, FIELDS, Acquisition, check, sequence_code

FAMILIES: dict[str, dict] = json.loads((Path(__file__).with_name("families.json")).read_text(encoding="utf-8"))
"""Name -> ``{"sequence": name, field: [lowest, highest], "field/other": [lowest, highest], ...}``, the latter for the
ratio of one field to another. SI seconds and degrees; clinical practice from 1.5 to 3 tesla."""
MAX_DRAWS = 1000


class Uniform(Protocol):
    """``random.Random``, ``numpy.random.Generator`` and ``numpy.random.RandomState`` are all such sources."""

    def uniform(self, low: float, high: float) -> float:
        """A number from ``low`` to ``high``."""


def check_family(family: Mapping, where: object) -> None:
    """Refuses what is no family, or one in whose ranges no acquisition is possible.

    Raises:
        UserError: naming ``where`` and the key.
    """
    if not isinstance(family, Mapping) or "sequence" not in family:
        raise UserError(f"family {where}", f"{family!r}", "give an object with a sequence, and a range per parameter")
    sequence_code(family["sequence"])
    for key, limits in family.items():
        if key == "sequence":
            continue
        name, _, other = key.partition("/")
        check_keys({name: limits}, FIELDS, f"family {where}")
        if other and other not in family:
            raise UserError(f"family {where}", f"{key} without {other}", f"give a range of {other}")
        pair = isinstance(limits, (list, tuple)) and len(limits) == 2
        if not pair or not all(isinstance(limit, Real) for limit in limits) or not 0 < limits[0] <= limits[1]:
            raise UserError(f"family {where}: {key}", f"{limits!r}", "give [lowest, highest], both positive")
    draw_acquisition(family, random.Random(0), where)


def draw_acquisition(family: Mapping, draw: Uniform, where: object) -> Acquisition:
    """A random acquisition of a family: every parameter log-uniform in its range, drawn again where timing forbids.

    Args:
        family: see :data:`FAMILIES`.
        draw: source of the random numbers.
        where: name of the family, for messages.

    Raises:
        UserError: when 1000 draws gave no possible acquisition.
    """
    for _ in range(MAX_DRAWS):
        acquisition = _draw(family, draw)
        try:
            check(acquisition, where)
        except UserError as error:
            refusal = error
        else:
            return acquisition
    found = f"no possible acquisition in {MAX_DRAWS} draws, the last one: {refusal}"
    raise UserError(f"family {where}", found, "narrow its ranges")


def _draw(family: Mapping, draw: Uniform) -> Acquisition:
    drawn = {key: log_uniform(draw, *limits) for key, limits in family.items() if key != "sequence"}
    fields = {key: value for key, value in drawn.items() if "/" not in key}
    for key in drawn:
        name, _, other = key.partition("/")
        if other:
            fields[name] = drawn[key] * fields[other]
    fields = {name: float(round(value)) if name in COUNTS else value for name, value in fields.items()}
    return Acquisition(family["sequence"], **fields, provenance=dict.fromkeys(fields, "given"))


def log_uniform(draw: Uniform, low: float, high: float) -> float:
    """A number whose logarithm is uniform between those of ``low`` and ``high``, both positive."""
    # Of a range of one value exactly that: logarithm and exponential would change its last digits.
    return low if low == high else math.exp(draw.uniform(math.log(low), math.log(high)))

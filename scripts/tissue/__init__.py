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

"""Tissue maps: the type of an estimate, the prior, and literature values of each tissue.

Maps are ordered PD, T1 [s], T2 [s] along the channel axis, everywhere.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UserError
from .estimate import Estimate
from .labels import CLASSES, FRACTION_OF, FRACTIONS, REGIONS, LabelClass, region_numbers

__all__ = [
    "CLASSES",
    "FRACTIONS",
    "FRACTION_OF",
    "MAPS",
    "PRIORS",
    "REGIONS",
    "SAME_FIELD",
    "TISSUES",
    "TISSUE_NAMES",
    "Estimate",
    "LabelClass",
    "TissuePrior",
    "TissueValues",
    "class_values",
    "known_tissues",
    "region_numbers",
    "tissue_values",
]

MAPS = ("PD", "T1", "T2")
SAME_FIELD = 0.05
"""Field strengths whose relative difference is at most this count as equal: scanners sold as 3 T run at 2.89 T."""


class TissueValues(NamedTuple):
    """Literature values of one tissue at one field strength; None where no source is known.

    Attributes:
        pd: proton density relative to water.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        t2_star: that of a gradient echo [s].
        sources: name of each known value above -> its citation and where in it the value stands.
    """

    pd: float | None
    t1: float | None
    t2: float | None
    t2_star: float | None
    sources: dict[str, str]


def _load() -> tuple[dict[str, str], dict[str, dict[float, TissueValues]]]:
    content = json.loads(Path(__file__).with_name("tissues.json").read_text(encoding="utf-8"))
    sources = {key: f"{source['citation']} [{source['evidence']}]" for key, source in content["sources"].items()}
    names, table = {}, {}
    for tissue, entry in content["tissues"].items():
        names[tissue], common = entry.pop("name"), {"pd": entry.pop("pd")} if "pd" in entry else {}
        table[tissue] = {float(field): _values(common | cell, sources) for field, cell in entry.items()}
    return names, table


def _values(cell: dict[str, tuple[float, str]], sources: dict[str, str]) -> TissueValues:
    values = {name: cell[name][0] if name in cell else None for name in TissueValues._fields[:-1]}
    return TissueValues(**values, sources={name: sources[source] for name, (_, source) in cell.items()})


TISSUE_NAMES, TISSUES = _load()
"""Tissue -> its name in words; tissue -> field strength [T] -> its values, some of them None."""


def tissue_values(tissue: str, field_strength: float) -> TissueValues:
    """PD, T1 and T2 of a tissue from the literature (``tissues.json``), with their sources.

    Args:
        tissue: a key of :data:`TISSUES`, such as ``WM``.
        field_strength: static field [T]; 1.5, 3 or 7 within :data:`SAME_FIELD`.

    Raises:
        UserError: for an unknown tissue, and where PD, T1 or T2 has no source at this field strength.
    """
    if tissue not in TISSUES:
        raise UserError("tissue", repr(tissue), f"use one of {', '.join(TISSUES)}")
    cells = {field: values for field, values in TISSUES[tissue].items() if None not in values[:3]}
    for field, values in cells.items():
        if abs(field_strength / field - 1) <= SAME_FIELD:
            return values
    complete = f"at {' and '.join(f'{field:g} T' for field in cells)} only" if cells else "at no field strength"
    found = f"no source for all of PD, T1 and T2 at {field_strength:g} T ({complete})"
    others = ", ".join(known_tissues(field_strength))
    raise UserError(f"tissue {tissue}", found, f"use {others}" if others else "use a field strength of 1.5, 3 or 7 T")


def class_values(name: str, field_strength: float) -> tuple[float, float, float]:
    """PD, T1 [s] and T2 [s] of one of :data:`CLASSES`; zeros for air and bone, which give no signal.

    Args:
        name: of the class.
        field_strength: static field [T]; 1.5, 3 or 7 within :data:`SAME_FIELD`.

    Raises:
        UserError: where they have no source at this field strength.
    """
    entry = CLASSES[name]
    for field, values in entry.values.items():
        if abs(field_strength / float(field) - 1) <= SAME_FIELD:
            return tuple(values)
    if entry.tissue is None and not entry.values:
        return 0.0, 0.0, 0.0
    return tissue_values(entry.tissue, field_strength)[:3]


def known_tissues(field_strength: float) -> list[str]:
    """The tissues of which PD, T1 and T2 are known at a field strength [T]."""
    return [
        tissue
        for tissue, cells in TISSUES.items()
        for field, values in cells.items()
        if abs(field_strength / field - 1) <= SAME_FIELD and None not in values[:3]
    ]


PRIORS = {"all": MAPS, "relaxation": ("T1", "T2"), "none": ()}
"""Word for a prior -> the maps that it is over."""


class TissuePrior(nn.Module):
    """Exponential bias of Lüpke et al. 2024, Eq. 6-7: ``log map = o + b`` with ``b = ln median``.

    With the L2 penalty on ``o`` this is a log-normal prior with the given medians.

    Args:
        pd_median: median of PD, in the unit of the images where gains are fixed, else relative to water. It is the bias
            of PD under any prior, since it is the unit of the images.
        t1_median: median of T1 [s].
        t2_median: median of T2 [s].
        over: ``all`` maps (the code that the authors released), ``relaxation``, T1 and T2 alone (the paper's text), or
            ``none``. T1 and T2 without a prior have no bias; maps without one have no penalty.

    Raises:
        UserError: for an unknown ``over``.
    """

    def __init__(
        self, pd_median: float = 0.8, t1_median: float = 1.0, t2_median: float = 0.1, over: str = "all"
    ) -> None:
        super().__init__()
        if over not in PRIORS:
            raise UserError("prior", repr(over), f"use one of {', '.join(PRIORS)}")
        known = torch.tensor([float(name in PRIORS[over]) for name in MAPS])
        medians = torch.tensor([pd_median, t1_median, t2_median])
        bias = torch.where((known > 0) | (torch.arange(len(MAPS)) == MAPS.index("PD")), medians.log(), 0.0)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("known", known, persistent=False)

    def forward(self, o: Tensor) -> Tensor:
        """Decoder output ``(B, 3, ...)`` -> log maps ``(B, 3, ...)`` in float32."""
        return o.float() + self.bias.view(1, 3, *[1] * (o.ndim - 2))

    def penalty(self, log_maps: Tensor) -> Tensor:
        """``sum(o^2) / B`` over the maps that the prior is over, with ``o = log maps - b``: ln-sd 1."""
        o = (log_maps - self.bias.view(1, 3, *[1] * (log_maps.ndim - 2))).transpose(0, 1).flatten(1)
        return (self.known * o.square().sum(1)).sum() / len(log_maps)

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

"""A prior of T1 from the field strength: it corrects an error of the network that all voxels share.

An error of T1 by one factor in all tissues changes weighted scans nearly as other gains would. So neither the network
nor data consistency can see it. The literature value of white matter can correct it, where the scans state their field
strength.
"""

from math import exp, log
from typing import NamedTuple

import torch
from torch import Tensor

from ..acquisition import values
from ..tissue import SAME_FIELD, Estimate, known_tissues, tissue_values
from .anchoring import AROUND, anchor

LITERATURE_SD = 0.1
"""Of ln T1 of white matter at one field strength, between methods, scanners and subjects."""
CONTRADICTION = 3.0
"""Beyond so many standard deviations the literature is not applied: the head may be an infant's, for instance."""


class FieldPrior(NamedTuple):
    """The correction of T1 and how it was found.

    Attributes:
        factor: that T1 was multiplied by; 1 where it was left as it was.
        found: T1 of white matter as the network estimated it [s]; NaN where it was not found.
        expected: that of the literature [s]; NaN where the field strength is not known.
        field_strength: which the scans state [T]; NaN where none or several.
        reason: why T1 was left as it was; empty where not.
    """

    factor: float
    found: float
    expected: float
    field_strength: float
    reason: str

    def apply(self, estimate: Estimate) -> Estimate:
        """The estimate with T1 multiplied by the factor."""
        pd, t1, t2 = estimate.log_maps.split(1, 1)
        return estimate._replace(log_maps=torch.cat([pd, t1 + log(self.factor), t2], 1))

    def to_sidecar(self) -> dict:
        """What the sidecars of the maps say about it, as plain JSON."""
        numbers = {
            "FactorOfT1": self.factor,
            "FoundT1": self.found,
            "ExpectedT1": self.expected,
            "MagneticFieldStrength": self.field_strength,
        }
        found = {key: round(value, 5) if value == value else None for key, value in numbers.items()}
        return {"FieldStrengthPrior": {"Tissue": "white matter, its mode", **found, "Reason": self.reason or None}}


def field_prior(estimate: Estimate, mask: Tensor, rows: Tensor) -> FieldPrior:
    r"""The factor of T1 that the literature suggests.

    The network's mode of white matter :math:`m`, whose ln T1 has the standard deviation :math:`s`, an error common to
    all voxels, and the literature's value :math:`l`, known to :math:`\sigma` = :data:`LITERATURE_SD`, give
    :math:`\ln factor = s^2 / (s^2 + \sigma^2) \, \ln (l / m)`.

    Args:
        estimate: of one head.
        mask: head or brain, the shape of one map.
        rows: acquisitions of the scans ``(M, A)``, whose stated field strengths must agree.
    """
    nan = float("nan")
    stated = sorted(value for value in values(rows, "field_strength").tolist() if value > 0)
    if not stated:
        return FieldPrior(1.0, nan, nan, nan, "no scan states its field strength")
    if stated[-1] > (1 + SAME_FIELD) * stated[0]:
        return FieldPrior(1.0, nan, nan, nan, f"scans at {stated[0]:g} and {stated[-1]:g} T")
    if "WM" not in known_tissues(stated[0]):
        return FieldPrior(1.0, nan, nan, stated[0], f"the literature table has no white matter at {stated[0]:g} T")
    log_maps, sd = estimate.log_maps[0], estimate.sd[0]
    expected, white_matter = tissue_values("WM", stated[0]).t1, anchor(log_maps.exp(), mask, sd)
    result = FieldPrior(1.0, white_matter.t1, expected, stated[0], "")
    if not white_matter.ok:
        return result._replace(reason=f"white matter was not found: {white_matter.reason}")
    near = (mask > 0) & ((log_maps[1] - log(white_matter.t1)).abs() < AROUND)
    near &= (log_maps[2] - log(white_matter.t2)).abs() < AROUND
    variance, error = float(sd[1][near].square().median()), log(expected / white_matter.t1)
    if abs(error) > CONTRADICTION * (variance + LITERATURE_SD**2) ** 0.5:
        return result._replace(reason="white matter found and expected contradict each other")
    return result._replace(factor=exp(variance / (variance + LITERATURE_SD**2) * error))

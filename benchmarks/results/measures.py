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

"""How good maps, their intervals and the contrasts rendered from them are."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from scripts.acquisition import Acquisition
from scripts.commands.protocol_report.identifiability import bounds, independent_prior, noise_levels
from scripts.tissue import MAPS, Estimate

from .truth import GM, TISSUES, WM, Truth

HALF_90 = 1.6449
"""Half of a 90 % interval in standard deviations."""
GAIN_SD = 0.05
"""Of ln gain in the Cramer-Rao bounds, as in the protocol report."""


class MapScore(NamedTuple):
    """One map in one tissue.

    Attributes:
        error: median of |estimate / truth - 1|.
        bias: median of estimate / truth - 1.
        absolute: median of |estimate - truth|, in the unit of the map.
        coverage: share of the voxels whose truth lies inside the 90 % interval.
        width: mean width of that interval of the logarithm.
        robust_sd: 1.4826 times the median of |ln estimate - ln truth|, the standard deviation of a normal error.
    """

    error: float
    bias: float
    absolute: float
    coverage: float
    width: float
    robust_sd: float


class Voxels(NamedTuple):
    """The voxels of one tissue, of one head or of several ``(3, N)``: ln truth, ln estimate, its standard deviation."""

    truth: Tensor
    estimate: Tensor
    sd: Tensor


def tissue_voxels(truth: Truth, estimate: Estimate) -> dict[str, Voxels]:
    """Voxels of every tissue; ln PD is relative to the median of white matter, in truth and estimate each."""
    log_truth, log_maps, sd = truth.maps.clamp_min(1e-6).log(), estimate.log_maps[0], estimate.sd[0]
    found, white = {}, truth.labels == WM
    level = torch.zeros(3, 1), torch.zeros(3, 1)
    for maps, offset in zip((log_truth, log_maps), level):
        offset[0] = maps[0][white].median()
    for name, label in TISSUES.items():
        where = truth.labels == label
        found[name] = Voxels(log_truth[:, where] - level[0], log_maps[:, where] - level[1], sd[:, where])
    return found


def pool(parts: list[Voxels]) -> Voxels:
    """The voxels of several heads as one."""
    return Voxels(*(torch.cat(column, 1) for column in zip(*parts)))


def score(voxels: Voxels) -> dict[str, MapScore]:
    """Scores of every map; NaN without any voxel."""
    scores = {}
    for name, truth, estimate, sd in zip(MAPS, *voxels):
        difference = estimate - truth
        relative = difference.exp() - 1
        inside = (difference.abs() <= HALF_90 * sd).float()
        scores[name] = MapScore(
            *(float(median.median()) if len(truth) else math.nan for median in (relative.abs(), relative)),
            float((relative * truth.exp()).abs().median()) if len(truth) else math.nan,
            float(inside.mean()),
            float(2 * HALF_90 * sd.mean()),
            1.4826 * float(difference.abs().median()) if len(truth) else math.nan,
        )
    return scores


def cramer_rao(acquisitions: list[Acquisition], gains: tuple[int, ...], tissue: Tensor, anchors: Tensor, snr: float):
    """Standard deviations of ln PD, ln T1, ln T2 ``(3,)`` that no unbiased estimate with the prior can beat.

    Args:
        acquisitions: the scans.
        gains: which gain each has.
        tissue: PD, T1, T2 ``(3,)``.
        anchors: white and grey matter ``(2, 3)``, the brighter of which sets the noise.
        snr: of every scan there.
    """
    noise = noise_levels(acquisitions, anchors.double(), snr)
    return bounds(acquisitions, tissue.double(), noise, GAIN_SD, independent_prior(), gains).sd


def medians(truth: Truth) -> dict[str, Tensor]:
    """True PD, T1, T2 ``(3,)`` in the middle of each tissue."""
    return {name: truth.maps[:, truth.labels == label].median(1).values for name, label in TISSUES.items()}


def anchors_of(values: dict[str, Tensor]) -> Tensor:
    """White and grey matter ``(2, 3)`` of :func:`medians`."""
    names = {label: name for name, label in TISSUES.items()}
    return torch.stack([values[names[WM]], values[names[GM]]])

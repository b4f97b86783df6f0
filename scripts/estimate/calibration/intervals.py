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

"""Coverage of intervals, and the factors of standard deviations that make it right."""

from statistics import NormalDist

import numpy as np
from torch import Tensor

from ...errors import UserError
from ...randomness import rng
from ...tissue import MAPS, region_numbers

LEVEL = 0.9
HALF_WIDTH = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""Of the interval of probability :data:`LEVEL`, in standard deviations."""
TISSUES = region_numbers("CSF", "GM", "WM")
"""Tissue -> its label."""


def measure(errors: Tensor, sd: Tensor, labels: Tensor, voxels: int, address: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Magnitude of the errors and standard deviations ``(2, 3, n)`` of each tissue that is there.

    Args:
        errors: of ln PD, ln T1, ln T2 ``(3, ...)``; NaN where there is no truth.
        sd: stated standard deviations ``(3, ...)``.
        labels: 1 CSF, 2 grey, 3 white matter ``(...)``.
        voxels: largest number of voxels of each tissue.
        address: of the random choice among them.
    """
    pairs, chosen = np.stack([errors.abs().flatten(1).numpy(), sd.flatten(1).numpy()]), {}
    defined = np.isfinite(pairs).all((0, 1))
    for tissue, label in TISSUES.items():
        where = ((labels == label).flatten().numpy() & defined).nonzero()[0]
        where = rng(*address, label).permutation(where)[:voxels]
        if len(where):
            chosen[tissue] = pairs[..., where]
    return chosen


def pooled(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The voxels of each tissue ``(2, 3, N)`` from all samples.

    Raises:
        UserError: where a tissue is in none.
    """
    for tissue in TISSUES:
        if not any(tissue in part for part in parts):
            raise UserError("calibration", f"no voxel of {tissue}", "give more slices, or other heads")
    return {tissue: np.concatenate([part[tissue] for part in parts if tissue in part], -1) for tissue in TISSUES}


def fitted_factors(pooled: dict[str, np.ndarray]) -> np.ndarray:
    """Factors ``(3,)`` of the standard deviations: a quantile of ``|error| / sd`` over tissues that weigh the same.

    A quantile, since a few voxels with errors of many standard deviations say nothing about the others.

    Args:
        pooled: magnitude of the errors and standard deviations ``(2, 3, n)`` of each tissue.
    """
    ratios = np.concatenate([errors / sd for errors, sd in pooled.values()], -1)
    weights = np.concatenate([np.full(x.shape[-1], 1 / x.shape[-1]) for x in pooled.values()])
    factors = []
    for ratio in ratios:
        order = ratio.argsort()
        share = weights[order].cumsum() / weights.sum()
        factors.append(ratio[order[np.searchsorted(share, LEVEL)]] / HALF_WIDTH)
    return np.array(factors)


def coverage_table(pooled: dict[str, np.ndarray], factors: dict[str, np.ndarray]) -> str:
    """Table: coverage and mean width of the intervals, before and after, of each map in each tissue.

    The width is that of the interval of ln PD, ln T1 or ln T2: .2 means about from 10 % below to 10 % above.
    """
    head = f"intervals of {LEVEL:.0%} of the log maps: coverage, mean width"
    lines = [head, "map  tissue    voxels  factor  covered before  after   width before  after"]
    for k, name in enumerate(MAPS):
        for tissue, (errors, sd) in pooled.items():
            numbers, factor = [], factors[tissue][k]
            for scaled in (sd[k], factor * sd[k]):
                numbers.append(np.mean(errors[k] <= HALF_WIDTH * scaled))
                numbers.append(np.mean(2 * HALF_WIDTH * scaled))
            before, wide, after, wider = (form.format(x) for form, x in zip(("{:.1%}", "{:.3f}") * 2, numbers))
            lines.append(
                f"{name:4} {tissue:6} {errors.shape[-1]:9} {factor:7.2f} {before:>15} {after:>6} {wide:>14} {wider:>6}"
            )
    return "\n".join(lines)

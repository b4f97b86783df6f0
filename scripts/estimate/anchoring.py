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

"""Anchoring: brings PD of a head to the scale of water by the known water content of its white matter.

Scanners have arbitrary units, so no set of scans determines the scale of PD. White matter is in every brain, is the
most uniform of its tissues, and its water content is known. T1 and T2 have an absolute scale and stay as they are.

The steps of :func:`anchor`:

1. voxels whose T1, T2 and T2 / T1 are those of white matter at any field from 0.2 to 7 T (:data:`WINDOW`,
   :data:`RATIO`), weighted by how well T1 and T2 are known;
2. modes of their density over ln T1 and ln T2, a histogram smoothed by a Gaussian (:data:`BIN`, :data:`WIDTH`); a mode
   counts from a part of the highest on (:data:`MINOR`); each is moved to the mean of what surrounds it;
3. white matter is the mode of the lowest PD, or of the shortest T1 among those within :data:`SAME_PD` of it: fat has a
   shorter T1 but more PD, grey matter more of both;
4. the mode of ln PD around it gets the literature value of white matter.

It is refused where there are too few voxels, no mode stands out, or white matter would be impossible.
"""

from math import exp, log
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..tissue import tissue_values

WINDOW = ((0.25, 1.5), (0.035, 0.135))
"""T1 and T2 [s] among which modes are looked for."""
RATIO = (0.036, 0.3)
"""T2 / T1: muscle lies below, fat above."""
LIMITS = ((0.28, 1.28), (0.038, 0.125))
"""T1 and T2 [s] that white matter may have; those of grey matter at 3 T are beyond."""
SCALES = (0.6, 1.6)
"""By how much PD may be changed; the networks and phantoms of this bundle are near the scale of water already."""
FEWEST = 200
"""Voxels in the window, and half as many around the mode."""
BIN, WIDTH = 0.03, 0.06
"""Of ln T1 and ln T2: bin of the histogram, standard deviation of the Gaussian that smooths it."""
AROUND = 0.15
"""Half the side of the box in ln T1 and ln T2 that belongs to a mode."""
MINOR = 0.2
"""Part of the highest density from which on a maximum is a mode."""
SAME_PD = 0.1
"""Relative difference of PD up to which modes may be one tissue."""
LEAST_SHARE = 0.12
"""Part of the voxels of the window that must lie around the mode: over twice what chance puts there."""


class Anchor(NamedTuple):
    """The mode of white matter, and the factor of PD that follows from it.

    Attributes:
        ok: whether PD is on the scale of water by white matter; where not, it is left as it was estimated.
        scale: of PD; 1 where not.
        pd: mode of PD in white matter before scaling; NaN, as those below, where no mode was found.
        t1: mode of T1 [s].
        t2: mode of T2 [s].
        voxels: number of voxels around the mode.
        confidence: part of the voxels of the window, by weight, that lie around the mode.
        reason: why not; empty where it is.
    """

    ok: bool
    scale: float
    pd: float
    t1: float
    t2: float
    voxels: int
    confidence: float
    reason: str

    def apply(self, maps: Tensor) -> Tensor:
        """Maps ``(3, ...)`` PD, T1, T2 with PD scaled."""
        return torch.cat([self.scale * maps[:1], maps[1:]])

    def to_sidecar(self) -> dict:
        """What the sidecars of the maps say about it, as plain JSON with times in seconds."""
        found = {"ModePD": self.pd, "ModeT1": self.t1, "ModeT2": self.t2}
        return {
            "Anchoring": {
                "Anchored": self.ok,
                "Tissue": "white matter, its mode",
                "ReferencePD": reference(),
                "ScaleOfPD": round(self.scale, 5),
                **{key: round(value, 5) if value == value else None for key, value in found.items()},
                "Voxels": self.voxels,
                "Confidence": round(self.confidence, 3),
                "Reason": self.reason or None,
            }
        }


def reference() -> float:
    """PD of white matter relative to water in the literature; it is taken not to depend on the field."""
    return tissue_values("WM", 3.0).pd


def anchor(maps: Tensor, mask: Tensor, log_sd: Tensor | None = None) -> Anchor:
    """Finds white matter in the maps of one head and the scale that gives it its PD; see the top of this file.

    Args:
        maps: PD in any unit near that of water, T1 [s], T2 [s] ``(3, ...)``.
        mask: head or brain, the shape of one map.
        log_sd: standard deviations of the logarithms of the maps ``(3, ...)``; None where all voxels are known alike.
    """
    inside = (mask > 0) & (maps > 0).all(0) & maps.isfinite().all(0)
    log_maps = maps[:, inside].detach().double().cpu().log()
    sd = torch.full_like(log_maps, 0.1) if log_sd is None else log_sd[:, inside].detach().double().cpu()
    low, high = torch.tensor(WINDOW, dtype=torch.float64).log().T[..., None]
    ratio = log_maps[2] - log_maps[1]
    fits = ((log_maps[1:] > low) & (log_maps[1:] < high)).all(0) & (ratio > log(RATIO[0])) & (ratio < log(RATIO[1]))
    fits &= sd.isfinite().all(0)
    log_maps, weight = log_maps[:, fits], 1 / (0.01 + sd[1:, fits].square().sum(0))
    if (count := int(fits.sum())) < FEWEST:
        return _refused(f"{count} voxels like white matter, {FEWEST} are needed")
    modes = [_anchor_at(log_maps, weight, mode) for mode in _modes(log_maps[1:], weight, low, high)]
    if not modes:
        return _refused("the tissues have no mode like white matter")
    least = min(mode.pd for mode in modes)
    return _judged(min((mode for mode in modes if mode.pd <= (1 + SAME_PD) * least), key=lambda mode: mode.t1))


def _refused(reason: str, mode: Anchor | None = None) -> Anchor:
    """No anchor, with the mode that was found, if any."""
    nan = float("nan")
    return (mode or Anchor(False, 1.0, nan, nan, nan, 0, 0.0, ""))._replace(ok=False, scale=1.0, reason=reason)


def _judged(mode: Anchor) -> Anchor:
    """The anchor by a mode, or why it is none."""
    for name, value, (low, high) in (("T1", mode.t1, LIMITS[0]), ("T2", mode.t2, LIMITS[1])):
        if not low < value < high:
            return _refused(f"{name} of the mode is {value:.3g} s, not between {low:g} and {high:g} s", mode)
    if mode.confidence < LEAST_SHARE:
        return _refused(f"no clear mode: {mode.confidence:.0%} of what is like white matter lies around it", mode)
    if mode.voxels < FEWEST // 2:
        return _refused(f"{mode.voxels} voxels around the mode, {FEWEST // 2} are needed", mode)
    if not SCALES[0] < mode.scale < SCALES[1]:
        return _refused(f"PD of the mode is {mode.pd:.3g}, {reference():g} expected: another unit or tissue", mode)
    return mode


def _modes(log_times: Tensor, weight: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Maxima of the density ``(K, 2)`` over ln T1 and ln T2, not at the border of the window."""
    bins = ((high - low) / BIN).ceil().long()[:, 0].tolist()
    place = ((log_times - low) / (high - low) * torch.tensor(bins)[:, None]).long()
    histogram = torch.bincount(place[0] * bins[1] + place[1], weight, bins[0] * bins[1]).view(1, 1, *bins)
    offsets = torch.arange(-8, 9, dtype=torch.float64) * BIN
    kernel = torch.exp(-0.5 * (offsets / WIDTH).square())
    density = functional.conv2d(histogram, kernel.view(1, 1, -1, 1), padding=(8, 0))
    density = functional.conv2d(density, kernel.view(1, 1, 1, -1), padding=(0, 8))
    highest = functional.max_pool2d(density, 3, 1, 1)
    maxima = ((density == highest) & (density > MINOR * density.max()))[0, 0].nonzero()
    border = (maxima == 0) | (maxima == torch.tensor(bins) - 1)
    return low.T + (maxima[~border.any(1)] + 0.5) * ((high - low)[:, 0] / torch.tensor(bins))


def _anchor_at(log_maps: Tensor, weight: Tensor, mode: Tensor) -> Anchor:
    """The anchor by a mode (ln T1, ln T2) ``(2,)``, which first moves to the mean of its surroundings (mean shift)."""
    for _ in range(20):
        near = weight * torch.exp(-0.5 * ((log_maps[1:] - mode[:, None]) / WIDTH).square().sum(0))
        mode = (near * log_maps[1:]).sum(1) / near.sum()
    around = ((log_maps[1:] - mode[:, None]).abs() < AROUND).all(0)
    log_pd, share = log_maps[0, around], weight[around]
    centre = log_pd.median()
    for _ in range(20):
        near = share * torch.exp(-0.5 * ((log_pd - centre) / WIDTH).square())
        centre = (near * log_pd).sum() / near.sum()
    t1, t2, pd = exp(mode[0]), exp(mode[1]), exp(centre)
    confidence = float(share.sum() / weight.sum())
    return Anchor(True, reference() / pd, pd, t1, t2, int(around.sum()), confidence, "")

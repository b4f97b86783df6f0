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

"""Calibration of the standard deviations after data consistency and anchoring."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ...errors import UserError
from ...randomness import rng
from ..maps import Maps
from .curve import KNOTS
from .intervals import TISSUES, coverage_table, fitted_factors, measure, pooled
from .network import load_with_covariance, report

BELOW_CENTRE = 0.4
"""Share of the slices that lie below the centre of the head, which is low in the brain."""
PURE = 0.2
"""Largest difference of ln T1 from that of the tissue where a voxel counts: of mixed voxels no single T1 is true."""


@dataclass(eq=False)
class CalibrationAfterConsistency:
    """Fits :attr:`scripts.networks.SpreadHead.after_consistency`, on heads with true maps.

    Each head is estimated from several random sets of its scans as a user's would be, with data consistency and
    anchoring, from neighbouring slices around the centre. Like the estimate, the true PD is taken relative to white
    matter. Each map gets a factor for each tissue, see :func:`scripts.estimate.calibration.recalibrate`.

    Args:
        weights: file of the state dict of the estimator's network.
        data: records of sessions with true maps and labels, see :class:`scripts.train.data.SessionDataset`.
        preprocessing: record -> volume.
        estimator: a :class:`scripts.estimate.Estimator`.
        output: file of the calibrated state dict.
        sets: sets of scans of each head.
        largest: largest number of scans of a set.
        slices: number of slices.
        seed: of the sets.
        voxels: largest number of voxels of each tissue of each estimate that count.
    """

    weights: str
    data: Dataset
    preprocessing: Callable[[dict], dict]
    estimator: Callable[..., tuple[Maps, dict]]
    output: str
    sets: int = 4
    largest: int = 4
    slices: int = 24
    seed: int = 0
    voxels: int = 2000

    def run(self) -> str:
        """Fits, writes the weights and returns a table of what it changed, which it prints.

        Raises:
            UserError: for a network without covariance, missing weights, heads without true maps, or without a tissue.
        """
        network = self.estimator.network
        load_with_covariance(network, self.weights)
        network.spread.after_consistency.fill_(1)
        measured = []
        for index, record in enumerate(tqdm(self.data.records, "estimating", unit="head")):
            volume = self.preprocessing(record)
            if not {"maps", "labels"} <= set(volume):
                do = "name a study that configs/simulate.json wrote with --dataset_dir"
                raise UserError(record["session"].name, "no true maps and labels", do)
            volume = self._slab(volume)
            measured += [self._measure(volume, index, number) for number in range(self.sets)]
        found = pooled([one for one in measured if one])
        factors = {tissue: fitted_factors({tissue: pairs}) for tissue, pairs in found.items()}
        curve = torch.from_numpy(np.stack([factors[tissue] for tissue in KNOTS], 1))
        network.spread.after_consistency.copy_(curve)
        return report(network, self.output, coverage_table(found, factors))

    def _slab(self, volume: dict) -> dict:
        """The volume's slices around the centre of its foreground."""
        heights = (volume["mask"][0] > 0).any((0, 1)).nonzero()
        first = int(heights.float().mean()) - round(BELOW_CENTRE * self.slices)
        part = slice(max(first, 0), max(first, 0) + self.slices)
        return volume | {key: volume[key][..., part] for key in ("image", "mask", "maps", "labels")}

    def _measure(self, volume: dict, index: int, number: int) -> dict[str, np.ndarray]:
        """Of one random set of the scans, see :func:`measure`; empty where white matter was not found."""
        stream, count = rng(self.seed, index, number), len(volume["acquisition"])
        chosen = sorted(stream.permutation(count)[: stream.integers(1, min(self.largest, count) + 1)].tolist())
        given = volume | {key: volume[key][chosen] for key in ("image", "acquisition", "window")}
        given["gains"] = [volume["gains"][i] for i in chosen]
        maps, about = self.estimator(given, [str(i) for i in chosen])
        if not about["Anchoring"]["Anchored"]:
            return {}
        labels, truth = volume["labels"][0], _pure(volume["maps"], volume["labels"][0])
        errors = torch.from_numpy(maps.values).log() - truth
        errors[0] -= errors[0][(labels == TISSUES["WM"]) & errors[0].isfinite()].median()
        return measure(errors, torch.from_numpy(maps.sd), labels, self.voxels, (self.seed, index, number))


def _pure(maps: Tensor, labels: Tensor) -> Tensor:
    """Log maps ``(3, ...)``, NaN where a voxel has no signal or is not clearly what its label says."""
    log_maps = maps.log()
    pure = torch.zeros_like(labels, dtype=torch.bool)
    for label in TISSUES.values():
        inside = (labels == label) & (maps.amin(0) > 0)
        if inside.any():
            pure |= inside & ((log_maps[1] - log_maps[1][inside].median()).abs() < PURE)
    return log_maps.masked_fill(~pure, torch.nan)

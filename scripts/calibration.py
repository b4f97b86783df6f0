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

"""Calibration of the standard deviations: 90 % intervals that cover 90 %, on heads nobody trained on."""

from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from .checkpoints import load_weights, save_atomically
from .errors import UserError
from .randomness import rng
from .tissue import MAPS, marginal_sd

LEVEL = 0.9
HALF_WIDTH = NormalDist().inv_cdf((1 + LEVEL) / 2)
"""Of the interval of probability :data:`LEVEL`, in standard deviations."""
TISSUES = {"CSF": 1, "GM": 2, "WM": 3}
"""Tissue -> its label."""


class Calibration:
    """Fits :attr:`scripts.networks.SpreadHead.calibration` after training.

    One factor a map scales its standard deviations so that intervals of probability :data:`LEVEL` cover that share of
    the true values, where white matter, grey matter and fluid count alike, however many voxels they have.

    Args:
        network: a :class:`scripts.networks.PhysicsVAE` with ``covariance``.
        weights: its state dict's file.
        data: samples of heads that were not trained on, with true ``maps`` and ``labels``.
        output: file of the calibrated state dict.
        voxels: largest number of voxels of each tissue of each sample that count.
    """

    def __init__(self, network, weights: str, data: Dataset, output: str, voxels: int = 2000) -> None:
        self.network, self.weights, self.data, self.output, self.voxels = network, weights, data, output, voxels

    def run(self) -> str:
        """Fits, writes the weights and returns a table of what it changed, which it prints.

        Raises:
            UserError: for a network without covariance, missing weights, or data without one of the tissues.
        """
        if self.network.spread is None:
            raise UserError("covariance", "a network without it", "train one with it, only that can be calibrated")
        do = "train the VAE first with configs/train_vae.json, or name its weights with --weights"
        load_weights(self.network, self.weights, do)
        self.network.eval()
        self.data.preload()
        found = {tissue: [] for tissue in TISSUES}
        for index in tqdm(range(len(self.data)), "estimating"):
            for tissue, errors in self._measure(self.data[index], index).items():
                found[tissue].append(errors)
        pooled = {tissue: np.concatenate(parts, -1) for tissue, parts in found.items() if parts}
        for tissue in set(TISSUES) - set(pooled):
            raise UserError("calibration", f"no voxel of {tissue}", "give more slices, or other heads")
        factors = fit(pooled)
        calibration = self.network.spread.calibration
        calibration.mul_(torch.from_numpy(factors).to(calibration))
        save_atomically(self.network.state_dict(), self.output)
        table = describe(pooled, factors)
        print(f"{table}\n{self.output}", flush=True)
        return table

    @torch.no_grad()
    def _measure(self, sample: dict[str, Tensor], index: int) -> dict[str, np.ndarray]:
        """Magnitude of the errors and standard deviations ``(2, 3, n)`` of each tissue of one sample."""
        calibration = self.network.spread.calibration
        image, rows = (sample[key][None].to(calibration.device) for key in ("image", "acquisition"))
        log_maps, spread = (x[0].cpu() for x in self.network.estimate(image, rows))
        errors = (log_maps - sample["maps"].clamp_min(1e-6).log()).abs()
        pairs = torch.stack([errors, marginal_sd(spread[None])[0]]).flatten(2)
        defined = (sample["maps"].amin(0) > 0).flatten()
        chosen = {}
        for tissue, label in TISSUES.items():
            where = ((sample["labels"][0] == label).flatten() & defined).nonzero().squeeze(1).numpy()
            where = rng(0, index, label).permutation(where)[: self.voxels]
            if len(where):
                chosen[tissue] = pairs[..., where].numpy()
        return chosen


def fit(pooled: dict[str, np.ndarray]) -> np.ndarray:
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


def describe(pooled: dict[str, np.ndarray], factors: np.ndarray) -> str:
    """Table: coverage and mean width of the intervals, before and after, of each map in each tissue.

    The width is that of the interval of ln PD, ln T1 or ln T2: .2 means about from 10 % below to 10 % above.
    """
    head = f"intervals of {LEVEL:.0%} of the log maps: coverage, mean width"
    lines = [head, "map  tissue    voxels  factor  covered before  after   width before  after"]
    for k, (name, factor) in enumerate(zip(MAPS, factors)):
        for tissue, (errors, sd) in pooled.items():
            numbers = []
            for scaled in (sd[k], factor * sd[k]):
                numbers.append(np.mean(errors[k] <= HALF_WIDTH * scaled))
                numbers.append(np.mean(2 * HALF_WIDTH * scaled))
            before, wide, after, wider = (form.format(x) for form, x in zip(("{:.1%}", "{:.3f}") * 2, numbers))
            lines.append(
                f"{name:4} {tissue:6} {errors.shape[-1]:9} {factor:7.2f} {before:>15} {after:>6} {wide:>14} {wider:>6}"
            )
    return "\n".join(lines)

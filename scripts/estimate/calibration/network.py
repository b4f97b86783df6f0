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

"""Calibration of the standard deviations that the network gives."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ...errors import UserError
from ...files import save_atomically
from ...networks.weights import load_weights
from ...tissue import Estimate
from .intervals import TISSUES, coverage_table, fitted_factors, measure, pooled

HOW_TO_TRAIN = "train the VAE first with configs/train_vae.json, or name its weights with --weights"


@dataclass(eq=False)
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

    network: torch.nn.Module
    weights: str
    data: Dataset
    output: str
    voxels: int = 2000

    def run(self) -> str:
        """Fits, writes the weights and returns a table of what it changed, which it prints.

        Raises:
            UserError: for a network without covariance, missing weights, or data without one of the tissues.
        """
        load_with_covariance(self.network, self.weights)
        self.data.preload()
        found = pooled([self._measure(self.data[i], i) for i in tqdm(range(len(self.data)), "estimating")])
        factors = fitted_factors(found)
        calibration = self.network.spread.calibration
        calibration.mul_(torch.from_numpy(factors).to(calibration))
        return report(self.network, self.output, coverage_table(found, dict.fromkeys(TISSUES, factors)))

    @torch.no_grad()
    def _measure(self, sample: dict[str, Tensor], index: int) -> dict[str, np.ndarray]:
        """Of one sample, see :func:`measure`."""
        calibration = self.network.spread.calibration
        image, rows = (sample[key][None].to(calibration.device) for key in ("image", "acquisition"))
        estimate = Estimate(*(x.cpu() for x in self.network.estimate(image, rows)))
        maps = sample["maps"]
        truth = maps.log().masked_fill(maps.amin(0) <= 0, torch.nan)
        return measure(estimate.log_maps[0] - truth, estimate.sd[0], sample["labels"][0], self.voxels, (0, index))


def load_with_covariance(network: torch.nn.Module, weights: str) -> None:
    """Loads the weights of a network with a covariance.

    Raises:
        UserError: for a network without one, or missing weights.
    """
    if network.spread is None:
        raise UserError("covariance", "a network without it", "train one with it, only that can be calibrated")
    load_weights(network, weights, HOW_TO_TRAIN)
    network.eval()


def report(network: torch.nn.Module, output: str, table: str) -> str:
    """Writes the weights and prints the table, which it returns."""
    save_atomically(network.state_dict(), output)
    print(f"{table}\n{output}", flush=True)
    return table

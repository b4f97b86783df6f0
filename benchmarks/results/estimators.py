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

"""From scans to maps with their uncertainty: the network, data consistency after it, and what needs no network."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import Tensor, nn

from scripts.acquisition import UNKNOWN, Acquisition
from scripts.estimate.anchoring import anchor
from scripts.estimate.calibration import recalibrate
from scripts.estimate.consistency import DataConsistency
from scripts.estimate.field_strength import field_prior
from scripts.networks import on_device
from scripts.networks.weights import load_weights
from scripts.preprocess import ScaleContrastsd
from scripts.tissue import Estimate, TissuePrior

from .page import ROOT
from .truth import Scans

CONFIG = ROOT / "configs" / "inference.json"
WEIGHTS = ROOT / "models" / "model.pt"
HOW_TO_TRAIN = "train it with configs/train_vae.json, or name other weights"
PRIOR_SD = (0.15, 0.45, 0.6)
"""Standard deviations of ln PD, ln T1, ln T2 of whatever a head contains, about the medians of the tissue prior."""
PRIOR, MAP, NETWORK, BOTH = "tissue prior", "MAP fit without network", "network", "network + data consistency"
"""Ways to estimate; MAP is data consistency that starts from the tissue prior."""


Estimator = Callable[[Scans], Estimate]
"""Scans of slices -> the estimate of all of them ``(1, 3, X, Y, S)``."""
Refine = Callable[[Estimate, Scans], Estimate]


class NetworkEstimator:
    """The network on one slice after the other, scaled together, and what the field strength says of T1.

    Args:
        network: with ``estimate(image (B, M, X, Y), rows (B, M, A))``.
        unknown: hide the acquisition from it.
    """

    def __init__(self, network: nn.Module, unknown: bool = False) -> None:
        self.network, self.unknown = network, unknown

    @torch.no_grad()
    def __call__(self, scans: Scans) -> Estimate:
        scaled = scale(scans.image[0], scans.mask)
        rows = unknown_rows(scans.acquisition) if self.unknown else scans.acquisition
        slices = [self.network.estimate(one[None], rows) for one in scaled.unbind(-1)]
        estimate = Estimate(*(torch.stack(parts, -1) for parts in zip(*slices)))
        return field_prior(estimate, scans.mask[0], rows[0]).apply(estimate)


def prior_estimate(scans: Scans) -> Estimate:
    """What is believed before any scan, everywhere the same."""
    shape = scans.mask.shape[1:]
    log_maps = TissuePrior()(torch.zeros(1, 3, *shape))
    return Estimate.independent(log_maps, torch.tensor(PRIOR_SD).view(1, 3, 1, 1, 1).expand(1, 3, *shape))


def refine(estimate: Estimate, scans: Scans, consistency: DataConsistency | None = None) -> Estimate:
    """Data consistency after an estimate, with the gains of the whole stack of slices.

    Slices go side by side into one image: neighbours in the stack are none in the head, and the noise of a scan is read
    from differences of neighbours.
    """
    fit = (consistency or DataConsistency())(
        Estimate(*map(_side_by_side, estimate)),
        _side_by_side(scans.image),
        scans.acquisition,
        _side_by_side(scans.mask[None]),
        scans.gains[0].tolist(),
    )
    count = scans.mask.shape[-1]
    return Estimate(*(_stacked(part, count) for part in fit.estimate))


def estimators(network: nn.Module, data_consistency: Refine = refine) -> dict[str, Estimator]:
    """The ways to estimate that are compared."""
    alone = NetworkEstimator(network)
    return {
        PRIOR: prior_estimate,
        MAP: lambda scans: data_consistency(prior_estimate(scans), scans),
        NETWORK: alone,
        BOTH: lambda scans: calibrated(data_consistency(alone(scans), scans), scans, network),
    }


def calibrated(estimate: Estimate, scans: Scans, network: nn.Module) -> Estimate:
    """The same with standard deviations as :class:`scripts.estimate.Estimator` states them."""
    white_matter = anchor(estimate.maps[0], scans.mask[0], estimate.sd[0])
    return recalibrate(estimate, white_matter.t1 if white_matter.ok else None, network.spread.after_consistency)


def _side_by_side(stack: Tensor) -> Tensor:
    """``(..., X, Y, S) -> (..., S X, Y)``."""
    return stack.movedim(-1, -3).flatten(-3, -2)


def _stacked(image: Tensor, count: int) -> Tensor:
    """``(..., S X, Y) -> (..., X, Y, S)``."""
    return image.unflatten(-2, (count, -1)).movedim(-3, -1)


def scale(image: Tensor, mask: Tensor) -> Tensor:
    """Scans ``(M, X, Y, S)`` scaled as for training and inference, by percentiles inside the mask ``(1, X, Y, S)``."""
    return ScaleContrastsd()({"image": MetaTensor(image), "mask": mask.float()})["image"].as_tensor()


def unknown_rows(rows: Tensor) -> Tensor:
    """Rows of as many scans of which nothing is known ``(..., A)``."""
    return Acquisition(UNKNOWN).to_row().to(rows).expand_as(rows)


def load_network(weights: str | Path = WEIGHTS, config: str | Path = CONFIG) -> nn.Module:
    """The network that a config of inference describes, with weights, on the CPU, in eval mode."""
    network = on_device(_read(config).get_parsed_content("network_def"), "cpu")
    load_weights(network, weights, HOW_TO_TRAIN)
    return network.eval()


def load_refine(config: str | Path = CONFIG) -> Refine:
    """Data consistency as a config of inference sets it up."""
    return partial(refine, consistency=_read(config).get_parsed_content("consistency"))


def _read(config: str | Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(config))
    return parser

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

"""Validation metrics: the paper's reconstruction metrics and the error of the maps themselves."""

import math

import torch
from ignite.exceptions import NotComputableError
from ignite.metrics import Average
from monai.metrics import MultiScaleSSIMMetric, PSNRMetric
from torch import Tensor

from ..acquisition import present
from ..tissue import MAPS, region_numbers

TISSUES = region_numbers("GM", "WM")


def reconstruction_metrics(signal: Tensor, target: Tensor, acquisition: Tensor) -> dict[str, float]:
    """MSE, MAE, PSNR and MS-SSIM of rendered against measured contrasts ``(1, M, ...)`` of one sample.

    MSE and MAE are in the unit of the target. PSNR and MS-SSIM are per contrast, with the target's maximum as range,
    averaged; MS-SSIM uses a kernel of 4, as the paper does, after division by that maximum. Contrasts without any
    signal, where a crop missed the head, say nothing: where there is no other, nothing is returned.
    """
    exists = present(acquisition) & (target.flatten(2).amax(2) > 0)
    if not exists.any():
        return {}
    signal, target = signal[exists].unsqueeze(1), target[exists].unsqueeze(1)
    difference = signal - target
    peak = target.flatten(1).amax(1).clamp_min(1e-6).view(-1, 1, *[1] * (target.ndim - 2))
    signal, target = signal / peak, target / peak
    metrics = {
        "MSE": float(difference.square().mean()),
        "MAE": float(difference.abs().mean()),
        "PSNR": float(PSNRMetric(max_val=1.0)(signal, target).mean()),
    }
    # Five scales halve the image four times.
    if min(target.shape[2:]) > 4 * 2**4:
        ssim = MultiScaleSSIMMetric(spatial_dims=target.ndim - 2, data_range=1.0, kernel_size=4)
        metrics["MS-SSIM"] = float(ssim(signal, target).mean())
    return metrics


def map_errors(log_maps: Tensor, maps: Tensor, labels: Tensor) -> dict[str, float]:
    """Median relative error of each map in white and grey matter, e.g. ``T1 error WM``, of one sample.

    Args:
        log_maps: predicted ln PD, ln T1, ln T2 ``(1, 3, ...)``.
        maps: true maps ``(1, 3, ...)``.
        labels: tissue labels ``(1, 1, ...)``, see :data:`TISSUES`.
    """
    relative = (log_maps.exp() / maps.clamp_min(1e-6) - 1).abs()
    errors = {}
    for tissue, label in TISSUES.items():
        where = labels[:, 0] == label
        for channel, name in enumerate(MAPS):
            if where.any():
                errors[f"{name} error {tissue}"] = float(relative[:, channel][where].median())
    return errors


RECONSTRUCTION = ("MSE", "MAE", "PSNR", "MS-SSIM")
"""What :func:`reconstruction_metrics` computes."""


def vae_metrics() -> dict[str, "MeanOf"]:
    """Means of all :func:`reconstruction_metrics` and :func:`map_errors`, for an evaluator's ``additional_metrics``."""
    errors = [f"{name} error {tissue}" for name in MAPS for tissue in reversed(TISSUES)]
    return {name: MeanOf(name) for name in (*RECONSTRUCTION, *errors)}


class MeanOf(Average):
    """Mean of one entry of the evaluator's outputs, a list of dictionaries, over the samples that have it.

    Args:
        name: the entry.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def iteration_completed(self, engine) -> None:
        """Adds what the last iteration put out."""
        for output in engine.state.output:
            if self.name in output:
                value = float(output[self.name])
                # NaN would count as neither better nor worse than anything.
                self.update(torch.tensor(math.inf if math.isnan(value) else value, dtype=torch.float64))

    def compute(self) -> float:
        """The mean, or NaN where no sample has the entry."""
        try:
            return float(super().compute())
        except NotComputableError:
            return math.nan

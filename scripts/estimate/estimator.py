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

"""The maps of one session from its aligned scans: network, field strength, data consistency, anchor of PD."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.transforms import generate_spatial_bounding_box
from torch import Tensor, nn

from ..bids import gain_groups
from ..errors import switch
from ..tissue import correlations, marginal_sd
from .anchoring import anchor
from .calibration import recalibrate
from .field_strength import field_prior
from .maps import Maps

INTERVAL = (
    "Standard deviation of the natural logarithm: the 90 % interval is the map times exp(-1.645 sd) to exp(1.645 sd). "
)
CALIBRATED = INTERVAL + "Calibrated on simulated heads."
REFINED = INTERVAL + "The network's is calibrated on simulated heads, what data consistency made of it is not."
UNCALIBRATED = (
    "Standard deviation of the natural logarithm: spread of {draws} draws from the latent posterior. "
    "Uncalibrated, and blind to errors of the model: not a confidence interval."
)
MARGIN = 8
"""Air around the head that the network sees [voxels]: about as much as in training, whatever the field of view."""
ACCURACY = "T1 and T2 are absolute within the standard deviations of desc-sd; PD is relative to {reference}."


class Estimator:
    """Tissue maps of one session with their uncertainty, and what is to be said about them.

    Args:
        network: the physics VAE, on its device.
        inferer: a :class:`scripts.networks.inferers.MapInferer`.
        consistency: a :class:`scripts.estimate.consistency.DataConsistency`.
        data_consistency: whether it is used; else the network's estimate stays as it is.
        correlations: also give the correlations between the errors of the maps.

    Raises:
        UserError: for a switch that is neither true nor false.
    """

    def __init__(
        self,
        network: nn.Module,
        inferer: Callable,
        consistency: Callable,
        data_consistency: bool | str = True,
        correlations: bool | str = False,
    ) -> None:
        self.network, self.inferer, self.consistency = network, inferer, consistency
        self.data_consistency = switch("data_consistency", data_consistency)
        self.correlations = switch("correlations", correlations)

    @property
    def settings(self) -> dict:
        """What maps depend on besides the scans and the weights."""
        consistency = vars(self.consistency) if self.data_consistency else False
        return {"data_consistency": consistency, "correlations": self.correlations, "amp": self.inferer.amp}

    def __call__(self, volume: dict, names: Sequence[str]) -> tuple[Maps, dict]:
        """Maps of a session, and what their sidecars say about how they came about.

        Args:
            volume: its record as :class:`scripts.preprocess.ScaleContrastsd` left it.
            names: of its scans in the sidecars.

        Raises:
            ValueError: when a map or its uncertainty is not finite.
        """
        low, high = generate_spatial_bounding_box(volume["mask"], margin=MARGIN, allow_smaller=True)
        box = (slice(None), *map(slice, low, high))
        image, inside = volume["image"].as_tensor()[box][None], volume["mask"][box] > 0
        rows = volume["acquisition"][None]
        log_maps, spread = self.inferer(image, self.network, rows, inside[None])
        field = field_prior(log_maps[0], marginal_sd(spread)[0], inside[0], rows[0])
        log_maps, fit = field.apply(log_maps), None
        if self.data_consistency:
            groups = gain_groups(volume["session"].contrasts, volume["acquisitions"])
            raw = unscaled(image, volume["window"][None])
            fit = self.consistency(log_maps, spread, raw, rows, inside[None], groups)
            log_maps, spread = fit.log_maps, fit.spread
        maps = log_maps[0].exp()
        white_matter = anchor(maps, inside[0], marginal_sd(spread)[0])
        if fit is not None and fit.gains.any() and self.network.spread is not None:
            t1 = white_matter.t1 if white_matter.ok else None
            spread = recalibrate(spread, maps[None, 1], t1, self.network.spread.after_consistency)
        about = {
            "DataConsistency": _describe(fit, white_matter.scale, names),
            **field.to_sidecar(),
            **white_matter.to_sidecar(),
            "Accuracy": ACCURACY.format(reference="white matter" if white_matter.ok else "what the network expects"),
        }

        def whole(part: Tensor) -> np.ndarray:
            full = torch.zeros(3, *volume["mask"].shape[1:])
            full[box] = part * inside
            if not full.isfinite().all():
                raise ValueError("the maps are not finite")
            return full.numpy()

        return (
            Maps(
                whole(white_matter.apply(maps)),
                whole(marginal_sd(spread)[0]),
                (volume["mask"][0] > 0).numpy(),
                volume["image"].affine.numpy(),
                correlations=whole(correlations(spread)[0]) if self.correlations else None,
            ),
            about,
        )

    @property
    def sd_note(self) -> str:
        """What the standard deviations are."""
        if self.network.spread is None:
            return UNCALIBRATED.format(draws=len(self.network.noise))
        done = not self.data_consistency or self.network.spread.calibrated_after_consistency
        return CALIBRATED if done else REFINED


def _describe(fit: tuple | None, scale: float, names: Sequence[str]) -> dict:
    """What data consistency found, with PD multiplied by ``scale`` since."""
    if fit is None:
        return {"Applied": False}
    gains = {name: _short(gain / scale) for name, gain in zip(names, fit.gains[0].tolist()) if gain}
    sds = {name: _short(sd) for name, sd in zip(names, fit.gain_sd[0].tolist()) if name in gains}
    left_out = [name for name in names if name not in gains]
    return {"Applied": bool(gains), "Gains": gains, "GainsLogSD": sds, "NotUsed": left_out}


def _short(number: float) -> float:
    return float(f"{number:.5g}")


def unscaled(image: Tensor, window: Tensor) -> Tensor:
    """Intensities of the scans ``(B, M, ...)`` from contrasts scaled to ``window (B, M, 2)``."""
    low, high = window.view(*window.shape, *[1] * (image.ndim - 2)).unbind(2)
    return (image + 1) / 2 * (high - low) + low

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

"""The maps of one session from its aligned scans: network, data consistency, anchor of PD."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import generate_spatial_bounding_box
from torch import Tensor, nn

from ..acquisition import UNKNOWN, Acquisition
from ..tissue import Estimate
from .anchoring import Anchor, anchor
from .choice import choose
from .maps import Maps
from .posterior import Fit
from .scans import Scans

INTERVAL = (
    "Standard deviation of the natural logarithm: the 90 % interval is the map times exp(-1.645 sd) to exp(1.645 sd). "
)
CALIBRATED = INTERVAL + "Calibrated on simulated heads."
POSTERIOR = INTERVAL + "It includes what all voxels share: gains, the scanner, and T1 and T2 of the whole head."
UNCALIBRATED = (
    "Standard deviation of the natural logarithm: spread of {draws} draws from the latent posterior. "
    "Uncalibrated, and blind to errors of the model: not a confidence interval."
)
COMMON = (
    "T1 of the whole head is known to ±{:.0f} %, T2 to ±{:.0f} % (one standard deviation, of white matter). Scans that "
    "share a gain, as echoes of one series do, make it surer."
)
MARGIN = 8
"""Air around the head that the network sees [voxels]: about as much as in training, whatever the field of view."""
ACCURACY = (
    "The standard deviations of desc-sd hold on simulated heads; on real scans an error that all voxels share can be "
    "larger. T1 and T2 are in seconds; PD is relative to {reference}."
)


@dataclass(eq=False)
class Estimator:
    """Tissue maps of one session with their uncertainty, and what is to be said about them.

    Args:
        network: the physics VAE, on its device.
        inferer: a :class:`scripts.networks.inferers.MapInferer`.
        posterior: a :class:`scripts.estimate.Posterior`.
        data_consistency: whether it is used; else the network's estimate stays as it is.
        correlations: also give the correlations between the errors of the maps.
        fractions: also give the shares of tissues in each voxel, which the posterior knows.
    """

    network: nn.Module
    inferer: Callable[..., Estimate]
    posterior: Callable[..., Fit]
    data_consistency: bool = True
    correlations: bool = False
    fractions: bool = True

    @property
    def settings(self) -> dict:
        """What maps depend on besides the scans and the weights."""
        posterior = vars(self.posterior) if self.data_consistency else False
        return {
            "data_consistency": posterior,
            "correlations": self.correlations,
            "fractions": self.fractions,
            "amp": self.inferer.amp,
            "slice_distance": self.inferer.distance,
        }

    def __call__(self, volume: dict, names: Sequence[str]) -> tuple[Maps, dict]:
        """The maps of a session, and what their sidecars say about how they came about.

        Args:
            volume: its record as :class:`scripts.preprocess.ScaleContrastsd` left it.
            names: of its scans in the sidecars.

        Raises:
            ValueError: when a map or its uncertainty is not finite.
        """
        low, high = generate_spatial_bounding_box(volume["mask"], margin=MARGIN, allow_smaller=True)
        box = (slice(None), *map(slice, low, high))
        image, mask = volume["image"].as_tensor()[box][None], (volume["mask"][box] > 0)[None]
        spacing = float(volume["image"].pixdim[2])
        scans = Scans(image, volume["window"][None], volume["acquisition"][None], volume["gains"], mask, spacing)
        scans, chosen = self._choose(scans, volume, names)
        estimate, white_matter, about, shares = self.estimate(scans, names)
        about |= chosen

        def whole(part: Tensor) -> np.ndarray:
            full = torch.zeros(len(part), *volume["mask"].shape[1:])
            full[box] = part * mask[0]
            if not full.isfinite().all():
                raise ValueError("the maps are not finite")
            return full.numpy()

        maps = Maps(
            whole(white_matter.apply(estimate.maps[0])),
            whole(estimate.sd[0]),
            (volume["mask"][0] > 0).numpy(),
            volume["image"].affine.numpy(),
            correlations=whole(estimate.correlations[0]) if self.correlations else None,
            fractions=whole(shares) if self.fractions and shares is not None else None,
        )
        return maps, about

    def _choose(self, scans: Scans, volume: dict, names: Sequence[str]) -> tuple[Scans, dict]:
        """The scans with the acquisitions that explain them best, where the volume's have alternatives."""
        if not any(one.alternatives for one in volume["acquisitions"]):
            return scans, {}
        unknown = torch.stack([Acquisition(UNKNOWN).to_row() if one.alternatives else row
                               for one, row in zip(volume["acquisitions"], scans.rows[0].cpu())])  # fmt: skip
        start = self.inferer(scans.image, self.network, unknown[None].to(scans.rows), scans.mask, scans.spacing)
        volume["acquisitions"], about = choose(self.posterior, start, scans, volume["acquisitions"], names)
        rows = torch.stack([one.to_row() for one in volume["acquisitions"]])
        return scans._replace(rows=rows[None].to(scans.rows)), about

    def estimate(self, scans: Scans, names: Sequence[str]) -> tuple[Estimate, Anchor, dict, Tensor | None]:
        """The estimate of one session, the anchor of its PD, what sidecars say about both, and the shares of tissues.

        PD of the estimate is relative to what the network expects; :meth:`Anchor.apply` makes it relative to water.

        Args:
            scans: of the session.
            names: of the scans in the sidecars.
        """
        estimate = self.inferer(scans.image, self.network, scans.rows, scans.mask, scans.spacing)
        mask, fit = scans.mask[0, 0], None
        if self.data_consistency:
            fit = self.posterior(estimate, scans.intensities[0], scans.rows[0], mask, scans.gains)
            estimate = fit.estimate
        white_matter = anchor(estimate.maps[0], mask, estimate.sd[0])
        about = {
            "DataConsistency": sidecar_about(fit, white_matter.scale, names),
            **white_matter.to_sidecar(),
            "Accuracy": ACCURACY.format(reference="white matter" if white_matter.ok else "what the network expects"),
        }
        return estimate, white_matter, about, None if fit is None or not fit.gains.any() else fit.fractions

    @property
    def sd_note(self) -> str:
        """What the standard deviations are."""
        if self.network.spread is None:
            return UNCALIBRATED.format(draws=len(self.network.noise))
        return POSTERIOR if self.data_consistency else CALIBRATED


def sidecar_about(fit: Fit | None, scale: float, names: Sequence[str]) -> dict:
    """What sidecars say about data consistency; its gains are those of maps whose PD was multiplied by ``scale``."""
    if fit is None:
        return {"Applied": False}
    gains = {name: _short(gain / scale) for name, gain in zip(names, fit.gains.tolist()) if gain}
    sds = {name: _short(sd) for name, sd in zip(names, fit.gain_sd.tolist()) if name in gains}
    left_out = [name for name in names if name not in gains]
    about = {"Applied": bool(gains), "Gains": gains, "GainsLogSD": sds, "NotUsed": left_out}
    if gains:
        if fit.factors.isfinite().all():  # else white matter is no component of the prior
            about["CommonFactors"] = {
                name: {"Factor": _short(factor), "LogSD": _short(sd)}
                for name, (factor, sd) in zip(("T1", "T2"), fit.factors.tolist())
            }
            about["CommonFactorsNote"] = COMMON.format(*(100 * sd for _, sd in fit.factors.tolist()))
        about["BimodalVoxels"] = fit.bimodal
        about["PriorWeights"] = {name: _short(weight) for name, weight in fit.weights.items()}
    return about


def _short(number: float) -> float:
    return float(f"{number:.5g}")

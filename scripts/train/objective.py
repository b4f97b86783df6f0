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
"""The weighted loss of the physics VAE."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..acquisition import present
from ..errors import UserError
from ..render import SignalModel, profile_gain
from ..tissue import REGIONS, TissuePrior
from .losses import map_error, reconstruction_error, spread_error

GAINS = ("profiled", "unit", "regressed")
JUDGED = ("contrasts", "maps")
FLUID = REGIONS.index("CSF")
"""Its label."""
FURTHEST = 3.0
"""Largest deviation of a log map from the prior that a discriminator sees."""


class Compared(NamedTuple):
    """The contrasts that rendered ones are compared with: clean ones where a simulated sample has them, else its scans.

    Attributes:
        target: the contrasts ``(B, M, ...)``.
        acquisition: their rows ``(B, M, A)``.
        low: intensity that becomes -1 ``(B, M, 1, ...)``.
        high: intensity that becomes 1, likewise.
    """

    target: Tensor
    acquisition: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, batch: dict[str, Tensor]) -> "Compared":
        """Those of a batch."""
        clean = "target" in batch
        window = batch["target_window" if clean else "window"]
        low, high = window.view(*window.shape, *[1] * (batch["image"].ndim - 2)).unbind(2)
        if clean:
            return cls(batch["target"], batch["target_acquisition"], low, high)
        return cls(low + (batch["image"] + 1) / 2 * (high - low), batch["acquisition"], low, high)

    def scaled(self, signal: Tensor) -> Tensor:
        """The contrasts ``(B, M, ...)`` that exist, scaled to about [-1, 1]: ``(N, 1, ...)``."""
        scaled = 2 * (signal - self.low) / (self.high - self.low).clamp_min(1e-6) - 1
        return scaled[present(self.acquisition)].unsqueeze(1)


class VAEObjective:
    """The weighted loss of the physics VAE.

    Args:
        weights: loss name -> weight: ``maps`` and ``spread`` (true maps, where they exist, and the likelihood of the
            errors), ``reconstruction``, ``prior``, ``kl``, ``perceptual``, ``adversarial``. What weighs 0 is not
            computed.
        perceptual: loss of image pairs ``(N, 1, ...)`` in [-1, 1]; None where it weighs 0.
        judged: what a discriminator is shown: ``contrasts`` (the paper), or ``maps`` where true ones exist.
        fluid_weight: of the errors of maps in fluid, in estimates with skips. It fills little of a head, and where T1w
            and FLAIR are dark alike nothing but its surroundings tell it from what gives no signal.
        gain: ``profiled`` (each contrast's gain by least squares, intensities relative to the window's upper end),
            ``unit`` (gain 1, raw intensities; the paper) or ``regressed`` (raw intensities, gains by a network that has
            a :class:`scripts.networks.GainRegressor`; a variant in the paper's ablation).
        power: 1 or 2, the norm of the reconstruction error.
        signed: render signed signals, as the paper does; else magnitudes, as scanners store them.

    Raises:
        UserError: for an unknown gain mode or loss name, something else to judge, or no perceptual loss where it
            weighs something.
    """

    NAMES = ("maps", "spread", "reconstruction", "prior", "kl", "perceptual", "adversarial")

    def __init__(
        self,
        weights: dict[str, float],
        perceptual: nn.Module | None,
        judged: str,
        fluid_weight: float,
        gain: str = "profiled",
        power: int = 1,
        signed: bool = False,
    ) -> None:
        for option, value, known in (("gain", gain, GAINS), ("judged", judged, JUDGED)):
            if value not in known:
                raise UserError(option, repr(value), f"use one of {', '.join(known)}")
        if set(weights) != set(self.NAMES):
            raise UserError("loss_weights", ", ".join(weights), f"name {', '.join(self.NAMES)}")
        if weights["perceptual"] and perceptual is None:
            do = "define one, or give --loss_weights::perceptual 0"
            raise UserError("perceptual_loss", f"none, with a weight of {weights['perceptual']}", do)
        self.weights, self.gain, self.power, self.perceptual = weights, gain, power, perceptual
        self.judged, self.fluid_weight = judged, fluid_weight
        self.signal_model = SignalModel(signed)

    def render(self, log_maps: Tensor, compared: Compared, gain: Tensor | None = None) -> Tensor:
        """Rendered contrasts ``(B, M, ...)`` with their gain, to set against those of ``compared``.

        Args:
            log_maps: predicted ln PD, ln T1, ln T2 ``(B, 3, ...)``.
            compared: what they are set against.
            gain: of these contrasts ``(B, M)``, where it is regressed.

        Raises:
            UserError: when the network that should regress gains does not, or not those of these contrasts.
        """
        signal = self.signal_model(log_maps.exp(), compared.acquisition)
        if self.gain == "unit":
            return signal
        if self.gain == "profiled":
            gain = profile_gain(compared.target, signal, compared.acquisition)
        elif gain is None:
            raise UserError("gain", "'regressed', but no network for it", "give --network_def::gain_regressor true")
        elif gain.shape != signal.shape[:2]:
            found = "'regressed', but contrasts that the encoder is not shown"
            raise UserError("gain", found, "train on a folder of scans with --dataset_dir, or use profiled or unit")
        return gain.view(*gain.shape, *[1] * (signal.ndim - 2)) * signal

    def terms(
        self,
        log_maps: Tensor,
        spread: Tensor,
        signal: Tensor,
        compared: Compared,
        batch: dict[str, Tensor],
        prior: TissuePrior,
        with_skips: Tensor | float = 0.0,
    ) -> dict[str, Tensor]:
        """The terms that compare maps and contrasts with the truth, unweighted, but for those that weigh 0.

        Args:
            log_maps: predicted ln PD, ln T1, ln T2 ``(B, 3, ...)``.
            spread: factor of their covariance ``(B, 6, ...)``.
            signal: rendered contrasts ``(B, M, ...)``.
            compared: what these are compared with.
            batch: the batch, with ``maps``, ``mask`` and ``labels`` where they are known.
            prior: of the maps.
            with_skips: 1 where a sample was decoded with skips ``(B,)``.
        """
        terms, target = {}, compared.target
        if "maps" in batch:
            truth = (batch["maps"], batch["mask"])
            if self.weights["maps"]:
                weight = 1.0
                if self.fluid_weight != 1:
                    if "labels" not in batch:
                        raise UserError("fluid_weight", "true maps without labels", "use 1, or data with label maps")
                    extra = (self.fluid_weight - 1) * torch.as_tensor(with_skips).view(-1, *[1] * (log_maps.ndim - 1))
                    weight = 1 + extra * (batch["labels"] == FLUID)
                terms["maps"] = map_error(log_maps, *truth, weight)
            if self.weights["spread"]:
                terms["spread"] = spread_error(spread, log_maps, *truth)
        if self.weights["reconstruction"]:
            unit = compared.high.clamp_min(1e-6) if self.gain == "profiled" else 1.0
            terms["reconstruction"] = reconstruction_error(
                signal / unit, target / unit, compared.acquisition, self.power
            )
        if self.weights["prior"]:
            terms["prior"] = prior.penalty(log_maps)
        if self.weights["perceptual"]:
            terms["perceptual"] = self.perceptual(compared.scaled(signal), compared.scaled(target))
        return terms

    def pair(
        self, log_maps: Tensor, signal: Tensor, compared: Compared, batch: dict[str, Tensor], bias: Tensor, of: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What a discriminator is shown of the samples ``of (B,)``, made and true.

        Contrasts ``(N, 1, ...)`` in about [-1, 1], or log maps less their prior's ``bias`` ``(N, 3, ...)``, 0 where no
        tissue is.

        Raises:
            UserError: for maps where no true ones exist.
        """
        if self.judged == "contrasts":
            mine = Compared(*(x[of] for x in compared))
            return mine.scaled(signal[of]), mine.scaled(mine.target)
        if "maps" not in batch:
            raise UserError("judged", "'maps', but no true maps", "train on simulated heads, or use contrasts")
        maps = batch["maps"][of]
        tissue = batch["mask"][of] * (maps.amin(1, keepdim=True) > 0)
        bias = bias.view(1, -1, *[1] * (maps.ndim - 2))
        logs = log_maps[of], maps.clamp_min(1e-6).log()
        return tuple((x - bias).clamp(-FURTHEST, FURTHEST) * tissue for x in logs)

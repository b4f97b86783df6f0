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

from torch import Tensor, nn

from ..acquisition import present
from ..errors import UserError
from ..losses import map_error, prior_penalty, reconstruction_error
from ..render import SignalModel, profile_gain

GAINS = ("profiled", "unit")


class VAEObjective:
    """The weighted loss of the physics VAE.

    Args:
        weights: loss name -> weight: ``maps`` (true maps, where they exist), ``reconstruction``, ``prior``, ``kl``,
            ``perceptual``, ``adversarial``. What weighs 0 is not computed.
        gain: ``profiled`` (each contrast's gain by least squares, intensities relative to the window's upper end) or
            ``unit`` (gain 1, raw intensities; the paper).
        power: 1 or 2, the norm of the reconstruction error.
        signed: render signed signals, as the paper does; else magnitudes, as scanners store them.
        perceptual: loss of image pairs ``(N, 1, ...)`` in [-1, 1], or None.

    Raises:
        UserError: for an unknown gain mode or loss name.
    """

    NAMES = ("maps", "reconstruction", "prior", "kl", "perceptual", "adversarial")

    def __init__(
        self,
        weights: dict[str, float],
        gain: str = "profiled",
        power: int = 1,
        signed: bool = False,
        perceptual: nn.Module | None = None,
    ) -> None:
        if gain not in GAINS:
            raise UserError("gain", repr(gain), f"use one of {', '.join(GAINS)}")
        if set(weights) != set(self.NAMES):
            raise UserError("loss_weights", ", ".join(weights), f"name {', '.join(self.NAMES)}")
        self.weights, self.gain, self.power, self.perceptual = weights, gain, power, perceptual
        self.signal_model = SignalModel(signed)

    def render(self, log_maps: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Rendered contrasts with their gain, and measured contrasts in raw units: both ``(B, M, ...)``."""
        low, high = _window(batch)
        target = low + (batch["image"] + 1) / 2 * (high - low)
        signal = self.signal_model(log_maps.exp(), batch["acquisition"])
        if self.gain == "profiled":
            gain = profile_gain(target, signal, batch["acquisition"])
            signal = gain.view(*gain.shape, *[1] * (signal.ndim - 2)) * signal
        return signal, target

    def terms(
        self, log_maps: Tensor, signal: Tensor, target: Tensor, batch: dict[str, Tensor], bias: Tensor
    ) -> dict[str, Tensor]:
        """The terms that compare maps and contrasts with the truth, unweighted."""
        low, high = _window(batch)
        terms, acquisition = {}, batch["acquisition"]
        if self.weights["maps"] and "maps" in batch:
            terms["maps"] = map_error(log_maps, batch["maps"], batch["mask"])
        if self.weights["reconstruction"]:
            unit = high.clamp_min(1e-6) if self.gain == "profiled" else 1.0
            terms["reconstruction"] = reconstruction_error(signal / unit, target / unit, acquisition, self.power)
        if self.weights["prior"]:
            terms["prior"] = prior_penalty(log_maps, bias)
        if self.weights["perceptual"]:
            fake, real = self.scaled(signal, batch), batch["image"][present(acquisition)].unsqueeze(1)
            terms["perceptual"] = self.perceptual(fake, real)
        return terms

    def scaled(self, signal: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Rendered contrasts that exist, in the scaling of the images: ``(N, 1, ...)``."""
        low, high = _window(batch)
        scaled = 2 * (signal - low) / (high - low).clamp_min(1e-6) - 1
        return scaled[present(batch["acquisition"])].unsqueeze(1)


def _window(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    window = batch["window"]
    return window.view(*window.shape, *[1] * (batch["image"].ndim - 2)).unbind(2)

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

"""What a scanner and its operator make of clean slices: everything that lies between the signal and a stored image."""

from dataclasses import dataclass, replace
from itertools import compress

import numpy as np
import torch
from monai.transforms import Transform
from numpy.random import Generator
from torch import Tensor

from ..acquisition import FIELDS, forget_field, forget_sequence, values
from ..errors import UserError
from ..nuisance import Nuisances, apply_nuisances
from ..randomness import rng
from .nuisances import NuisanceRanges, draw_nuisances

SUBSETS = (0.15, 0.3, 0.35, 0.15, 0.05)
"""Probability of 1, 2, ... contrasts."""
CLINIC, CLINICAL = 3, 0.6
"""The first contrasts of a slice are those of a clinic; probability that up to so many are taken from them."""
NOISY = NuisanceRanges(snr=(12.0, 120.0))
NUISANCES = replace(NOISY, bias_sd=0.2, moved=0.4, coarse=0.5)
"""Nuisances of a contrast: noise alone, and all."""
STRIPPED, ZEROED = 0.35, 0.2
"""Probabilities of an image without the head around the brain, and of one without noise in the air."""
NOMINAL_SD = {
    "te": 0.02,
    "tr": 0.01,
    "ti": 0.02,
    "flip_angle": 0.06,
    "te_equivalent": 0.12,
    "echo_spacing": 0.08,
    "echo_train_length": 0.08,
}
"""Standard deviation of the logarithm of what a sidecar says over what was played out."""
UNKNOWN_SLICE, UNKNOWN_CONTRAST, FIELD_KEPT = 0.12, 0.08, 0.3
"""Probabilities that nothing is known of a slice's acquisitions, of one contrast's, and that a field still is."""
WINDOW_SD = 0.1
TARGETS = 3


@dataclass(frozen=True)
class Scanner(Transform):
    """Clean slices -> training samples, each a function of (seed, epoch, index), on the device of the slices.

    A sample has ``image (M, h, w)`` scaled as :class:`scripts.preprocess.ScaleContrastsd` does, ``acquisition (M, A)``
    as a sidecar states it, ``window (M, 2)``, ``mask (1, h, w)`` where there is signal, ``maps (3, h, w)``,
    ``labels (1, h, w)``, and clean magnitudes to compare rendered contrasts with, seen or not: ``target (T, h, w)`` of
    ``target_acquisition (T, A)``, as played out, with ``target_window (T, 2)``.

    Args:
        seed: seed of all draws.
        crop_size: part of each slice, at random; None for the whole slice.
        harm: False leaves out everything but noise, so that only clean and complete samples come.
    """

    seed: int = 0
    crop_size: tuple[int, int] | None = (160, 192)
    harm: bool = True

    def __call__(self, clean: dict[str, Tensor], epoch: int, index: int) -> dict[str, Tensor]:
        """The sample.

        Raises:
            UserError: for a crop larger than the slice.
        """
        random = rng(self.seed, epoch, index)
        clean = self._crop(random, clean)
        order = draw_subset(random, len(clean["signal"])) if self.harm else list(range(len(clean["signal"])))
        stripped, zeroed = self.harm and random.uniform() < STRIPPED, self.harm and random.uniform() < ZEROED
        head = clean["brain"] if stripped else clean["maps"][0] > 0
        signal, maps = clean["signal"].float() * head, clean["maps"] * head
        brain = clean["brain"] if clean["brain"].any() else head
        images = torch.stack([self._image(random, signal[k], head, brain, zeroed) for k in order])
        played = clean["acquisition"].cpu()
        rows = forget(random, misstate(random, played[order])) if self.harm else played[order]
        image, window = scale(random, images, head, WINDOW_SD * self.harm)
        chosen = torch.from_numpy(random.permutation(len(signal))[:TARGETS])
        target = signal[chosen].abs()
        return {
            "image": image,
            "acquisition": rows.to(image.device),
            "window": window,
            "mask": head[None].float(),
            "maps": maps,
            "labels": (clean["labels"] * head)[None],
            "position": clean["position"],
            "target": target,
            "target_window": torch.stack([target.new_zeros(len(chosen)), _bright(target, head)], 1),
            "target_acquisition": played[chosen].to(image.device),
        }

    def _crop(self, random: Generator, clean: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.crop_size is None:
            return clean
        shape = tuple(clean["brain"].shape)
        room = [n - size for n, size in zip(shape, self.crop_size)]
        if min(room) < 0:
            raise UserError("crop_size", f"{list(self.crop_size)} of slices {list(shape)}", "use a smaller one")
        start = [int(random.integers(n + 1)) for n in room]
        part = tuple(slice(a, a + size) for a, size in zip(start, self.crop_size))
        return {
            key: value[(..., *part)] if value.ndim in (2, 3) and key != "acquisition" else value
            for key, value in clean.items()
        }

    def _image(self, random: Generator, signal: Tensor, head: Tensor, brain: Tensor, zeroed: bool) -> Tensor:
        """The stored magnitude ``(h, w)`` of a signed signal; its SNR is that of the brighter half of the brain."""
        nuisances = draw_nuisances(random, NUISANCES if self.harm else NOISY, axes=2)
        if head.any():
            reference = brain & (signal.abs() >= signal[brain].abs().median())
            image = apply_nuisances(signal, nuisances, [1.0, 1.0], head, reference)
        else:
            # Without a head there is no signal to compare the noise with.
            image = apply_nuisances(signal, Nuisances(sigma=1.0, seed=nuisances.seed), [1.0, 1.0])
        return image * head if zeroed else image


def draw_subset(random: Generator, count: int) -> list[int]:
    """Which of the contrasts of a slice are taken, in which order."""
    number = int(random.choice(len(SUBSETS), p=SUBSETS)) + 1
    clinical = number <= CLINIC and random.uniform() < CLINICAL
    return random.permutation(min(CLINIC, count) if clinical else count)[:number].tolist()


def misstate(random: Generator, rows: Tensor) -> Tensor:
    """Rows ``(M, A)`` as sidecars state them, by :data:`NOMINAL_SD` off what was played out."""
    rows = rows.clone()
    for name, sd in NOMINAL_SD.items():
        factor = np.exp(random.normal(0, sd, len(rows)) * random.uniform(0, 1.5))
        values(rows, name).mul_(torch.from_numpy(factor).float())
    return rows


def forget(random: Generator, rows: Tensor) -> Tensor:
    """Rows ``(M, A)`` of which some say nothing about the sequence, and little about its parameters."""
    rows = rows.clone()
    nothing = random.uniform() < UNKNOWN_SLICE
    for row in rows:
        kept = random.uniform(size=len(FIELDS)) < FIELD_KEPT * (random.uniform() < 0.5)
        if nothing or random.uniform() < UNKNOWN_CONTRAST:
            forget_sequence(row)
            for name in compress(FIELDS, ~kept):
                forget_field(row, name)
        elif random.uniform() < 0.5:
            forget_field(row, "field_strength")
    return rows


def scale(random: Generator, images: Tensor, head: Tensor, sd: float) -> tuple[Tensor, Tensor]:
    """Images scaled to about [-1, 1] by percentiles inside the head, ``(M, h, w)``, and their windows ``(M, 2)``."""
    low = images.flatten(1).amin(1)
    factor = torch.from_numpy(np.exp(random.normal(0, sd, len(images)))).to(images)
    high = low + (_bright(images, head) - low).clamp_min(1e-6) * factor
    window = torch.stack([low, high], 1)
    low, high = window[..., None, None].unbind(1)
    return 2 * (images - low) / (high - low) - 1, window


def _bright(images: Tensor, head: Tensor) -> Tensor:
    """The 99.5 percentile inside the head, ``(M, h, w)`` -> ``(M,)``."""
    return torch.quantile(images[:, head] if head.any() else images.flatten(1), 0.995, dim=1)

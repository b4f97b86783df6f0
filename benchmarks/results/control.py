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

"""The control that physics must beat: training images with random intensities instead of signals, as SynthSeg's.

The same network is trained on the same heads and nuisances, but each region of an image gets a random mean and
texture, and nothing is said about acquisitions (Billot et al. 2023, doi:10.1016/j.media.2023.102789). Train it with::

    python -m monai.bundle run training --config_file configs/train_vae.json --output_dir runs/control \
        --stream::scanner::_target_ benchmarks.results.control.RandomIntensities
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from monai.networks.layers import GaussianFilter
from torch import Tensor

from scripts.acquisition import UNKNOWN, Acquisition
from scripts.randomness import rng
from scripts.simulate import REGIONS, Scanner
from scripts.simulate.scanner import WINDOW_SD, ZEROED, scale

TEXTURE_SD = 0.08
"""Largest standard deviation inside a region, of intensities between 0 and 1."""
BLUR = 0.6
"""Standard deviation of the partial volume between regions [voxels]."""


@dataclass(frozen=True)
class RandomIntensities(Scanner):
    """A scanner whose images have nothing to do with the tissue, see the module; arguments are those of Scanner."""

    def __call__(self, clean: dict[str, Tensor], epoch: int, index: int) -> dict[str, Tensor]:
        """The sample of :class:`Scanner` with other images of unknown acquisition."""
        sample = super().__call__(clean, epoch, index)
        draw = rng(self.seed, epoch, index, 1)
        head = sample["mask"][0] > 0
        regions = F.one_hot(sample["labels"][0].long(), len(REGIONS)).movedim(-1, 0).float()
        shares = GaussianFilter(2, BLUR)(regions[None])[0]
        images = []
        for _ in sample["image"]:
            means = torch.from_numpy(draw.uniform(0, 1, len(REGIONS))).float()
            sds = torch.from_numpy(draw.uniform(0, TEXTURE_SD, len(REGIONS))).float()
            noise = torch.from_numpy(draw.standard_normal(head.shape)).float()
            signal = torch.tensordot(means, shares, 1) + torch.tensordot(sds, shares, 1) * noise
            images.append(self._image(draw, signal.clamp_min(0) * head, head, head, draw.uniform() < ZEROED))
        image, window = scale(draw, torch.stack(images), head, WINDOW_SD)
        rows = Acquisition(UNKNOWN).to_row().repeat(len(images), 1)
        return sample | {"image": image, "window": window, "acquisition": rows}

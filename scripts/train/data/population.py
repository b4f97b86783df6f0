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

"""The population that the generator learns from: simulated heads for training, others for validation."""

from functools import cached_property

from ignite.engine import Engine

from ...errors import UserError
from ...simulate import Between, CachedSlices, LabelledHeads, LabelledSlices, LabelMaps, LesionMasks
from .fractions import FractionSlices, Simulated
from .heads import HeadSections, HeadVolumes

KINDS = {
    "slices": lambda slices, folder, length, scans: FractionSlices(CachedSlices(slices, folder, length), scans),
    "heads": lambda slices, *others: HeadVolumes(LabelledHeads(slices), *others),
    "sections": lambda slices, *others: HeadSections(LabelledHeads(slices), *others),
}
"""Kind of samples -> how they are made of a population of slices, the folder, their number, the folder of scans."""


class Population:
    """Slices of the generator's population: training and validation ones differ in their heads and in their seed.

    Args:
        label_maps: folder of label maps; None for the embedded head.
        lesion_masks: folder of masks of real lesions; None for drawn ones.
        train_heads: first label map to train on and how many, None for all that follow.
        validation_heads: likewise, to validate on.
        length: slices to train on, without their mirror images.
        validation_length: slices to validate on.
        cache_dir: folder where they are kept.
        seed: seed of training slices; the next one is that of validation slices.
        size: of a slice [voxels of 1 mm].
        dataset_dir: None; see :class:`.fractions.Simulated`.
        of: what samples are: ``slices``, coarse volumes of whole ``heads``, or ``sections`` of heads; with the last two
            the lengths count heads.

    Raises:
        UserError: for samples of another kind.
    """

    def __init__(
        self,
        label_maps: str | None,
        lesion_masks: str | None,
        train_heads: tuple[int, int | None],
        validation_heads: tuple[int, int | None],
        length: int,
        validation_length: int,
        cache_dir: str,
        seed: int,
        size: tuple[int, int] = (176, 224),
        dataset_dir: str | None = None,
        of: str = "slices",
    ) -> None:
        if of not in KINDS:
            raise UserError("of", repr(of), f"use one of {', '.join(KINDS)}")
        self.label_maps, self.masks = label_maps, LesionMasks(lesion_masks)
        self.train_heads, self.validation_heads = train_heads, validation_heads
        self.length, self.validation_length = length, validation_length
        self.cache_dir, self.seed, self.size, self.dataset_dir = cache_dir, seed, tuple(size), dataset_dir
        self.of = of

    @cached_property
    def train(self) -> Simulated:
        """Slices to train on: also of heads between two others.

        Raises:
            UserError: for heads or a length that cannot be.
        """
        return self._make(self.train_heads, self.seed, self.length, Between(f"{self.cache_dir}/between"))

    @cached_property
    def validation(self) -> Simulated:
        """Slices to validate on; raises likewise."""
        return self._make(self.validation_heads, self.seed + 1, self.validation_length, None)

    def attach(self, engine: Engine) -> None:
        """Nothing: these samples are the same in every epoch."""

    def _make(self, heads: tuple[int, int | None], seed: int, length: int, between: Between | None) -> Simulated:
        first, count = heads
        anatomies = LabelMaps(self.label_maps, first, count)
        slices = LabelledSlices(anatomies, seed, self.size, lesion_masks=self.masks, between=between)
        return KINDS[self.of](slices, self.cache_dir, length, self.dataset_dir)

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

"""Dictionary transform that brings the scans of a session to the MNI152 template, rigidly."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from monai.data import MetaTensor

from ..errors import UserError
from .registration import Refused, register
from .session import AlignContrastsd

SPACE = "MNI152NLin2009aSym"
"""BIDS name of the template."""
CENTRE = (0, -17, 5)
"""Centre of the bounding box of its brain [mm]."""


@cache
def template() -> MetaTensor:
    """The skull-stripped T1w average of 152 heads that nilearn ships ``(1, X, Y, Z)``, 1 mm; nothing is downloaded.

    Fonov et al. 2009, NeuroImage 47, Supplement 1.
    """
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(1)
    return MetaTensor(torch.from_numpy(image.get_fdata(dtype=np.float32))[None], affine=torch.from_numpy(image.affine))


class AlignToTemplated(AlignContrastsd):
    """Resamples all contrasts to one grid of 1 mm around the template's brain, once.

    It stands behind :class:`RegisterContrastsd`. The reference of ``alignment`` is registered to the template, rigidly,
    so that sizes stay, and the other contrasts move with it. Adds ``motion``, what moved between the template and the
    reference.

    Args:
        size: voxels of the grid along (X, Y, Z).

    Raises:
        UserError: for an impossible size, a reference that cannot be registered, or a contrast that shows nothing on
            the grid.
    """

    def __init__(self, size: Sequence[int] = (160, 224, 160)) -> None:
        super().__init__()
        if min(size) < 1:
            raise UserError("crop_size", str([*size]), "give three numbers from 1")
        self.size = tuple(size)

    def __call__(self, record: dict) -> dict:
        reference = record["alignment"].reference
        try:
            motion = register(record["image"][reference], template())
        except Refused as error:
            path = record["session"].contrasts[reference].path
            raise UserError(path, f"not registered to {SPACE}: {error}", "look whether it shows a head") from None
        moved = [motion.apply(image) for image in record["image"]]
        truth = {name: motion.apply(image) for name, image in record["truth"].items()}
        return {**super().__call__({**record, "image": moved, "truth": truth}), "motion": motion}

    def _reference(self, images: Sequence[MetaTensor]) -> MetaTensor:
        affine = np.eye(4)
        affine[:3, 3] = np.array(CENTRE) - np.array(self.size) // 2
        return MetaTensor(torch.zeros(1, *self.size), affine=affine)

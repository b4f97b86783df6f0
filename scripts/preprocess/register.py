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

"""Dictionary transform that takes out what moved between the scans of a session."""

import logging
from pathlib import Path

from monai.data import MetaTensor
from monai.transforms.utils import Transform

from ..errors import UserError
from .registration import Alignment, Motion, Refused, kept_motion, reference_index, register, same_grid

logger = logging.getLogger(__name__)


class RegisterContrastsd(Transform):
    """Registers the scans of a session to the reference, rigidly, by changing their affines: nothing is resampled.

    It stands between :class:`LoadSessiond` and :class:`AlignContrastsd`, which interpolates once. Echoes of one
    acquisition move together. A registration that is not to be trusted leaves a scan where its header says, with a
    warning. Adds ``alignment``, see :class:`scripts.preprocess.registration.Alignment`.

    Args:
        register: ``auto`` registers the scans whose shape or affine differs from the reference's: scans on one grid
            have been aligned by whoever resampled them, or are of one prescription. True registers all, False none.
        cache_dir: folder where motions are kept, for what reads the same scans again and again; None finds them anew.
        reference: number of the scan that the others are brought to; None for the one with the finest voxels.

    Raises:
        UserError: for anything else.
    """

    def __init__(
        self, register: bool | str = "auto", cache_dir: str | Path | None = None, reference: int | None = None
    ) -> None:
        if register not in (True, False, "auto"):
            raise UserError("register", repr(register), "use true, false or auto")
        self.register, self.cache_dir, self.reference = register, cache_dir, reference

    def __call__(self, record: dict) -> dict:
        images, contrasts = [*record["image"]], record["session"].contrasts
        alignment = Alignment(reference_index(images) if self.reference is None else self.reference, {}, {})
        reference = images[alignment.reference]
        gains = record["gains"]
        for gain in sorted({*gains} - {gains[alignment.reference]}):
            first, *_ = members = [number for number, its in enumerate(gains) if its == gain]
            if not self.register or (self.register == "auto" and same_grid(images[first], reference)):
                continue
            try:
                alignment.motions.update(dict.fromkeys(members, self._motion(images[first], reference)))
            except Refused as error:
                alignment.refused.update(dict.fromkeys(members, str(error)))
                logger.warning(f"{contrasts[first].path.name}: not registered, its header is trusted: {error}")
        for number, motion in alignment.motions.items():
            images[number] = motion.apply(images[number])
        return {**record, "image": images, "alignment": alignment}

    def _motion(self, moving: MetaTensor, reference: MetaTensor) -> Motion:
        if self.cache_dir is None:
            return register(moving, reference)
        return kept_motion(Path(self.cache_dir) / "registrations", register, moving, reference)

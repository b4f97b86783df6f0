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

"""Label maps of heads: a folder of FreeSurfer's segmentations, or the embedded head."""

import re
from functools import cached_property, lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.processing import resample_to_output

from ..bids import load_image
from ..errors import UserError
from ..tissue import CLASSES
from .anatomy import INDEX, Anatomy, crop_head
from .embedded import EMBEDDED, embedded_head

ENDINGS = (".nii", ".nii.gz", ".mgz", ".mgh")
MOST_TOLD = 12
"""So many unknown numbers are listed."""


class LabelMaps:
    """Heads to take shapes from: every ``.nii``, ``.nii.gz`` or ``.mgz`` of a folder in the order of their names.

    The numbers are those of FreeSurfer's aseg, aparc+aseg and wmparc, SynthSeg and SAMSEG, see
    :mod:`scripts.tissue.labels`.

    Args:
        folder: where the label maps are; None for the embedded head, made from the MNI152 average.
        first: first of them to use, counted from 0; leave the others to calibration and tests.
        count: how many to use; None for all that follow.

    Raises:
        UserError: for a negative first, or a count below 1.
    """

    def __init__(self, folder: str | Path | None = None, first: int = 0, count: int | None = None) -> None:
        if first < 0 or (count is not None and count < 1):
            raise UserError("heads", f"{count} from number {first}", "use [first, count], from 0 and at least one")
        self.folder, self.first, self.count = None if folder is None else Path(folder), first, count

    @property
    def paths(self) -> list[Path]:
        """Files of the heads; empty for the embedded one.

        Raises:
            UserError: for a missing folder, or one with too few label maps.
        """
        if self.folder is None:
            return []
        if not self.folder.is_dir():
            raise UserError(self.folder, "no such folder", "name a folder of label maps, or none for the embedded head")
        found = sorted(path for path in self.folder.iterdir() if path.name.lower().endswith(ENDINGS))
        chosen = found[self.first : None if self.count is None else self.first + self.count]
        if len(chosen) < (self.count or 1):
            do = f"give at least {self.first + (self.count or 1)} .nii, .nii.gz or .mgz files, or use fewer heads"
            raise UserError(self.folder, f"{len(found)} label maps", do)
        return chosen

    def __len__(self) -> int:
        return len(self.paths) or 1

    @property
    def names(self) -> list[str]:
        """Names of the heads."""
        return [path.name for path in self.paths] or [EMBEDDED]

    @cached_property
    def participants(self) -> list[str]:
        """Names of the heads without the ending of their files, listed once; raises likewise."""
        ending = re.compile(f"({'|'.join(map(re.escape, ENDINGS))})$", re.IGNORECASE)
        return [ending.sub("", name) for name in self.names]

    def __getitem__(self, number: int) -> Anatomy:
        """The head of a number, from 0.

        Raises:
            UserError: as :attr:`paths` and :func:`read_label_map`.
        """
        return embedded_head() if self.folder is None else read_label_map(self.paths[number])


@lru_cache(maxsize=16)
def read_label_map(path: Path) -> Anatomy:
    """A label map as classes: turned to RAS, resampled to 1 mm where it is not, cropped to the head.

    Raises:
        UserError: for a file that cannot be read, is no volume, has labels that are not in ``labels.json`` (listed with
            their counts), or none of the cerebrum.
    """
    data, affine = load_image(path, uniform=True)
    image = nib.as_closest_canonical(nib.Nifti1Image(data, affine))
    if not np.allclose(image.header.get_zooms(), 1, atol=1e-3):
        image = resample_to_output(image, 1.0, order=0)
    data = np.asanyarray(image.dataobj)
    numbers = {label: INDEX[name] for name, entry in CLASSES.items() for label in entry.labels}
    labels, counts = np.unique(data, return_counts=True)
    unknown = {label: count for label, count in zip(labels.tolist(), counts.tolist()) if label not in numbers}
    if unknown:
        told = ", ".join(f"{label:g} ({count} voxels)" for label, count in [*unknown.items()][:MOST_TOLD])
        more = f" and {len(unknown) - MOST_TOLD} more" if len(unknown) > MOST_TOLD else ""
        do = "give a segmentation with FreeSurfer's numbers, or add these to scripts/tissue/labels.json"
        raise UserError(path, f"unknown labels {told}{more}", do)
    table = np.zeros(max(numbers) + 1, np.uint8)
    table[list(numbers)] = list(numbers.values())
    return crop_head(table[data.astype(np.int64)], image.affine, path)

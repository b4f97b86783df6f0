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

"""Contrasts that are in memory already, as MONAI Deploy has them: prepared, and answered with all maps at once."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ...errors import UserError
from ...estimate.grids import on_grid
from .answer import unpack
from .request import read_acquisitions
from .steps import prepare


class ReadImaged(MapTransform):
    """Prepares the contrasts ``image (M, X, Y, Z)``, whose affine says where they lie, for :class:`.MapsInferer`.

    They go the way of files, through a temporary folder: so they are checked, and their maps are those of a folder.

    Args:
        preprocessing: see :class:`.ReadRequestd`.
        acquisitions: what the contrasts are, one by one; see :func:`.request.read_acquisitions`.
        protocol: fills what is not said of a contrast.

    Raises:
        UserError: for an image of other dimensions, unusable voxels, and another number of acquisitions.
    """

    def __init__(
        self, preprocessing: Callable[[dict], dict], acquisitions: object = None, protocol: str | None = None
    ) -> None:
        super().__init__("image")
        self.preprocessing, self.acquisitions, self.protocol = preprocessing, acquisitions, protocol

    def __call__(self, data: dict) -> dict:
        image = data["image"]
        if image.ndim != 4:
            found = f"{image.ndim} dimensions ({' x '.join(map(str, image.shape))})"
            raise UserError("image", found, "give contrasts of one volume (M, X, Y, Z); a slice has Z = 1")
        with TemporaryDirectory() as folder:
            files = [Path(folder, f"image-{number + 1}.nii") for number in range(len(image))]
            for file, contrast in zip(files, image.numpy(force=True)):
                nib.save(nib.Nifti1Image(contrast, image.affine.numpy(force=True)), file)
            acquisitions = None if self.acquisitions is None else read_acquisitions(self.acquisitions)
            return {**data, **prepare(self.preprocessing, files, acquisitions, self.protocol)}


class AnswerMapsd(MapTransform):
    """All maps on the grid of the image: ``pred (6, X, Y, Z)``, PD, T1, T2 [s] and the sd of the logarithm of each.

    They are 0 in air. ``about`` in their metadata says how they came about.
    """

    def __init__(self) -> None:
        super().__init__("pred")

    def __call__(self, data: dict) -> dict:
        shape, affine, placed = data["grid"]
        maps = on_grid(unpack(data["pred"]), shape, placed)
        layers = torch.cat([torch.from_numpy(part) for part in (maps.values, maps.sd)])
        return {**data, "pred": MetaTensor(layers, affine=affine, meta={"about": data["pred"].meta["about"]})}

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
"""Bias fields: the smooth shading by receive coils, which no signal equation contains."""

import logging
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import MetaTensor
from monai.transforms.utils import Transform
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate

from ..parallel import in_parallel

logger = logging.getLogger(__name__)

COARSE = 6.0
"""Edge of the voxels that a field is found on [mm]: it is smooth."""
DEPTH = 12.0
"""How deep below the surface of the head a field is looked for [mm]: fat of the scalp is no shading."""
LEAST = 0.25
"""Part of the mask that has to be as deep; else all of the mask counts, as of a thin object."""
CONTROL_POINTS = 4
"""Of cubic B-splines along each axis at the first level: one polynomial of order 3."""
ITERATIONS = (50, 50, 50)
"""At most, of each level; the next one has twice as many pieces."""


class CorrectBiasd(Transform):
    r"""Divides the bias field out of each contrast: :math:`y(x) / e^{b(x)}`, where b has a mean of 0 in the mask.

    N4 finds the field that makes the histogram of a contrast sharpest. Contrasts that share a gain share a field, as
    their ratio tells T2. Adds ``bias_sd``: the standard deviation of b in the mask for each contrast.

    Source: Tustison et al. 2010, doi:10.1109/TMI.2010.2046908; by SimpleITK.

    Args:
        correct: whether this is done; else all of ``bias_sd`` is 0.
    """

    def __init__(self, correct: bool = True) -> None:
        self.correct = correct

    def __call__(self, record: dict) -> dict:
        image, mask, gains = record["image"], record["mask"][0] > 0, np.asarray(record["gains"])
        corrected, bias_sd = image.as_tensor().clone(), [0.0] * len(image)
        groups = [np.flatnonzero(gains == gain) for gain in np.unique(gains)] if self.correct else []

        def field(members: np.ndarray) -> Tensor:
            names = ", ".join(record["session"].contrasts[number].path.name for number in members)
            return log_bias_field(image.as_tensor()[members], mask, image.pixdim.tolist(), names)

        for members, log_bias in zip(groups, in_parallel(field, groups, torch.device("cpu"))):
            corrected[members] /= log_bias.exp()
            for number in members:
                bias_sd[number] = float(log_bias[mask].std())
        return {**record, "image": MetaTensor(corrected, affine=image.affine), "bias_sd": bias_sd}


def log_sd_of(names: Sequence[str], bias_sd: Sequence[float]) -> dict[str, float]:
    """What sidecars say of the bias fields that were divided out: name of a scan -> standard deviation of b."""
    return {name: round(sd, 4) for name, sd in zip(names, bias_sd)}


def log_bias_field(images: Tensor, mask: Tensor, spacing: Sequence[float], names: str) -> Tensor:
    """Logarithm of the bias field ``(X, Y, Z)`` that images ``(M, X, Y, Z)`` have in common; 0 where none is found.

    Args:
        images: from 0, in any units; 0 where there is nothing.
        mask: head or brain, boolean ``(X, Y, Z)``; the mean of the result is 0 there.
        spacing: edges of a voxel [mm].
        names: what a warning calls the images.
    """
    nothing, seen = torch.zeros_like(images[0]), images[(images * mask > 0).flatten(1).any(1)]
    if not len(seen):
        return nothing
    image = sum(one / one[mask & (one > 0)].median() for one in seen)
    inside = mask & (image > 0)
    factors = [max(1, round(COARSE / edge)) for edge in spacing]
    size = [-(-n // factor) for n, factor in zip(mask.shape, factors)]
    share = _coarse(inside.float(), size)
    where = deep_inside((share > 0.5).numpy(), [edge * factor for edge, factor in zip(spacing, factors)], DEPTH)
    if not where.any():
        return nothing
    values = _coarse(image * inside, size) / share.clamp_min(1e-6)
    try:
        coarse = torch.from_numpy(_n4(values.squeeze().numpy(), where.squeeze()).reshape(size))
    except RuntimeError as error:
        logger.warning(f"{names}: no bias field found, left as it is: {str(error).strip().splitlines()[-1]}")
        return nothing
    # Elsewhere nothing holds the splines.
    known = coarse[torch.from_numpy(where)]
    coarse = coarse.clamp(known.min(), known.max())
    field = interpolate(coarse[None, None], mask.shape, mode="trilinear")[0, 0]
    return field - field[mask].mean()


def deep_inside(mask: np.ndarray, spacing: Sequence[float], depth: float) -> np.ndarray:
    """What lies deep below the surface of a head, without its scalp; all of it where this is too little.

    Args:
        mask: head or brain, boolean ``(X, Y, Z)``.
        spacing: edges of a voxel [mm].
        depth: how deep [mm].
    """
    # The end of the field of view is no surface.
    deep = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"), spacing)[1:-1, 1:-1, 1:-1] > depth
    return deep if deep.sum() >= LEAST * mask.sum() else mask


def _coarse(volume: Tensor, size: Sequence[int]) -> Tensor:
    return interpolate(volume[None, None], size, mode="area")[0, 0]


def _n4(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Logarithm of the field that N4 finds, on the grid of the image."""
    scan = sitk.GetImageFromArray(image)
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetNumberOfThreads(1)  # Else sums depend on their number.
    correction.SetMaximumNumberOfIterations(ITERATIONS)
    correction.SetNumberOfControlPoints([CONTROL_POINTS] * image.ndim)
    correction.Execute(scan, sitk.GetImageFromArray(mask.astype(np.uint8)))
    return sitk.GetArrayFromImage(correction.GetLogBiasFieldAsImage(scan)).astype(np.float32)

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

"""Intensities of tissues in the images of one session, as scanned and as rendered at the common protocol."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.affines import voxel_sizes
from pandas import DataFrame

from ....acquisition import RenderRequest
from ....bids import Session, load_image, output_path
from ....estimate.maps import Maps
from ....preprocess import ScaleContrastsd, deep_inside
from ....tissue import region_numbers
from ..products import render

TISSUES = ("WM", "GM", "CSF")
LABELS = region_numbers(*TISSUES)
"""Tissue -> its number in a ``dseg``."""
ACQUIRED, HARMONISED = "acquired", "harmonised"
STEP = 0.01
"""Of the logarithm of a map, for the derivative of a contrast."""
DEPTH = 16.0
"""How deep below the surface of the head tissues are measured [mm]: a scalp is rarely thicker."""
MOST_VOXELS = 20_000
"""Of a tissue, for its standard deviation."""


class Image(NamedTuple):
    """An image of a session on the grid of its maps.

    Attributes:
        name: of its file, without subject and session.
        suffix: BIDS suffix.
        stage: :data:`ACQUIRED` or :data:`HARMONISED`.
        array: intensities from 0, the lowest of the volume, to 1, the 99.5 percentile of the brain ``(X, Y, Z)``.
    """

    name: str
    suffix: str
    stage: str
    array: np.ndarray


def read_labels(roots: Iterable[Path], session: Session, maps: Maps) -> np.ndarray:
    """The label map of a session, deep inside its head, from the first of these folders that has one; else zeros.

    Without a scan of known acquisition no tissue is known, and there is none. Near the surface, scalp can be taken for
    a tissue of the brain, and would set the bright level.
    """
    paths = (output_path(root, session, "dseg") for root in roots)
    there = next((path for path in paths if path.exists()), None)
    if there is None:
        return np.zeros(maps.mask.shape)
    return load_image(there, uniform=True)[0] * deep_inside(maps.mask, voxel_sizes(maps.affine), DEPTH)


def brain_of(labels: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Where there is tissue of the brain or fluid ``(X, Y, Z)``; the whole head where none was found."""
    brain = np.isin(labels, [*LABELS.values()])
    return brain if brain.any() else head


def scaled(image: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, float]:
    """An image ``(X, Y, Z)`` as every scan is scaled before estimation, but from 0 to 1; and what 1 stands for.

    Args:
        image: intensities in any unit.
        mask: where the 99.5 percentile is that becomes 1 ``(X, Y, Z)``. Of a whole head it would be that of fat, which
            some scans suppress and others do not.
        affine: voxel to mm.
    """
    volume = MetaTensor(torch.from_numpy(image)[None].float(), affine=torch.from_numpy(affine))
    record = ScaleContrastsd()({"image": volume, "mask": torch.from_numpy(mask)[None].float()})
    low, high = record["window"][0].tolist()
    return (record["image"].as_tensor()[0].numpy() + 1) / 2, high - low


def measure(
    images: Sequence[Image], labels: np.ndarray, deviations: Mapping[tuple[str, str], float] | None = None
) -> DataFrame:
    """One row for each image and tissue: ``image``, ``suffix``, ``stage``, ``tissue``, ``voxels``, ``median``, ``sd``.

    Args:
        images: of one session.
        labels: numbers of :data:`LABELS` ``(X, Y, Z)``.
        deviations: (image, tissue) -> standard deviation of the intensity, in the same unit; NaN where there is none.
    """
    deviations, rows = deviations or {}, []
    for image in images:
        for tissue, label in LABELS.items():
            inside = image.array[labels == label]
            median = float(np.median(inside)) if inside.size else np.nan
            sd = deviations.get((image.name, tissue), np.nan)
            rows.append((image.name, image.suffix, image.stage, tissue, inside.size, median, sd))
    return DataFrame(rows, columns=["image", "suffix", "stage", "tissue", "voxels", "median", "sd"])


def contrast_deviations(
    maps: Maps, labels: np.ndarray, requests: Sequence[RenderRequest], brightness: Sequence[float]
) -> dict[tuple[str, str], float]:
    """(name of a request, tissue) -> median standard deviation of the rendered intensity.

    ``sd² = Σ (∂S/∂ln q)² sd(ln q)²`` over q = PD, T1, T2, whose errors are taken as independent.

    Args:
        maps: the maps with their standard deviations.
        labels: numbers of :data:`LABELS` ``(X, Y, Z)``.
        requests: the contrasts.
        brightness: signal of each that an intensity of 1 stands for.
    """
    found = {}
    for tissue, label in LABELS.items():
        voxels = np.flatnonzero(labels == label)
        voxels = voxels[:: -(-len(voxels) // MOST_VOXELS) or 1]
        if maps.sd is None or not len(voxels):
            continue
        values, sd = (part.reshape(3, -1)[:, voxels] for part in (maps.values, maps.sd))
        options = {name: array.reshape(-1)[voxels] for name, array in maps.all_options.items()}
        variance = 0.0
        for quantity in range(3):
            signals = []
            for step in (STEP, -STEP):
                moved = values.copy()
                moved[quantity] *= np.exp(step)
                part = Maps(moved, None, np.ones(len(voxels), bool), maps.affine, options)
                signals.append(render(part, requests))
            variance = variance + ((signals[0] - signals[1]) / (2 * STEP) * sd[quantity]) ** 2
        for request, bright, one in zip(requests, brightness, np.sqrt(variance)):
            found[request.name, tissue] = float(np.median(one)) / bright
    return found

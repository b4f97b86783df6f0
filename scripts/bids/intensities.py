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

"""Whether the voxels of a file are intensities of a scan: z-scores, masks, maps of probability and noise are not."""

import logging
from pathlib import Path

import numpy as np

from ..errors import UserError

MOST_NEGATIVE, LOUDEST_NEGATIVE = 0.05, 0.1
"""Negative voxels, as a share of those that are not 0, and their mean size over the 99th percentile, up to which they
are what interpolation leaves behind."""
WORTH_TELLING = 0.01
"""Share of negative voxels from which on it is told that they are set to 0."""
FLAT, MOST_LABELS = 0.5, 256
"""Share of neighbours with equal values, and number of values, from which on whole numbers are labels."""
SATURATED = 0.3
"""Share of the highest value, 1 or 100, among voxels that are not 0, from which on they are probabilities."""
BACKGROUND, LIFTED = 0.3, 0.05
"""Share of voxels with one value above the lowest, and how far above it, of the range, from which on it is the
background of z-scores that were shifted."""
LEAST_RELATED = 0.3
"""Correlation of neighbouring voxels along the best axis below which there is no picture."""
MOST_VOXELS, MIDDLE = 2_000_000, 160
"""So many voxels, and a cube of this edge in the middle, tell what a volume of any size is."""
PICTURE = "give the image as the scanner wrote it, or only corrected for its bias field"
logger = logging.getLogger(__name__)


def check_intensities(data: np.ndarray, path: str | Path) -> None:
    """Refuses voxels that cannot be proportional to a signal; warns of what is set to 0.

    The signal equations need intensities on a ratio scale: 0 for no signal.

    Args:
        data: a scan ``(X, Y, Z)``, finite, not of one value.
        path: its file, for the message.

    Raises:
        UserError: with the share of voxels that tells it.
    """
    low, top = data.min(), data.max()
    if np.count_nonzero(data == low) + np.count_nonzero(data == top) == data.size:
        share = 100 * np.count_nonzero(data == top) / data.size
        raise UserError(path, f"2 different values only, {top:g} in {share:.3g} % of the voxels: a mask", PICTURE)
    middle = data[tuple(slice(max(0, (n - MIDDLE) // 2), (n + MIDDLE) // 2) for n in data.shape)]
    sample = data.ravel(order="K")[:: max(1, data.size // MOST_VOXELS)]
    values, counts = np.unique(np.append(sample, (low, top)), return_counts=True)
    _check_labels(middle, values, path)
    used = sample[sample != 0] if sample.any() else data[data != 0]
    high = float(np.percentile(np.abs(used), 99))
    if np.isclose(top, (1.0, 100.0)).any() and values[0] >= 0 and counts[-1] > SATURATED * used.size:
        found = f"the highest value {top:g} in {100 * counts[-1] / used.size:.0f} % of the voxels that are not 0"
        raise UserError(path, f"{found}: a map of probability", PICTURE)
    _check_negatives(used, high, path)
    common = counts.argmax()
    lifted = float(values[common] - values[0]) / max(float(top - values[0]), 1e-12)
    if counts[common] > BACKGROUND * sample.size and lifted > LIFTED and values[common] != 0:
        share = 100 * counts[common] / sample.size
        found = f"the value {values[common]:.4g} in {share:.0f} % of the voxels, and lower ones"
        raise UserError(path, f"{found}: a background that is not 0, as of shifted z-scores", PICTURE)
    related = _neighbours(middle)
    if related < LEAST_RELATED:
        found = f"no picture: neighbouring voxels have a correlation of {related:.2f}, as noise has"
        raise UserError(path, found, "replace the file")


def _check_labels(data: np.ndarray, values: np.ndarray, path: str | Path) -> None:
    if values.size > MOST_LABELS or not np.array_equal(values, np.round(values)):
        return
    inside = data[1:] != 0
    equal = float((data[1:] == data[:-1])[inside].mean()) if inside.any() else 0.0
    if equal > FLAT:
        found = f"{values.size} whole numbers, equal in {100 * equal:.0f} % of neighbours: a label map"
        raise UserError(path, found, PICTURE)


def _check_negatives(used: np.ndarray, high: float, path: str | Path) -> None:
    negative = used[used < 0]
    share = negative.size / used.size
    words = f"{100 * share:.3g} % of the voxels that are not 0 are negative"
    if share > MOST_NEGATIVE and -float(negative.mean()) > LOUDEST_NEGATIVE * high:
        raise UserError(path, f"{words}: z-scores, or a scale with an offset, and no intensities", PICTURE)
    if share > WORTH_TELLING:
        logger.warning(f"{path}: {words}, {-float(negative.min()) / high:.2g} of the brightest at most; set to 0")


def _neighbours(data: np.ndarray) -> float:
    """Correlation of neighbouring voxels along the axis where it is highest."""
    found = [0.0]
    for axis in range(3):
        if data.shape[axis] < 3:
            continue
        moved = np.moveaxis(data, axis, 0)
        first, second = moved[:-1].ravel(), moved[1:].ravel()
        first, second = first - first.mean(), second - second.mean()
        found.append(float(first @ second) / max(float(np.sqrt((first @ first) * (second @ second))), 1e-12))
    return max(found)

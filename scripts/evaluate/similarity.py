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

"""Similarity of two images, and of the structure of two contrasts of one brain."""

import numpy as np
from scipy import ndimage

SIGMA, RADIUS = 1.5, 5
"""Standard deviation of the Gaussian window of 11 x 11, and its reach [voxels]."""
EDGE, SMOOTH = 0.12, 0.06
"""A gradient above the first share of the reference's largest is an edge, below the second one is smooth."""
BINS = 32


def gradient_structure_similarity(image: np.ndarray, reference: np.ndarray) -> float:
    """4-G-r*: structure of the gradients, weighted over four kinds of places; 1 for equal images.

    ``r* = s_xy / (s_x s_y)`` of the gradients in a Gaussian window is the correlation there: 1 where both have no
    variance, 0 where one has none. Places are edges of both, edges of one only, smooth places, and texture. Each kind
    that occurs has the same weight.

    Args:
        image: two or three axes.
        reference: of the same shape; it sets what an edge is.

    Source: Rouse and Hemami 2008 (doi:10.1117/12.768060) for r*; Li and Bovik 2010 (doi:10.1016/j.image.2010.03.004)
    for the four kinds; Renieblas et al. 2017 (doi:10.1117/1.JMI.4.3.035501) for their union, which Pinaya et al. 2022
    call 4-G-R-SSIM.
    """
    x, y = _gradient(image), _gradient(reference)
    top = y.max()
    edge_x, edge_y = x > EDGE * top, y > EDGE * top
    smooth = (y < SMOOTH * top) & ~edge_x
    kinds = (edge_x & edge_y, edge_x ^ edge_y, smooth, ~(edge_x | edge_y | smooth))
    values = _structure(x, y)
    return float(np.mean([values[kind].mean() for kind in kinds if kind.any()]))


def _gradient(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image, float)
    return np.sqrt(sum(ndimage.sobel(image, axis, mode="nearest") ** 2 for axis in range(image.ndim)))


def _structure(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(values, SIGMA, radius=RADIUS, mode="nearest")

    # Rounding leaves variances of about this where there are none.
    least = 1e-10 * max(float((x**2).max()), float((y**2).max()), 1e-60)
    variances = [mean(one**2) - mean(one) ** 2 for one in (x, y)]
    flat = [variance <= least for variance in variances]
    product = np.sqrt(np.maximum(variances[0], least) * np.maximum(variances[1], least))
    correlation = ((mean(x * y) - mean(x) * mean(y)) / product).clip(-1, 1)
    return np.where(flat[0] & flat[1], 1.0, np.where(flat[0] | flat[1], 0.0, correlation))


def explained_share(image: np.ndarray, others: np.ndarray, mask: np.ndarray) -> float:
    """Correlation ratio: the share of the variance of a contrast that is a function of the other contrasts.

    Contrasts of one brain show one structure, so that most of each follows from the others, whatever the relation.
    Values are put into quantiles, so many that a voxel is not alone in its bin.

    Args:
        image: ``(X, Y)``.
        others: ``(M, X, Y)``.
        mask: where it counts ``(X, Y)``.

    Source: Roche et al. 1998 (doi:10.1007/BFb0056301), for several contrasts.
    """
    values, count = image[mask].astype(float), len(others)
    bins = max(2, min(BINS, int((len(values) / 50) ** (1 / count))))
    number = np.zeros(len(values), int)
    for other in others:
        inside = other[mask]
        number = number * bins + np.searchsorted(np.quantile(inside, np.arange(1, bins) / bins), inside)
    _, number = np.unique(number, return_inverse=True)
    sizes = np.bincount(number)
    means = np.bincount(number, values) / sizes
    total = values.var()
    return float((sizes * (means - values.mean()) ** 2).sum() / len(values) / total) if total else 1.0


def mutual_information(one: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    """Normalised mutual information ``(H(A) + H(B)) / H(A, B)``: 1 for independent, 2 for equal contrasts.

    Args:
        one: ``(X, Y)``, in :data:`BINS` bins of equal width from the lowest to the highest value.
        other: likewise.
        mask: where it counts ``(X, Y)``.

    Source: Studholme et al. 1999 (doi:10.1016/S0031-3203(98)00091-0).
    """
    joint = np.histogram2d(one[mask], other[mask], BINS)[0]
    joint /= joint.sum()

    def entropy(p: np.ndarray) -> float:
        p = p[p > 0]
        return float(-(p * np.log(p)).sum())

    both = entropy(joint)
    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / both if both else 2.0

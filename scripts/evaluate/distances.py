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

"""Distances between two sets of feature vectors: of generated images, and of real ones.

Shapes: N generated, M real, D features. All are float64 inside.
"""

import numpy as np
import torch
from monai.metrics import FIDMetric, MMDMetric

Array = np.ndarray


def frechet_distance(generated: Array, real: Array) -> float:
    """Fréchet distance of Gaussians fitted to two sets, the FID where features are Inception's; MONAI's.

    ``|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^(1/2))``. It depends on the number of images, most where they are fewer than
    features: compare distances of equally many.

    Args:
        generated: features ``(N, D)``, N from 2.
        real: features ``(M, D)``, M from 2.

    Source: Heusel et al. 2017, arXiv:1706.08500.
    """
    return float(FIDMetric()(*(torch.as_tensor(one, dtype=torch.float64) for one in (generated, real))))


def mean_discrepancy(generated: Array, real: Array) -> float:
    """Unbiased squared maximum mean discrepancy with the linear kernel, MONAI's; negative by chance.

    Args:
        generated: features ``(N, D)``, N from 2.
        real: as many ``(N, D)``.

    Source: Gretton et al. 2012, A kernel two-sample test, JMLR 13.
    """
    return float(MMDMetric()(*(torch.as_tensor(one, dtype=torch.float64) for one in (real, generated))))


def kernel_distance(generated: Array, real: Array) -> float:
    """Kernel inception distance: unbiased squared MMD with the kernel ``(x · y / D + 1)³``; negative by chance.

    Args:
        generated: features ``(N, D)``, N from 2.
        real: features ``(M, D)``, M from 2.

    Source: Bińkowski et al. 2018, arXiv:1801.01401.
    """
    x, y = np.asarray(generated, float), np.asarray(real, float)

    def kernel(a: Array, b: Array) -> Array:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Array) -> float:
        values = kernel(a, a)
        return (values.sum() - np.trace(values)) / (len(a) * (len(a) - 1))

    return float(within(x) + within(y) - 2 * kernel(x, y).mean())


def precision_recall(generated: Array, real: Array, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall: shares of one set inside the balls of the other.

    The ball around a feature vector reaches to its k-th neighbour in its own set. Precision is the share of generated
    vectors in at least one ball of a real one, recall the share of real vectors in one of a generated.

    Args:
        generated: features ``(N, D)``.
        real: features ``(M, D)``.
        neighbours: k, below N and M.

    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991.
    """
    between = distances(generated, real)
    precision = (between <= radii(real, neighbours)).any(1).mean()
    recall = (between.T <= radii(generated, neighbours)).any(1).mean()
    return float(precision), float(recall)


def density_coverage(generated: Array, real: Array, neighbours: int = 5) -> tuple[float, float]:
    """Density, how many balls of real vectors hold a generated one, over k; coverage, the share of balls with any.

    Density may exceed 1. For two sets of one distribution its expectation is 1, and that of coverage
    ``1 - (N - 1)…(N - k) / ((2N - 1)…(2N - k))`` with N = M, which is about ``1 - 2^-k``.

    Args:
        generated: features ``(N, D)``.
        real: features ``(M, D)``.
        neighbours: k, below M.

    Source: Naeem et al. 2020, arXiv:2002.09797.
    """
    inside = distances(generated, real) <= radii(real, neighbours)
    return float(inside.sum(1).mean() / neighbours), float(inside.any(0).mean())


def neighbour_ratio(generated: Array, held_out: Array, training: Array) -> tuple[float, float]:
    """How near samples come to what the generator learned from, as measured by real data that it never saw.

    Args:
        generated: features ``(N, D)``.
        held_out: features of the same kind of data, not trained on ``(M, D)``.
        training: features of the training data ``(T, D)``.

    Returns:
        Median distance of the generated to their nearest training vectors over that of the held-out: 0 for copies,
        about 1 for new ones. And the share of generated vectors that are nearer than the nearest 5 % of the held-out:
        about .05 for new ones, 1 for copies.
    """
    ours, theirs = (distances(one, training).min(1) for one in (generated, held_out))
    return float(np.median(ours) / np.median(theirs)), float((ours < np.quantile(theirs, 0.05)).mean())


def distances(one: Array, other: Array) -> Array:
    """Euclidean distances ``(N, M)`` between vectors ``(N, D)`` and ``(M, D)``."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return np.sqrt(squares.clip(0))


def radii(features: Array, neighbours: int) -> Array:
    """Distance of each vector ``(M,)`` to its k-th nearest neighbour in its own set."""
    found = distances(features, features)
    np.fill_diagonal(found, 0)
    # The nearest one is the vector itself.
    return np.partition(found, neighbours, axis=1)[:, neighbours]

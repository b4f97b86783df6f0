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

"""Distances of images in a space of features, diversity, and structure that contrasts have in common."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.metrics import MultiScaleSSIMMetric
from scipy import ndimage
from tqdm import tqdm

from ...acquisition import RenderRequest
from ...evaluate.anatomy import Row
from ...evaluate.distances import (
    density_coverage,
    frechet_distance,
    kernel_distance,
    mean_discrepancy,
    neighbour_ratio,
    precision_recall,
)
from ...evaluate.features import Features
from ...evaluate.similarity import explained_share, gradient_structure_similarity, mutual_information
from ...randomness import rng
from ...simulate.drawn import FAINT
from .groups import Group

BLUR, NOISE, BLOCKS = 1.5, 0.05, 4
"""Standard deviation of the blur [voxels] and of the noise, and blocks along each axis that are shuffled."""
FRECHET = "Fréchet distance"
"""A distance that is called FID where features are those of the Inception network."""
PRECISION, DENSITY = 3, 5
"""Neighbours behind precision and recall, and behind density and coverage, as published."""
LEAST = DENSITY + 2
SMALLEST = 176
"""Edge of the smallest image that MS-SSIM takes, with five scales and a window of 11 [voxels]."""


def distorted(seed: int) -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
    """What a distance should see: name -> function of contrasts ``(M, X, Y)`` and their number."""

    def blurred(images: np.ndarray, number: int) -> np.ndarray:
        return ndimage.gaussian_filter(images, (0, BLUR, BLUR))

    def mirrored(images: np.ndarray, number: int) -> np.ndarray:
        return images[:, ::-1].copy()

    def shuffled(images: np.ndarray, number: int) -> np.ndarray:
        mixed = images.copy()
        h, w = (size // BLOCKS for size in images.shape[1:])
        places = [(h * a, w * b) for a in range(BLOCKS) for b in range(BLOCKS)]
        for (x, y), (u, v) in zip(places, rng(seed, number).permutation(places)):
            mixed[:, x : x + h, y : y + w] = images[:, u : u + h, v : v + w]
        return mixed

    def noisy(images: np.ndarray, number: int) -> np.ndarray:
        noise = rng(seed, number, 1).standard_normal((2, *images.shape))
        return np.hypot(images + NOISE * noise[0], NOISE * noise[1]).clip(0, 1).astype(np.float32)

    return {"blurred": blurred, "mirrored": mirrored, "blocks shuffled": shuffled, "with noise": noisy}


def encode_groups(
    groups: dict[str, Group], features: Features, requests: Sequence[RenderRequest], unit: str
) -> dict[str, np.ndarray]:
    """Features ``(N, M, D)`` of each group.

    Those of the own encoder, whose scale means nothing, are standardised by the group with the name ``unit``.
    """
    shown = tqdm(groups.items(), "features of groups of slices")
    found = {name: encode(group, features, requests) for name, group in shown}
    if not features.own:
        return found
    mean, sd = found[unit].mean(0), found[unit].std(0) + 1e-9
    return {name: (vectors - mean) / sd for name, vectors in found.items()}


def distance_rows(groups: dict[str, np.ndarray], reference: np.ndarray, requests: Sequence[RenderRequest]) -> list[Row]:
    """Distances of groups from a reference, the means over contrasts, and the Fréchet distance of each contrast.

    All are cut to the same number of slices, evenly spread, since distances depend on it.

    Args:
        groups: name -> features ``(N, M, D)``.
        reference: features ``(N, M, D)``.
        requests: the contrasts.
    """
    count = min(len(reference), *map(len, groups.values()))
    real, rows = evenly(reference, count), []
    for name, vectors in groups.items():
        found = evenly(vectors, count)
        values = [
            {
                FRECHET: frechet_distance(x, y),
                "KID × 1000": 1000 * kernel_distance(x, y),
                "MMD": mean_discrepancy(x, y),
                **dict(zip(("precision", "recall"), precision_recall(x, y, PRECISION))),
                **dict(zip(("density", "coverage"), density_coverage(x, y, DENSITY))),
            }
            for x, y in zip(found.transpose(1, 0, 2), real.transpose(1, 0, 2))
        ]
        means = {measure: float(np.mean([one[measure] for one in values])) for measure in values[0]}
        each = {f"{FRECHET} {request.suffix}": one[FRECHET] for request, one in zip(requests, values)}
        rows.append({"": name, "slices": count, **means, **each})
    return rows


def encode(group: Group, features: Features, requests: Sequence[RenderRequest]) -> np.ndarray:
    """Features ``(N, M, D)`` of the contrasts of a group."""
    each = [features(group.images[:, number], one.acquisition) for number, one in enumerate(requests)]
    return np.stack(each, 1)


def evenly(values: np.ndarray, count: int) -> np.ndarray:
    """So many of the values, evenly spread."""
    return values[np.linspace(0, len(values) - 1, count).round().astype(int)]


def memory_row(generated: np.ndarray, held_out: np.ndarray, training: np.ndarray) -> Row:
    """Nearest training neighbours of features ``(N, ...)``, standardised by those of the training slices."""
    generated, held_out, training = (one.reshape(len(one), -1) for one in (generated, held_out, training))
    mean, sd = training.mean(0), training.std(0) + 1e-9
    ratio, near = neighbour_ratio(*((one - mean) / sd for one in (generated, held_out, training)))
    return {"ratio of distances": ratio, "nearer than 95 % of the held-out": near}


def diversity_row(group: Group, requests: Sequence[RenderRequest], pairs: int, seed: int) -> Row:
    """Similarity of random pairs of slices of different heads: the lower, the more diverse; mean and its error.

    Every pair is of one contrast, one after the other. MS-SSIM halves an image four times: smaller ones have none.
    """
    random, found = rng(seed, 2), {"4-G-R-SSIM": [], "MS-SSIM": []}
    metric = MultiScaleSSIMMetric(spatial_dims=2, data_range=1.0)
    several, large = len(set(group.heads)) > 1, min(group.images.shape[2:]) >= SMALLEST
    bar = tqdm(total=pairs, desc=f"pairs of {group.name}")
    while len(found["4-G-R-SSIM"]) < pairs:
        first, second = random.integers(len(group), size=2)
        if first == second or (several and group.heads[first] == group.heads[second]):
            continue
        one, other = (group.images[n, len(found["4-G-R-SSIM"]) % len(requests)] for n in (first, second))
        found["4-G-R-SSIM"].append(gradient_structure_similarity(one, other))
        bar.update()
        if large:
            found["MS-SSIM"].append(float(metric(*(torch.from_numpy(image)[None, None] for image in (one, other)))))
    bar.close()
    row: Row = {"": group.name, "pairs": pairs}
    for name, values in found.items():
        if not values:
            continue
        row |= {name: float(np.mean(values)), f"± {name}": float(np.std(values) / pairs**0.5)}
    return row


def structure_row(group: Group, requests: Sequence[RenderRequest]) -> Row:
    """What the contrasts of one brain have in common, the means over slices.

    The mean mutual information of pairs of contrasts, and the share of the variance of each that follows from the
    others.
    """
    shares, information = [], []
    for images in tqdm(group.images, f"structure of {group.name}"):
        mask = (images > FAINT).any(0)
        shares.append([explained_share(one, np.delete(images, n, 0), mask) for n, one in enumerate(images)])
        couples = [(a, b) for a in range(len(images)) for b in range(a)]
        information.append(np.mean([mutual_information(images[a], images[b], mask) for a, b in couples]))
    means = dict(zip((f"{one.suffix} from the others" for one in requests), np.mean(shares, 0).tolist()))
    return {"": group.name, "slices": len(group), "mutual information": float(np.mean(information)), **means}

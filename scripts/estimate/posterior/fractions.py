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

"""What a voxel consists of: shares of tissues, from the responsibilities of the components."""

import numpy as np

from .mixture import FLUID, NETWORK, Mixture

CLASSES = ("WM", "GM", "CSF", "lesion", "other")
"""Tissues of the fractions, in their order."""
BETWEEN = {"mixed": ("WM", "GM"), "part": ("GM", FLUID)}
"""Components that stand for voxels between two others; their T1 says how near they are to each."""
LIKELY, APART = 0.25, 0.4
"""Two components with at least this responsibility each, whose ln T1 or ln T2 are this far apart, make two modes."""


def fractions(
    mixture: Mixture, means: np.ndarray, weight: np.ndarray, component: np.ndarray, fluid: np.ndarray
) -> np.ndarray:
    """Shares of :data:`CLASSES` in each voxel ``(N, 5)``, which add up to 1.

    Args:
        mixture: the components.
        means: of the Gaussians, shifted as in this head ``(C, 3)``.
        weight: of the components ``(K,)``.
        component: responsibility, and with it as factor mean ln PD, ln T1, ln T2 of each component ``(N, K, 4)``.
        fluid: share of fluid in voxels with several tissues ``(N,)``.
    """
    names = mixture.names
    plain = component[:, : mixture.gaussians, 0].copy()
    if mixture.network:
        plain += component[:, -1:, 0] * _alike(mixture, means, weight, component[:, -1])
    shares = {name: 0 for name in CLASSES} | {FLUID: fluid}
    for k, name in enumerate(names[: mixture.gaussians]):
        if name in BETWEEN and set(BETWEEN[name]) <= set(names):
            near, far = (means[names.index(end), 1] for end in BETWEEN[name])
            t1 = component[:, k, 2] / np.maximum(component[:, k, 0], 1e-6)
            # Rates of relaxation add up, each with the share of its tissue.
            toward = np.clip((np.exp(-near) - np.exp(-t1)) / (np.exp(-near) - np.exp(-far)), 0, 1)
            for end, share in zip(BETWEEN[name], (1 - toward, toward)):
                shares[end] = shares[end] + plain[:, k] * share
        else:
            into = name if name in shares else "other"
            shares[into] = shares[into] + plain[:, k]
    both = component[:, mixture.gaussians : mixture.gaussians + len(mixture.partial), 0]
    rest = np.maximum(both.sum(1) - fluid, 0) / np.maximum(both.sum(1), 1e-6)
    for entry, own in zip(mixture.partial.values(), both.T):
        shares[entry["of"]] = shares[entry["of"]] + own * rest
    whole = np.stack([np.broadcast_to(shares[name], fluid.shape) for name in CLASSES], 1)
    return (whole / np.maximum(whole.sum(1, keepdims=True), 1e-6)).astype(np.float32)


def _alike(mixture: Mixture, means: np.ndarray, weight: np.ndarray, network: np.ndarray) -> np.ndarray:
    """Which Gaussians are likeliest where the network's component is ``(N, C)``."""
    d = network[:, None, 1:] / np.maximum(network[:, None, :1], 1e-6) - means.astype(np.float32)
    square = np.einsum("nki,kij,nkj->nk", d, mixture.precision.astype(np.float32), d, optimize=True)
    log = np.log(weight[: mixture.gaussians]) + 0.5 * np.linalg.slogdet(mixture.precision)[1] - 0.5 * square
    likely = np.exp(log - log.max(1, keepdims=True))
    return likely / likely.sum(1, keepdims=True)


def bimodal(mixture: Mixture, component: np.ndarray) -> np.ndarray:
    """Whether two tissues far from each other explain a voxel about as well ``(N,)``; arguments as above."""
    shown = [k for k, name in enumerate(mixture.names) if name not in (*mixture.partial, NETWORK)]
    responsibility = component[:, shown, 0]
    times = component[:, shown, 2:] / np.maximum(responsibility[:, :, None], 1e-6)
    if len(shown) < 2:
        return np.zeros(len(component), bool)
    first, second = np.argsort(responsibility, 1)[:, :-3:-1].T
    row = np.arange(len(component))
    apart = np.abs(times[row, first] - times[row, second]).max(1) > APART
    return apart & (responsibility[row, second] > LIKELY)

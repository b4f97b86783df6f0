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

"""Heads without anatomy for the tests of the posterior: voxels drawn from its own prior."""

from collections.abc import Sequence

import numpy as np
import torch

from scripts.acquisition import Acquisition
from scripts.estimate.posterior.head import Errors, Head
from scripts.estimate.posterior.mixture import COMPONENTS, Common, Mixture
from scripts.estimate.posterior.scanner import Scanner, usable_scans

IR = Acquisition("inversion_recovery", te=0.01, tr=4.0, ti=0.5)
SE_SHORT = Acquisition("spin_echo", te=0.01, tr=4.0, flip_angle=90.0)
SE_LONG = Acquisition("spin_echo", te=0.09, tr=4.0, flip_angle=90.0)
MPRAGE = Acquisition(
    "mprage",
    te=0.003,
    tr=2.3,
    ti=0.9,
    flip_angle=8.0,
    echo_train_length=176.0,
    echo_spacing=0.007,
    echoes_before_centre=88.0,
    provenance={"flip_angle": "assumed"},
)
NETWORK_COVARIANCE = np.array([[0.004, 0.001, 0.0], [0.001, 0.01, 0.002], [0.0, 0.002, 0.02]])


def make_head(
    acquisitions: Sequence[Acquisition],
    groups: Sequence[int],
    network: bool = False,
    tissues: Sequence[str] = tuple(COMPONENTS),
    voxels: int = 60,
    errors: Errors = Errors(),
    noise: float = 0.01,
    image: torch.Tensor | None = None,
    typical: float | None = None,
) -> Head:
    """A head whose voxels are drawn from the Gaussians of the prior, with their weights.

    Args:
        acquisitions: of its scans.
        groups: the gain of each.
        network: whether the mixture has the network's component; it is 8 % off.
        tissues: of the mixture.
        voxels: their number.
        errors: of the images; they have twice the relative error that each has by itself.
        noise: standard deviation, over the typical magnitude.
        image: magnitudes ``(S, N)`` instead of those of drawn voxels.
        typical: typical magnitude of all scans; None for the median of each.
    """
    stream = torch.Generator().manual_seed(7)
    scanner = Scanner(usable_scans(torch.stack([one.to_row() for one in acquisitions])), groups, (0.93, 0.05), 0.07)
    mixture = Mixture(Common(), 0.3 if network else 0.0, 3.0, tissues)
    if image is not None:
        voxels = image.shape[1]
    drawn = torch.multinomial(
        torch.from_numpy(mixture.weight[: mixture.gaussians]), voxels, replacement=True, generator=stream
    )
    root = np.linalg.cholesky(mixture.covariance)[drawn.numpy()]
    maps = mixture.mean[drawn.numpy()] + (root @ torch.randn(voxels, 3, 1, generator=stream).double().numpy())[..., 0]
    maps[:, 2] = np.minimum(maps[:, 2], maps[:, 1])
    if image is None:
        error = 2 * errors.own * torch.randn(len(groups), voxels, generator=stream)
        image = magnitudes(scanner, maps) * torch.exp(error)
    typical = image.median(1).values if typical is None else torch.full((len(image),), typical)
    image = (image + noise * typical[:, None] * torch.randn(image.shape, generator=stream)).abs() * (image > 0)
    estimate = None
    if network:
        off = maps + 0.08 * torch.randn(voxels, 3, generator=stream).double().numpy()
        estimate = off, np.tile(NETWORK_COVARIANCE, (voxels, 1, 1))
    return Head(image, scanner, noise * typical, typical, mixture, errors, estimate)


def magnitudes(scanner: Scanner, maps: np.ndarray) -> torch.Tensor:
    """What the scans of voxels with ln PD, ln T1, ln T2 ``(N, 3)`` are without noise, with gains of 1 ``(S, N)``."""
    maps = torch.from_numpy(maps.T).float()
    return scanner.predict(maps[1:], scanner.expected()).signal.abs() * maps[0].exp()

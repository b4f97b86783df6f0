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

"""From slices to maps with their uncertainty: the network, data consistency after it, and what needs no network."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from ..acquisition import UNKNOWN, Acquisition
from ..estimate import Posterior
from ..estimate.choice import choose
from ..estimate.posterior import CLASSES
from ..estimate.scans import Scans as SessionScans
from ..preprocess import ScaleContrastsd
from ..tissue import Estimate

FLAT, MIXTURE, NETWORK, BOTH = "flat prior", "mixture without network", "network", "network + data consistency"
"""Ways to estimate: a prior that hardly says anything; tissues; the network alone; all together, as shipped."""


class Scans(NamedTuple):
    """What an estimator is given: images ``(1, M, X, Y, S)`` in the scanner's units, rows ``(1, M, A)``, the head
    ``(1, X, Y, S)``, and which gain each scan has ``(1, M)``."""

    image: Tensor
    acquisition: Tensor
    mask: Tensor
    gains: Tensor


class Found(NamedTuple):
    """Estimate of all slices ``(1, 3, X, Y, S)``; share of fluid ``(X, Y, S)`` and of all
    :data:`scripts.estimate.posterior.CLASSES` ``(K, X, Y, S)`` where they are known."""

    estimate: Estimate
    fluid: Tensor | None = None
    shares: Tensor | None = None


Estimator = Callable[[Scans], Found]
"""Scans of slices -> what is found in them."""


class NetworkEstimator:
    """The network on one slice after the other, scaled together.

    Args:
        network: with ``estimate(image (B, M, X, Y), rows (B, M, A))``.
        unknown: hide the acquisition from it.
    """

    def __init__(self, network: nn.Module, unknown: bool = False) -> None:
        self.network, self.unknown = network, unknown

    @torch.no_grad()
    def __call__(self, scans: Scans) -> Found:
        scaled = scale(scans.image[0], scans.mask)
        rows = unknown_rows(scans.acquisition) if self.unknown else scans.acquisition
        slices = [self.network.estimate(one[None], rows) for one in scaled.unbind(-1)]
        return Found(Estimate(*(torch.stack(parts, -1) for parts in zip(*slices))))


def refine(found: Found, scans: Scans, posterior: Posterior | None = None) -> Found:
    """The posterior from a network's estimate, with the gains of the whole stack of slices.

    Slices go side by side into one image: neighbours in the stack are none in the head, and the noise of a scan is read
    from differences of neighbours.
    """
    fit = (posterior or Posterior())(
        Estimate(*map(_side_by_side, found.estimate)),
        _side_by_side(scans.image)[0],
        scans.acquisition[0],
        _side_by_side(scans.mask[None])[0, 0],
        scans.gains[0].tolist(),
    )
    count = scans.mask.shape[-1]
    estimate, shares = (_stacked(part, count) for part in fit.estimate), _stacked(fit.fractions, count)
    return Found(Estimate(*estimate), shares[CLASSES.index("CSF")], shares)


def by_evidence(network: nn.Module, acquisitions: Sequence[Acquisition], posterior: Posterior) -> Estimator:
    """The posterior with those of the acquisitions' alternatives that explain the scans best; prints which they are."""

    def estimate(scans: Scans) -> Found:
        start = NetworkEstimator(network, unknown=True)(scans).estimate
        image, mask = _side_by_side(scans.image), _side_by_side(scans.mask[None])
        as_they_are = torch.tensor([-1.0, 1.0]).expand(1, len(acquisitions), 2)
        session = SessionScans(image, as_they_are, scans.acquisition, scans.gains[0].tolist(), mask)
        names = [f"scan {number}" for number in range(len(acquisitions))]
        chosen, about = choose(posterior, Estimate(*map(_side_by_side, start)), session, acquisitions, names)
        print(about)
        scans = scans._replace(acquisition=torch.stack([one.to_row() for one in chosen])[None])
        return refine(NetworkEstimator(network)(scans), scans, posterior)

    return estimate


def estimators(network: nn.Module, posterior: Posterior | None = None) -> dict[str, Estimator]:
    """The ways to estimate that are compared; all start from the gains that the network's estimate gives."""
    alone, together = NetworkEstimator(network), posterior or Posterior()
    return {
        FLAT: lambda scans: refine(alone(scans), scans, Posterior(network=0.0, tissues=["other"])),
        MIXTURE: lambda scans: refine(alone(scans), scans, Posterior(network=0.0)),
        NETWORK: alone,
        BOTH: lambda scans: refine(alone(scans), scans, together),
    }


def _side_by_side(stack: Tensor) -> Tensor:
    """``(..., X, Y, S) -> (..., S X, Y)``."""
    return stack.movedim(-1, -3).flatten(-3, -2)


def _stacked(image: Tensor, count: int) -> Tensor:
    """``(..., S X, Y) -> (..., X, Y, S)``."""
    return image.unflatten(-2, (count, -1)).movedim(-3, -1)


def scale(image: Tensor, mask: Tensor) -> Tensor:
    """Scans ``(M, X, Y, S)`` scaled as for training and inference, by percentiles inside the mask ``(1, X, Y, S)``."""
    return ScaleContrastsd()({"image": MetaTensor(image), "mask": mask.float()})["image"].as_tensor()


def unknown_rows(rows: Tensor) -> Tensor:
    """Rows of as many scans of which nothing is known ``(..., A)``."""
    return Acquisition(UNKNOWN).to_row().to(rows).expand_as(rows)


def subset(scans: Scans, numbers: Sequence[int]) -> Scans:
    """Some of the scans."""
    chosen = list(numbers)
    return Scans(scans.image[:, chosen], scans.acquisition[:, chosen], scans.mask, scans.gains[:, chosen])

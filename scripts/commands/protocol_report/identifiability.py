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

"""What a set of scans can tell about a tissue: Cramér-Rao bounds, and what no number of voxels determines.

Unknown of a voxel are ``ln PD, ln T1, ln T2``; unknown of the scans are the logarithms of their gains. The bounds are
those of an unbiased estimate, so they assume that the signal equations are right.

Shapes: M acquisitions, N tissues, maps ``(N, 3)`` of PD, T1 [s], T2 [s]. Everything runs in float64.
"""

from collections.abc import Sequence
from math import inf, nan
from typing import NamedTuple

import torch
from torch import Tensor

from ...acquisition import Acquisition
from ...render import T2_STAR_RATIO
from ...signal import SEQUENCES

PRIOR_SD = (0.15, 0.35, 0.35)
"""Standard deviation of ln PD, ln T1, ln T2 within one tissue, before any scan."""
SNR = 50.0
"""Signal-to-noise ratio of every scan, in the brighter of white and grey matter."""
SINGULAR = 1e-9
"""Singular values below this share of the largest are zero."""


class Bounds(NamedTuple):
    """Smallest possible errors of ln PD, ln T1, ln T2 of one tissue.

    Attributes:
        sd: standard deviations ``(3,)``; infinite where the scans (and the prior) say nothing.
        correlation: of the errors ``(3, 3)``; NaN where a standard deviation is infinite.
    """

    sd: Tensor
    correlation: Tensor


class FreeDirections(NamedTuple):
    """Changes of all maps and gains together that leave every scan exactly as it is.

    Attributes:
        count: how many independent ones there are for N tissues.
        per_voxel: how many there are in each voxel even where all gains are known.
        common_scale: whether PD of everything against all gains is one of them.
        r2_shift: whether 1/T2 of everything against the gains is one of them: ``R2 -> R2 + c, G_i -> G_i exp(c TE_i)``.
    """

    count: int
    per_voxel: int
    common_scale: bool
    r2_shift: bool


def sensitivities(acquisitions: Sequence[Acquisition], maps: Tensor, b1: float = 1.0) -> tuple[Tensor, Tensor]:
    """Signals at unit gain ``(N, M)`` and their derivatives by ln PD, ln T1, ln T2 ``(N, M, 3)``, by autograd.

    A gradient echo decays with ``T2* = T2_STAR_RATIO T2``. The derivative by ln PD is also that by the logarithm of
    the gain: both are zero for an image without a scale, such as the MP2RAGE uniform image.

    Args:
        acquisitions: M acquisitions.
        maps: PD, T1 [s], T2 [s] of N tissues ``(N, 3)``.
        b1: B1+ relative to nominal.
    """
    logs = maps.double().log().requires_grad_()
    pd, t1, t2 = logs.exp().unbind(1)
    signals = []
    for acquisition in acquisitions:
        sequence = SEQUENCES[acquisition.sequence]
        fields = {name: logs.new_tensor(getattr(acquisition, name)) for name in sequence.fields}
        options = {"t2_star": T2_STAR_RATIO * t2, "b1": logs.new_tensor(b1)}
        fields |= {name: value for name, value in options.items() if name in sequence.options}
        signals.append(sequence.signal(pd, t1, t2, **fields))
    jacobian = [torch.autograd.grad(signal.sum(), logs, retain_graph=True)[0] for signal in signals]
    return torch.stack(signals, 1).detach(), torch.stack(jacobian, 1)


def log_sensitivities(acquisitions: Sequence[Acquisition], maps: Tensor) -> Tensor:
    """Derivatives of the log signals by ln PD, ln T1, ln T2: ``(N, M, 3)``; infinite where a signal is zero."""
    signals, jacobian = sensitivities(acquisitions, maps)
    return jacobian / signals[..., None]


def condition_number(acquisitions: Sequence[Acquisition], maps: Tensor) -> Tensor:
    """Largest over smallest singular value of :func:`log_sensitivities` ``(N,)``: by how much errors may grow.

    It is infinite where fewer than three scans, or scans that say the same, leave a combination undetermined.
    """
    if len(acquisitions) < 3:
        return torch.full((len(maps),), inf, dtype=torch.float64)
    singular = torch.linalg.svdvals(log_sensitivities(acquisitions, maps))
    ratio = singular[:, -1] / singular[:, 0]
    return torch.where(ratio > SINGULAR, 1 / ratio, inf)


def noise_levels(acquisitions: Sequence[Acquisition], anchors: Tensor, snr: float = SNR) -> Tensor:
    """Standard deviation of the noise of each scan ``(M,)``: the largest signal of the anchor tissues over ``snr``.

    For an image that is made of two others and has no scale (MP2RAGE) it is ``1 / snr``: with images ``S1, S2`` of
    noise sigma, ``UNI = sin(2 phi) / 2`` where ``tan(phi) = S1 / S2``, and phi is known to ``sigma / |S|``.

    Args:
        acquisitions: M acquisitions.
        anchors: tissues ``(N, 3)`` that set the level.
        snr: signal-to-noise ratio there.
    """
    brightest = sensitivities(acquisitions, anchors)[0].abs().amax(0)
    without_scale = torch.tensor([SEQUENCES[acquisition.sequence].signed for acquisition in acquisitions])
    return torch.where(without_scale, 1.0, brightest) / snr


def independent_prior(sd: Sequence[float] = PRIOR_SD) -> Tensor:
    """A prior that knows ln PD, ln T1 and ln T2 each to a standard deviation, for :func:`bounds`."""
    return torch.tensor(sd, dtype=torch.float64).reciprocal().diag()


def bounds(
    acquisitions: Sequence[Acquisition],
    tissue: Tensor,
    noise: Tensor,
    gain_sd: float = 0.0,
    prior: Tensor | None = None,
    gains: Sequence[int] | None = None,
) -> Bounds:
    """Cramér-Rao bounds of one tissue: the inverse of the Fisher information, the gains marginalised.

    With signals ``g_i s_i(ln PD, ln T1, ln T2)`` and Gaussian noise the information is ``K^T K``, where the rows of K
    are the derivatives of the signals over the noise, one row ``1 / gain_sd`` per gain, and the rows of the prior.

    Args:
        acquisitions: M acquisitions.
        tissue: PD, T1 [s], T2 [s] ``(3,)``.
        noise: standard deviation of the noise of each scan ``(M,)``.
        gain_sd: standard deviation of the logarithm of a gain: 0 where gains are known, ``inf`` where they are free.
        prior: rows ``(R, 3)``; each is a combination of ln PD, ln T1, ln T2 that is known to a standard deviation of 1.
        gains: which gain each scan has ``(M,)``; scans with the same number share one. None gives each its own.
    """
    jacobian = sensitivities(acquisitions, tissue[None])[1][0] / noise[:, None]
    shares = _shares(len(acquisitions), gains)[:, : None if gain_sd else 0]
    known = torch.eye(shares.shape[1], dtype=torch.float64) / (gain_sd or 1)
    prior = jacobian.new_zeros(0, 3) if prior is None else prior
    rows = [
        torch.cat([jacobian, jacobian[:, :1] * shares], 1),
        torch.cat([known.new_zeros(len(known), 3), known], 1),
        torch.cat([prior, prior.new_zeros(len(prior), shares.shape[1])], 1),
    ]
    return _invert(torch.cat(rows))


def gain_bias(acquisitions: Sequence[Acquisition], tissue: Tensor, noise: Tensor) -> Tensor:
    """Derivatives of the estimates of ln PD, ln T1, ln T2 by the ln gain of each scan that is taken for 1: ``(3, M)``.

    The estimate is the weighted least-squares fit without prior; arguments as for :func:`bounds`.
    """
    jacobian = sensitivities(acquisitions, tissue[None])[1][0] / noise[:, None]
    return torch.linalg.pinv(jacobian) * jacobian[:, 0]


def free_directions(
    acquisitions: Sequence[Acquisition], maps: Tensor, gains: Sequence[int] | None = None
) -> FreeDirections:
    """What N tissues and the unknown gains of M scans can do together without changing any scan.

    The count is the number of unknowns, ``3 N`` plus the gains, less the rank of the derivatives of all log signals.

    Args:
        acquisitions: M acquisitions.
        maps: N tissues ``(N, 3)``, more than the gains and all different.
        gains: which gain each scan has, as for :func:`bounds`.
    """
    jacobian = log_sensitivities(acquisitions, maps)
    tissues, scans = jacobian.shape[:2]
    # A tissue near the null of a scan has huge derivatives there; the rank does not depend on the length of a row.
    jacobian = jacobian / (length := jacobian.norm(dim=2, keepdim=True).clamp_min(1))
    of_gains = (_shares(scans, gains) / length).flatten(0, 1)
    of_maps = torch.block_diag(*jacobian)
    rank = int(torch.linalg.matrix_rank(torch.cat([of_maps, of_gains], 1), rtol=SINGULAR))
    directions = torch.zeros(tissues, 3, 2, dtype=torch.float64)
    directions[:, 0, 0], directions[:, 2, 1] = 1, -maps[:, 2]
    changes = of_maps @ directions.flatten(0, 1)
    left = changes - of_gains @ torch.linalg.lstsq(of_gains, changes).solution
    common, shift = (left.norm(dim=0) < 1e-6 * changes.norm(dim=0).clamp_min(1e-12)).tolist()
    per_voxel = 3 - int(torch.linalg.matrix_rank(jacobian, rtol=SINGULAR).max())
    return FreeDirections(3 * tissues + of_gains.shape[1] - rank, per_voxel, common, shift)


def _shares(scans: int, gains: Sequence[int] | None) -> Tensor:
    """Which scan (row) has which gain (column), as zeros and ones."""
    gains = range(scans) if gains is None else gains
    return torch.tensor([[float(gain == other) for other in sorted(set(gains))] for gain in gains]).double()


def _invert(rows: Tensor) -> Bounds:
    """Bounds of the first three unknowns from the rows K of the information ``K^T K``."""
    _, singular, vectors = torch.linalg.svd(rows, full_matrices=True)
    singular = torch.nn.functional.pad(singular, (0, rows.shape[1] - len(singular)))
    free = singular <= SINGULAR * singular[0]
    undetermined = (vectors[free, :3] ** 2).sum(0) > SINGULAR
    scaled = vectors[~free, :3] / singular[~free, None]
    covariance = scaled.T @ scaled
    sd = covariance.diag().sqrt().masked_fill(undetermined, inf)
    product = sd[:, None] * sd
    return Bounds(sd, (covariance / product).masked_fill(product.isinf(), nan))

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

"""Training losses of the physics VAE: small callables; their weights stand in the config."""

import torch
from monai.losses import JukeboxLoss, PerceptualLoss
from monai.utils import optional_import
from torch import Tensor, nn

from ..acquisition import present
from ..errors import UserError

PD_OF_AIR = 0.01
"""PD that stands for air in a log map. Below it nothing is asked of the network."""


def map_error(log_maps: Tensor, maps: Tensor, mask: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Mean absolute error of the log maps inside the head; outside, PD alone is held at :data:`PD_OF_AIR` or below.

    Args:
        log_maps: predicted ln PD, ln T1, ln T2 ``(B, 3, ...)``.
        maps: true PD, T1 [s], T2 [s] ``(B, 3, ...)``; 0 where undefined.
        mask: foreground ``(B, 1, ...)``.
        weight: of each voxel ``(B, 1, ...)``.
    """
    tissue = weight * mask * (maps.amin(1, keepdim=True) > 0)
    inside = (log_maps - maps.clamp_min(1e-6).log()).abs() * tissue
    air = (log_maps[:, :1] - torch.tensor(PD_OF_AIR).log()).clamp_min(0) * (1 - mask)
    return inside.sum() / (3 * tissue.sum()).clamp_min(1) + air.sum() / (1 - mask).sum().clamp_min(1)


def spread_error(spread: Tensor, log_maps: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood of the errors of the log maps under their covariance ``L L^T``, mean over tissue.

    ``sum_i ln L_ii + |L^-1 (ln maps - log_maps)|^2 / 2``. The errors carry no gradient: the maps answer to
    :func:`map_error` alone, the covariance to this.

    Args:
        spread: L00, L10, L11, L20, L21, L22 ``(B, 6, ...)``.
        log_maps: predicted ln PD, ln T1, ln T2 ``(B, 3, ...)``.
        maps: true PD, T1 [s], T2 [s] ``(B, 3, ...)``; 0 where undefined.
        mask: foreground ``(B, 1, ...)``.
    """
    tissue = mask[:, 0] * (maps.amin(1) > 0)
    e0, e1, e2 = (maps.clamp_min(1e-6).log() - log_maps.detach()).clamp(-5, 5).unbind(1)
    l00, l10, l11, l20, l21, l22 = spread.unbind(1)
    r0 = e0 / l00
    r1 = (e1 - l10 * r0) / l11
    r2 = (e2 - l20 * r0 - l21 * r1) / l22
    nll = l00.log() + l11.log() + l22.log() + (r0**2 + r1**2 + r2**2) / 2
    return (nll * tissue).sum() / tissue.sum().clamp_min(1)


def reconstruction_error(signal: Tensor, target: Tensor, acquisition: Tensor, power: int = 1) -> Tensor:
    """Mean of ``|signal - target| ** power`` over the contrasts that exist; tensors ``(B, M, ...)``."""
    exists = present(acquisition)
    return (signal[exists] - target[exists]).abs().pow(power).mean()


def perceptual_loss(kind: str, spatial_dims: int = 2, device: torch.device | str = "cpu") -> nn.Module:
    """A perceptual loss of image pairs ``(N, 1, ...)`` in [-1, 1].

    Args:
        kind: ``alexnet`` (the paper, an optional extra, see :func:`alexnet_perceptual`) or ``spectral``, MONAI's
            ``JukeboxLoss`` of amplitudes in the frequency domain, which needs no weights.
        spatial_dims: 2 or 3.
        device: of AlexNet.

    Raises:
        UserError: for another kind, or when AlexNet is not there.
    """
    if kind == "spectral":
        return JukeboxLoss(spatial_dims)
    if kind == "alexnet":
        return alexnet_perceptual(spatial_dims, device)
    raise UserError("perceptual", repr(kind), "use alexnet or spectral")


def alexnet_perceptual(spatial_dims: int = 2, device: torch.device | str = "cpu") -> nn.Module:
    """The paper's perceptual loss, LPIPS with AlexNet, an optional extra.

    Raises:
        UserError: when the packages or the network's weights are not there.
    """
    missing = [package for package in ("lpips", "torchvision") if not optional_import(package)[1]]
    without = "give --perceptual spectral or --loss_weights::perceptual 0"
    if missing:
        # lpips by itself would replace torch by another build.
        install = "pip install --no-deps lpips torchvision, the latter in a build for the installed torch, or"
        found = f"no package {' and '.join(missing)}"
        raise UserError("perceptual loss 'alex'", found, f"{install} {without}")
    try:
        return PerceptualLoss(spatial_dims, network_type="alex", is_fake_3d=spatial_dims == 3).to(device)
    except Exception as error:
        what = f"no AlexNet weights ({' '.join(str(error).split())})"
        raise UserError("perceptual loss 'alex'", what, f"download them once, or {without}") from error

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


"""Rendered contrasts against measured ones: in the head with sound definitions, and as the paper's table has it."""

import numpy as np
import torch
import torch.nn.functional as F
from monai.metrics import MultiScaleSSIMMetric, PSNRMetric
from monai.metrics.regression import compute_ssim_and_cs
from scipy.optimize import isotonic_regression
from torch import Tensor

from ..acquisition import present
from ..render import SignalModel, profile_gain, share_beside_fluid

WINDOW, SIGMA = 11, 1.5
"""Window of SSIM [voxels] and the standard deviation of its Gaussian."""
KERNEL, SCALES = 4, 5
"""Kernel of the published MS-SSIM [voxels], and how many scales it has."""
PUBLISHED = ("MSE", "MAE", "MS-SSIM", "PSNR")
"""What :func:`published_scores` computes."""


def render(log_maps: Tensor, rows: Tensor, mask: Tensor, fluid: Tensor | None = None) -> Tensor:
    """Magnitude contrasts ``(M, X, Y, S)`` of log maps ``(3, X, Y, S)``, 0 outside the mask ``(X, Y, S)``.

    Args:
        log_maps: the maps.
        rows: acquisitions ``(M, A)``.
        mask: the head or the brain.
        fluid: share of fluid in each voxel ``(X, Y, S)``, which counts in and beside regions of fluid of the stack;
            None for voxels of one T1 and T2.
    """
    share = None if fluid is None else torch.from_numpy(share_beside_fluid(fluid.numpy()))[None]
    return SignalModel()(log_maps.exp()[None], rows[None], fluid=share, mask=mask[None])[0]


def with_gain(target: Tensor, signal: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
    """Contrasts ``(M, X, Y, S)``, each with the gain that fits the target best inside the mask."""
    gain = profile_gain((target * mask)[None], (signal * mask)[None], rows[None])[0]
    return signal * gain.view(-1, 1, 1, 1)


def nrmse(target: Tensor, image: Tensor, mask: Tensor) -> float:
    """Root mean square of the difference over that of the target, inside the mask; images ``(X, Y, S)``."""
    inside = mask > 0
    return float((image - target)[inside].norm() / target[inside].norm())


def correlation(target: Tensor, image: Tensor, mask: Tensor) -> float:
    """Pearson's, inside the mask."""
    inside = mask > 0
    return float(torch.corrcoef(torch.stack([target[inside], image[inside]]))[0, 1])


def ssim(target: Tensor, image: Tensor, mask: Tensor) -> float:
    """Structural similarity of axial slices ``(X, Y, S)``, the mean over the voxels of a mask.

    Both images are 0 outside the mask and divided by the target's 99.5 percentile inside; Gaussian window of 11 x 11
    with a standard deviation of 1.5, K1 .01, K2 .03, range 1: MONAI's, padded by zeros to the size of the image.

    Args:
        target: the true contrast.
        image: the other, gain included.
        mask: the head or the brain.
    """
    inside = mask > 0
    top = torch.quantile(target[inside][:: max(1, int(inside.sum()) // 2**23)], 0.995).clamp_min(1e-9)
    slices = [F.pad((x * inside / top).movedim(-1, 0)[:, None], [WINDOW // 2] * 4) for x in (image, target)]
    values = compute_ssim_and_cs(*slices, spatial_dims=2, kernel_size=[WINDOW] * 2, kernel_sigma=[SIGMA] * 2)[0]
    return float(values[:, 0].movedim(0, -1)[inside].mean())


def published_scores(signal: Tensor, target: Tensor, rows: Tensor) -> dict[str, float]:
    """MSE, MAE, MS-SSIM and PSNR of one batch as in Table 1 of Luepke et al. 2024 (arXiv:2409.13532).

    They have flaws, which are kept: contrasts that a subject lacks count as images that were met exactly (MSE and MAE
    over the padded tensor), the range of PSNR is that of the whole batch, and for MS-SSIM (kernel 4) reconstructions
    and measured contrasts are each scaled to [0, 1] by the extremes of the whole batch. Smaller images than five scales
    need have no MS-SSIM.

    Args:
        signal: rendered contrasts ``(B, M, ...)`` in raw units.
        target: measured ones.
        rows: acquisitions ``(B, M, A)``; zero for an absent contrast.
    """
    exists = present(rows).view(*rows.shape[:2], *[1] * (signal.ndim - 2))
    signal, target = signal * exists, target * exists
    span = float(target.max() - target.min())
    scores = {
        "MSE": float((signal - target).square().mean()),
        "MAE": float((signal - target).abs().mean()),
        "PSNR": float(PSNRMetric(max_val=span)(signal[None], target[None])),
    }
    if min(target.shape[2:]) > KERNEL * 2 ** (SCALES - 1):
        scaled = [(x - x.min()) / (x.max() - x.min()).clamp_min(1e-12) for x in (signal, target)]
        metric = MultiScaleSSIMMetric(spatial_dims=target.ndim - 2, data_range=1.0, kernel_size=KERNEL)
        scores["MS-SSIM"] = float(metric(*scaled).mean())
    return scores


def closest_rescaled(target: Tensor, inputs: Tensor, mask: Tensor) -> tuple[int, Tensor, Tensor]:
    """The input that resembles the target most, fitted to it: by a straight line, and by any monotone curve.

    Both know the target, the curve with thousands of free values; they say what a change of grey scale can do at most.

    Args:
        target: the true contrast ``(X, Y, S)``.
        inputs: other contrasts ``(M, X, Y, S)``.
        mask: the head or the brain.

    Returns:
        Number of the input, and both images.
    """
    best = int(np.argmax([abs(correlation(target, one, mask)) for one in inputs]))
    x, y = (one[mask].double().numpy() for one in (inputs[best], target))
    slope, offset = np.polyfit(x, y, 1)
    order = np.argsort(x, kind="stable")
    curve = np.empty_like(y)
    curve[order] = isotonic_regression(y[order], increasing=bool(slope > 0)).x
    images = torch.zeros(2, *target.shape)
    for image, values in zip(images, (slope * x + offset, curve)):
        image[mask] = torch.from_numpy(values).float()
    return best, *images

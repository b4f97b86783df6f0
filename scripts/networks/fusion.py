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

"""Fusion of the Gaussians of single contrasts into one, and its divergence from the prior."""

import torch
from torch import Tensor


def product_of_experts(mean: Tensor, log_var: Tensor, exists: Tensor, prior: bool = False) -> tuple[Tensor, Tensor]:
    """Product of Gaussian experts (Hinton 2002) in float32.

    ``precision = sum_i 1/var_i``, ``mean = sum_i mean_i/var_i / precision`` over the contrasts that exist.

    Args:
        mean: means of the contrasts that exist ``(N, L, ...)``, in the order of ``exists``.
        log_var: their log variances ``(N, L, ...)``.
        exists: which of the M contrasts of each subject exist ``(B, M)``, N of them true, one or more a subject.
        prior: multiply with one more expert, the standard normal.

    Returns:
        Mean and standard deviation ``(B, L, ...)``.
    """
    mean, precision = mean.float(), torch.exp(-log_var.float())

    def scatter(experts: Tensor) -> Tensor:
        """Sum over contrasts; an absent contrast has zero precision."""
        if exists.numel() == len(experts):
            return experts.view(*exists.shape, *experts.shape[1:]).sum(1)
        padded = experts.new_zeros(*exists.shape, *experts.shape[1:])
        padded[exists] = experts
        return padded.sum(1)

    total = scatter(precision) + float(prior)
    return scatter(mean * precision) / total, total.rsqrt()


def kl_divergence(mean: Tensor, sd: Tensor) -> Tensor:
    """KL(N(mean, sd²) || N(0, 1)) summed over latent elements, averaged over the batch ``(B, L, ...)``."""
    mean, var = mean.float(), sd.float().square()
    return 0.5 * (mean.square() + var - 1 - var.log()).flatten(1).sum(1).mean()

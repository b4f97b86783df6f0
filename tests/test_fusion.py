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

import pytest
import torch
from torch.distributions import Normal
from torch.distributions import kl_divergence as exact_kl

from scripts.networks.fusion import kl_divergence, product_of_experts

ALL = torch.ones(1, 3, dtype=torch.bool)


@pytest.fixture(params=[(4, 5), (2, 3, 4)], ids=["2d", "3d"])
def experts(request) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and log variances ``(6, L, ...)``."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(6, 2, *request.param, generator=draw), torch.randn(6, 2, *request.param, generator=draw)


def test_one_expert_is_itself(experts):
    mean, log_var = experts
    fused = product_of_experts(mean, log_var, torch.ones(6, 1, dtype=torch.bool))
    torch.testing.assert_close(fused, (mean, (0.5 * log_var).exp()))


def test_permuting_experts_changes_nothing(experts):
    mean, log_var = (x[:3] for x in experts)
    for order in ([2, 0, 1], [1, 0, 2]):
        torch.testing.assert_close(
            product_of_experts(mean[order], log_var[order], ALL), product_of_experts(mean, log_var, ALL)
        )


def test_precisions_add(experts):
    mean, log_var = (x[:3] for x in experts)
    sd = product_of_experts(mean, log_var, ALL)[1]
    torch.testing.assert_close(sd[0] ** -2, (-log_var).exp().sum(0))
    assert (sd < (0.5 * log_var).exp()).all(), "no expert alone is as sure as all together"
    same = product_of_experts(mean[:1].repeat(3, *[1] * (mean.ndim - 1)), log_var[:1].expand_as(log_var), ALL)
    torch.testing.assert_close(same, (mean[:1], (0.5 * log_var[:1]).exp() / 3**0.5))


def test_density_is_the_product_of_densities(experts):
    mean, log_var = (x[:3].double() for x in experts)
    fused = Normal(*product_of_experts(mean, log_var, ALL))
    points = torch.linspace(-2, 2, 5).view(-1, *[1] * mean.ndim)
    product = Normal(mean, (0.5 * log_var).exp()).log_prob(points).sum(1, keepdim=True)
    ratio = fused.log_prob(points) - product
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), atol=1e-4, rtol=1e-5)


def test_an_unsure_expert_does_not_count(experts):
    mean, log_var = (x[:3].clone() for x in experts)
    log_var[2] = 30.0
    torch.testing.assert_close(
        product_of_experts(mean, log_var, ALL), product_of_experts(mean[:2], log_var[:2], ALL[:, :2])
    )


def test_the_prior_is_one_more_expert(experts):
    mean, log_var = (x[:3] for x in experts)
    zero = torch.zeros_like(mean[:1])
    with_it = product_of_experts(mean, log_var, ALL, prior=True)
    explicit = product_of_experts(
        torch.cat([mean, zero]), torch.cat([log_var, zero]), torch.ones(1, 4, dtype=torch.bool)
    )
    torch.testing.assert_close(with_it, explicit)
    unsure = product_of_experts(mean, torch.full_like(log_var, 30.0), ALL, prior=True)
    torch.testing.assert_close(unsure, (zero, zero + 1))


def test_absent_contrasts_have_no_say(experts):
    mean, log_var = experts
    exists = torch.tensor([[True, False, True, True], [False, False, False, True], [True, True, False, False]])
    ragged = product_of_experts(mean, log_var, exists)
    start = 0
    for subject, count in enumerate(exists.sum(1).tolist()):
        mine = slice(start, start + count)
        alone = product_of_experts(mean[mine], log_var[mine], torch.ones(1, count, dtype=torch.bool))
        torch.testing.assert_close(tuple(x[subject : subject + 1] for x in ragged), alone)
        start += count


def test_a_batch_of_two_is_two_batches_of_one(experts):
    mean, log_var = experts
    together = product_of_experts(mean, log_var, ALL.expand(2, -1))
    for subject in range(2):
        mine = slice(3 * subject, 3 * subject + 3)
        alone = product_of_experts(mean[mine], log_var[mine], ALL)
        torch.testing.assert_close(tuple(x[subject : subject + 1] for x in together), alone)


def test_float32_whatever_comes_in(experts):
    mean, log_var = (x[:3].bfloat16() for x in experts)
    assert [x.dtype for x in product_of_experts(mean, log_var, ALL)] == [torch.float32] * 2
    assert kl_divergence(mean, log_var.exp()).dtype == torch.float32


def test_gradients():
    mean, log_var = torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mean, sd = product_of_experts(mean, log_var, ALL)
    gradient = torch.autograd.grad(mean.sum() + sd.sum(), log_var)[0]
    assert gradient.isfinite().all() and (gradient != 0).all()


def test_kl_is_zero_at_the_prior_only():
    zero = torch.zeros(2, 3, 4)
    assert kl_divergence(zero, zero + 1) == 0
    for mean, sd in ((0.1, 1.0), (0.0, 1.1), (0.0, 0.9)):
        assert kl_divergence(zero + mean, zero + sd) > 0


def test_kl_closed_form(experts):
    mean, sd = experts[0], (0.5 * experts[1]).exp()
    exact = exact_kl(Normal(mean, sd), Normal(0.0, 1.0)).flatten(1).sum(1).mean()
    torch.testing.assert_close(kl_divergence(mean, sd), exact)
    assert kl_divergence(torch.full((1, 1, 1), 2.0), torch.ones(1, 1, 1)) == pytest.approx(2.0)

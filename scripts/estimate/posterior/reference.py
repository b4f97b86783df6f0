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

r"""The per-voxel sums of the posterior as they stand on paper: every node, float64, no haste.

:mod:`.kernel` computes the same sums a few hundred times faster. Tests compare the two.

A voxel has magnitudes :math:`y_s` of scans s. A node j of the lattice has (ln T1, ln T2), and with it the magnitude
:math:`S_{sj}` that scan s has there with PD 1, gain included. Axes of all tensors: voxel n, scan s, gain g,
component k, node j.
"""

from math import log, pi
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .head import FLOOR, PD_SD, TYPICAL_PD, Head, Sums
from .lattice import Tables
from .nodes import LARGEST, STRICT, SURE
from .scanner import T2_STAR_SD

LOWEST_PD, HIGHEST_PD = -2.5, 1.0
"""Ends of ln PD about which the likelihood is made linear."""


class Likelihood(NamedTuple):
    r"""Likelihood at the nodes: :math:`\ln p(y | u, j) = Q - (A u^2 - 2 B u) / 2` for u = ln PD - a.

    Attributes:
        a: ln PD about which it is linear ``(N, J)``.
        big_q, big_a, big_b: Q, A, B ``(N, J)``.
        q, rho: residual at u = 0, and how much it falls with u ``(N, S, J)``.
        constant, linear: the score by the logarithm of each scan's signal is ``constant - linear u`` ``(N, S, J)``.
    """

    a: Tensor
    big_q: Tensor
    big_a: Tensor
    big_b: Tensor
    q: Tensor
    rho: Tensor
    constant: Tensor
    linear: Tensor


def likelihood(head: Head, y: Tensor, signal: Tensor, star: Tensor, strict: bool = False) -> Likelihood:
    r"""The likelihood of magnitudes at the nodes.

    The logarithm of a magnitude has the expected value of that of a Rician one, with :math:`M^2 + \sigma^2` as its
    square:

    .. math::
        M = e^a S, \quad \rho = \frac{M^2}{M^2 + \sigma^2}, \quad q = \ln y - \tfrac12 \ln(M^2 + \sigma^2), \quad
        r = q - \rho u

    Its own variance is that of noise, of an additive error, of a relative one, and of T2* / T2; errors m of the
    equation are common to the scans of a gain:

    .. math::
        v = \frac{\sigma^2 + \epsilon_a^2 t^2}{M^2 + \sigma^2 + l^2} + \epsilon_o^2 \rho
            + \Bigl(s_* \rho \frac{\partial \ln S}{\partial \ln T_2^*}\Bigr)^2, \quad
        C = \mathrm{diag}(v) + m^2 \rho \rho^T

    Where nothing is predicted, this finds a bright voxel likely. If strict, it does not: the additive error is part of
    :math:`\sigma^2`, and :math:`l^2 = \min(y^2 / c^2, \kappa \sigma^2)` with c, :data:`.nodes.LARGEST`, and
    :math:`\kappa`, :data:`.nodes.SURE`; else l = 0.

    With :math:`w = 1 / v`, :math:`A_g = \sum w \rho^2`, :math:`B_g = \sum w \rho q` over the scans of a gain, Sherman
    and Morrison give, with :math:`f = m^2 / (1 + m^2 A_g)`,

    .. math::
        A = \sum_g A_g (1 - f A_g), \quad B = \sum_g B_g (1 - f A_g), \quad
        Q = \tfrac12 \sum_g \Bigl[f B_g^2 - \ln(1 + m^2 A_g) - \sum_s (w q^2 + \ln v)\Bigr]

    and the score by ln S of one scan, :math:`\rho (C^{-1} r)_s = w \rho (q - f \rho B_g) - w \rho^2 (1 - f A_g) u`.
    That v changes with S is left out of it: its expected value is zero. A scan that is zero in the voxel says nothing.

    Args:
        head: the head.
        y: magnitudes ``(N, S)``.
        signal: S at the nodes ``(S, J)``.
        star: its relative derivative by ln T2* ``(S, J)``.
        strict: whether a bright magnitude needs a signal.
    """
    additive2, model2, own2 = (float(x) for x in head.error[:3])
    noise2, typical2 = (torch.from_numpy(x).double() for x in (head.noise, head.error[STRICT + 1 :]))
    there = y > 0
    # a: the ln PD that fits best with errors in proportion to y, drawn to a typical one.
    weight = there / (noise2 + model2 * y**2 + additive2 * typical2)
    top, bottom = (weight * y) @ signal + 1e-12, weight @ signal**2 + 1e-12
    sure, ridge = top**2 / bottom, PD_SD**-2
    a = (((top / bottom).log() * sure + TYPICAL_PD * ridge) / (sure + ridge)).clamp(LOWEST_PD, HIGHEST_PD)

    dark, y, there = FLOOR * noise2.sqrt()[:, None], y[:, :, None], there[:, :, None]
    floor = (noise2 + additive2 * typical2)[:, None]
    sigma2 = floor if strict else noise2[:, None]
    least2 = torch.minimum((y / float(LARGEST)) ** 2, float(SURE) * floor) if strict else 0.0
    m2 = (a.exp()[:, None] * signal) ** 2
    rho = m2 / (m2 + sigma2)
    q = torch.maximum(y, dark).log() - 0.5 * (m2 + sigma2).log()
    v = floor / (m2 + sigma2 + least2) + own2 * rho + (T2_STAR_SD * rho * star) ** 2
    w = there / v

    def of_gains(x: Tensor) -> Tensor:
        """Sums over the scans of each gain ``(N, S, J) -> (N, G, J)``."""
        return torch.zeros(len(x), head.scanner.gains, x.shape[2], dtype=x.dtype).index_add_(1, group, x)

    group = torch.tensor(head.scanner.group)
    a_g, b_g = of_gains(w * rho**2), of_gains(w * rho * q)
    f = model2 / (1 + model2 * a_g)
    big_a, big_b = (a_g * (1 - f * a_g)).sum(1), (b_g * (1 - f * a_g)).sum(1)
    big_q = 0.5 * (f * b_g**2 - (1 + model2 * a_g).log()).sum(1) - 0.5 * (w * q**2 + there * v.log()).sum(1)
    constant = w * rho * (q - (f * b_g)[:, group] * rho)
    linear = w * rho**2 * (1 - f * a_g)[:, group]
    return Likelihood(a, big_q, big_a, big_b, q, rho, constant, linear)


def priors(
    head: Head, unknown: np.ndarray, voxels: np.ndarray | slice, look_up: Tables
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Log prior of component k at node j, and mean and variance of ln PD given both; each broadcasts to ``(N, K, J)``.

    The table has those that all voxels share. The network's is the voxel's own Gaussian, mean m and covariance
    :math:`\Sigma`, t = (T1, T2), times the area h of a node's cell and its weight :math:`\pi`:

    .. math::
        \ln p_j = \ln \pi + \ln h - \tfrac12 (t_j - m_t)^T \Sigma_{tt}^{-1} (t_j - m_t)
            - \tfrac12 \ln |2 \pi \Sigma_{tt}|, \quad
        \mathrm E[\ln PD | t_j] = m_0 + \Sigma_{0t} \Sigma_{tt}^{-1} (t_j - m_t), \quad
        \tau^2 = \Sigma_{00} - \Sigma_{0t} \Sigma_{tt}^{-1} \Sigma_{t0}
    """
    log_prior, log_pd = (torch.from_numpy(x).double()[None] for x in (look_up.log_prior, look_up.log_pd))
    variance = torch.from_numpy(head.mixture.pd_variance).double()[None, :, None]
    if head.network is None:
        return log_prior, log_pd, variance
    mean, covariance = (torch.from_numpy(x)[voxels].double() for x in head.network)
    mean = mean + torch.from_numpy(head.shift(unknown)[-1])
    d = torch.from_numpy(look_up.log_t).double() - mean[:, 1:, None]
    precision = torch.linalg.inv(covariance[:, 1:, 1:])
    slope = torch.einsum("nt,ntu->nu", covariance[:, 0, 1:], precision)
    distance2 = torch.einsum("ntj,ntu,nuj->nj", d, precision, d)
    scale = log(head.weight[-1]) + 0.5 * precision.logdet() - log(2 * pi)
    own = scale[:, None] + torch.from_numpy(look_up.log_cell).double() - 0.5 * distance2
    own_pd = mean[:, :1] + torch.einsum("nt,ntj->nj", slope, d)
    own_variance = covariance[:, 0, 0] - torch.einsum("nt,nt->n", slope, covariance[:, 0, 1:])

    def last(shared: Tensor, own: Tensor) -> Tensor:
        return torch.cat([shared.expand(len(mean), -1, -1), own[:, None]], 1)

    return last(log_prior, own), last(log_pd, own_pd), last(variance, own_variance[:, None])


def sums(head: Head, unknown: np.ndarray, voxels: np.ndarray | slice, look_up: Tables, strict: bool = False) -> Sums:
    r"""Moments of some voxels, as :meth:`.head.Head.sums` gives them.

    With ln PD of component k at node j from N(:math:`\mu`, :math:`\tau^2`) and d = :math:`\mu` - a, ln PD integrates to
    the evidence of both, and leaves a Gaussian of u with mean x and variance V:

    .. math::
        \ln e_{kj} = \ln p_{kj} + Q + \tfrac12 \Bigl(V x'^2 - \frac{d^2}{\tau^2} + \ln \frac{V}{\tau^2}\Bigr), \quad
        V = \frac{1}{A + \tau^{-2}}, \quad x' = B + \frac{d}{\tau^2}, \quad x = V x'

    The posterior is :math:`p_{kj} = e_{kj} / \sum e`. All else are its moments: with
    :math:`z = (a + u, \ln T_1, \ln T_2)`, the responsibility :math:`\sum_j p_{kj}`, :math:`\mathrm E[z; k]`,
    :math:`\mathrm E[z z^T; k]`, the mean of the score :math:`g = c - l u`, its covariance with z, the misfit
    :math:`\mathrm E[q - \rho u]`, and the share of fluid.

    Args:
        head: the head.
        unknown: its unknowns.
        voxels: which of its voxels.
        look_up: the tables of these unknowns.
        strict: whether a bright magnitude needs a signal.
    """
    y = torch.from_numpy(head.y[voxels]).double()
    tables = (look_up.log_t, look_up.signal, look_up.star, look_up.slopes, look_up.fluid)
    log_t, signal, star, slopes, share = (torch.from_numpy(part).double() for part in tables)
    like = likelihood(head, y, signal, star, strict)
    log_prior, log_pd, variance = priors(head, unknown, voxels, look_up)

    a = like.a[:, None]
    d = log_pd - a
    v = 1 / (like.big_a[:, None] + 1 / variance)
    x = v * (like.big_b[:, None] + d / variance)
    log_e = log_prior + like.big_q[:, None] + 0.5 * (x**2 / v - d**2 / variance + (v / variance).log())
    evidence = log_e.flatten(1).logsumexp(1)
    p = (log_e - evidence[:, None, None]).exp()

    z = torch.stack([a + x, *(t.expand_as(p) for t in log_t)], 1)
    first = torch.einsum("nkj,nikj->nki", p, z)
    second = torch.einsum("nkj,nikj,nmkj->nkim", p, z, z)
    second[:, :, 0, 0] += (p * v).sum(2)
    upper = torch.triu_indices(3, 3)
    component = torch.cat([p.sum(2)[:, :, None], first, second[:, :, upper[0], upper[1]]], 2)
    mean = first.sum(1)
    covariance = second.sum(1) - mean[:, :, None] * mean[:, None]

    # Moments of u at each node, whatever the component: the score needs no more.
    p0, p1, p2 = p.sum(1), (p * x).sum(1), (p * (x**2 + v)).sum(1)
    scan, number = torch.tensor(head.scanner.pairs).T
    constant, linear = like.constant[:, scan] * slopes, like.linear[:, scan] * slopes
    score = constant * p0[:, None] - linear * p1[:, None]
    score_u = constant * p1[:, None] - linear * p2[:, None]
    with_z = [like.a[:, None] * score + score_u, *(t * score for t in log_t)]
    by_scanner = torch.zeros(len(y), 4, head.scanner.size, dtype=y.dtype)
    by_scanner.index_add_(2, number, torch.stack([g.sum(2) for g in (score, *with_z)], 1))
    by_scanner[:, 1:] -= mean[:, :, None] * by_scanner[:, :1]

    misfit = (y > 0) * (like.q * p0[:, None] - like.rho * p1[:, None]).sum(2)
    fluid = p0 @ share
    moments = mean, covariance[:, upper[0], upper[1]], evidence, component, by_scanner, misfit, fluid
    return Sums(*(part.numpy() for part in moments))

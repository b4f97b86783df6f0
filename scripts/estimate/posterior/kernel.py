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

"""The per-voxel sums of the posterior over the lattice of (ln T1, ln T2), compiled.

:mod:`.reference` has the same sums in a few lines of torch, and the formulas. Here the nodes of the lattice come in
blocks of :data:`LANES`, which the processor computes at once. A first pass over one node of each block, with a
likelihood made broad enough to miss no peak, says which blocks matter. Only these are summed.
"""

import math

import numpy as np
from numba import njit

from .arithmetic import compiled, fast_exp, fast_log

# The functions that `moments` calls are inlined before they are compiled. Compiled by themselves, numba would run their
# own code on the first call and other code, from its cache, in the next process: the last bits would differ.
LANES = 16
"""Nodes of a block."""
BROAD = 0.03
"""Relative error added to every scan in the first pass, besides half the range of its signal in a block."""
DROP = 9.0
"""Blocks whose log score in the first pass is further below the best than this are left out."""
NEGLIGIBLE = 10.0
"""Components whose log score in a block is further below the best than this are left out of the block."""
HALF = 0.09
"""Half the side of a block in ln T1 and ln T2: the first pass takes the network's Gaussian at the nearest point."""
NOTHING = np.float32(-1e30)
"""Log weight of what is not there."""


@njit(fastmath=True, error_model="numpy", inline="always")
def _keep(rows, at, first, x, y, z):
    """Keeps three arrays as rows of ``rows[at]``; each in a loop of its own, which the compiler makes one copy."""
    for c in range(len(x)):
        rows[at, first, c] = x[c]
    for c in range(len(x)):
        rows[at, first + 1, c] = y[c]
    for c in range(len(x)):
        rows[at, first + 2, c] = z[c]


@njit(fastmath=True, error_model="numpy", inline="always")
def _likelihood(block, y, log_y, weight, signal, star, noise, error, extra, group, groups, rows, at, keep, lanes):
    """Likelihood of a block's nodes with ln PD left open: ``Q - (A d^2 - 2 B d) / 2`` for ``d = ln PD - a``.

    Leaves a, A, B, Q in ``lanes``; keeps in ``rows[at]``, if asked to: a, A, B, one of its own, then w rho, q, rho of
    each scan, then f, A, B of each gain. The work itself is done on arrays of their own: else the compiler cannot tell
    that they are apart, and computes one node at a time.
    """
    a, big_a, big_b, big_q, wr, q, rho, gain_a, gain_b = lanes
    scans, size, one, half, zero = len(y), len(a), np.float32(1.0), np.float32(0.5), np.float32(0.0)
    additive2, model2, own2, star2, middle, ridge = error[0], error[1], error[2], error[3], error[5], error[6]
    for c in range(size):
        gain_a[c], gain_b[c] = np.float32(1e-12), np.float32(1e-12)
        big_a[c], big_b[c], big_q[c] = zero, zero, zero
    for s in range(scans):
        weight_y, this = weight[s] * y[s], weight[s]
        for c in range(size):
            gain_a[c] += weight_y * signal[block, s, c]
            gain_b[c] += this * signal[block, s, c] * signal[block, s, c]
    for c in range(size):
        p = gain_a[c] * gain_a[c] / gain_b[c]
        fitted = (fast_log(gain_a[c] / gain_b[c]) * p + middle * ridge) / (p + ridge)
        a[c] = min(max(fitted, np.float32(-2.5)), one)
    for g in range(groups):
        for c in range(size):
            gain_a[c], gain_b[c] = zero, zero
        for s in range(scans):
            if group[s] == g and weight[s] > 0:
                sigma2, floor, ly = noise[s], noise[s] + additive2 * error[7 + s], log_y[s]
                for c in range(size):
                    m2 = signal[block, s, c] * fast_exp(a[c])
                    m2 = m2 * m2
                    total = m2 + sigma2
                    inverse = one / total
                    share = m2 * inverse
                    slope = star[block, s, c] * share
                    variance = (floor + own2 * m2) * inverse + star2 * slope * slope + extra * share * share
                    w = one / variance
                    residual = ly - half * fast_log(total)
                    wr[c], q[c], rho[c] = w * share, residual, share
                    big_q[c] -= half * (w * residual * residual + fast_log(variance))
                for c in range(size):
                    gain_a[c] += wr[c] * rho[c]
                    gain_b[c] += wr[c] * q[c]
                if keep:
                    _keep(rows, at, 4 + 3 * s, wr, q, rho)
        for c in range(size):
            spread = one + model2 * gain_a[c]
            f = model2 / spread
            big_a[c] += gain_a[c] * (one - f * gain_a[c])
            big_b[c] += gain_b[c] * (one - f * gain_a[c])
            big_q[c] += half * (f * gain_b[c] * gain_b[c] - fast_log(spread))
            wr[c] = f
        if keep:
            _keep(rows, at, 4 + 3 * (scans + g), wr, gain_a, gain_b)
    if keep:
        _keep(rows, at, 0, a, big_a, big_b)


@njit(fastmath=True, error_model="numpy", inline="always")
def _evidence(prior, log_pd, inverse_tau, lanes, value):
    """Log evidence of a component at a block's nodes, ln PD integrated; its log prior and mean ln PD are given."""
    a, big_a, big_b, big_q = lanes[0], lanes[1], lanes[2], lanes[3]
    log_tau, half, top = -fast_log(inverse_tau), np.float32(0.5), NOTHING
    for c in range(len(value)):
        md = log_pd[c] - a[c]
        precise, b = big_a[c] + inverse_tau, big_b[c] + md * inverse_tau
        this = big_q[c] + prior[c] - half * (md * md * inverse_tau - b * b / precise + fast_log(precise) + log_tau)
        value[c] = this
        top = max(top, this)
    return top


@njit(fastmath=True, error_model="numpy", inline="always")
def _network(block, net, log_t, log_cell, slack, prior, log_pd):
    """Log prior and mean ln PD of the network's Gaussian ``net`` at a block's nodes.

    ``net`` is: mean (3), slopes of ln PD (2), 1/tau^2, p11, p12, p22, constant.
    """
    m0, m1, m2, s1, s2, p11, p12, p22 = net[0], net[1], net[2], net[3], net[4], net[6], net[7], net[8]
    constant, half, zero = net[9], np.float32(0.5), np.float32(0.0)
    for c in range(len(prior)):
        d1, d2 = log_t[block, 0, c] - m1, log_t[block, 1, c] - m2
        # With slack, the nearest point of a block.
        d1 = max(d1 - slack, zero) + min(d1 + slack, zero)
        d2 = max(d2 - slack, zero) + min(d2 + slack, zero)
        prior[c] = constant + log_cell[block, c] - half * (p11 * d1 * d1 + (p12 + p12) * d1 * d2 + p22 * d2 * d2)
        log_pd[c] = m0 + s1 * d1 + s2 * d2


@njit(fastmath=True, error_model="numpy", inline="always")
def _add(a, big_a, big_b, score, log_pd, inverse_tau, top, t1, t2, total, powers, x0, va):
    """Adds the moments of one component in one block to ``total (10,)``, and those of ln PD - a to ``powers``."""
    p0, p1, p2, post = powers
    one, zero = np.float32(1.0), np.float32(0.0)
    for c in range(len(t1)):
        va[c] = one / (big_a[c] + inverse_tau)
        x0[c] = (big_b[c] + (log_pd[c] - a[c]) * inverse_tau) * va[c]
        post[c] = fast_exp(score[c] - top)
    for c in range(len(t1)):
        p0[c] += post[c]
        p1[c] += post[c] * x0[c]
        p2[c] += post[c] * (x0[c] * x0[c] + va[c])
        x0[c] += a[c]
    r, x, x1, x2, xx, x01, x02, x11, x12, x22 = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
    for c in range(len(t1)):
        p_x, p_1, p_2 = post[c] * x0[c], post[c] * t1[c], post[c] * t2[c]
        r += post[c]
        x += p_x
        x1 += p_1
        x2 += p_2
        xx += p_x * x0[c] + post[c] * va[c]
        x01 += p_x * t1[c]
        x02 += p_x * t2[c]
        x11 += p_1 * t1[c]
        x12 += p_1 * t2[c]
        x22 += p_2 * t2[c]
    total[0] += r
    total[1] += x
    total[2] += x1
    total[3] += x2
    total[4] += xx
    total[5] += x01
    total[6] += x02
    total[7] += x11
    total[8] += x12
    total[9] += x22


@compiled
def moments(
    y,  # (N, S) magnitudes in units of their gain; 0 where there is nothing
    log_y,  # (N, S)
    group,  # (S,) number of the gain of each scan
    groups,
    noise,  # (S,) variance of the noise
    error,  # (7 + S,): additive, model, own variances, that of ln T2*, ..., middle and precision of ln PD, typical^2
    signal,  # (B, S, L) expected magnitude of PD 1 at the nodes, gain included
    star,  # (B, S, L) its relative derivative by ln T2*
    slopes,  # (B, U, L) relative derivatives by the unknowns of the scanner, for each pair (scan, unknown)
    pairs,  # (U, 2) these pairs
    log_t,  # (B, 2, L) ln T1, ln T2
    fluid,  # (B, L) share of fluid
    log_cell,  # (B, L) log area of the cell of a node; NOTHING where a Gaussian is not summed
    log_prior,  # (B, K, L) log weight of each component at the nodes
    log_pd,  # (B, K, L) its mean ln PD there
    members,  # (B, K) components that matter in a block, then -1
    precision,  # (K,) inverse variance of ln PD there
    # Of the first pass, one node a block: signal, star, log_t, log_prior, log_pd, log_cell, members, and how many.
    first,
    net,  # (N, 10) the network's Gaussian, see _network_evidence; (0, 10) without
    scanner,  # number of unknowns of the scanner
    out_mean,  # (N, 3)
    out_cov,  # (N, 6)
    out_log,  # (N,)
    out_component,  # (N, K', 10) responsibility, first and second moments of each component
    out_scanner,  # (N, 4, P): mean score by the unknowns of the scanner, and its product with ln PD, ln T1, ln T2
    out_misfit,  # (N, S)
    out_fluid,  # (N,)
):
    count, scans = y.shape
    lanes = log_t.shape[2]
    blocks, components = log_prior.shape[0], log_prior.shape[1]
    first_signal, first_star, first_t, first_prior, first_pd, first_cell, first_members, plain = first
    network = net.shape[0] > 0
    everything = components + 1 if network else components
    rows = np.zeros((blocks, 4 + 3 * (scans + groups), lanes), np.float32)
    out = np.zeros((blocks, everything, lanes), np.float32)
    net_pd = np.zeros((blocks, lanes), np.float32)
    own = np.zeros((19, lanes), np.float32)
    work = own[0], own[1], own[2], own[3], own[4], own[5], own[6], own[7], own[8]
    value, prior, powers, t1, t2 = own[9], own[10], (own[11], own[12], own[13], own[14]), own[15], own[16]
    x0, va = own[17], own[18]
    coarse = np.zeros((first_signal.shape[0], lanes), np.float32)
    chosen, highest = np.zeros(blocks, np.int64), np.zeros((blocks, everything), np.float32)
    weight = np.zeros(scans, np.float32)
    by_scanner = np.zeros((4, scanner), np.float32)
    none, one = np.float32(0.0), np.float32(1.0)
    for n in range(count):
        for s in range(scans):
            here = y[n, s]
            weight[s] = one / (noise[s] + error[1] * here * here + error[0] * error[7 + s]) if here > 0 else none
        best = NOTHING
        for b in range(first_signal.shape[0]):
            _likelihood(
                b,
                y[n],
                log_y[n],
                weight,
                first_signal,
                first_star,
                noise,
                error,
                error[4],
                group,
                groups,
                rows,
                0,
                False,
                work,
            )
            row = coarse[b]
            row[:] = NOTHING
            for k in first_members[b]:
                if k < 0:
                    break
                best = max(best, _evidence(first_prior[b, k], first_pd[b, k], precision[k], work, value))
                for c in range(lanes):
                    row[c] = max(row[c], value[c])
            if network:
                _network(b, net[n], first_t, first_cell, np.float32(HALF), prior, net_pd[0])
                best = max(best, _evidence(prior, net_pd[0], net[n, 5], work, value))
                for c in range(lanes):
                    row[c] = max(row[c], value[c])
        used, top, centre = 0, NOTHING, 0
        for b in range(blocks):
            # Blocks of voxels with fluid hold signals of all sizes: they are always summed.
            if b < plain and coarse[b // LANES, b % LANES] < best - np.float32(DROP):
                continue
            chosen[used] = b
            _likelihood(
                b, y[n], log_y[n], weight, signal, star, noise, error, none, group, groups, rows, used, True, work
            )
            highest[used] = NOTHING
            for k in members[b]:
                if k < 0:
                    break
                highest[used, k] = _evidence(log_prior[b, k], log_pd[b, k], precision[k], work, out[used, k])
                if highest[used, k] > top:
                    top, centre = highest[used, k], b
            if network:
                _network(b, net[n], log_t, log_cell, none, prior, net_pd[used])
                highest[used, components] = _evidence(prior, net_pd[used], net[n, 5], work, out[used, components])
                if highest[used, components] > top:
                    top, centre = highest[used, components], b
            used += 1
        by_scanner[:] = none
        out_component[n] = none
        centre1, centre2 = log_t[centre, 0, 0], log_t[centre, 1, 0]
        total_fluid = none
        for s in range(scans):
            out_misfit[n, s] = none
        p0, p1, p2, _ = powers
        for i in range(used):
            b, some = chosen[i], False
            for c in range(lanes):
                t1[c], t2[c] = log_t[b, 0, c] - centre1, log_t[b, 1, c] - centre2
            p0[:], p1[:], p2[:] = none, none, none
            kept_a, kept_b, kept_c = rows[i, 0], rows[i, 1], rows[i, 2]
            for k in range(everything):
                if highest[i, k] > top - np.float32(NEGLIGIBLE):
                    pd, inverse_tau = (log_pd[b, k], precision[k]) if k < components else (net_pd[i], net[n, 5])
                    _add(
                        kept_a,
                        kept_b,
                        kept_c,
                        out[i, k],
                        pd,
                        inverse_tau,
                        top,
                        t1,
                        t2,
                        out_component[n, k],
                        powers,
                        x0,
                        va,
                    )
                    some = True
            if not some:
                continue
            for c in range(lanes):
                total_fluid += p0[c] * fluid[b, c]
            for s in range(scans):
                if weight[s] > 0:
                    total = none
                    for c in range(lanes):
                        total += rows[i, 5 + 3 * s, c] * p0[c] - rows[i, 6 + 3 * s, c] * p1[c]
                    out_misfit[n, s] += total
            for j in range(len(pairs)):
                s, p = pairs[j, 0], pairs[j, 1]
                if weight[s] > 0:
                    scan, gain = 4 + 3 * s, 4 + 3 * (scans + group[s])
                    z0, z1, z2, z3 = none, none, none, none
                    for c in range(lanes):
                        wr, q, rho = rows[i, scan, c], rows[i, scan + 1, c], rows[i, scan + 2, c]
                        f, big_a, big_b = rows[i, gain, c], rows[i, gain + 1, c], rows[i, gain + 2, c]
                        # The score is constant - linear u, for u = ln PD - a.
                        constant = wr * (q - rho * f * big_b) * slopes[b, j, c]
                        linear = wr * rho * (one - f * big_a) * slopes[b, j, c]
                        score = constant * p0[c] - linear * p1[c]
                        z0 += score
                        z1 += rows[i, 0, c] * score + constant * p1[c] - linear * p2[c]
                        z2 += t1[c] * score
                        z3 += t2[c] * score
                    by_scanner[0, p] += z0
                    by_scanner[1, p] += z1
                    by_scanner[2, p] += z2
                    by_scanner[3, p] += z3
        whole = none
        for k in range(everything):
            whole += out_component[n, k, 0]
        inverse = one / whole
        out_log[n] = top + math.log(whole)
        out_fluid[n] = total_fluid * inverse
        for s in range(scans):
            out_misfit[n, s] *= inverse
        m0, m1, m2 = none, none, none
        c00, c01, c02, c11, c12, c22 = none, none, none, none, none, none
        for k in range(everything):
            for j in range(10):
                out_component[n, k, j] *= inverse
            m0 += out_component[n, k, 1]
            m1 += out_component[n, k, 2]
            m2 += out_component[n, k, 3]
            c00 += out_component[n, k, 4]
            c01 += out_component[n, k, 5]
            c02 += out_component[n, k, 6]
            c11 += out_component[n, k, 7]
            c12 += out_component[n, k, 8]
            c22 += out_component[n, k, 9]
        out_cov[n, 0], out_cov[n, 1], out_cov[n, 2] = c00 - m0 * m0, c01 - m0 * m1, c02 - m0 * m2
        out_cov[n, 3], out_cov[n, 4], out_cov[n, 5] = c11 - m1 * m1, c12 - m1 * m2, c22 - m2 * m2
        for p in range(scanner):
            mean = by_scanner[0, p] * inverse
            out_scanner[n, 0, p] = mean
            out_scanner[n, 1, p] = by_scanner[1, p] * inverse - m0 * mean
            out_scanner[n, 2, p] = by_scanner[2, p] * inverse - m1 * mean
            out_scanner[n, 3, p] = by_scanner[3, p] * inverse - m2 * mean
        # First and second moments about the origin again.
        for k in range(everything):
            r, x1, x2 = out_component[n, k, 0], out_component[n, k, 2], out_component[n, k, 3]
            out_component[n, k, 5] += centre1 * out_component[n, k, 1]
            out_component[n, k, 6] += centre2 * out_component[n, k, 1]
            out_component[n, k, 7] += np.float32(2.0) * centre1 * x1 + centre1 * centre1 * r
            out_component[n, k, 8] += centre1 * x2 + centre2 * x1 + centre1 * centre2 * r
            out_component[n, k, 9] += np.float32(2.0) * centre2 * x2 + centre2 * centre2 * r
            out_component[n, k, 2] += centre1 * r
            out_component[n, k, 3] += centre2 * r
        out_mean[n, 0], out_mean[n, 1], out_mean[n, 2] = m0, m1 + centre1, m2 + centre2

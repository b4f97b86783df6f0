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

"""Likelihood and evidence at many nodes of (ln T1, ln T2), which the processor computes at once.

All are loops over the nodes from ``start`` to ``stop``, inlined into the functions that are compiled. Each loop writes
one or two arrays only: with more, the compiler cannot tell that they are apart, and computes one node at a time. For
the same reason numbers of nodes are unsigned: it need not look for negative ones.
"""

import numpy as np
from numba import njit

from .arithmetic import fast_exp, fast_log

# Functions that are called are inlined before they are compiled. Compiled by themselves, numba would run their own code
# on the first call and other code, from its cache, in the next process: the last bits would differ.
NOTHING = np.float32(-1e30)
"""Log weight of what is not there."""
STRICT = 7
"""Where the errors say whether a bright magnitude needs a signal (1) or can be noise (0); typical squares follow."""
LARGEST = np.float32(30.0)
"""Where nothing is predicted, noise and the additive error explain up to so many times themselves, if strict."""
SURE = np.float32(4.0)
"""How much surer a magnitude above that is at most. With no end, one wrong scan would drag PD to absurd values."""
FIRST, FIELDS = 4, 7
"""Rows of a likelihood that all scans share, and rows of each scan."""
RHO, WEIGHTED, RESIDUAL, SCORE, LAGGED, LINEAR = 1, 2, 3, 4, 5, 6
"""Where a scan's rows are, after w."""


@njit(fastmath=True, error_model="numpy", inline="always")
def open_cell(cell, noise, error, middle, y, weight):
    """Keeps log magnitudes of the middle of a cell, magnitudes, and what each says of ln PD, in the last three."""
    for s in range(len(cell)):
        middle[s] = cell[s]
        y[s] = fast_exp(cell[s])
        variance = noise[s] + error[1] * y[s] * y[s] + error[0] * error[STRICT + 1 + s]
        weight[s] = np.float32(1.0) / variance if cell[s] > NOTHING else np.float32(0.0)


@njit(fastmath=True, error_model="numpy", inline="always")
def likelihood(start, stop, log_y, y, weight, signal, star, noise, error, extra, group, groups, rows, sums):
    """Likelihood of nodes with ln PD left open: ``Q - (A u^2 - 2 B u) / 2`` for ``u = ln PD - a``.

    ``extra`` is a relative variance of every scan, in the first pass; 0 makes it as narrow as it is.

    Leaves in ``rows`` a, A, B, Q, then of each scan w, rho, w rho, q, and the constant of its score, what is taken from
    it by the lag of its gain, and its slope; then of each gain f, 1 - f A. Uses ``sums`` for sums.
    """
    scans, one, half, zero = len(y), np.float32(1.0), np.float32(0.5), np.float32(0.0)
    additive2, model2, own2, star2, middle, ridge = error[0], error[1], error[2], error[3], error[5], error[6]
    strict = error[STRICT]
    for c in range(start, stop):
        sums[0, c], sums[1, c] = np.float32(1e-12), np.float32(1e-12)
    for c in range(start, stop):
        rows[1, c], rows[2, c], rows[3, c] = zero, zero, zero
    for s in range(scans):
        weight_y, this = weight[s] * y[s], weight[s]
        for c in range(start, stop):
            sums[0, c] += weight_y * signal[s, c]
            sums[1, c] += this * signal[s, c] * signal[s, c]
    for c in range(start, stop):
        ratio = sums[0, c] / sums[1, c]
        p = sums[0, c] * ratio
        fitted = (fast_log(ratio) * p + middle * ridge) / (p + ridge)
        a = min(max(fitted, np.float32(-2.5)), one)
        rows[0, c], sums[2, c] = a, fast_exp(a + a)
    for g in range(groups):
        for c in range(start, stop):
            sums[0, c], sums[1, c] = zero, zero
        for s in range(scans):
            if group[s] == g and weight[s] > 0:
                floor, ly, own = noise[s] + additive2 * error[STRICT + 1 + s], log_y[s], FIRST + FIELDS * s
                sigma2 = noise[s] + strict * (floor - noise[s])
                least2 = sigma2 + strict * min(y[s] * y[s] / (LARGEST * LARGEST), SURE * floor)
                for c in range(start, stop):
                    m2 = signal[s, c] * signal[s, c] * sums[2, c]
                    rows[own + RHO, c] = m2 / (m2 + sigma2)
                for c in range(start, stop):
                    rows[own + RESIDUAL, c] = ly - half * fast_log(signal[s, c] * signal[s, c] * sums[2, c] + sigma2)
                for c in range(start, stop):
                    m2, share = signal[s, c] * signal[s, c] * sums[2, c], rows[own + RHO, c]
                    slope = star[s, c] * share
                    variance = floor / (m2 + least2) + own2 * share + star2 * slope * slope + extra * share * share
                    rows[own, c] = one / variance
                for c in range(start, stop):
                    w, q = rows[own, c], rows[own + RESIDUAL, c]
                    rows[3, c] -= half * (w * q * q - fast_log(w))
                for c in range(start, stop):
                    rows[own + WEIGHTED, c] = rows[own, c] * rows[own + RHO, c]
                for c in range(start, stop):
                    sums[0, c] += rows[own + WEIGHTED, c] * rows[own + RHO, c]
                    sums[1, c] += rows[own + WEIGHTED, c] * rows[own + RESIDUAL, c]
        f, rest = FIRST + FIELDS * scans + 2 * g, FIRST + FIELDS * scans + 2 * g + 1
        for c in range(start, stop):
            rows[f, c] = model2 / (one + model2 * sums[0, c])
        for c in range(start, stop):
            rows[rest, c] = one - rows[f, c] * sums[0, c]
        for c in range(start, stop):
            rows[1, c] += sums[0, c] * rows[rest, c]
            rows[2, c] += sums[1, c] * rows[rest, c]
        for c in range(start, stop):
            rows[3, c] += half * (rows[f, c] * sums[1, c] * sums[1, c] - fast_log(one + model2 * sums[0, c]))
        for s in range(scans):
            if group[s] == g and weight[s] > 0:
                own = FIRST + FIELDS * s
                for c in range(start, stop):
                    w, q, wr = rows[own, c], rows[own + RESIDUAL, c], rows[own + WEIGHTED, c]
                    rows[own + SCORE, c] = w * q - rows[f, c] * sums[1, c] * wr
                for c in range(start, stop):
                    rows[own + LAGGED, c] = rows[own + WEIGHTED, c] * rows[own + RHO, c] * rows[f, c]
                for c in range(start, stop):
                    rows[own + LINEAR, c] = rows[own + WEIGHTED, c] * rows[own + RHO, c] * rows[rest, c]


@njit(fastmath=True, error_model="numpy", inline="always")
def join(start, stop, k, prior, log_pd, inverse_tau, rows, joint):
    """A component at nodes, ln PD integrated, whatever B and Q are; its log prior and mean ln PD are given.

    Leaves in ``joint[:, k]`` C, D, V: log evidence is ``C + Q + V (B + D)^2 / 2``, and the mean of u is ``V (B + D)``.
    """
    log_tau, half, one = -fast_log(inverse_tau), np.float32(0.5), np.float32(1.0)
    for c in range(start, stop):
        joint[1, k, c] = (log_pd[k, c] - rows[0, c]) * inverse_tau
    for c in range(start, stop):
        joint[2, k, c] = one / (rows[1, c] + inverse_tau)
    for c in range(start, stop):
        d = log_pd[k, c] - rows[0, c]
        joint[0, k, c] = prior[k, c] - half * (d * d * inverse_tau - fast_log(joint[2, k, c]) + log_tau)


@njit(fastmath=True, error_model="numpy", inline="always")
def evidence(start, stop, k, joint, big_b, big_q, out):
    """Log evidence of a component at nodes, and the largest."""
    half, top = np.float32(0.5), NOTHING
    for c in range(start, stop):
        b = big_b[c] + joint[1, k, c]
        this = joint[0, k, c] + big_q[c] + half * joint[2, k, c] * b * b
        out[k, c] = this
        top = max(top, this)
    return top


@njit(fastmath=True, error_model="numpy", inline="always")
def network(start, stop, k, net, log_t, log_cell, slack, prior, log_pd):
    """Log prior and mean ln PD of the network's Gaussian ``net`` at nodes.

    ``net`` is: mean (3), slopes of ln PD (2), 1/tau^2, p11, p12, p22, constant.
    """
    m0, m1, m2, s1, s2, p11, p12, p22 = net[0], net[1], net[2], net[3], net[4], net[6], net[7], net[8]
    constant, half, zero = net[9], np.float32(0.5), np.float32(0.0)
    for c in range(start, stop):
        d1, d2 = log_t[0, c] - m1, log_t[1, c] - m2
        # With slack, the nearest point of a block.
        d1 = max(d1 - slack, zero) + min(d1 + slack, zero)
        d2 = max(d2 - slack, zero) + min(d2 + slack, zero)
        prior[k, c] = constant + log_cell[c] - half * (p11 * d1 * d1 + (p12 + p12) * d1 * d2 + p22 * d2 * d2)
    for c in range(start, stop):
        d1, d2 = log_t[0, c] - m1, log_t[1, c] - m2
        d1 = max(d1 - slack, zero) + min(d1 + slack, zero)
        d2 = max(d2 - slack, zero) + min(d2 + slack, zero)
        log_pd[k, c] = m0 + s1 * d1 + s2 * d2

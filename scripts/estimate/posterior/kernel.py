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

:mod:`.reference` has the same sums in a few lines of torch, and the formulas. Three things make them fast here:

- The nodes of the lattice come in blocks of :data:`LANES`. :mod:`.first_pass` says which blocks matter to a voxel.
- Voxels of nearly the same magnitudes, those of one cell, share all that needs a logarithm, an exponential or a
  division: about the middle of their cell, log likelihoods are exactly quadratic in the logarithms of magnitudes as
  long as a, about which they are linear in ln PD, stays that of the middle.
- The chosen nodes lie side by side in memory, and all loops run over many of them, see :mod:`.nodes`.
"""

import math

import numpy as np
from numba import njit

from .arithmetic import compiled, fast_exp
from .first_pass import MARGIN, OWN, SHARED
from .nodes import (
    FIELDS,
    FIRST,
    LAGGED,
    LINEAR,
    NOTHING,
    RESIDUAL,
    RHO,
    SCORE,
    WEIGHTED,
    evidence,
    join,
    likelihood,
    network,
    open_cell,
)

LANES = 16
"""Nodes of a block."""
FEW, WIDER = (0, 2, 5, 7, 8, 10, 13, 15), np.float32(math.log(2))
"""Every other node of a block of 4 x 4, as on a chessboard, and what that adds to the log areas of their cells."""
MANY = 32
"""With more blocks than this, which only the network finds likely, a posterior is so wide that a few nodes suffice."""
NEGLIGIBLE = 10.0
"""Components whose log score in some blocks is further below the best than this are left out there."""


@njit(fastmath=True, error_model="numpy", inline="always")
def _move(start, stop, step, weight, group, groups, rows, big_b, big_q, lag):
    """B and Q where magnitudes are ``e^step`` times those of the cell; exact for a, w and rho of the cell."""
    scans, half, zero = len(step), np.float32(0.5), np.float32(0.0)
    for c in range(start, stop):
        big_b[c], big_q[c] = rows[2, c], rows[3, c]
    for g in range(groups):
        for c in range(start, stop):
            lag[g, c] = zero
        for s in range(scans):
            if group[s] == g and weight[s] > 0:
                d, own = step[s], FIRST + FIELDS * s
                for c in range(start, stop):
                    lag[g, c] += d * rows[own + WEIGHTED, c]
                    big_q[c] -= d * (rows[own + SCORE, c] + half * d * rows[own, c])
        f = FIRST + FIELDS * scans + 2 * g
        for c in range(start, stop):
            big_b[c] += rows[f + 1, c] * lag[g, c]
            big_q[c] += half * rows[f, c] * lag[g, c] * lag[g, c]


@njit(fastmath=True, error_model="numpy", inline="always")
def _add(start, stop, k, top, centre1, centre2, rows, joint, big_b, out, log_t, powers, x0, total):
    """Adds the moments of one component at nodes to ``total (10,)``, and those of ln PD - a to the powers."""
    r, x, x1, x2, zero = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    xx, x01, x02, x11, x12, x22 = zero, zero, zero, zero, zero, zero
    for c in range(start, stop):
        out[k, c] = fast_exp(out[k, c] - top)
    for c in range(start, stop):
        x0[c] = (big_b[c] + joint[1, k, c]) * joint[2, k, c]
    for c in range(start, stop):
        powers[0, c] += out[k, c]
        powers[1, c] += out[k, c] * x0[c]
    for c in range(start, stop):
        powers[2, c] += out[k, c] * (x0[c] * x0[c] + joint[2, k, c])
    for c in range(start, stop):
        post, z, t1, t2 = out[k, c], x0[c] + rows[0, c], log_t[0, c] - centre1, log_t[1, c] - centre2
        p_x, p_1, p_2 = post * z, post * t1, post * t2
        r += post
        x += p_x
        x1 += p_1
        x2 += p_2
        xx += p_x * z + post * joint[2, k, c]
        x01 += p_x * t1
        x02 += p_x * t2
        x11 += p_1 * t1
        x12 += p_1 * t2
        x22 += p_2 * t2
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


@njit(fastmath=True, error_model="numpy", inline="always")
def _take(source, at, number, wider, table, own):
    """Copies a number of nodes of the tables, from ``source`` on, to those from ``at`` on, whose cells are wider."""
    signal, star, slopes, log_t, fluid, log_cell = table
    own_signal, own_star, own_slopes, own_t, own_fluid, own_cell = own
    for c in range(number):
        own_t[0, at + c] = log_t[0, source + c]
    for c in range(number):
        own_t[1, at + c] = log_t[1, source + c]
    for c in range(number):
        own_fluid[at + c] = fluid[source + c]
    for c in range(number):
        own_cell[at + c] = log_cell[source + c] + wider
    for s in range(len(own_signal)):
        for c in range(number):
            own_signal[s, at + c] = signal[s, source + c]
        for c in range(number):
            own_star[s, at + c] = star[s, source + c]
    for v in range(len(own_slopes)):
        for c in range(number):
            own_slopes[v, at + c] = slopes[v, source + c]


@compiled
def moments(
    log_y,  # (N, S) logarithms of magnitudes in units of their gain
    cell,  # (N, S) those of the middle of the voxel's cell; NOTHING where there is nothing
    order,  # (N,) voxels, those of one cell one after the other
    group,  # (S,) number of the gain of each scan
    groups,
    noise,  # (S,) variance of the noise
    error,  # (8 + S,): additive, model, own variances, of ln T2*, ..., middle, precision of ln PD, strict, typical^2
    signal,  # (S, B L) expected magnitude of PD 1 at the nodes of all blocks, gain included
    star,  # (S, B L) its relative derivative by ln T2*
    slopes,  # (U, B L) relative derivatives by the unknowns of the scanner, for each pair (scan, unknown)
    pairs,  # (U, 2) these pairs
    log_t,  # (2, B L) ln T1, ln T2
    fluid,  # (B L,) share of fluid
    log_cell,  # (B L,) log area of the cell of a node; NOTHING where a Gaussian is not summed
    log_prior,  # (K, B L) log weight of each component at the nodes
    log_pd,  # (K, B L) its mean ln PD there
    members,  # (B, K) components that matter in a block, then -1
    precision,  # (K,) inverse variance of ln PD there
    net,  # (N, 10) the network's Gaussian, see network; (0, 10) without
    likely,  # (N, B) which blocks of the lattice to sum, see likely_blocks
    scanner,  # number of unknowns of the scanner
    out_mean,  # (N, 3)
    out_cov,  # (N, 6)
    out_log,  # (N,)
    out_component,  # (N, K', 10) responsibility, first and second moments of each component
    out_scanner,  # (N, 4, P): mean score by the unknowns of the scanner, and its product with ln PD, ln T1, ln T2
    out_misfit,  # (N, S)
    out_fluid,  # (N,)
):
    count, scans = log_y.shape
    blocks, components, plain = members.shape[0], log_prior.shape[0], likely.shape[1]
    with_network = net.shape[0] > 0
    everything = components + 1 if with_network else components
    none, one, pair = np.float32(0.0), np.float32(1.0), 2 * LANES
    nodes, fields = (blocks + 2) * LANES, FIRST + FIELDS * scans + 2 * groups
    middle, y, weight = np.zeros(scans, np.float32), np.zeros(scans, np.float32), np.zeros(scans, np.float32)
    # Nodes of the blocks that matter: first those that all voxels of the cell share.
    chosen, matters = np.zeros(blocks, np.int64), np.zeros((2, components), np.int64)
    own_signal, own_star = np.zeros((scans, nodes), np.float32), np.zeros((scans, nodes), np.float32)
    own_slopes, own_t = np.zeros((len(pairs), nodes), np.float32), np.zeros((2, nodes), np.float32)
    own_fluid, own_cell = np.zeros(nodes, np.float32), np.zeros(nodes, np.float32)
    own_prior, own_pd = np.zeros((everything, nodes), np.float32), np.zeros((everything, nodes), np.float32)
    rows, joint = np.zeros((fields, nodes), np.float32), np.zeros((3, everything, nodes), np.float32)
    # Spans of nodes where a component matters.
    span_k, span = np.zeros(everything * blocks, np.int64), np.zeros((2, everything * blocks), np.uint64)
    tops, sums = np.zeros(everything * blocks, np.float32), np.zeros((3, nodes), np.float32)
    # Of the voxel.
    step, by_scanner = np.zeros(scans, np.float32), np.zeros((4, scanner), np.float32)
    big_b, big_q, lag = np.zeros(nodes, np.float32), np.zeros(nodes, np.float32), np.zeros((groups, nodes), np.float32)
    out, powers = np.zeros((everything, nodes), np.float32), np.zeros((3, nodes), np.float32)
    x0, constant, score = np.zeros(nodes, np.float32), np.zeros(nodes, np.float32), np.zeros((2, nodes), np.float32)
    shared, spans = 0, 0
    taken = own_signal, own_star, own_slopes, own_t, own_fluid, own_cell
    table, few = (signal, star, slopes, log_t, fluid, log_cell), np.zeros(blocks * len(FEW), np.int64)
    for b in range(blocks):
        for j in range(len(FEW)):
            few[b * len(FEW) + j] = b * LANES + FEW[j]
    thin = signal[:, few], star[:, few], slopes[:, few], log_t[:, few], fluid[few], log_cell[few]
    for i in range(count):
        n = order[i]
        other = i == 0
        for s in range(scans):
            other = other or cell[n, s] != middle[s]
        if other:
            shared = 0
            open_cell(cell[n], noise, error, middle, y, weight)
        used, low = 0, np.uint64(0 if other else shared)
        if other:
            for b in range(blocks):
                # Blocks of voxels with fluid hold signals of all sizes: they are always summed.
                if b >= plain or likely[n, b] == SHARED:
                    chosen[used] = b
                    used += 1
            shared = (used * LANES + pair - 1) // pair * pair
        # Those that only the network finds likely are of this voxel.
        several = 0
        if with_network:
            for b in range(plain):
                if likely[n, b] == OWN:
                    chosen[used + several] = b
                    several += 1
        some, wider, width = (thin, WIDER, len(FEW)) if several > MANY else (table, none, LANES)
        stop = np.uint64((shared + several * width + pair - 1) // pair * pair)
        if low < stop:
            # Some nodes without weight fill up the number that the processor computes at once.
            for c in range(low, stop):
                own_cell[c] = NOTHING
            j = 0
            while j < used + several:
                # Blocks that follow one another.
                last, until = j + 1, used if j < used else used + several
                while last < until and chosen[last] == chosen[last - 1] + 1:
                    last += 1
                if j < used:
                    own_width, at, whence, more = LANES, j * LANES, table, none
                else:
                    own_width, at, whence, more = width, shared + (j - used) * width, some, wider
                source, number = np.uint64(chosen[j] * own_width), np.uint64((last - j) * own_width)
                _take(source, np.uint64(at), number, more, whence, taken)
                j = last
            likelihood(low, stop, middle, y, weight, own_signal, own_star, noise, error, none, group, groups, rows,
                       sums)  # fmt: skip
        if other:
            matters[:] = 0
            for k in range(components):
                for c in range(np.uint64(0), np.uint64(shared)):
                    own_prior[k, c] = NOTHING
            for j in range(used):
                at = (j - j % 2) * LANES
                for k in members[chosen[j]]:
                    if k < 0:
                        break
                    if matters[1, k] == 0:
                        matters[0, k] = at
                    matters[1, k] = at + pair
                    for c in range(LANES):
                        own_prior[k, j * LANES + c] = log_prior[k, chosen[j] * LANES + c]
                        own_pd[k, j * LANES + c] = log_pd[k, chosen[j] * LANES + c]
            top = NOTHING
            for k in range(components):
                low, high = np.uint64(matters[0, k]), np.uint64(matters[1, k])
                join(low, high, k, own_prior, own_pd, precision[k], rows, joint)
                top = max(top, evidence(low, high, k, joint, rows[2], rows[3], out))
            spans = 0
            for k in range(components):
                until = 0
                for at in range(matters[0, k], matters[1, k], pair):
                    this = NOTHING
                    for c in range(np.uint64(at), np.uint64(at + pair)):
                        this = max(this, out[k, c])
                    if this > top - np.float32(NEGLIGIBLE + MARGIN):
                        if until != at or spans == 0 or span_k[spans - 1] != k:
                            span_k[spans], span[0, spans] = k, np.uint64(at)
                            spans += 1
                        until = at + pair
                        span[1, spans - 1] = np.uint64(until)
        for s in range(scans):
            step[s] = log_y[n, s] - middle[s] if weight[s] > 0 else none
        low, high, all_spans = np.uint64(0), stop, spans
        _move(low, high, step, weight, group, groups, rows, big_b, big_q, lag)
        for c in range(low, high):
            powers[0, c], powers[1, c], powers[2, c] = none, none, none
        if with_network:
            network(low, high, components, net[n], own_t, own_cell, none, own_prior, own_pd)
            join(low, high, components, own_prior, own_pd, net[n, 5], rows, joint)
            span_k[spans], span[0, spans], span[1, spans] = components, low, high
            all_spans += 1
        top, best = NOTHING, 0
        for j in range(all_spans):
            tops[j] = evidence(span[0, j], span[1, j], span_k[j], joint, big_b, big_q, out)
            if tops[j] > top:
                top, best = tops[j], j
        # Moments about the likeliest node.
        centre = span[0, best]
        for c in range(span[0, best], span[1, best]):
            if out[span_k[best], c] == top:
                centre = c
        centre1, centre2 = own_t[0, centre], own_t[1, centre]
        by_scanner[:] = none
        out_component[n] = none
        total_fluid = none
        for s in range(scans):
            out_misfit[n, s] = none
        for j in range(all_spans):
            if tops[j] > top - np.float32(NEGLIGIBLE):
                _add(span[0, j], span[1, j], span_k[j], top, centre1, centre2, rows, joint, big_b, out, own_t, powers,
                     x0, out_component[n, span_k[j]])  # fmt: skip
        for c in range(low, high):
            total_fluid += powers[0, c] * own_fluid[c]
        for s in range(scans):
            if weight[s] > 0:
                total, d, own, g = none, step[s], FIRST + FIELDS * s, group[s]
                for c in range(low, high):
                    total += (rows[own + RESIDUAL, c] + d) * powers[0, c] - rows[own + RHO, c] * powers[1, c]
                out_misfit[n, s] += total
                # The score is constant - linear u, for u = ln PD - a.
                for c in range(low, high):
                    constant[c] = (
                        rows[own + RHO, c] * rows[own + SCORE, c]
                        + rows[own + WEIGHTED, c] * d
                        - rows[own + LAGGED, c] * lag[g, c]
                    )
                for c in range(low, high):
                    score[0, c] = constant[c] * powers[0, c] - rows[own + LINEAR, c] * powers[1, c]
                for c in range(low, high):
                    score[1, c] = (
                        rows[0, c] * score[0, c] + constant[c] * powers[1, c] - rows[own + LINEAR, c] * powers[2, c]
                    )
                for v in range(len(pairs)):
                    if pairs[v, 0] == s:
                        z0, z1, z2, z3 = none, none, none, none
                        for c in range(low, high):
                            this = score[0, c] * own_slopes[v, c]
                            z0 += this
                            z1 += score[1, c] * own_slopes[v, c]
                            z2 += (own_t[0, c] - centre1) * this
                            z3 += (own_t[1, c] - centre2) * this
                        p = pairs[v, 1]
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

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

"""Which blocks of nodes matter to a voxel.

One node stands for a block of the lattice, with a likelihood made broad enough to miss no peak.
"""

import numpy as np
from numba import njit

from .arithmetic import compiled
from .nodes import FIELDS, FIRST, NOTHING, evidence, join, likelihood, network, open_cell

BROAD = 0.03
"""Relative error added to every scan, besides half the range of its signal in a block."""
DROP = 9.0
"""Blocks whose log score is further below the best than this are left out."""
POOR = -10.0
"""Where the best log score is lower, nothing fits a voxel: scores change much within a block, and more are kept."""
MARGIN = 3.0
"""How far log scores of a voxel are from those of the middle of its cell."""
SHARED, OWN = 1, 2
"""Marks of blocks that matter to all voxels of a cell, and of those that only the network of one finds likely."""
HALF = 0.09
"""Half the side of a block in ln T1 and ln T2: the network's Gaussian is taken at the nearest point."""


@njit(fastmath=True, error_model="numpy", inline="always")
def lowest(best):
    """The log score down to which blocks are kept; lower by twice what the best is below :data:`POOR`."""
    return best - np.float32(DROP) - np.float32(2.0) * max(np.float32(POOR) - best, np.float32(0.0))


@compiled
def likely_blocks(cell, order, group, groups, noise, error, first, precision, net, likely):
    """Marks blocks in ``likely (N, B)`` with :data:`SHARED` or :data:`OWN`.

    ``first`` has signal, star ``(S, C)``, log_t ``(2, C)``, log_prior, log_pd ``(K, C)``, log_cell ``(C,)``, of one
    node for each of the B blocks and of some without weight, then B. The rest is as in :func:`.kernel.moments`.
    """
    count, scans = cell.shape
    signal, star, log_t, log_prior, log_pd, log_cell, plain = first
    components, begin, end = log_prior.shape[0], np.uint64(0), np.uint64(log_cell.shape[0])
    with_network, own = net.shape[0] > 0, log_prior.shape[0]
    middle, y, weight = np.zeros(scans, np.float32), np.zeros(scans, np.float32), np.zeros(scans, np.float32)
    rows = np.zeros((FIRST + FIELDS * scans + 2 * groups, end), np.float32)
    sums, joint = np.zeros((3, end), np.float32), np.zeros((3, components + 1, end), np.float32)
    out, prior = np.zeros((components + 1, end), np.float32), np.zeros((components + 1, end), np.float32)
    pd = np.zeros((components + 1, end), np.float32)
    # Numbers one by one: to assign a whole array, numba would compile five more seconds of code.
    for k in range(components):
        for b in range(end):
            prior[k, b], pd[k, b] = log_prior[k, b], log_pd[k, b]
    shared = np.zeros(plain, np.uint8)
    best_shared = NOTHING
    for i in range(count):
        n = order[i]
        other = i == 0
        for s in range(scans):
            other = other or cell[n, s] != middle[s]
        if other:
            open_cell(cell[n], noise, error, middle, y, weight)
            likelihood(begin, end, middle, y, weight, signal, star, noise, error, error[4], group, groups, rows, sums)
            best_shared = NOTHING
            for k in range(components):
                join(begin, end, k, prior, pd, precision[k], rows, joint)
                best_shared = max(best_shared, evidence(begin, end, k, joint, rows[2], rows[3], out))
            least = lowest(best_shared) - np.float32(MARGIN)
            for b in range(plain):
                top = NOTHING
                for k in range(components):
                    top = max(top, out[k, b])
                shared[b] = top >= least
        for b in range(plain):
            likely[n, b] = shared[b]
        if with_network:
            network(begin, end, own, net[n], log_t, log_cell, np.float32(HALF), prior, pd)
            join(begin, end, own, prior, pd, net[n, 5], rows, joint)
            least = lowest(max(best_shared, evidence(begin, end, own, joint, rows[2], rows[3], out)))
            for b in range(plain):
                if not shared[b] and out[own, b] >= least:
                    likely[n, b] = OWN

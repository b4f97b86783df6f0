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
"""Time and memory of the posterior: ``python -m benchmarks.posterior [--threads 2] [--voxels 4000] [--head]``.

The kernel is compared with plain torch in the same run, since seconds depend on the machine.
Voxels are drawn from the prior. With ``--head``, one head of 160 x 224 x 160 voxels goes through all of it.
"""

import argparse
import platform
import resource
import time
from collections.abc import Callable

import numpy as np
import torch

from scripts.acquisition import Acquisition
from scripts.estimate import Posterior
from scripts.estimate.posterior import reference
from scripts.estimate.posterior.head import Errors, Head
from scripts.estimate.posterior.mixture import Common, Mixture
from scripts.estimate.posterior.scanner import Scanner, usable_scans
from scripts.parallel import use_threads
from scripts.tissue import Estimate

SCANS = (
    Acquisition("spin_echo", te=0.09, tr=4.0, flip_angle=90.0),
    Acquisition("inversion_recovery", te=0.01, tr=4.0, ti=0.5),
    Acquisition("spin_echo", te=0.01, tr=4.0, flip_angle=90.0),
    Acquisition("inversion_recovery", te=0.09, tr=9.0, ti=2.5),
)
NOISE = 0.02
"""Standard deviation over the median magnitude."""
NETWORK_SD = (0.05, 0.1, 0.15)
"""Of ln PD, ln T1, ln T2."""
SHAPE = (160, 224, 160)
REFERENCE_VOXELS = 40
"""So many are summed by plain torch, which needs a second for each hundred."""


def draw(scanner: Scanner, mixture: Mixture, count: int) -> tuple[torch.Tensor, np.ndarray]:
    """Images ``(S, N)`` and true ln PD, ln T1, ln T2 ``(N, 3)`` of voxels of the prior's Gaussians."""
    stream = np.random.default_rng(0)
    weight = mixture.weight[: mixture.gaussians]
    tissue = stream.choice(mixture.gaussians, count, p=weight / weight.sum())
    root = np.linalg.cholesky(mixture.covariance)[tissue]
    maps = mixture.mean[tissue] + np.einsum("nij,nj->ni", root, stream.normal(size=(count, 3)))
    maps[:, 2] = np.minimum(maps[:, 2], maps[:, 1])
    inputs = torch.from_numpy(maps.T).float()
    image = scanner.predict(inputs[1:], scanner.expected()).signal.abs() * inputs[0].exp()
    noise = torch.from_numpy(stream.normal(size=image.shape)).float()
    return (image + NOISE * image.median(1, keepdim=True).values * noise).abs(), maps


def parts(scans: int) -> tuple[torch.Tensor, Scanner, Mixture]:
    """Rows, scanner and prior."""
    rows = torch.stack([one.to_row() for one in SCANS[:scans]])
    return rows, Scanner(usable_scans(rows), range(scans), (0.93, 0.05), 0.07), Mixture(Common(), 0.3, 3.0)


def microseconds(work: Callable[[], object], voxels: int, repeats: int = 3) -> float:
    """Of a core for one voxel: best of some runs, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1e6 * min(times[1:]) / voxels


def peak() -> float:
    """Memory [GiB] of the process so far, at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def compare(scans: int, voxels: int) -> None:
    """Prints a row: kernel and plain torch, one thread each. The more voxels, the more there are in a cell."""
    _, scanner, mixture = parts(scans)
    image, maps = draw(scanner, mixture, voxels)
    network = maps, np.tile(np.diag(np.square(NETWORK_SD)), (voxels, 1, 1))
    typical = image.median(1).values
    head = Head(image, scanner, NOISE * typical, typical, mixture, Errors(), network)
    look_up, few = head.look_up(head.mean), slice(REFERENCE_VOXELS)
    cells = head.cells()
    alone = microseconds(lambda: head.sums(head.mean, slice(None), look_up), voxels)
    ours = microseconds(lambda: head.sums(head.mean, slice(None), look_up, cells), voxels)
    theirs = microseconds(lambda: reference.sums(head, head.mean, few, look_up), REFERENCE_VOXELS, 1)
    print(
        f"{scans} scans: {alone:6.1f} us a voxel by itself, {ours:6.1f} us in {len(np.unique(cells, axis=0))} cells, "
        f"plain torch {theirs:8.1f} us, ratio {theirs / ours:5.0f}",
        flush=True,
    )


def whole_head(scans: int) -> None:
    """Prints time and memory of one head, network's estimate given."""
    rows, scanner, mixture = parts(scans)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = sum(axis**2 for axis in axes) < 0.77
    # The voxels of a slab, again and again.
    slab, maps = draw(scanner, mixture, SHAPE[1] * SHAPE[2])
    image = slab.view(scans, 1, *SHAPE[1:]).expand(scans, *SHAPE) * mask
    log_maps = torch.from_numpy(maps.T).float().view(3, 1, *SHAPE[1:]).expand(3, *SHAPE).contiguous()
    sd = torch.tensor(NETWORK_SD).view(3, 1, 1, 1).expand(3, *SHAPE).contiguous()
    estimate = Estimate.independent(log_maps[None], sd[None])
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    Posterior()(estimate, image, rows, mask)
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"head of {int(mask.sum())} voxels, {scans} scans: {took:.0f} s, {cpu:.0f} s of all cores; "
        f"peak {peak():.2f} GiB, {before:.2f} before"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--voxels", type=int, default=4000)
    parser.add_argument("--head", action="store_true")
    options = parser.parse_args()
    use_threads(options.threads)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
    for scans in (1, 2, 3, 4):
        compare(scans, options.voxels)
    if options.head:
        whole_head(3)


if __name__ == "__main__":
    main()

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

"""Time and memory of estimating one whole head, and the throughput of training."""

import platform
import resource
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.steps import seconds
from benchmarks.steps import settings as training_settings
from benchmarks.steps import vae_step
from scripts.estimate import Posterior
from scripts.evaluate.estimators import NetworkEstimator, refine
from scripts.tissue import tissue_values

from .page import table
from .settings import Settings
from .truth import WM, Truth, acquire

SHAPE = (160, 224, 160)
BATCHES = (1, 4)
THREE_SCANS = 0
"""Number of the protocol."""


def run(network: nn.Module, settings: Settings, threads: int, posterior: Posterior) -> str:
    """Tables; the memory is that of the whole process so far, weights and scans included.

    Args:
        network: the estimator.
        settings: for the protocol of three scans.
        threads: of the CPU.
        posterior: after it.
    """
    torch.set_num_threads(threads)
    protocol = settings.protocols[THREE_SCANS]
    scans = acquire(ellipsoid(SHAPE), protocol, settings.nuisance, settings.seed, 0)
    rows = [("scans and weights read", "", f"{peak():.1f}")]
    found, took = timed(lambda: NetworkEstimator(network)(scans))
    rows.append((f"network, {SHAPE[-1]} slices", f"{took:.0f}", f"{peak():.1f}"))
    _, took = timed(lambda: refine(found, scans, posterior))
    rows.append(("data consistency, the whole head", f"{took:.0f}", f"{peak():.1f}"))
    training = []
    for batch in BATCHES:
        took = seconds(vae_step(network, training_settings("unet")["loss_weights"], False, batch), 2)
        training.append((str(batch), f"{took:.2f}", f"{batch / took:.1f}"))
    machine = f"{platform.processor() or platform.machine()}, {threads} threads, torch {torch.__version__}"
    head = "x".join(map(str, SHAPE))
    return (
        f"{machine}. One head of {head} voxels, {protocol.name}:\n\n"
        f"{table(('What', 'time [s]', 'peak memory so far [GiB]'), rows)}\n"
        "A training iteration of `benchmarks.steps`, slices of 160 x 224 with three contrasts, float32:\n\n"
        f"{table(('batch', 'time [s]', 'slices per second'), training)}"
    )


def ellipsoid(shape: tuple[int, int, int]) -> Truth:
    """A head of white matter alone, which costs as much as any other."""
    axes = torch.meshgrid(*[torch.linspace(-1.1, 1.1, size) for size in shape], indexing="ij")
    mask = sum(axis.square() for axis in axes) < 1
    values = torch.tensor(tissue_values("WM", 3.0)[:3])
    maps = values.view(3, 1, 1, 1) * mask
    # One voxel of grey matter: the brighter tissue sets the noise.
    labels = WM * mask
    labels[tuple(size // 2 for size in shape)] = 2
    return Truth("ellipsoid", maps, labels, mask, mask, maps)


def timed(work: Callable[[], object]) -> tuple[object, float]:
    """What some work returns, and how long it took [s]."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def peak() -> float:
    """Largest memory of this process so far [GiB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

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

"""Work for several processor cores: independent pieces side by side, each computed by one thread, and processes.

Threads inside an operation wait for each other at its end, and spin while they wait. When another process has taken one
of the cores, all of them wait for it, thousands of times a second: two runs at once took many times as long as one
after the other. A piece that one thread computes alone waits for nobody, and its result does not depend on how many
threads there are.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing.context import BaseContext
from typing import TypeVar

import joblib
import torch

Item, Result = TypeVar("Item"), TypeVar("Result")
_threads: int | None = None


def available_threads() -> int:
    """Cores that this process may use: by affinity and cgroup quota, and by SLURM's ``SLURM_CPUS_PER_TASK``."""
    allotted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(joblib.cpu_count(), int(allotted)) if allotted.isdecimal() and int(allotted) else joblib.cpu_count()


def use_threads(threads: int | None) -> None:
    """Sets how many pieces run side by side from now on, and that operations outside of pieces use one thread.

    Args:
        threads: their number; None for :func:`available_threads`.
    """
    global _threads
    _threads = threads
    torch.set_num_threads(1)


def in_parallel(function: Callable[[Item], Result], items: Iterable[Item], device: torch.device) -> Iterator[Result]:
    """``function(item)`` of each item, in their order; what one raises is raised in its place.

    Gradients are recorded where they are in the calling thread; autocast is off.

    Args:
        function: of one item.
        items: the pieces.
        device: where their tensors are; pieces on another device than the CPU run one after the other.
    """
    if device.type != "cpu":
        yield from map(function, items)
        return
    grad, before = torch.is_grad_enabled(), torch.get_num_threads()

    def compute(item: Item) -> Result:
        with torch.set_grad_enabled(grad):
            return function(item)

    try:
        # The number of threads inside an operation is a property of the thread that calls it.
        with ThreadPoolExecutor(_threads or available_threads(), "piece", torch.set_num_threads, (1,)) as pool:
            yield from pool.map(compute, items)
    finally:
        torch.set_num_threads(before)


@cache
def forks() -> BaseContext:
    """Makes processes that are forked from one that has imported MONAI: by itself, each takes many seconds for that.

    Windows cannot fork; there, each imports it.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["monai"])
    return context

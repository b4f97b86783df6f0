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

"""Pieces side by side: in their order, each on one thread, equal for any number of threads."""

import os
import threading

import joblib
import pytest
import torch

from scripts import parallel
from scripts.networks import MapInferer, PhysicsVAE
from scripts.parallel import available_threads, in_parallel, use_threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def unchanged():
    before = parallel._threads, torch.get_num_threads()
    yield
    parallel._threads = before[0]
    torch.set_num_threads(before[1])


def test_results_come_in_order_and_each_piece_has_one_thread():
    use_threads(3)
    found = list(in_parallel(lambda i: (i, torch.get_num_threads(), threading.current_thread().name), range(12), CPU))
    assert [i for i, *_ in found] == list(range(12))
    assert {threads for _, threads, _ in found} == {1}
    assert all(name.startswith("piece") for *_, name in found)


def test_the_caller_keeps_its_number_of_threads_also_after_an_error():
    use_threads(2)
    torch.set_num_threads(2)
    with pytest.raises(ZeroDivisionError):
        list(in_parallel(lambda i: 1 / i, [1, 0], CPU))
    assert torch.get_num_threads() == 2


def test_gradients_are_recorded_as_in_the_calling_thread():
    x = torch.ones(1, requires_grad=True)
    assert all(y.requires_grad for y in in_parallel(lambda i: i * x, [1, 2], CPU))
    with torch.no_grad():
        assert not any(y.requires_grad for y in in_parallel(lambda i: i * x, [1, 2], CPU))


def test_slurm_and_the_machine_bound_the_threads(monkeypatch):
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert available_threads() == joblib.cpu_count() <= (os.cpu_count() or 1)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    assert available_threads() == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "all")
    assert available_threads() == joblib.cpu_count()


def test_an_estimate_is_the_same_for_any_number_of_threads():
    torch.manual_seed(0)
    network = PhysicsVAE(channels=(8, 16), norm_num_groups=4, skip_channels=(4,))
    image, rows = torch.rand(1, 3, 16, 24, 5) * 2 - 1, network.default_acquisition[None]
    estimates = []
    for threads in (1, 2, 4):
        use_threads(threads)
        estimates.append(MapInferer()(image, network, rows))
    assert all(torch.equal(a, b) for other in estimates[1:] for a, b in zip(estimates[0], other))

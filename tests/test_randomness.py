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

import numpy as np
import pytest
import torch

from scripts.randomness import generator, rng

ADDRESSES = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1)]


def numpy_numbers(*address: int) -> np.ndarray:
    return rng(*address).standard_normal(1000)


def torch_numbers(*address: int) -> np.ndarray:
    return torch.randn(1000, generator=generator(*address)).numpy()


@pytest.mark.parametrize("numbers", [numpy_numbers, torch_numbers])
def test_numbers_are_a_function_of_seed_and_address(numbers):
    first = numbers(3, 1, 4)
    numbers(3, 1, 5)
    np.random.seed(0)
    torch.manual_seed(0)
    assert np.array_equal(numbers(3, 1, 4), first)


@pytest.mark.parametrize("numbers", [numpy_numbers, torch_numbers])
def test_neighbouring_addresses_are_unrelated(numbers):
    correlation = np.corrcoef([numbers(*address) for address in ADDRESSES])
    assert np.abs(correlation - np.eye(len(ADDRESSES))).max() < 0.15


@pytest.mark.parametrize("numbers", [numpy_numbers, torch_numbers])
def test_an_address_and_its_continuation_differ(numbers):
    same = np.array_equal(numbers(5), numbers(5, 0))
    assert not same


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    rng(1, 2).normal()
    generator(1, 2)
    assert np.array_equal(np.random.get_state()[1], before[0]) and torch.equal(torch.get_rng_state(), before[1])


def test_numbers_are_drawn_on_the_cpu():
    assert generator(0, 1).device.type == "cpu"

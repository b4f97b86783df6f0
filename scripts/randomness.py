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

"""Randomness with an address: every random number is a function of (seed, address), drawn on the CPU."""

import numpy as np
import torch


def rng(seed: int, *address: int) -> np.random.Generator:
    """NumPy generator for one address, e.g. ``rng(seed, subject_index)``."""
    return np.random.default_rng(_sequence(seed, *address))


def generator(seed: int, *address: int) -> torch.Generator:
    """CPU generator for one address, e.g. ``generator(seed, epoch, index)``.

    NumPy's ``SeedSequence`` mixes the address, so neighbouring addresses give unrelated streams.
    """
    state = _sequence(seed, *address).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> 1))


def _sequence(*address: int) -> np.random.SeedSequence:
    # NumPy takes (1,) and (1, 0) for the same; with their lengths they differ.
    return np.random.SeedSequence([len(address), *address])

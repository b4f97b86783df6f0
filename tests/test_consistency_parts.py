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

"""What data consistency is made of: small matrices, predictions and their derivatives, the noise of a scan."""

import pytest
import torch

from scripts.estimate.consistency.linear import cholesky, cholesky_of_inverse, invert, pack, unpack
from scripts.estimate.consistency.noise import noise_level
from scripts.estimate.consistency.signals import Scan, Scanner
from scripts.signal import SEQUENCES

from .protocols import PROTOCOLS

TISSUES = torch.tensor([[0.69, 0.83, 0.08], [0.84, 1.33, 0.11]], dtype=torch.float64).log()


@pytest.mark.parametrize("size", [1, 3, 5])
def test_small_matrices_are_those_of_linalg(size):
    root = torch.randn(7, size, size, generator=torch.Generator().manual_seed(0))
    full = root @ root.mT + torch.eye(size)
    last = full.movedim(0, -1)
    torch.testing.assert_close(cholesky(last).movedim(-1, 0), torch.linalg.cholesky(full))
    torch.testing.assert_close(invert(last).movedim(-1, 0), torch.linalg.inv(full), atol=1e-5, rtol=1e-4)
    inverse = torch.linalg.cholesky(torch.linalg.inv(full))
    torch.testing.assert_close(cholesky_of_inverse(last).movedim(-1, 0), inverse, atol=1e-5, rtol=1e-4)


def test_cholesky_factors_are_packed_row_by_row():
    packed = torch.arange(1.0, 7.0)[:, None]
    assert unpack(packed)[..., 0].tolist() == [[1, 0, 0], [2, 3, 0], [4, 5, 6]]
    assert (pack(unpack(packed)) == packed).all()


@pytest.mark.parametrize("name", [name for name, sequence in SEQUENCES.items() if not sequence.signed])
def test_derivatives_are_differences(name):
    fields = PROTOCOLS[name]
    scan = Scan(0, SEQUENCES[name], fields, ("te",) if "te" in fields else ())
    scanner = Scanner([scan], [0], (0.93, 0.05), 0.1)
    maps = TISSUES.T
    at, sigma = scanner.expected().double(), torch.tensor([0.01], dtype=torch.float64)
    seen = scanner.predict(maps, at, sigma)
    for k in range(3):
        step = torch.zeros(3, 1, dtype=torch.float64)
        step[k] = 1e-5
        difference = (
            scanner.predict(maps + step, at, sigma).log_image - scanner.predict(maps - step, at, sigma).log_image
        )
        torch.testing.assert_close(seen.by_maps[:, k], difference / 2e-5, atol=1e-6, rtol=1e-5)
    for p in range(scanner.size):
        step = torch.zeros(scanner.size, dtype=torch.float64)
        step[p] = 1e-5
        difference = (
            scanner.predict(maps, at + step, sigma).log_image - scanner.predict(maps, at - step, sigma).log_image
        )
        torch.testing.assert_close(seen.by_scanner[:, p], difference / 2e-5, atol=1e-6, rtol=1e-5)


def test_a_sign_is_open_only_where_the_other_one_has_as_large_a_signal():
    fields = {"te": 0.01, "tr": 6.0, "ti": 1.2, "echo_train_length": 8.0, "echo_spacing": 0.011}
    inversion = Scan(0, SEQUENCES["inversion_recovery_turbo_spin_echo"], fields, ())
    scans = [inversion, Scan(1, SEQUENCES["mprage"], PROTOCOLS["mprage"], ())]
    scanner = Scanner(scans, [0, 1], (0.93, 0.05), 0.1)
    log_maps = torch.tensor([[1.0, 0.5, 0.1], [1.0, 1.9, 0.1], [1.0, 4.0, 2.0]]).log().T
    beyond = scanner.predict(log_maps, scanner.expected(), torch.full((2,), 1e-4)).beyond
    assert beyond[0, 0] > 1 and (beyond[0, 1:] == 0).all()
    assert (beyond[1] > 3).all(), "no T1 makes the signal of MPRAGE negative"


@pytest.mark.parametrize("air", [True, False], ids=["air", "zeroed air"])
def test_noise_is_read_from_the_scan(air):
    draw = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 96), torch.linspace(-1, 1, 96), indexing="ij")
    mask = x.square() + y.square() < 0.6
    noise = 5 * torch.randn(2, 96, 96, generator=draw)
    image = torch.hypot(mask * (100 + 30 * torch.sin(6 * x)) + noise[0], noise[1])
    assert noise_level(image * (1 if air else mask), mask).item() == pytest.approx(5, rel=0.15)

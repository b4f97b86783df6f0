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

import math

import pytest
import torch

from scripts.errors import UserError
from scripts.nuisance import (
    Noise,
    Nuisances,
    apply_gain,
    apply_nuisances,
    bias_field,
    crop_kspace,
    noise_sigma,
    noisy_magnitude,
    polynomial_terms,
    rigid_motion,
    thick_slices,
    transmit_field,
)

SHAPES = [(24, 31), (24, 31, 16)]
COUNTS = {2: (2, 5, 9), 3: (3, 9, 19)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def signed(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


def coordinates(shape: tuple[int, ...]) -> list[torch.Tensor]:
    return torch.meshgrid([(torch.arange(n) + 0.5) * 2 / n - 1 for n in shape], indexing="ij")


NEUTRAL = {
    "gain": lambda s: apply_gain(s, 1.0),
    "bias": lambda s: s * bias_field(torch.zeros(COUNTS[s.ndim][2]), s.shape),
    "transmit": lambda s: s * transmit_field(s.shape, 1.0, 1.0),
    "k-space": lambda s: crop_kspace(s, 1.0, 0.0, 1.0),
    "slices": lambda s: thick_slices(s, 0.7, 0.7),
    "motion": lambda s: rigid_motion(s, [0] * (2 * s.ndim - 3), [0] * s.ndim, [1.2] * s.ndim),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_is_identity_for_signed_and_complex_signals(name, shape):
    real = signed(shape)
    assert torch.equal(NEUTRAL[name](real), real)
    both = torch.complex(real, signed(shape, 1))
    assert torch.equal(NEUTRAL[name](both), both)


@pytest.mark.parametrize("coils", [1, 3])
def test_without_noise_the_magnitude_is_left(coils):
    signal = torch.complex(signed((9, 8)), signed((9, 8), 1))
    torch.testing.assert_close(noisy_magnitude(signal, 0.0, seeded(), coils), signal.abs())
    assert torch.equal(noisy_magnitude(signal.real, 0.0, seeded(), coils), signal.real.abs())


@pytest.mark.parametrize(
    "snr, mean, spread", [(0, 1.25, 0.655), (1, 1.55, 0.78), (2, 2.28, 0.91), (3, 3.17, 0.97), (5, 5.10, 0.99)]
)
def test_one_coil_is_rician(snr, mean, spread):
    sigma = 7.0
    magnitude = noisy_magnitude(torch.full((500, 500), -snr * sigma), sigma, seeded())
    assert magnitude.mean() / sigma == pytest.approx(mean, abs=0.008)
    assert magnitude.std() / sigma == pytest.approx(spread, abs=0.008)


@pytest.mark.parametrize("coils, mean", [(4, 2.74), (12, 4.85), (32, 7.97)])
def test_air_of_several_coils_is_chi(coils, mean):
    magnitude = noisy_magnitude(torch.zeros(150, 150), 2.0, seeded(), coils)
    gamma = math.sqrt(2) * math.exp(math.lgamma(coils + 0.5) - math.lgamma(coils))
    assert magnitude.mean() / 2.0 == pytest.approx(gamma, rel=3e-3) == pytest.approx(mean, abs=0.02)


def test_several_coils_are_non_central_chi_wherever_the_signal_is():
    coils, sigma, snr = 4, 3.0, 2.5
    magnitude = noisy_magnitude(torch.full((400, 400), snr * sigma), sigma, seeded(), coils)
    # E m^2 = sigma^2 (2 coils + SNR^2); the same from signal and noise spread over all coils.
    assert magnitude.square().mean() / sigma**2 == pytest.approx(2 * coils + snr**2, rel=5e-3)
    noise = sigma * torch.randn(2, coils, 400, 400, generator=seeded(1))
    spread = torch.hypot(noise[0] + snr * sigma / math.sqrt(coils), noise[1]).square().sum(0).sqrt()
    assert magnitude.mean() == pytest.approx(float(spread.mean()), rel=5e-3)
    assert magnitude.std() == pytest.approx(float(spread.std()), rel=1e-2)


@pytest.mark.parametrize("value, noise", [(30, Noise(30.0)), ("snr=12.5,coils=8", Noise(12.5, 8)), (None, None)])
def test_noise_is_stated_as_an_snr(value, noise):
    assert Noise.of(value) == noise


@pytest.mark.parametrize("value", [0, -3, float("nan"), "30", "snr=0", "snr=1.2.3", "snr=30,coils=0", "coils=8", [30]])
def test_noise_that_is_none_is_refused(value):
    with pytest.raises(UserError, match="noise: found .*; give an SNR above 0, such as 30, or snr=30,coils=8"):
        Noise.of(value)


def test_noise_is_that_of_the_generator():
    signal = signed((12, 10))
    first = noisy_magnitude(signal, 0.3, seeded(4), 2)
    assert torch.equal(noisy_magnitude(signal, 0.3, seeded(4), 2), first)
    assert not torch.equal(noisy_magnitude(signal, 0.3, seeded(5), 2), first)
    n1, n2 = torch.randn((2, 12, 10), generator=seeded(4))
    torch.testing.assert_close(
        noisy_magnitude(signal, 0.3, seeded(4)), ((signal + 0.3 * n1) ** 2 + (0.3 * n2) ** 2).sqrt()
    )


def test_sigma_refers_to_the_tissue_of_this_scan():
    signal = torch.tensor([[-4.0, 2.0, 100.0]])
    assert noise_sigma(signal, 10.0, torch.tensor([[1, 1, 0]])) == pytest.approx(0.3)
    assert noise_sigma(apply_gain(signal, 50), 10.0, torch.tensor([[1, 1, 0]])) == pytest.approx(15.0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_bias_is_exponential_smooth_and_of_mean_log_zero(shape, degree):
    count = COUNTS[len(shape)][degree - 1]
    assert len(polynomial_terms(len(shape), degree)) == count
    coefficients = 0.2 * signed((count,))
    bias = bias_field(coefficients, shape)
    assert bias.shape == shape and bias.min() > 0
    assert bias.log().mean().abs() < 1e-6
    mask = (coordinates(shape)[0] > 0.2).float()
    assert bias_field(coefficients, shape, mask)[mask > 0].log().mean().abs() < 1e-6
    doubled = bias_field(2 * coefficients, shape)
    torch.testing.assert_close(doubled.log(), 2 * bias.log(), atol=1e-5, rtol=1e-4)
    # A polynomial of the degree: one more difference vanishes.
    rest = bias.log().double()
    assert torch.diff(rest, n=degree, dim=0).abs().max() > 1e-5
    assert torch.diff(rest, n=degree + 1, dim=0).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(60, 50), (48, 50, 44)], ids=str)
def test_spread_of_the_log_bias_is_the_length_of_the_coefficients(shape):
    for seed in range(3):
        coefficients = signed((COUNTS[len(shape)][2],), seed)
        coefficients *= 0.15 / coefficients.norm()
        assert bias_field(coefficients, shape).log().std() == pytest.approx(0.15, rel=0.01)


def test_first_degree_tilts_along_its_axis():
    assert polynomial_terms(3, 1) == [(0, 0, 1), (0, 1, 0), (1, 0, 0)]
    log = bias_field([0, 0.1, 0], (6, 7, 8)).log()
    expected = 0.1 * math.sqrt(3) * coordinates((6, 7, 8))[1]
    torch.testing.assert_close(log, expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("shape", [(41, 41), (41, 41, 41)], ids=str)
def test_transmit_field_is_bright_in_the_middle(shape):
    field = transmit_field(shape, 1.3, 0.7)
    middle = (20,) * len(shape)
    assert field[middle] == field.max() == pytest.approx(1.3)
    assert field[(0, *middle[1:])] == pytest.approx(0.7, rel=0.05), "half a voxel before the face"
    torch.testing.assert_close(field, field.transpose(0, 1))
    moved = transmit_field(shape, 1.3, 0.7, [0.5] + [0.0] * (len(shape) - 1))
    assert int(moved[(slice(None), *middle[1:])].argmax()) == 30


WRONG = {
    "gain": lambda: apply_gain(signed((4, 4)), 0.0),
    "bias: number of coefficients": lambda: bias_field(torch.zeros(4), (8, 8)),
    "bias: empty mask": lambda: bias_field(torch.zeros(5), (8, 8), torch.zeros(8, 8)),
    "bias: shape of the mask": lambda: bias_field(torch.zeros(5), (8, 8), torch.ones(8, 9)),
    "transmit": lambda: transmit_field((8, 8), 1.1, -0.2),
    "transmit: shift": lambda: transmit_field((8, 8, 8), shift=[0.1, 0.2]),
    "transmit: empty shift": lambda: transmit_field((8, 8, 8), shift=[]),
    "sigma": lambda: noisy_magnitude(signed((4, 4)), -1.0, seeded()),
    "no coil": lambda: noisy_magnitude(signed((4, 4)), 1.0, seeded(), 0),
    "SNR": lambda: noise_sigma(signed((4, 4)), 0.0, torch.ones(4, 4)),
    "no reference": lambda: noise_sigma(signed((4, 4)), 10.0, torch.zeros(4, 4)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused(name):
    with pytest.raises(UserError, match="; "):
        WRONG[name]()


@pytest.mark.parametrize("shape", [(12, 16), (12, 16, 10)], ids=str)
def test_all_nuisances_follow_the_scanner(shape):
    """The chain is motion, bias, gain, k-space, slices, noise; each step may be left out, and all of it."""
    axes, spacing, white = len(shape), [1.0, 1.5, 2.0][: len(shape)], torch.zeros(shape)
    white[3:9, 4:12] = 1
    clean = signed(shape)
    assert torch.equal(apply_nuisances(clean, Nuisances(), spacing), clean)
    turn, shift, bias = [5.0] * (2 * axes - 3), [0.7] * axes, [0.1] * len(polynomial_terms(axes, 2))
    steps = {
        "motion": ({"rotation": turn, "translation": shift}, lambda x: rigid_motion(x, turn, shift, spacing)),
        "bias": ({"bias": bias}, lambda x: x * bias_field(bias, shape, white)),
        "gain": ({"gain": 7.0}, lambda x: apply_gain(x, 7.0)),
        "k-space": ({"fraction": 0.7, "taper": 0.4}, lambda x: crop_kspace(x, 0.7, 0.4)),
        "slices": ({"thickness": 3.0, "slice_axis": 1}, lambda x: thick_slices(x, 3.0, spacing[1], axis=1)),
        "noise": (
            {"snr": 20.0, "seed": 3},
            lambda x: noisy_magnitude(x, noise_sigma(x, 20.0, white), torch.Generator().manual_seed(3)),
        ),
    }
    expected, parameters = clean, {}
    for parameter, step in steps.values():
        expected, parameters = step(expected), parameters | parameter
        assert torch.equal(apply_nuisances(clean, Nuisances(**parameters), spacing, white, white), expected)
        assert torch.equal(apply_nuisances(clean, Nuisances(**parameter), spacing, white, white), step(clean))

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

"""Laws of the Cramér-Rao bounds: against a simulated experiment, in limits, and what no voxel count removes."""

from math import inf, log

import pytest
import torch

from scripts.acquisition import Acquisition
from scripts.commands.protocol_report.identifiability import (
    PRIOR_SD,
    bounds,
    condition_number,
    free_directions,
    gain_bias,
    independent_prior,
    log_sensitivities,
    noise_levels,
    sensitivities,
)

WM = torch.tensor([0.70, 0.83, 0.080], dtype=torch.float64)
MPRAGE = Acquisition(
    "mprage", 0.00316, 2.4, 1.0, 8, echo_train_length=176, echo_spacing=0.0073, echoes_before_centre=88
)
T2W = Acquisition("turbo_spin_echo", 0.1, 3.2, echo_train_length=16, echo_spacing=0.0125)
FLAIR = Acquisition("inversion_recovery", 0.091, 9.0, 2.5)
PDW = Acquisition("spin_echo", 0.012, 3.0, flip_angle=90)
T1W = Acquisition("spin_echo", 0.012, 0.5, flip_angle=90)
BSSFP = Acquisition("bssfp", 0.0025, 0.005, flip_angle=50)
MP2RAGE = Acquisition(
    "mp2rage",
    0.003,
    5.0,
    0.7,
    4,
    ti2=2.5,
    flip_angle2=5,
    echo_train_length=160,
    echo_spacing=0.007,
    echoes_before_centre=80,
)
SCANS = [MPRAGE, T2W, FLAIR, PDW]


def random_tissues(count: int = 50) -> torch.Tensor:
    """PD .5-1, T1 .5-4.5 s, T2 40-300 ms."""
    low, high = torch.tensor([[0.5, 0.5, 0.04], [1.0, 4.5, 0.3]], dtype=torch.float64).log()
    draw = torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (low + (high - low) * draw).exp()


def test_derivatives_are_those_of_finite_differences():
    step, scans = 1e-5, [*SCANS, BSSFP, MP2RAGE]
    ahead, behind = (
        torch.stack([sensitivities(scans, (WM.log() + way * unit).exp()[None])[0][0] for unit in torch.eye(3)], 1)
        for way in (step, -step)
    )
    torch.testing.assert_close(
        sensitivities(scans, WM[None])[1][0], (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-9
    )


def test_log_signal_grows_with_pd_one_to_one():
    derivatives = log_sensitivities([*SCANS, MP2RAGE], WM[None])[0, :, 0]
    torch.testing.assert_close(derivatives, torch.tensor([1.0, 1, 1, 1, 0]).double(), atol=1e-12, rtol=0)


def test_spin_echo_decays_as_te_over_t2():
    assert log_sensitivities([PDW], WM[None])[0, 0, 2].item() == pytest.approx(0.012 / 0.08)


@pytest.mark.parametrize("gain_sd", [0.0, 0.01])
def test_bounds_are_the_errors_of_a_least_squares_fit(gain_sd):
    """20000 noisy experiments, one Gauss-Newton step from the truth each: exact for small errors."""
    generator = torch.Generator().manual_seed(1)
    signals, jacobian = sensitivities(SCANS, WM[None])
    noise = signals[0] / 2000
    gains = (gain_sd * torch.randn(20000, 4, generator=generator, dtype=torch.float64)).exp()
    seen = gains * signals + noise * torch.randn(20000, 4, generator=generator, dtype=torch.float64)
    weights = 1 / (noise**2 + (gain_sd * signals[0]) ** 2)
    normal = jacobian[0].T @ (weights[:, None] * jacobian[0])
    errors = ((seen - signals) * weights) @ jacobian[0] @ torch.linalg.inv(normal)
    bound = bounds(SCANS, WM, noise, gain_sd)
    torch.testing.assert_close(errors.std(0), bound.sd, rtol=0.03, atol=0)
    torch.testing.assert_close(errors.T.corrcoef(), bound.correlation, rtol=0, atol=0.03)


def test_more_scans_and_less_doubt_never_hurt():
    noise, prior = noise_levels(SCANS, WM[None]), independent_prior()
    three = bounds(SCANS[:3], WM, noise[:3], 0.05, prior).sd
    assert (bounds(SCANS, WM, noise, 0.05, prior).sd < three).all()
    assert (bounds(SCANS[:3], WM, noise[:3], 0.0, prior).sd < three).all()
    assert (three < bounds(SCANS[:3], WM, noise[:3], 0.05).sd).all()
    assert (three < torch.tensor(PRIOR_SD)).all()


def test_free_gains_leave_the_prior():
    bound = bounds(SCANS[:3], WM, noise_levels(SCANS[:3], WM[None]), inf, independent_prior())
    torch.testing.assert_close(bound.sd, torch.tensor(PRIOR_SD, dtype=torch.float64))
    torch.testing.assert_close(bound.correlation, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_no_scan_to_speak_of_leaves_the_prior_and_nothing_without_it():
    bound = bounds([PDW], WM, torch.tensor([1e6]), 0.0, independent_prior())
    torch.testing.assert_close(bound.sd, torch.tensor(PRIOR_SD, dtype=torch.float64))
    alone = bounds([MPRAGE, T2W], WM, noise_levels([MPRAGE, T2W], WM[None]))
    assert alone.sd.isinf().all() and alone.correlation.isnan().all()
    assert condition_number([MPRAGE, T2W], WM[None]).isinf().all()


def test_two_echoes_of_one_train_measure_t2_whatever_its_gain_and_t1():
    echoes = [Acquisition("turbo_spin_echo", te, 3.0, echo_train_length=8, echo_spacing=0.0125) for te in (0.0125, 0.1)]
    noise = noise_levels(echoes, WM[None])
    shared = bounds(echoes, WM, noise, inf, gains=[0, 0]).sd
    assert shared[:2].isinf().all()
    # The ratio of two echoes: sd(ln T2) = T2 / (TE2 - TE1) sqrt(2) / SNR.
    assert shared[2].item() == pytest.approx(0.08 / 0.0875 * 2**0.5 / 50)
    assert bounds(echoes, WM, noise, inf).sd.isinf().all()


def test_an_image_without_scale_needs_no_gain_and_knows_t1_only():
    bound = bounds([MP2RAGE], WM, noise_levels([MP2RAGE], WM[None]), inf)
    assert bound.sd.isinf().tolist() == [True, False, True]


def test_gain_bias_is_that_of_an_exact_inversion():
    derivatives = gain_bias(SCANS[:3], WM, noise_levels(SCANS[:3], WM[None]))
    moved = (WM.log() + derivatives @ torch.tensor([0, 0, 1e-4], dtype=torch.float64)).exp()
    ratio = sensitivities(SCANS[:3], moved[None])[0] / sensitivities(SCANS[:3], WM[None])[0]
    torch.testing.assert_close(ratio[0].log(), torch.tensor([0, 0, 1e-4]).double(), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    "scans, gains, expected",
    [
        ([MPRAGE], None, (101, 2, True, True)),
        ([MPRAGE, T2W], None, (52, 1, True, True)),
        (SCANS[:3], None, (3, 0, True, True)),
        (SCANS, None, (2, 0, True, True)),
        ([*SCANS, T1W], None, (2, 0, True, True)),
        (SCANS, [0, 1, 2, 1], (1, 0, True, False)),
        ([*SCANS, BSSFP], None, (1, 0, True, False)),
        ([*SCANS, T2W, T2W], None, (2, 0, True, True)),
    ],
)
def test_what_fifty_tissues_cannot_determine_with_free_gains(scans, gains, expected):
    assert free_directions(scans, random_tissues(), gains) == expected


def test_the_global_r2_shift_changes_no_scan_by_more_than_its_gain():
    tissues, shift = random_tissues(), 0.7
    moved = tissues.clone()
    moved[:, 2] = 1 / (1 / tissues[:, 2] + shift)
    ratio = sensitivities(SCANS[1:], moved)[0] / sensitivities(SCANS[1:], tissues)[0]
    for scan, column in zip(SCANS[1:], ratio.T):
        torch.testing.assert_close(column.log(), torch.full((50,), -shift * scan.te).double())


def test_noise_is_the_brightest_anchor_over_the_snr():
    anchors = torch.stack([WM, torch.tensor([0.82, 1.33, 0.11], dtype=torch.float64)])
    signals = sensitivities(SCANS, anchors)[0]
    assert (noise_levels(SCANS, anchors, 30) * 30 == signals.max(0).values).all()
    assert signals.argmax(0).tolist() == [0, 1, 1, 1]


def test_condition_number_of_equal_scans_is_infinite():
    assert condition_number([PDW, PDW, T2W], WM[None]).isinf().all()
    assert condition_number(SCANS, WM[None]).item() < 10


def test_gain_error_of_ten_per_cent_is_a_factor():
    derivatives = gain_bias([PDW], WM, torch.ones(1))
    assert derivatives.shape == (3, 1)
    assert (log_sensitivities([PDW], WM[None])[0] @ derivatives).item() * log(1.1) == pytest.approx(log(1.1))

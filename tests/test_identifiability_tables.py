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

"""Numbers known from an independent calculation: white and grey matter at 3 T under the OASIS-3 protocol.

Set-up: full MPRAGE (176 excitations, 7.3 ms apart, 8 degrees), T2w as a train of 282 echoes, 3.5 ms apart, that decays
with one contrast-equivalent echo time for all tissues, FLAIR as an inversion-recovery spin echo, gains known. The noise
is white matter / 50 in each scan; for the echo time of .15 s and the paper's equations it is the brighter of white and
grey matter / 50 in the T2w. A real variable-flip-angle train decays with T1 too, and is better conditioned than this.
"""

from math import log

import pytest
import torch

from scripts.acquisition import Acquisition
from scripts.commands.protocol_report.identifiability import (
    bounds,
    condition_number,
    gain_bias,
    independent_prior,
    noise_levels,
)

TISSUES = torch.tensor([[0.70, 0.83, 0.080], [0.82, 1.33, 0.110], [1.0, 4.3, 2.0]], dtype=torch.float64)
MPRAGE = Acquisition(
    "mprage", 0.00316, 2.4, 1.0, 8, echo_train_length=176, echo_spacing=0.0073, echoes_before_centre=88
)
FLAIR = Acquisition("inversion_recovery", 0.091, 9.0, 2.5)
PDW = Acquisition("turbo_spin_echo", 0.012, 3.0, echo_train_length=8, echo_spacing=0.012)
PAPER = [
    Acquisition("paper_mprage", tr=2.4, ti=1.0),
    Acquisition("paper_spin_echo", 0.455, 3.2),
    Acquisition("paper_flair", 0.091, 9.0, 2.5),
]


def oasis3(te: float) -> list[Acquisition]:
    return [MPRAGE, Acquisition("turbo_spin_echo", te, 3.2, echo_train_length=282, echo_spacing=0.0035), FLAIR]


def noise_of(scans: list[Acquisition], brighter: bool) -> torch.Tensor:
    noise = noise_levels(scans, TISSUES[:1])
    if brighter:
        noise[1] = noise_levels(scans[1:2], TISSUES[:2])[0]
    return noise


TABLE = {
    "paper": (PAPER, True, (14, 13), (0.05, 0.04, 0.025), (0.05, 0.04, 0.012)),
    "te .10": (oasis3(0.10), False, (99, 19), (0.54, 0.51, 0.34), (0.09, 0.06, 0.07)),
    "te .12": (oasis3(0.12), False, (68, 29), (0.36, 0.35, 0.20), (0.14, 0.10, 0.09)),
    "te .15": (oasis3(0.15), True, (25, 84), (0.15, 0.15, 0.08), (0.46, 0.34, 0.23)),
    "te .20": (oasis3(0.20), False, (17, 87), (0.07, 0.08, 0.03), (0.44, 0.36, 0.17)),
    "pdw": ([*oasis3(0.15), PDW], True, (5.6, 5.4), (0.024, 0.032, 0.019), (0.025, 0.030, 0.019)),
    "no flair": ([*oasis3(0.15)[:2], PDW], True, (4.7, 4.7), (0.024, 0.032, 0.022), (0.026, 0.034, 0.020)),
}


@pytest.mark.parametrize("row", TABLE)
def test_condition_and_bounds(row):
    scans, brighter, conditions, *expected = TABLE[row]
    assert condition_number(scans, TISSUES[:2]).tolist() == pytest.approx(conditions, rel=0.03)
    noise = noise_of(scans, brighter)
    for tissue, sd in zip(TISSUES, expected):
        # The published digits: half a unit of the last of two.
        assert bounds(scans, tissue, noise).sd.tolist() == pytest.approx(
            sd, rel=0.03, abs=0.005 if max(sd) > 0.04 else 0
        )


@pytest.mark.parametrize(
    "gain_sd, white, grey",
    [
        (0.0, (0.126, 0.124, 0.072), (0.100, 0.071, 0.065)),
        (0.05, (0.134, 0.138, 0.081), (0.133, 0.106, 0.091)),
        (0.1, (0.136, 0.156, 0.095), (0.137, 0.125, 0.116)),
        (0.3, (0.139, 0.241, 0.167), (0.141, 0.204, 0.214)),
        (1.0, (0.146, 0.329, 0.295), (0.147, 0.311, 0.319)),
    ],
)
def test_what_the_prior_must_do(gain_sd, white, grey):
    scans = oasis3(0.12)
    for tissue, expected in zip(TISSUES, (white, grey)):
        found = bounds(scans, tissue, noise_of(scans, False), gain_sd, independent_prior())
        assert found.sd.tolist() == pytest.approx(expected, abs=0.001)


def test_tying_pd_to_t1_helps():
    """``1 / PD = 1.015 + .351 / T1`` with 3 % scatter and no other prior."""
    scans = oasis3(0.12)
    for tissue, expected in zip(TISSUES, ((0.05, 0.09, 0.04), (0.04, 0.06, 0.05))):
        slope = 0.351 / tissue[1] / (1.015 + 0.351 / tissue[1])
        tie = torch.tensor([[1.0, -slope, 0.0]], dtype=torch.float64) / 0.03
        found = bounds(scans, tissue, noise_of(scans, False), 0.05, tie)
        assert found.sd.tolist() == pytest.approx(expected, abs=0.005)


def test_the_inversion_is_singular_between_white_and_grey_matter():
    tissues = torch.tensor([[0.75, t1, 0.09] for t1 in (0.83, 1.0, 1.33)], dtype=torch.float64)
    assert condition_number(oasis3(0.12), tissues).tolist() == pytest.approx((66, 1123, 30), rel=0.05)


def test_ten_per_cent_of_gain():
    scans = oasis3(0.15)
    percent = 100 * torch.expm1(gain_bias(scans, TISSUES[0], noise_of(scans, True)) * log(1.1))
    expected = torch.tensor([[-10, -18, 4], [-26, -25, 20], [64, 62, -19]], dtype=torch.float64)
    torch.testing.assert_close(percent.T, expected, atol=0.6, rtol=0)


def test_t2_of_csf_is_prior():
    for te, bound in ((0.10, 2.5), (0.15, 1.7)):
        scans = oasis3(te)
        assert bounds(scans, TISSUES[2], noise_of(scans, True)).sd[2].item() == pytest.approx(bound, rel=0.05)
    known = bounds(scans, TISSUES[2], noise_of(scans, True), 0.05, independent_prior()).sd
    assert known[2].item() == pytest.approx(0.35, rel=0.03)

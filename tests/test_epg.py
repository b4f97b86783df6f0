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

"""Extended phase graphs of refocusing trains, and the equivalent echo time that stands for them."""

import math

import pytest
import torch
from torch import Tensor

from scripts.errors import UserError
from scripts.signal.epg import MAX_ANGLE, epg_train, equivalent_te, prescribed_signal_train
from scripts.signal.spin_echo import REFERENCE_T1, REFERENCE_T2, vfa_decay

from .protocols import TISSUES, exact

PD, T1, T2 = (exact(values) for values in zip(*TISSUES))
ENDLESS = exact(math.inf)
SPACE = (282, 0.0035)
CENTRE = 130
"""The echo at 0.455 s of the train ``SPACE``."""


def random_train(n: int = 40) -> Tensor:
    return 20 + 130 * torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def decay(echo: int, train: Tensor, spacing: float) -> Tensor:
    """What relaxation leaves of an echo in WM, GM, CSF and fat."""
    return (epg_train(train, spacing, T1, T2) / epg_train(train, spacing, ENDLESS, ENDLESS))[:, echo - 1]


def test_half_turns_decay_with_t2():
    echoes = epg_train(torch.full((12,), 180.0), 0.01, T1, T2)
    torch.testing.assert_close(echoes, torch.exp(-0.01 * torch.arange(1, 13) / T2[:, None]))


def test_first_echoes():
    """The first is a spin echo; the second adds what was stored between the pulses to the twice refocused echo."""
    first, second = math.radians(150), math.radians(100)
    spin, stimulated = math.sin(first / 2) ** 2, math.sin(first) * math.sin(second) / 2
    echoes = epg_train(torch.tensor([150.0, 100.0]), 0.01, T1, T2)
    torch.testing.assert_close(echoes[:, 0], spin * torch.exp(-0.01 / T2))
    twice = spin * math.sin(second / 2) ** 2 * torch.exp(-0.02 / T2)
    torch.testing.assert_close(echoes[:, 1], twice + stimulated * torch.exp(-0.01 / T1 - 0.01 / T2))


def test_echoes_do_not_know_the_length_of_the_train():
    train = random_train()
    torch.testing.assert_close(epg_train(train[:15], 0.005, T1, T2), epg_train(train, 0.005, T1, T2)[:, :15])


def test_echoes_never_exceed_what_was_excited():
    echoes = epg_train(random_train(), 0.005, T1, T2)
    assert (echoes.abs() <= torch.exp(-0.005 * torch.arange(1, 41) / T1[:, None])).all()


def test_trains_and_tissues_broadcast():
    trains = torch.stack([random_train(), torch.full((40,), 120.0)])
    together = epg_train(trains[:, None], 0.005, T1, T2)
    torch.testing.assert_close(together, torch.stack([epg_train(train, 0.005, T1, T2) for train in trains]))


def test_without_relaxation_a_constant_train_keeps_its_signal():
    echoes = epg_train(torch.full((200,), 60.0), 0.005, ENDLESS, ENDLESS)
    assert 0 < echoes[-20:].std() < 0.02 * echoes[-20:].mean()


@pytest.mark.parametrize("echo", [1, 7, 40])
def test_every_pathway_spends_the_echo_time(echo):
    r1, r2 = ((1 / t).requires_grad_() for t in (T1, T2))
    amplitude = epg_train(random_train(), 0.005, 1 / r1, 1 / r2)[:, echo - 1]
    longitudinal, transverse = (-t for t in torch.autograd.grad(amplitude.abs().log().sum(), (r1, r2)))
    torch.testing.assert_close(longitudinal + transverse, torch.full((4,), 0.005 * echo, dtype=torch.float64))


def test_gradients():
    train, t1, t2 = random_train(12).requires_grad_(), T1.clone().requires_grad_(), T2.clone().requires_grad_()
    torch.autograd.gradcheck(lambda train, t1, t2: epg_train(train, 0.005, t1, t2), (train, t1, t2))


@pytest.mark.parametrize("n, spacing", [SPACE, (120, 0.005), (16, 0.01), (1, 0.09)])
def test_prescribed_train_gives_the_reference_tissue_its_signal(n, spacing):
    train = prescribed_signal_train(n, spacing)
    assert train.shape == (n,) and 0 < train.min() and train.max() == train[0] == pytest.approx(MAX_ANGLE)
    echoes = epg_train(train, spacing, exact(REFERENCE_T1), exact(REFERENCE_T2))
    plateau = echoes[math.ceil(0.05 * n) : n // 2 + 1]
    assert plateau.numel() == 0 or plateau.max() == pytest.approx(float(plateau.min()), rel=1e-9)
    assert (echoes.diff() <= 1e-12).all()


def test_a_longer_train_has_less_signal():
    levels = [epg_train(prescribed_signal_train(n, 0.0035), 0.0035, T1, T2)[:, n // 2] for n in (50, 100, 200)]
    assert (levels[0] > levels[1]).all() and (levels[1] > levels[2]).all()


def test_equivalent_echo_time_of_space():
    te = equivalent_te(0.455, *SPACE)
    assert 0.098 <= te <= 0.121 and te == pytest.approx(0.1105, abs=5e-4)
    assert 0.115 <= equivalent_te(0.564, 314, 0.0035) <= 0.148


def test_equivalent_echo_time_depends_on_the_tissue():
    times = -T2 * decay(CENTRE, prescribed_signal_train(*SPACE), SPACE[1]).log()
    assert times.tolist() == pytest.approx([0.101, 0.103, 0.272, 0.218], abs=1e-3)


@pytest.mark.parametrize("te", [0.455, 0.2, 0.07])
def test_equivalent_echo_time_lies_between_pure_storage_and_the_nominal_one(te):
    assert te * REFERENCE_T2 / REFERENCE_T1 < equivalent_te(te, *SPACE) < te


def test_equivalent_echo_time_of_a_single_echo_is_its_own():
    assert equivalent_te(0.09, 1, 0.09) == pytest.approx(0.09)


def test_a_gamma_distribution_stands_for_the_graph():
    """Error of the decay in WM, GM, CSF and fat, relative to white matter [%]."""
    graph = decay(CENTRE, prescribed_signal_train(*SPACE), SPACE[1])
    model = vfa_decay(T1, T2, exact(0.455), exact(equivalent_te(0.455, *SPACE)))
    plain = torch.exp(-0.455 / T2)
    percent = [100 * (x / graph / (x / graph)[0] - 1) for x in (model, plain)]
    assert percent[0].tolist() == pytest.approx([0.0, 0.2, 0.2, 0.6], abs=0.05)
    assert (percent[1][1:] > 200).all()


@pytest.mark.parametrize("te", [0.0, 0.001, 0.992])
def test_an_echo_time_outside_the_train_is_refused(te):
    with pytest.raises(UserError, match="EchoTime"):
        equivalent_te(te, *SPACE)


def test_an_endless_train_is_refused():
    with pytest.raises(UserError, match="EchoTrainLength"):
        prescribed_signal_train(120, 0.1)

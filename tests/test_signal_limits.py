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

"""What the spin echo equations, with and without inversions, become where one knows the answer."""

import math

import pytest
import torch

from scripts.signal.spin_echo import REFERENCE_T1, REFERENCE_T2, vfa_decay, vfa_residual

from .protocols import CSF, GM, PROTOCOLS, WM, each_tissue, exact, near, signal

INVERTED = [
    ("inversion_recovery", "spin_echo"),
    ("inversion_recovery_turbo_spin_echo", "turbo_spin_echo"),
    ("inversion_recovery_vfa_turbo_spin_echo", "vfa_turbo_spin_echo"),
    ("double_inversion_recovery", "spin_echo"),
]
"""Sequences with inversions, and what they are without."""


@each_tissue
@pytest.mark.parametrize("angle", [30.0, 90.0, 140.0])
def test_spin_echo_limits(tissue, angle):
    (pd, t1, t2), a = tissue, math.radians(angle)
    assert signal("spin_echo", tissue, te=0.0, tr=1e4, flip_angle=angle) == near(pd * math.sin(a))
    short, long = (math.exp(-t / t1) for t in (1.95, 2.0))
    m = (1 - 2 * short + long) / (1 + math.cos(a) * long)
    decay = math.exp(-0.1 / t2)
    assert signal("spin_echo", tissue, te=0.1, tr=2.0, flip_angle=angle) == near(pd * math.sin(a) * m * decay)
    assert signal("spin_echo", tissue, te=0.0, flip_angle=90.0) == near(
        signal("paper_spin_echo", tissue, te=0.0, tr=2.0)
    )


@each_tissue
def test_spin_echo_off_nominal_b1(tissue):
    (pd, t1, t2), b1 = tissue, 0.8
    a, b, short, long = math.radians(80 * b1), math.radians(180 * b1), math.exp(-1.95 / t1), math.exp(-2 / t1)
    m = (1 - short + math.cos(b) * (short - long)) / (1 - math.cos(a) * math.cos(b) * long)
    expected = pd * math.sin(a) * math.sin(b / 2) ** 2 * m * math.exp(-0.1 / t2)
    assert signal("spin_echo", tissue, flip_angle=80.0, b1=b1) == near(expected)


@each_tissue
@pytest.mark.parametrize("prefix", ["", "inversion_recovery_"])
def test_a_train_of_one_echo_is_a_spin_echo(tissue, prefix):
    one = {"te": 0.09, "echo_train_length": 1.0, "echo_spacing": 0.09}
    single = "inversion_recovery" if prefix else "spin_echo"
    expected = signal(single, tissue, te=0.09, tr=4.0, ti=2.5, flip_angle=90.0)
    assert signal(f"{prefix}turbo_spin_echo", tissue, tr=4.0, ti=2.5, **one) == near(expected)


@each_tissue
def test_a_dense_train_saturates(tissue):
    pd, t1, t2 = tissue
    dense = signal("turbo_spin_echo", tissue, te=0.0, tr=4.0, echo_train_length=1600.0, echo_spacing=1e-4)
    assert float(dense) == pytest.approx(pd * (1 - math.exp(-3.84 / t1)), rel=1e-3)


@each_tissue
def test_vfa_train_without_longitudinal_storage_decays_with_t2(tissue):
    pd, t1, t2 = tissue
    found = signal("vfa_turbo_spin_echo", tissue, te=0.11, te_equivalent=0.11)
    assert found == near(pd * (1 - math.exp(-(3.2 - 0.987) / t1)) * math.exp(-0.11 / t2))


@pytest.mark.parametrize("te", [0.2, 0.455, 1.8])
def test_equivalent_echo_time_is_that_of_the_reference_tissue(te):
    assert vfa_decay(*exact([REFERENCE_T1, REFERENCE_T2, te, 0.2])) == near(math.exp(-0.2 / REFERENCE_T2))


@each_tissue
def test_vfa_decay_between_its_limits(tissue):
    """No storage: T2 decay, approached smoothly. All storage: T1 decay."""
    _, t1, t2 = exact(tissue)
    for less in (0.0, 1e-6, 1e-3):
        assert float(vfa_decay(t1, t2, *exact([0.11, 0.11 * (1 - less)]))) == pytest.approx(
            float(torch.exp(-0.11 / t2)), rel=3 * less + 1e-9
        )
    shortest = 0.455 * REFERENCE_T2 / REFERENCE_T1
    assert vfa_decay(t1, t2, *exact([0.455, shortest])) == near(torch.exp(-0.455 / t1))
    decays = vfa_decay(t1, t2, exact(0.455), torch.linspace(shortest, 0.455, 50, dtype=torch.float64))
    assert (decays.diff() < 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("times", [(0.11, 0.11), (0.11, 0.1099), (0.455, 0.11), (0.5, 0.0532), (0.0, 0.0)])
def test_vfa_decay_is_smooth_in_all_its_times(times, dtype):
    """For tissues, for equal relaxation times, and a little beyond."""
    given = [[0.8, 1.3, 4.3, 0.9, 1.0], [0.08, 0.11, 2.0, 0.9, 1.05], *times]
    leaves = [exact(values).requires_grad_() for values in given]
    assert times[0] == 0 or torch.autograd.gradcheck(vfa_decay, leaves)
    same = [torch.tensor(values, dtype=dtype, requires_grad=True) for values in given]
    for values in (leaves, same):
        vfa_decay(*values).sum().backward()
    for x, y in zip(leaves, same):
        torch.testing.assert_close(x.grad.to(dtype), y.grad, rtol=1e-5, atol=1e-5)


def test_where_t2_exceeds_t1_the_vfa_decay_stays_finite():
    t1, t2 = torch.meshgrid(torch.logspace(-2, 0.7, 40), torch.logspace(-3, 1, 60), indexing="ij")
    decay = vfa_decay(t1, t2, torch.tensor(0.565), torch.tensor(0.13))
    assert decay.isfinite().all() and (decay <= 1).all() and (decay.diff(dim=1) >= 0).all()


@each_tissue
def test_a_vfa_train_leaves_what_it_does_not_use(tissue):
    """The recovery starts from the residual, which no train of half turns has."""
    pd, t1, _ = tissue
    recovered = signal("vfa_turbo_spin_echo", tissue) / signal("vfa_turbo_spin_echo", tissue, tr=1e3)
    residual = vfa_residual(exact(0.455), exact(0.11))
    assert recovered == near(1 - (1 - residual) * math.exp(-(3.2 - 0.987) / t1)) and 0 < residual < 0.1
    assert vfa_residual(exact([0.1, 0.0]), exact([0.1, 0.0])).tolist() == [0.0, 0.0]


def test_vfa_train_shows_white_matter_at_the_nominal_te_of_space():
    wm, gm, csf = (float(signal("vfa_turbo_spin_echo", tissue)) for tissue in (WM, GM, CSF))
    assert (wm / csf, gm / csf) == (pytest.approx(0.474, abs=5e-3), pytest.approx(0.682, abs=5e-3))


def test_3d_flair_without_t2_preparation_does_not_null_csf():
    settings = {"te": 0.392, "te_equivalent": 0.1015, "echo_train_length": 250.0}
    gm, csf = (float(signal("inversion_recovery_vfa_turbo_spin_echo", x, **settings)) for x in (GM, CSF))
    assert csf / gm == pytest.approx(0.19, abs=0.005)


@each_tissue
@pytest.mark.parametrize("name, plain", INVERTED)
def test_an_inversion_that_does_nothing(name, plain, tissue):
    settings = {**PROTOCOLS[name], "flip_angle": 90.0, "b1": 0.9}
    assert signal(name, tissue, **settings, inversion_efficiency=-1.0) == near(signal(plain, tissue, **settings))


@each_tissue
@pytest.mark.parametrize("name", ["inversion_recovery", "inversion_recovery_vfa_turbo_spin_echo"])
def test_without_magnetisation_left_an_inversion_is_a_saturation(name, tissue):
    pd, t1, _ = tissue
    found = signal(name, tissue, te=0.0, te_equivalent=0.0, ti=0.6, inversion_efficiency=0.0)
    assert found == near(pd * (1 - math.exp(-0.6 / t1)))


@each_tissue
def test_inversion_recovery_of_perfect_pulses(tissue):
    pd, t1, t2 = tissue
    inverted, echo, full = (math.exp(-t / t1) for t in (2.5, 9.0 - 0.0455, 9.0))
    assert signal("inversion_recovery", tissue) == near(
        pd * (1 - 2 * inverted + 2 * echo - full) * math.exp(-0.091 / t2)
    )


@each_tissue
@pytest.mark.parametrize("name", [name for name, _ in INVERTED[:3]])
def test_long_tr_nulls_where_the_inversion_says(name, tissue):
    for efficiency in (1.0, 0.9):
        null = tissue[1] * math.log(1 + efficiency)
        assert abs(signal(name, tissue, tr=1e4, ti=null, inversion_efficiency=efficiency)) < 1e-12


@each_tissue
def test_double_inversion_limits(tissue):
    pd, t1, t2 = tissue
    first, second, echo, full = (math.exp(-t / t1) for t in (3.5, 0.5, 8.0 - 0.01, 8.0))
    expected = pd * (1 - 2 * second + 2 * first - 2 * echo + full) * math.exp(-0.02 / t2)
    assert signal("double_inversion_recovery", tissue) == near(expected)
    at_once = signal("double_inversion_recovery", tissue, ti=0.7, ti2=0.7)
    assert at_once == near(signal("spin_echo", tissue, te=0.02, tr=8.0, flip_angle=90.0))
    late = signal("double_inversion_recovery", tissue, ti=0.7, ti2=0.0)
    assert late == near(-signal("inversion_recovery", tissue, te=0.02, tr=8.0, ti=0.7))


def test_double_inversion_nulls_two_tissues():
    times = exact([3.5, 0.5])

    def both(times):
        return torch.stack([signal("double_inversion_recovery", x, ti=times[0], ti2=times[1]) for x in (WM, CSF)])

    for _ in range(8):  # Newton
        times = times - torch.linalg.solve(torch.autograd.functional.jacobian(both, times), both(times))
    assert both(times).abs().max() < 1e-12 and 8 > times[0] > times[1] > 0
    assert signal("double_inversion_recovery", GM, ti=times[0], ti2=times[1]) < -0.1

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

"""What the gradient echo equations, with and without preparation, become where one knows the answer."""

import math

import pytest
import torch

from scripts.signal import mp2rage, mp2rage_images, mprage, paper_mprage

from .protocols import GM, MPRAGE, PROTOCOLS, T2_STAR, TISSUES, WM, each_tissue, exact, near, signal


@each_tissue
@pytest.mark.parametrize("readout", [{}, {"echo_train_length": 132.0, "echoes_before_centre": 44.0}])
def test_mprage_becomes_the_published_form_without_readout(tissue, readout):
    angles, published = (0.4, 0.2, 0.1), signal("paper_mprage", tissue)
    errors = [
        float(signal("mprage", tissue, te=0.0, flip_angle=a, **readout) / math.sin(math.radians(a)) - published)
        for a in angles
    ]
    assert abs(errors[0]) < 2e-3
    # what is left is the saturation by the readout, quadratic in the angle
    assert [errors[0] / errors[1], errors[1] / errors[2]] == pytest.approx([4, 4], rel=0.01)


@each_tissue
def test_mprage_limits(tissue):
    pd, t1, _ = tissue
    assert signal("mprage", tissue, flip_angle=10.0, b1=0.8) == near(signal("mprage", tissue, flip_angle=8.0))
    first = {"te": 0.0, "tr": 1e4, "ti": 0.9, "echoes_before_centre": 0.0, "inversion_efficiency": 0.9}
    expected = pd * math.sin(math.radians(8)) * (1 - 1.9 * math.exp(-0.9 / t1))
    assert signal("mprage", tissue, **first) == near(expected)
    endless = {"tr": 1e3, "ti": 500.0, "echo_train_length": 6e4, "echoes_before_centre": 6e4}
    flash = signal("spoiled_gradient_echo", tissue, te=0.00316, tr=0.0073, flip_angle=8.0)
    assert signal("mprage", tissue, **endless) == near(flash)


@pytest.mark.parametrize(
    "settings, gm, csf, fat",
    [
        ({}, 0.692, 0.167, 2.35),
        ({"flip_angle": 0.5}, 0.523, -0.027, 2.59),
        ({"inversion_efficiency": 0.96}, 0.700, 0.178, 2.33),
        ({"echo_train_length": 208.0, "echo_spacing": 0.0076, "echoes_before_centre": 104.0}, 0.728, 0.218, 2.28),
        ({"echo_train_length": 192.0, "echo_spacing": 0.0070, "echoes_before_centre": 96.0}, 0.704, 0.185, 2.33),
        ({"echo_train_length": 132.0, "echoes_before_centre": 44.0}, 0.634, 0.083, 2.43),
        ({"b1": 0.7}, 0.626, 0.078, 2.43),
        ({"b1": 1.3}, 0.739, 0.244, 2.33),
    ],
)
def test_mprage_contrasts(settings, gm, csf, fat):
    wm, *others = (float(signal("mprage", x, t2_star=T2_STAR[x], **settings)) for x in TISSUES)
    assert [x / wm for x in others] == [
        pytest.approx(gm, abs=6e-4),
        pytest.approx(csf, abs=6e-4),
        pytest.approx(fat, abs=6e-3),
    ]


def test_the_published_form_overstates_the_contrast_of_mprage():
    wm, gm = (float(signal("mprage", x, t2_star=T2_STAR[x])) for x in (WM, GM))
    published_wm, published_gm = (float(signal("paper_mprage", x)) for x in (WM, GM))
    contrast, published = (wm - gm) / (wm + gm), (published_wm - published_gm) / (published_wm + published_gm)
    assert (contrast, published / contrast) == (pytest.approx(0.182, abs=5e-4), pytest.approx(1.75, abs=0.005))


@pytest.mark.parametrize(
    "ti, n, crossings", [(1.0, 176.0, []), (0.5, 132.0, [(0.77, 1.14)]), (0.25, 64.0, [(0.36, 0.41)])]
)
def test_mprage_nulls_later_than_the_published_form(ti, n, crossings):
    t1 = torch.linspace(0.05, 200, 400001, dtype=torch.float64)
    fields = {
        k: exact(v) for k, v in {**MPRAGE, "ti": ti, "echo_train_length": n, "echoes_before_centre": n / 2}.items()
    }
    full = mprage(exact(1.0), t1, exact(0.1), **fields)
    paper = paper_mprage(exact(1.0), t1, exact(0.1), tr=exact(2.4), ti=exact(ti))
    found = [t1[1:][x[1:] * x[:-1] < 0].tolist() for x in (paper, full)]
    assert len(found[1]) == len(crossings)
    assert list(zip(*found)) == [pytest.approx(pair, abs=0.005) for pair in crossings]


def images(tissue: tuple[float, float, float], **settings: float) -> tuple[float, float]:
    """Both images of MP2RAGE at the usual settings, but for those given."""
    fields = {key: exact(value) for key, value in {**PROTOCOLS["mp2rage"], **settings}.items()}
    return tuple(float(image) for image in mp2rage_images(*exact(tissue), **fields))


@each_tissue
def test_mp2rage_without_one_readout_is_mprage_with_the_other(tissue):
    one = {key: PROTOCOLS["mp2rage"][key] for key in ("tr", "echo_train_length", "echoes_before_centre")}
    settings = {"b1": 0.9, "inversion_efficiency": 0.95, "t2_star": 0.05}
    first, none = images(tissue, flip_angle2=0.0, **settings)
    assert none == 0 and first == near(signal("mprage", tissue, **one, **settings, ti=0.8, flip_angle=4.0))
    none, second = images(tissue, flip_angle=0.0, **settings)
    assert none == 0 and second == near(signal("mprage", tissue, **one, **settings, ti=2.7, flip_angle=5.0))


@each_tissue
def test_uniform_image_is_the_normalised_product(tissue):
    first, second = images(tissue, t2_star=T2_STAR[tissue])
    uniform = signal("mp2rage", tissue)
    assert uniform == near(first * second / (first**2 + second**2)) and -0.5 <= uniform <= 0.5
    assert signal("mp2rage", (0.1, tissue[1], 0.7), te=0.02) == near(uniform)


def test_uniform_image_keeps_the_sign_and_its_range():
    t1, fields = torch.logspace(-2, 1, 300, dtype=torch.float64), PROTOCOLS["mp2rage"]
    fields = {key: exact(value) for key, value in fields.items()}
    first, second = mp2rage_images(exact(1.0), t1, exact(0.1), **fields)
    uniform = mp2rage(exact(1.0), t1, exact(0.1), **fields)
    assert ((uniform > 0) == (first * second > 0)).all() and (uniform.abs() <= 0.5).all()
    assert uniform.min() < -0.499 and uniform.max() > 0.48


@each_tissue
@pytest.mark.parametrize("angle", [8.0, 60.0])
def test_spoiled_gradient_echo_limits(tissue, angle):
    pd, t1, t2 = tissue
    sine, decay = math.sin(math.radians(angle)), math.exp(-0.005 / t2)
    assert signal("spoiled_gradient_echo", tissue, tr=1e4, flip_angle=angle) == near(pd * sine * decay)
    saturated = signal("saturation_recovery", tissue, te=0.005, ti=0.3, flip_angle=90.0)
    assert signal("spoiled_gradient_echo", tissue, tr=0.3, flip_angle=90.0) == near(saturated)
    assert saturated == near(pd * (1 - math.exp(-0.3 / t1)) * decay)
    assert signal("saturation_recovery", tissue, te=0.005, ti=1e4, flip_angle=angle) == near(pd * sine * decay)


@each_tissue
def test_spoiled_gradient_echo_is_largest_at_the_ernst_angle(tissue):
    cosine = math.exp(-0.018 / tissue[1])
    ernst, signals = math.degrees(math.acos(cosine)), {}
    for angle in (0.99 * ernst, ernst, 1.01 * ernst):
        signals[angle] = float(signal("spoiled_gradient_echo", tissue, te=0.0, flip_angle=angle))
    assert max(signals, key=signals.get) == ernst
    assert signals[ernst] == near(tissue[0] * math.sqrt((1 - cosine) / (1 + cosine)))


@each_tissue
def test_bssfp_limits(tissue):
    pd, t1, t2 = tissue
    assert signal("bssfp", tissue, te=0.0, tr=1e4, flip_angle=40.0) == near(pd * math.sin(math.radians(40)))
    best = math.degrees(math.acos((t1 / t2 - 1) / (t1 / t2 + 1)))
    brightest = float(signal("bssfp", tissue, te=0.0, tr=1e-6, flip_angle=best))
    assert brightest == pytest.approx(pd / 2 * math.sqrt(t2 / t1), rel=1e-4)
    assert brightest > max(signal("bssfp", tissue, te=0.0, tr=1e-6, flip_angle=best + side) for side in (-1, 1))


@each_tissue
def test_bssfp_of_spins_without_transverse_memory_is_a_spoiled_gradient_echo(tissue):
    short = (*tissue[:2], 1e-4)
    spoiled = signal("spoiled_gradient_echo", short, te=0.0, tr=0.02, flip_angle=30.0)
    assert signal("bssfp", short, te=0.0, tr=0.02, flip_angle=30.0) == near(spoiled)


@each_tissue
@pytest.mark.parametrize("name", ["mprage", "spoiled_gradient_echo", "saturation_recovery"])
def test_gradient_echoes_decay_with_t2_star(name, tissue):
    early, late = (signal(name, tissue, te=te, t2_star=T2_STAR[tissue]) for te in (0.0, 0.004))
    assert late / early == near(math.exp(-0.004 / T2_STAR[tissue]))

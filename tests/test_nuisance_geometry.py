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
from scripts.nuisance import crop_kspace, rigid_motion, slice_profiles, thick_slices

SHAPES = [(24, 31), (24, 31, 16)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def signed(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


def spectrum(signal: torch.Tensor) -> torch.Tensor:
    return torch.fft.fftn(signal)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kspace_is_kept_inside_and_empty_outside(shape):
    signal, fractions = signed(shape), [0.5, 0.8, 0.65][: len(shape)]
    cropped = crop_kspace(signal, fractions)
    assert not cropped.is_complex() and cropped.shape == signal.shape
    inside = torch.ones(shape, dtype=torch.bool)
    for axis, (size, fraction) in enumerate(zip(shape, fractions)):
        kept = torch.fft.fftfreq(size).abs() <= fraction / 2 + 1e-9
        inside &= kept.view(-1, *[1] * (len(shape) - 1 - axis))
    after, before = spectrum(cropped), spectrum(signal)
    torch.testing.assert_close(after[inside], before[inside], atol=1e-3, rtol=1e-4)
    assert after[~inside].abs().max() < 1e-3 < before[~inside].abs().max()


@pytest.mark.parametrize("taper", [0.0, 0.4])
def test_cropping_keeps_the_mean_and_is_linear(taper):
    a, b = signed((20, 21, 9)), signed((20, 21, 9), 1)
    both = crop_kspace(2 * a + b, 0.6, taper)
    torch.testing.assert_close(both, 2 * crop_kspace(a, 0.6, taper) + crop_kspace(b, 0.6, taper), atol=1e-5, rtol=1e-4)
    assert crop_kspace(a, 0.6, taper).mean() == pytest.approx(float(a.mean()), abs=1e-6)


def test_cropping_twice_changes_nothing_more():
    once = crop_kspace(signed((20, 21)), 0.6)
    torch.testing.assert_close(crop_kspace(once, 0.6), once, atol=1e-6, rtol=1e-5)


def test_an_edge_rings_by_nine_percent_and_not_with_a_hann_window():
    edge = torch.zeros(4, 512)
    edge[:, 128:384] = 1.0
    overshoot = crop_kspace(edge, [1.0, 0.125]).max() - 1
    # Wilbraham-Gibbs: the integral of sinc up to its first zero, minus 1/2.
    assert overshoot == pytest.approx(0.0895, abs=0.006)
    assert crop_kspace(edge, [1.0, 0.125], taper=1.0).max() - 1 < 0.01
    between = crop_kspace(edge, [1.0, 0.125], taper=0.5).max() - 1
    assert 0.01 < between < overshoot


def test_the_magnitude_may_not_be_cropped():
    ramp = torch.linspace(-1, 1, 64).repeat(64, 1)
    ramp = ramp * torch.cos(ramp * math.pi / 2) ** 2
    right, wrong = crop_kspace(ramp, [1.0, 0.2]).abs(), crop_kspace(ramp.abs(), [1.0, 0.2])
    assert (right[:, 31:33] - ramp[:, 31:33].abs()).abs().max() < 0.001
    assert (wrong[:, 31:33] - ramp[:, 31:33].abs()).min() > 0.01, "fills the dark line where the sign changes"


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_partial_fourier_drops_one_side_of_one_axis(axis):
    signal = signed((32, 32))
    partial = crop_kspace(signal, partial_fourier=0.75, axis=axis)
    assert partial.is_complex()
    frequency = torch.fft.fftfreq(32)
    dropped = (frequency < -0.25).view(-1, 1) if axis == 0 else (frequency < -0.25).view(1, -1)
    expected = spectrum(signal) * ~dropped
    torch.testing.assert_close(spectrum(partial), expected, atol=1e-3, rtol=1e-4)
    smooth = crop_kspace(signal, 0.5)
    torch.testing.assert_close(
        crop_kspace(smooth, partial_fourier=0.75, axis=axis).abs(), smooth.abs(), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("profile", ["boxcar", "gaussian"])
def test_slices_of_a_uniform_object_are_uniform(shape, profile):
    uniform = torch.full(shape, -3.0)
    for regrid in (True, False):
        slices = thick_slices(uniform, 4.3, 1.0, gap=0.9, axis=1, profile=profile, regrid=regrid)
        torch.testing.assert_close(slices, torch.full_like(slices, -3.0))


def test_whole_slices_are_block_means():
    signal = signed((5, 24, 6))
    slices = thick_slices(signal, 3.0, 0.75, axis=1, regrid=False)
    assert slices.shape == (5, 6, 6)
    torch.testing.assert_close(slices, signal.view(5, 6, 4, 6).mean(2))
    both = thick_slices(torch.complex(signal, -signal), 3.0, 0.75, axis=1, regrid=False)
    torch.testing.assert_close(both, torch.complex(slices, -slices))


def test_gap_is_not_seen():
    signal = torch.zeros(2, 20)
    weights, centres = slice_profiles(20, 3.0, 1.0, gap=2.0)
    assert weights.shape == (4, 20) and torch.diff(centres).tolist() == [5, 5, 5]
    signal[:, weights.sum(0) == 0] = 1.0
    assert signal.sum() > 0 and thick_slices(signal, 3.0, 1.0, gap=2.0).abs().max() == 0


def test_gaussian_profile_has_the_width_of_the_slice():
    weights, centres = slice_profiles(201, 20.0, 1.0, profile="gaussian")
    middle = weights[len(weights) // 2] / weights[len(weights) // 2].max()
    at = torch.arange(201) - centres[len(weights) // 2]
    assert at[middle >= 0.5].abs().max() == pytest.approx(10.0, abs=0.5)
    assert weights.sum(1).tolist() == pytest.approx([1.0] * len(weights))


def test_slices_return_to_the_grid_linearly_between_their_centres():
    ramp = torch.arange(24.0).repeat(3, 1)
    back = thick_slices(ramp, 4.0, 1.0)
    torch.testing.assert_close(back[:, 2:22], ramp[:, 2:22], atol=1e-4, rtol=1e-4)
    assert back[0, :2].tolist() == pytest.approx([1.5] * 2) and back[0, 22:].tolist() == pytest.approx([21.5] * 2)


def blob(shape: tuple[int, ...], spacing: tuple[float, ...], centre: tuple[float, ...]) -> torch.Tensor:
    """A Gaussian, 4 mm wide, at ``centre`` [mm] from the middle of the field of view."""
    square = torch.zeros(())
    for size, edge, at in zip(shape, spacing, centre):
        square = square[..., None] + ((torch.arange(size) - (size - 1) / 2) * edge - at) ** 2
    return torch.exp(-square / 32)


def centroid(image: torch.Tensor, spacing: tuple[float, ...]) -> list[float]:
    axes = torch.meshgrid([(torch.arange(n) - (n - 1) / 2) * d for n, d in zip(image.shape, spacing)], indexing="ij")
    return [float((axis * image).sum() / image.sum()) for axis in axes]


def test_motion_turns_and_moves_in_millimetres_for_any_voxel():
    shape, spacing = (60, 40), (1.0, 1.5)
    image = blob(shape, spacing, (12.0, 0.0))
    assert centroid(rigid_motion(image, [90], [0, 0], spacing), spacing) == pytest.approx([0, 12], abs=0.1)
    assert centroid(rigid_motion(image, [30], [3, -4.5], spacing), spacing) == pytest.approx(
        [12 * math.cos(math.pi / 6) + 3, 6 - 4.5], abs=0.1
    )


@pytest.mark.parametrize(
    "rotation, expected", [((90, 0, 0), (10, -4, 6)), ((0, 90, 0), (4, 6, -10)), ((0, 0, 90), (-6, 10, 4))]
)
def test_motion_is_right_handed_about_each_axis(rotation, expected):
    shape, spacing = (44, 36, 30), (1.0, 1.25, 1.6)
    image = blob(shape, spacing, (10.0, 6.0, 4.0))
    turned = rigid_motion(image, rotation, [0, 0, 0], spacing)
    assert centroid(turned, spacing) == pytest.approx(expected, abs=0.1)
    moved = rigid_motion(image, [0, 0, 0], [1.0, -2.5, 3.2], spacing)
    assert centroid(moved, spacing) == pytest.approx([11.0, 3.5, 7.2], abs=0.1)


def test_motion_keeps_the_amount_and_acts_on_both_parts():
    image = blob((40, 40), (1.0, 1.0), (5.0, -4.0))
    moved = rigid_motion(image, [7.0], [1.3, 0.4], [1, 1])
    assert moved.sum() == pytest.approx(float(image.sum()), rel=1e-3)
    both = rigid_motion(torch.complex(image, -2 * image), [7.0], [1.3, 0.4], [1, 1])
    assert torch.equal(both, torch.complex(moved, -2 * moved))


def test_a_whole_voxel_moves_exactly_and_zero_enters():
    signal = signed((9, 8, 7))
    moved = rigid_motion(signal, [0, 0, 0], [0, 2.4, 0], [1, 1.2, 2])
    torch.testing.assert_close(moved[:, 2:], signal[:, :-2], atol=1e-5, rtol=1e-4)
    assert moved[:, :2].abs().max() < 1e-5


WRONG = {
    "fraction": lambda: crop_kspace(signed((4, 4)), 1.2),
    "fractions": lambda: crop_kspace(signed((4, 4)), [0.5, 0.5, 0.5]),
    "taper": lambda: crop_kspace(signed((4, 4)), 0.5, -0.1),
    "partial Fourier": lambda: crop_kspace(signed((4, 4)), partial_fourier=0.4),
    "thin slice": lambda: thick_slices(signed((4, 4)), 0.5, 1.0),
    "thick slice": lambda: thick_slices(signed((4, 4)), 5.0, 1.0),
    "gap": lambda: thick_slices(signed((4, 4)), 2.0, 1.0, gap=-0.5),
    "profile": lambda: thick_slices(signed((4, 4)), 2.0, 1.0, profile="sinc"),
    "angles": lambda: rigid_motion(signed((4, 4)), [1, 2, 3], [0, 0], [1, 1]),
    "translation": lambda: rigid_motion(signed((4, 4, 4)), [1, 2, 3], [0, 0], [1, 1, 1]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused(name):
    with pytest.raises(UserError, match="; "):
        WRONG[name]()

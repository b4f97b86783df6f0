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

"""The posterior of a whole head: what it finds, how sure it is, and what it does not depend on."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.acquisition import Acquisition
from scripts.estimate import Posterior, posterior
from scripts.estimate.choice import WORST
from scripts.estimate.posterior import CLASSES, Fit
from scripts.estimate.posterior.mixture import COMPONENTS, FIELD_SD, Common, Mixture
from scripts.render import SignalModel
from scripts.tissue import Estimate

from .heads import IR, MPRAGE, SE_LONG, SE_SHORT

SHAPE = (24, 28, 10)
TISSUES = ("WM", "GM", "CSF")
MEANS = torch.tensor([[COMPONENTS[name][q] for q in ("pd", "t1", "t2")] for name in TISSUES])
OWN = torch.tensor([0.015, 0.03, 0.03])
"""Standard deviations of ln PD, T1, T2 inside a tissue."""
WITHOUT = torch.tensor([0.05, 0.15, 0.2])
"""Standard deviations of the network's estimate."""
UNITS = (800.0, 300.0, 300.0, 40.0)
"""Gains of IR, the two spin echoes, MPRAGE."""
FOUR, SHARED, SEPARATE = (IR, SE_LONG, SE_SHORT, MPRAGE), (0, 1, 1, 2), (0, 1, 2, 3)
SMALL = {"voxels": 300}


class Truth(NamedTuple):
    """A head.

    Attributes:
        labels: tissue of each voxel, -1 outside, 3 half fluid and half white matter.
        maps: PD, T1, T2 ``(3, ...)``.
        estimate: what a network might say of it.
    """

    labels: Tensor
    maps: Tensor
    estimate: Estimate


def truth(factors: tuple[float, float] = (1.0, 1.0)) -> Truth:
    """White matter in grey matter, in fluid; T1 and T2 of tissue are those of the prior times ``factors``."""
    stream = torch.Generator().manual_seed(3)
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    radius = (axes[0] ** 2 + axes[1] ** 2 + 0.2 * axes[2] ** 2).sqrt()
    labels = torch.full(SHAPE, -1)
    for limit, label in ((1.0, 2), (0.92, 1), (0.75, 0), (0.3, 3), (0.25, 2)):
        labels[radius < limit] = label
    means = MEANS.clone()
    means[:2, 1:] *= torch.tensor(factors)
    texture = OWN.view(3, 1, 1, 1) * torch.randn(3, *SHAPE, generator=stream)
    maps = means[labels.clamp(0, 2)].movedim(-1, 0) * texture.exp()
    # The network knows nothing of the factors.
    error = WITHOUT.view(3, 1, 1, 1) / 2 * torch.randn(3, *SHAPE, generator=stream)
    expected = MEANS[labels.clamp(0, 2)].movedim(-1, 0).log() + error
    sd = WITHOUT.view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    return Truth(labels, maps, Estimate.independent(expected[None], sd.contiguous()))


def scan(head: Truth, acquisitions: tuple[Acquisition, ...], units: tuple[float, ...] = UNITS) -> tuple[Tensor, Tensor]:
    """Images with noise ``(M, ...)`` and rows ``(M, A)``."""
    stream = torch.Generator().manual_seed(4)
    rows = torch.stack([one.to_row() for one in acquisitions])

    def signal(maps: Tensor) -> Tensor:
        return SignalModel()(maps[None], rows[None])[0]

    image = signal(head.maps)
    both = [MEANS[TISSUES.index(name)].view(3, 1, 1, 1).expand(3, *SHAPE) for name in ("CSF", "WM")]
    image = torch.where(head.labels == 3, sum(signal(maps) for maps in both) / 2, image)
    image = image + 0.01 * image.abs().mean() * torch.randn(image.shape, generator=stream)
    return image.abs() * (head.labels >= 0) * torch.tensor(units[: len(rows)]).view(-1, 1, 1, 1), rows


def fit(
    head: Truth,
    acquisitions: tuple[Acquisition, ...] = FOUR,
    gains: tuple[int, ...] | None = SHARED,
    units: tuple[float, ...] = UNITS,
    **options: object,
) -> Fit:
    image, rows = scan(head, acquisitions, units)
    return Posterior(**SMALL | options)(head.estimate, image, rows, head.labels >= 0, gains)


@pytest.fixture(scope="module")
def usual() -> Truth:
    return truth()


@pytest.fixture(scope="module")
def found(usual) -> Fit:
    return fit(usual)


def inside(head: Truth, label: int) -> Tensor:
    """Voxels of a tissue ``(...)``."""
    return head.labels == label


def errors(head: Truth, result: Fit, label: int) -> Tensor:
    """Errors of ln PD, T1, T2 in the voxels of a tissue ``(3, N)``."""
    return (result.estimate.log_maps[0] - head.maps.log())[:, inside(head, label)]


def coverage(head: Truth, result: Fit, label: int) -> Tensor:
    """Share of the voxels of a tissue whose truth lies in the 90 % interval ``(3,)``."""
    z = errors(head, result, label) / result.estimate.sd[0][:, inside(head, label)]
    return (z.abs() < 1.645).float().mean(1)


WHITE, GREY, FLUID, HALF = range(4)


def test_four_scans_find_the_truth(usual, found):
    limits = torch.tensor([0.02, 0.07, 0.03])
    for label in (WHITE, GREY):
        assert (errors(usual, found, label).median(1).values.abs() < limits).all()
        assert (coverage(usual, found, label) > 0.9).all()
    torch.testing.assert_close(found.gains / torch.tensor(UNITS), torch.ones(4), atol=0.12, rtol=0)
    assert found.gains[1] == found.gains[2]
    assert found.bimodal < 10 and np.isfinite(found.evidence)
    assert sum(found.weights.values()) == pytest.approx(1)


def test_voxels_outside_the_mask_stay_as_they_are(usual, found):
    outside = usual.labels < 0
    for ours, theirs in zip(found.estimate, usual.estimate):
        assert torch.equal(ours[:, :, outside], theirs[:, :, outside])
    assert not found.fractions[:, outside].any()


def test_fractions_are_those_of_the_tissues(usual, found):
    head = usual.labels >= 0
    torch.testing.assert_close(found.fractions.sum(0)[head], torch.ones(int(head.sum())))
    for label, name in enumerate(TISSUES):
        assert found.fractions[CLASSES.index(name)][inside(usual, label)].quantile(0.05) > 0.9
    half = found.fractions[CLASSES.index("CSF")][inside(usual, HALF)]
    assert abs(half.median() - 0.5) < 0.1 and half.std() < 0.15


@pytest.fixture(scope="module")
def scaled() -> Truth:
    """A head with T1 12 % longer and T2 22 % shorter than the prior expects."""
    return truth((1.12, 0.78))


def test_echoes_that_share_a_gain_find_the_factor_of_t2(scaled):
    result = fit(scaled, gains=SHARED)
    factor, sd = result.factors[1].tolist()
    assert factor == pytest.approx(0.78, rel=0.04) and sd < 0.04
    for label in (WHITE, GREY):
        assert errors(scaled, result, label)[2].median().abs() < 0.04
        assert (coverage(scaled, result, label) > 0.9).all()


def test_without_them_the_factor_of_t2_is_the_prior_and_says_so(scaled):
    result = fit(scaled, gains=None)
    prior = (Common().t2 ** 2 + COMPONENTS["WM"]["own"][2] ** 2) ** 0.5
    assert 0.1 < result.factors[1, 1] < 1.1 * prior
    # The error is common to all voxels: the less noise each has, the more of them are inside or outside together.
    assert (coverage(scaled, result, WHITE) > 0.7).all() and (coverage(scaled, result, GREY) > 0.7).all()


def test_several_starts_reach_the_explanation_that_one_misses(monkeypatch):
    """T1 of 0.65 times the usual, two inversion recoveries with gains of their own, a network that knows nothing."""
    short, scans = truth((0.65, 1.0)), (IR, replace(IR, ti=1.2, tr=6.0), SE_LONG, SE_SHORT)
    units = (800.0, 500.0, 300.0, 300.0)
    result = fit(short, scans, (0, 1, 2, 2), units)
    assert errors(short, result, WHITE)[1].median().abs() < 0.08
    assert coverage(short, result, WHITE)[1] > 0.85
    monkeypatch.setattr("scripts.estimate.posterior.STARTS", (0.0,))
    one = fit(short, scans, (0, 1, 2, 2), units)
    assert one.evidence < result.evidence - 5 and errors(short, one, WHITE)[1].median() > 0.2


def test_a_scan_is_explained_where_fat_is_suppressed_and_not_where_it_shows_no_tissue(usual):
    image, rows = scan(usual, FOUR, UNITS)
    rim = (torch.linspace(-1, 1, SHAPE[0]).abs() > 0.6).view(-1, 1, 1) & (usual.labels >= 0)

    def misfit(shown: Tensor) -> Tensor:
        return Posterior(**SMALL).explain(usual.estimate, shown, rows, usual.labels >= 0, SHARED)[1]

    dark, noise = image.clone(), image.clone()
    dark[3][rim] *= 0.02
    noise[1] *= torch.randn(SHAPE, generator=torch.Generator().manual_seed(5)).mul(2).exp()
    assert 0.1 < rim.sum() / (usual.labels >= 0).sum() < 0.4
    assert (misfit(image) < 0.1).all() and (misfit(dark) < 0.5 * WORST).all()
    assert misfit(noise).max() > WORST


def test_gains_follow_the_unit_of_the_images_and_maps_do_not(usual, found):
    by = torch.tensor([10.0, 0.3, 0.3, 700.0])
    other = fit(usual, units=tuple((by * torch.tensor(UNITS)).tolist()))
    torch.testing.assert_close(other.gains, by * found.gains, rtol=1e-3, atol=0)
    torch.testing.assert_close(other.gain_sd, found.gain_sd, rtol=0.01, atol=0)
    torch.testing.assert_close(other.estimate.log_maps, found.estimate.log_maps, rtol=0, atol=5e-3)


def test_the_same_call_gives_the_same_bits(usual, found):
    again = fit(usual)
    for ours, theirs in zip((*found.estimate, *found[1:4]), (*again.estimate, *again[1:4])):
        assert torch.equal(ours, theirs)
    assert found.evidence == again.evidence


def test_a_stated_field_strength_moves_the_prior(usual):
    """One scan says little of T1 of the whole head."""
    t1 = {}
    for field in (1.5, 3.0):
        result = fit(usual, (replace(SE_LONG, field_strength=field),), None, network=0.0)
        t1[field] = result.estimate.maps[0, 1][inside(usual, WHITE)].median()
    expected = COMPONENTS["WM"]["field"]["1.5"][0]
    assert t1[1.5] / t1[3.0] == pytest.approx(expected, rel=0.1)


def test_the_step_to_another_field_strength_is_uncertain_in_proportion():
    low, usual = (Mixture(Common(), 0.0, field) for field in (1.5, 3.0))
    step, added = low.shift - usual.shift, low.shift_covariance - usual.shift_covariance
    np.testing.assert_allclose(added, FIELD_SD**2 * np.outer(step, step), atol=1e-12)
    assert abs(step).max() > 0.2 and not usual.shift.any()


UNKNOWN_SCAN = Acquisition("unknown")


def test_scans_without_an_equation_leave_the_estimate_as_it_is(usual):
    image, rows = scan(usual, FOUR[:2])
    rows = UNKNOWN_SCAN.to_row().expand(2, -1)
    result = Posterior(**SMALL)(usual.estimate, image, rows, usual.labels >= 0)
    for ours, theirs in zip(result.estimate, usual.estimate):
        assert torch.equal(ours, theirs)
    assert not result.gains.any() and not result.fractions.any() and np.isnan(result.evidence) and not result.weights


def test_a_scan_without_an_equation_changes_nothing_for_the_others(usual, found):
    image, rows = scan(usual, FOUR)
    image, rows = torch.cat([image[:1], image]), torch.cat([UNKNOWN_SCAN.to_row()[None], rows])
    result = Posterior(**SMALL)(usual.estimate, image, rows, usual.labels >= 0, (3, *SHARED))
    assert torch.equal(result.estimate.log_maps, found.estimate.log_maps)
    assert torch.equal(result.gains, torch.cat([torch.zeros(1), found.gains]))


@pytest.mark.parametrize("options", [{"tissues": ["other"]}, {"network": 0.0}, {"tissues": ["other"], "network": 0.0}])
def test_parts_of_the_prior_can_be_left_out(usual, options):
    result = fit(usual, **options)
    assert result.estimate.log_maps.isfinite().all() and result.estimate.cholesky.isfinite().all()
    assert ("network" in result.weights) == (options.get("network") != 0)
    assert result.factors.isnan().all() == ("tissues" in options)
    limits = torch.tensor([0.5, 0.3, 0.3])
    assert (errors(usual, result, WHITE).median(1).values.abs() < limits).all()


def test_a_scan_of_one_voxel_does_no_harm(usual, monkeypatch):
    """Also where the voxels that the gains are first taken from are not that one."""
    monkeypatch.setattr(posterior, "START_VOXELS", 100)
    image, rows = scan(usual, FOUR)
    few = torch.zeros_like(image[3])
    few[12, 15, 5] = image[3][12, 15, 5]
    image[3] = few
    result = Posterior(**SMALL)(usual.estimate, image, rows, usual.labels >= 0, SHARED)
    assert result.estimate.log_maps.isfinite().all() and result.gains.isfinite().all()
    assert errors(usual, result, WHITE)[2].median().abs() < 0.04


@pytest.mark.parametrize("value", [0.0, 1.0, torch.nan])
def test_images_of_one_number_give_finite_maps(usual, value):
    _, rows = scan(usual, FOUR)
    image = torch.full((4, *SHAPE), value)
    result = Posterior(**SMALL)(usual.estimate, image, rows, usual.labels >= 0, SHARED)
    assert result.estimate.log_maps.isfinite().all() and result.estimate.cholesky.isfinite().all()


def test_one_voxel_is_a_head(usual):
    image, rows = scan(usual, FOUR)
    mask = torch.zeros(SHAPE, dtype=torch.bool)
    mask[6, 14, 5] = True
    result = Posterior(**SMALL)(usual.estimate, image, rows, mask, SHARED)
    assert result.estimate.log_maps.isfinite().all() and result.estimate.cholesky.isfinite().all()


def test_equations_without_anything_unknown_are_fitted_too(usual):
    """The published equations know no flip angle and a perfect inversion: there is nothing but gains to find."""
    acquisitions = tuple(
        Acquisition(f"paper_{name}", te=te, tr=tr, ti=ti)
        for name, te, tr, ti in (("mprage", 0.003, 2.4, 1.0), ("spin_echo", 0.08, 4.0, None), ("flair", 0.09, 9.0, 2.5))
    )
    maps = fit(usual, acquisitions, (0, 1, 2), inversion_efficiency=(1.0, 0.0), b1_sd=0.0).estimate.maps[0]
    white = usual.labels == 0
    # Gains of three scans that share none leave T1 of the whole head uncertain.
    assert float(maps[1][white].median()) == pytest.approx(float(usual.maps[1][white].median()), rel=0.2)

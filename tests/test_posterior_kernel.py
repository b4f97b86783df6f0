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

"""The compiled sums of the posterior: they are those of plain torch, and what they say of voxels is true."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.acquisition import Acquisition
from scripts.estimate.posterior import head as heads
from scripts.estimate.posterior import lattice, reference
from scripts.estimate.posterior.fractions import APART, bimodal
from scripts.estimate.posterior.head import TRIANGLE, Errors, Head, Sums, every_voxel
from scripts.estimate.posterior.kernel import moments
from scripts.estimate.posterior.unknowns import Solution, solve
from scripts.parallel import use_threads

from .heads import IR, MPRAGE, SE_LONG, SE_SHORT, magnitudes, make_head

SCANS = {
    "one": ((SE_LONG,), (0,)),
    "one inversion": ((IR,), (0,)),
    "three": ((IR, SE_LONG, SE_SHORT), (0, 1, 2)),
    "two echoes with one gain": ((IR, SE_LONG, SE_SHORT), (0, 1, 1)),
    "four": ((IR, SE_LONG, SE_SHORT, MPRAGE), (0, 1, 1, 2)),
}
each_set = pytest.mark.parametrize("scans", SCANS.values(), ids=SCANS)
each_prior = pytest.mark.parametrize("network", [False, True], ids=["mixture", "with network"])
PAIRS = (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)
DIAGONAL = [0, 3, 5]
CELL = np.array([0, *lattice.SPACING]) / np.sqrt(12)
"""Standard deviation of ln PD, ln T1, ln T2 inside one cell of the lattice."""


def both(head: Head, unknown: np.ndarray | None = None, strict: bool = False) -> tuple[Sums, Sums]:
    """The sums of all voxels by the kernel, and by plain torch."""
    unknown = head.mean if unknown is None else unknown
    look_up = head.look_up(unknown)
    ours = head.sums(unknown, slice(None), look_up, strict=strict)
    return ours, reference.sums(head, unknown, slice(None), look_up, strict)


def moved(head: Head) -> np.ndarray:
    """Unknowns of a head that are not those expected."""
    return head.mean + 0.05 * np.cos(np.arange(head.size))


def assert_close(ours: Sums, theirs: Sums) -> None:
    """Equal but for blocks and components that are left out since they are unlikely."""
    # Where the posterior is narrower than a cell, the sums of both are coarse.
    sd = np.sqrt(np.maximum(theirs.covariance[:, DIAGONAL], 0) + CELL**2)
    scale = np.stack([sd[:, i] * sd[:, j] for i, j in PAIRS], 1)
    difference = np.abs(ours.mean - theirs.mean) / sd
    assert np.quantile(difference, 0.95) < 0.025 and difference.max() < 0.1
    # Of far tails with hardly any weight, some is missing; they count in variances.
    difference = np.abs(ours.covariance - theirs.covariance) / scale
    assert np.median(difference) < 0.05 and np.quantile(difference, 0.95) < 0.2 and difference.max() < 0.7
    np.testing.assert_allclose(ours.component[:, :, 0], theirs.component[:, :, 0], atol=0.02)
    np.testing.assert_allclose(ours.component[:, :, 1:], theirs.component[:, :, 1:], atol=0.1)
    np.testing.assert_allclose(ours.evidence, theirs.evidence, atol=0.02)
    np.testing.assert_allclose(ours.fluid, theirs.fluid, atol=0.01)
    np.testing.assert_allclose(ours.misfit, theirs.misfit, atol=0.01)
    np.testing.assert_allclose(ours.scanner[:, 0], theirs.scanner[:, 0], atol=0.5)
    assert np.abs(ours.scanner[:, 0] - theirs.scanner[:, 0]).mean() < 0.02
    np.testing.assert_allclose(ours.scanner[:, 1:], theirs.scanner[:, 1:], atol=0.1)


@each_set
@each_prior
def test_the_kernel_sums_what_plain_torch_sums(scans, network):
    head = make_head(*scans, network)
    assert_close(*both(head))
    assert_close(*both(head, moved(head)))
    assert_close(*both(head, strict=True))


@each_set
@each_prior
def test_that_voxels_of_a_cell_share_a_likelihood_changes_no_map(scans, network):
    head = make_head(*scans, network, voxels=500)
    look_up, cells = head.look_up(head.mean), head.cells()
    alone, shared = (head.sums(head.mean, slice(None), look_up, given) for given in (None, cells))
    sd = np.sqrt(alone.covariance[:, DIAGONAL] + CELL**2)
    difference = np.abs(shared.mean - alone.mean) / sd
    assert len(np.unique(cells, axis=0)) < 500
    assert np.median(difference) < 0.01 and np.quantile(difference, 0.99) < 0.05
    wider = np.abs(np.log((shared.covariance[:, DIAGONAL] + CELL**2) / sd**2))
    assert np.median(wider) < 0.01 and np.quantile(wider, 0.99) < 0.1


def test_no_magnitude_is_further_from_the_middle_of_its_cell_than_half_its_error():
    head = make_head((IR, SE_LONG), (0, 1), image=torch.logspace(-2, 2, 200).repeat(2, 1), noise=0.1, typical=1.0)
    error = np.hypot(0.1, 0.015) ** 2 + (0.04**2 + 0.015**2) * head.y**2
    assert (np.abs(np.exp(head.cells()) - head.y) < 0.52 * heads.CELL * np.sqrt(error)).all()


def test_a_scan_that_is_zero_in_a_voxel_says_nothing_there():
    whole = make_head((IR, SE_LONG, SE_SHORT), (0, 1, 1))
    dark = torch.from_numpy(whole.y.T).clone()
    dark[2] = 0
    more, less = (
        both(make_head(scans, (0, 1, 1)[: len(scans)], image=dark[: len(scans)], noise=1e-4, typical=0.3))
        for scans in ((IR, SE_LONG, SE_SHORT), (IR, SE_LONG))
    )
    for this, other in zip(more, less):
        np.testing.assert_allclose(this.mean, other.mean, atol=0.01)
        np.testing.assert_allclose(this.evidence, other.evidence, atol=0.1)
        assert not this.misfit[:, 2].any()


def test_a_voxel_without_a_scan_is_the_prior():
    head = make_head((IR, SE_LONG), (0, 1), tissues=["WM", "GM"], image=torch.zeros(2, 3), typical=1.0)
    sums = both(head)[0]
    np.testing.assert_allclose(sums.component[:, :, 0], np.broadcast_to(head.mixture.weight, (3, 2)), atol=1e-3)
    np.testing.assert_allclose(sums.mean, np.broadcast_to(head.mixture.weight @ head.mixture.mean, (3, 3)), atol=2e-3)
    np.testing.assert_allclose(sums.evidence, 0, atol=2e-3)
    assert not sums.scanner.any() and not sums.misfit.any()


@each_prior
def test_the_score_is_the_derivative_of_the_log_evidence(network):
    """Exactly so where variances do not depend on the unknowns: without noise and additive errors."""
    head = make_head(
        (IR, SE_LONG, SE_SHORT, MPRAGE),
        (0, 1, 1, 2),
        network,
        tissues=["WM", "GM", "muscle"],
        errors=Errors(additive=0.0, own=0.05),
        noise=1e-4,
        voxels=20,
    )
    unknown, step = moved(head), 2e-3
    score = head.scores(unknown, slice(None), both(head, unknown)[1])[0]
    for j in range(head.size):
        ends = []
        for sign in (-1, 1):
            at = unknown.copy()
            at[j] += sign * step
            ends.append(reference.sums(head, at, slice(None), head.look_up(at)).evidence)
        derivative = (ends[1] - ends[0]) / (2 * step)
        np.testing.assert_allclose(score[:, j], derivative, atol=2e-3 * np.abs(derivative).max())


def test_the_sums_depend_on_no_other_voxel():
    head = make_head(*SCANS["four"], network=True)
    look_up = head.look_up(head.mean)
    whole = head.sums(head.mean, slice(None), look_up)
    part = head.sums(head.mean, np.array([41, 7]), look_up)
    for a, b in zip(whole, part):
        np.testing.assert_array_equal(a[[41, 7]], b)


def solved(head: Head, threads: int) -> tuple[Solution, heads.Voxels]:
    use_threads(threads)
    try:
        solution = solve(head, [np.zeros(head.scanner.gains)], 12.0, 40, 3)
        return solution, every_voxel(head, solution.unknown, solution.covariance)
    finally:
        use_threads(None)


def test_threads_and_chunks_change_nothing(monkeypatch):
    head = make_head(*SCANS["two echoes with one gain"], network=True)
    solution, voxels = solved(head, 1)
    for a, b in zip((*solution, *voxels), (*(other := solved(head, 2))[0], *other[1])):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setattr(heads, "CHUNK", 13)
    for a, b in zip(voxels, every_voxel(head, solution.unknown, solution.covariance)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


MAPS = {"fat": (0.97, 0.37, 0.135), "WM": (0.70, 0.86, 0.072)}
"""PD, T1, T2 of a tissue on either side of the null of an inversion recovery with an inversion time of .5 s."""


@pytest.mark.parametrize("tissue", MAPS)
def test_a_voxel_is_found_on_its_side_of_the_null(tissue):
    head = make_head((IR, SE_LONG), (0, 1), tissues=["WM", "fat"])
    image = magnitudes(head.scanner, np.log([MAPS[tissue]]))
    sums = both(make_head((IR, SE_LONG), (0, 1), tissues=["WM", "fat"], image=image))[0]
    assert sums.component[0, head.mixture.names.index(tissue), 0] > 0.9
    np.testing.assert_allclose(sums.mean[0, 1:], np.log(MAPS[tissue][1:]), atol=0.1)


def test_both_sides_of_a_null_are_weighed_where_nothing_decides():
    image = torch.linspace(0.02, 0.5, 400)[None]
    head = make_head((IR,), (0,), tissues=["WM", "fat"], image=image)
    sums = both(head)[0]
    two = bimodal(head.mixture, sums.component[:, :, :4])
    share = sums.component[:, 0, 0]
    assert two.any() and not two.all()
    assert np.array_equal(two, (share > 0.25) & (share < 0.75))
    # The standard deviation of ln T1 holds both.
    assert (sums.covariance[two, 3] > 0.25 * 0.75 * APART**2).all()


@pytest.mark.parametrize("flair, t1w", [(1, 1), (1, 0.65), (4, 0.65)])
def test_fluid_stays_fluid_where_a_scan_does_not_fit(flair, t1w):
    """A short T2 would leave nothing of the T2w, a T1 at the null nothing of the FLAIR: no noise makes these bright.

    Flow in ventricles does such things to real scans.
    """
    fse = {"echo_train_length": 16.0, "echo_spacing": 0.01}
    scans = (
        Acquisition("inversion_recovery_turbo_spin_echo", te=0.09, tr=9.0, ti=2.5, **fse),
        Acquisition("spin_echo", te=0.012, tr=0.6, flip_angle=90.0),
        Acquisition("turbo_spin_echo", te=0.1, tr=4.5, **fse),
    )
    seen = magnitudes(make_head(scans, (0, 1, 2)).scanner, np.log([[1.0, 4.4, 2.0]]))
    image = seen * torch.tensor([[flair], [t1w], [1.0]])
    for sums in both(make_head(scans, (0, 1, 2), image=image, noise=0.005, typical=0.3), strict=True):
        assert (np.exp(sums.mean[0, 1:]) > (3.0, 1.0)).all()


EXTREMES = {
    "dark": torch.zeros(3, 8),
    "faint": torch.full((3, 8), 1e-6),
    "air": torch.full((3, 8), 1e-2),
    "bright": torch.full((3, 8), 10.0),
    "saturated": torch.full((3, 8), 1e6),
    "ones": torch.ones(3, 8),
    "one voxel": torch.ones(3, 1),
    "contradictory": torch.tensor([[1e3], [1e-3], [1.0]]).repeat(1, 8),
}


@each_prior
@pytest.mark.parametrize("noise", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("image", EXTREMES.values(), ids=EXTREMES)
@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
def test_extreme_voxels_have_finite_sums(strict, image, noise, network):
    head = make_head((IR, SE_LONG, SE_SHORT), (0, 1, 1), network, image=image, noise=noise, typical=1.0)
    ours, theirs = both(head, strict=strict)
    for part in (*ours, *theirs, *head.scores(head.mean, slice(None), ours)):
        assert np.isfinite(part).all()
    np.testing.assert_allclose(ours.component[:, :, 0].sum(1), 1, atol=1e-5)
    # No pruning is wrong in a voxel that any scanner could give; where nothing fits, the last digits may be.
    if image.max() < 1e6:
        np.testing.assert_allclose(ours.mean, theirs.mean, atol=0.12)
        np.testing.assert_allclose(ours.evidence, theirs.evidence, atol=0.05, rtol=0.003)
        assert (ours.mean[:, 0] < 4).all(), "one wrong scan does not drag PD to absurd values"


@each_set
@each_prior
def test_every_covariance_is_positive_definite(scans, network):
    """Of those, too, whose posterior is narrower than the lattice."""
    head = make_head(*scans, network, voxels=2000, noise=1e-3, errors=Errors(0.001, 0.001, 0.001))
    voxels = every_voxel(head, head.mean, 1e-6 * np.eye(head.size))
    root = np.zeros((2000, 3, 3))
    root[:, *TRIANGLE] = voxels.cholesky
    assert np.isfinite(root).all() and (root[:, range(3), range(3)] > 0).all()
    variance = (root**2).sum(2)
    assert (variance[:, 1:] >= 0.99 * CELL[1:] ** 2).all()


def bits() -> bytes:
    head = make_head((IR, SE_LONG), (0, 1), network=True)
    return b"".join(part.tobytes() for part in head.sums(head.mean, slice(None), head.look_up(head.mean)))


def test_the_first_run_which_compiles_and_the_next_give_the_same_bits(tmp_path):
    """Of this process and another, one compiles the kernel, which takes long, and one finds it on the disk.

    What is compiled beforehand is what is needed.
    """
    mine = bits()
    environment = dict(os.environ)
    if moments.stats.cache_hits:
        environment["NUMBA_CACHE_DIR"] = str(tmp_path)
    code = "import runpy, sys; from tests.test_posterior_kernel import bits, moments\n"
    code += "runpy.run_module('scripts.estimate.posterior.compile', run_name='__main__')\n"
    code += "sys.stdout.buffer.write(bits()); assert len(moments.signatures) == 1\n"
    code += "sys.exit(2 * (not moments.stats.cache_hits))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    other = subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, stdout=subprocess.PIPE)
    assert other.returncode == 2 * bool(moments.stats.cache_hits)
    assert other.stdout == mine and len(mine) > 1000

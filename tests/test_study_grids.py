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

"""Maps on another grid: what a map is does not depend on where it is looked at."""

import nibabel as nib
import numpy as np
import pytest

from scripts.estimate.grids import on_grid
from scripts.estimate.maps import Maps

AFFINE = nib.affines.from_matvec(np.diag([1.0, 1.0, 1.0]), [-10, -12, -8])
SHAPE = (20, 24, 16)
VALUES = np.array([0.7, 0.8, 0.09], np.float32)
# Columns are the voxel axes: to the left, to the inferior, to the posterior; thick slices.
OBLIQUE = np.array([[-0.7, 0, 0.3], [0, 0.2, -3.0], [0, -0.7, -0.4]])


@pytest.fixture
def maps() -> Maps:
    mask = np.zeros(SHAPE, bool)
    mask[5:15, 6:18, 4:12] = True
    values = VALUES[:, None, None, None] * mask
    one = np.ones_like(values) * mask
    return Maps(values, 0.1 * one, mask, AFFINE, correlations=-0.3 * one)


def test_its_own_grid_leaves_an_estimate_as_it_is(maps):
    assert on_grid(maps, SHAPE, AFFINE + 1e-6) is maps


def test_air_has_no_part_in_a_map(maps):
    affine = nib.affines.from_matvec(OBLIQUE, [9, 10, 8])
    other = on_grid(maps, (30, 28, 8), affine)
    assert other.values.shape == (3, 30, 28, 8) and other.values.dtype == np.float32
    assert 0 < other.mask.mean() < 1 and np.array_equal(other.affine, affine)
    inside = other.mask
    np.testing.assert_allclose(other.values[:, inside], np.tile(VALUES[:, None], inside.sum()), rtol=1e-4)
    np.testing.assert_allclose(other.sd[:, inside], 0.1, rtol=1e-4)
    np.testing.assert_allclose(other.correlations[:, inside], -0.3, rtol=1e-4)
    assert not other.values[:, ~inside].any() and not other.sd[:, ~inside].any()
    volume = inside.sum() * abs(np.linalg.det(OBLIQUE))
    assert volume == pytest.approx(maps.mask.sum(), rel=0.25)


def test_between_two_tissues_is_their_geometric_mean(maps):
    maps.values[1, 10:15, 6:18, 4:12] = 3.2
    half = AFFINE.copy()
    half[0, 3] += 0.5
    assert on_grid(maps, SHAPE, half).values[1, 9, 10, 8] == pytest.approx(1.6, rel=1e-4)


def test_the_border_of_the_field_of_view_counts(maps):
    maps.mask[:] = True
    maps.values[:] = VALUES[:, None, None, None]
    fine = AFFINE @ np.diag([0.5, 0.5, 0.5, 1.0])
    fine[:3, 3] -= 0.25
    assert on_grid(maps, [2 * n for n in SHAPE], fine).mask.all()

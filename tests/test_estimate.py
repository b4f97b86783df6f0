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

"""The one type of an estimate: its standard deviations and correlations are those of its covariance."""

import pytest
import torch

from scripts.tissue import Estimate


@pytest.fixture()
def estimate() -> Estimate:
    stream = torch.Generator().manual_seed(0)
    return Estimate(torch.randn(2, 3, 4, 5, generator=stream), torch.rand(2, 6, 4, 5, generator=stream) - 0.3)


def covariance(estimate: Estimate) -> torch.Tensor:
    """``L L^T`` of all voxels ``(N, 3, 3)``."""
    voxels = estimate.cholesky.movedim(1, -1).flatten(0, -2)
    factor = torch.zeros(len(voxels), 3, 3)
    for number, (i, j) in enumerate(((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2))):
        factor[:, i, j] = voxels[:, number]
    return factor @ factor.mT


def voxels(maps: torch.Tensor) -> torch.Tensor:
    """``(B, 3, ...) -> (N, 3)``."""
    return maps.movedim(1, -1).flatten(0, -2)


def test_sd_and_correlations_are_those_of_the_covariance(estimate):
    expected = covariance(estimate)
    sd = expected.diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(voxels(estimate.sd), sd)
    pairs = torch.stack([expected[:, i, j] / sd[:, i] / sd[:, j] for i, j in ((1, 0), (2, 0), (2, 1))], 1)
    torch.testing.assert_close(voxels(estimate.correlations), pairs)


def test_an_independent_estimate_has_its_standard_deviations_and_no_correlation(estimate):
    sd = estimate.sd
    independent = Estimate.independent(estimate.log_maps, sd)
    assert torch.equal(independent.sd, sd) and not independent.correlations.any()
    assert torch.equal(independent.maps, estimate.log_maps.exp())


def test_a_widened_estimate_keeps_its_maps_and_correlations(estimate):
    factors = torch.tensor([0.5, 2.0, 3.0]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    wider = estimate.widened(factors)
    torch.testing.assert_close(wider.sd, factors * estimate.sd)
    torch.testing.assert_close(wider.correlations, estimate.correlations)
    assert torch.equal(wider.log_maps, estimate.log_maps)


def test_no_voxel_is_too_sure_for_a_finite_correlation():
    sure = Estimate(torch.zeros(1, 3, 1), torch.zeros(1, 6, 1))
    assert sure.correlations.isfinite().all()

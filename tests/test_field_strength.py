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

from scripts.acquisition import ROW_SIZE, values
from scripts.estimate.field_strength import LITERATURE_SD, FieldPrior, field_prior
from scripts.tissue import Estimate, tissue_values
from tests.test_anchoring import brain, everywhere, head

WHITE = {field: tissue_values("WM", field).t1 for field in (1.5, 3.0)}


def rows(*fields: float) -> torch.Tensor:
    """Acquisitions that state nothing but a field strength [T], 0 for none."""
    result = torch.zeros(len(fields), ROW_SIZE)
    values(result, "field_strength").copy_(torch.tensor(fields))
    return result


def prior(maps: torch.Tensor, sd: float, *fields: float) -> FieldPrior:
    estimate = Estimate.independent(maps[None].log(), torch.full_like(maps[None], sd))
    return field_prior(estimate, everywhere(maps), rows(*fields))


def slow(field: float, factor: float) -> torch.Tensor:
    """A brain whose T1 is a factor too long."""
    return head(brain(field)) * torch.tensor([1, factor, 1]).view(3, 1, 1)


@pytest.mark.parametrize("field", WHITE)
@pytest.mark.parametrize("factor", [0.85, 1.0, 1.2])
def test_an_uncertain_t1_becomes_that_of_the_literature(field, factor):
    found = prior(slow(field, factor), 0.6, field)
    assert found.expected == WHITE[field] and found.found == pytest.approx(factor * WHITE[field], rel=0.03)
    assert found.factor == pytest.approx(1 / factor, rel=0.03) and found.reason == ""


def test_a_certain_t1_stays_and_between_the_two_variances_decide():
    maps = slow(3.0, 1.25)
    assert prior(maps, 0.03, 3.0).factor == pytest.approx(1, rel=0.02)
    half = prior(maps, LITERATURE_SD, 3.0)
    assert math.log(half.factor) == pytest.approx(0.5 * math.log(half.expected / half.found))


def test_only_t1_changes_and_all_of_it_alike():
    maps = slow(3.0, 1.2)[None].log()
    estimate = Estimate.independent(maps, torch.full_like(maps, 0.3))
    found = field_prior(estimate, everywhere(maps[0]), rows(3.0))
    changed, cholesky = found.apply(estimate)
    assert torch.equal(cholesky, estimate.cholesky)
    assert torch.equal(changed[:, ::2], maps[:, ::2])
    torch.testing.assert_close(changed[:, 1], maps[:, 1] + math.log(found.factor))


def test_scanners_sold_as_3_t_and_scans_that_state_nothing_beside_one_that_does():
    maps = slow(3.0, 1.2)
    assert prior(maps, 0.3, 2.89, 0, 3.0).factor == prior(maps, 0.3, 3.0).factor < 1


@pytest.mark.parametrize(
    ("maps", "sd", "fields", "reason"),
    [
        (slow(3.0, 1.2), 0.3, (0, 0), "no scan states its field strength"),
        (slow(3.0, 1.2), 0.3, (1.5, 3.0), "scans at 1.5 and 3 T"),
        (slow(3.0, 1.2), 0.3, (0.55,), "the literature table has no white matter at 0.55 T"),
        (head({(1.0, 4.3, 1.9): 1}), 0.3, (3.0,), "white matter was not found: 0 voxels like white matter"),
        (slow(3.0, 1.45), 0.03, (3.0,), "white matter found and expected contradict each other"),
    ],
)
def test_t1_is_left_where_the_field_strength_says_nothing_and_the_record_says_why(maps, sd, fields, reason):
    found = prior(maps, sd, *fields)
    assert found.factor == 1 and found.reason.startswith(reason)
    told = found.to_sidecar()["FieldStrengthPrior"]
    assert told["FactorOfT1"] == 1 and told["Reason"] == found.reason
    json_values = [value for value in told.values() if isinstance(value, float)]
    assert all(math.isfinite(value) for value in json_values)

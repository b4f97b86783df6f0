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

from types import SimpleNamespace

import pytest
import torch

from scripts.errors import UserError
from scripts.train.objective import FLUID, VAEObjective

MAPS_ALONE = {name: float(name == "maps") for name in VAEObjective.NAMES}


def term(fluid_weight: float, with_skips: float, labels: bool = True) -> float:
    """The error of maps where half a slice is fluid, whose log maps are off by one; the rest is right."""
    labelled = torch.zeros(1, 1, 4, 4)
    labelled[..., :2] = FLUID
    batch = {"maps": torch.ones(1, 3, 4, 4), "mask": torch.ones(1, 1, 4, 4)} | ({"labels": labelled} if labels else {})
    log_maps = (labelled == FLUID).float().expand(-1, 3, -1, -1)
    objective = VAEObjective(MAPS_ALONE, None, "contrasts", fluid_weight)
    compared = SimpleNamespace(target=None)
    return float(objective.terms(log_maps, None, None, compared, batch, None, torch.tensor([with_skips]))["maps"])


def test_errors_in_fluid_weigh_more_in_estimates_with_skips_alone():
    assert term(1.0, with_skips=1.0) == term(3.0, with_skips=0.0) == pytest.approx(0.5)
    assert term(3.0, with_skips=1.0) == pytest.approx(3 / 4)


def test_fluid_is_known_by_labels():
    assert term(1.0, with_skips=1.0, labels=False) == pytest.approx(0.5)
    with pytest.raises(UserError, match="fluid_weight: found true maps without labels"):
        term(3.0, with_skips=1.0, labels=False)


def test_a_perceptual_loss_that_weighs_something_must_be_there():
    weights = MAPS_ALONE | {"perceptual": 0.5}
    with pytest.raises(UserError, match="perceptual_loss: found none, with a weight of 0.5; .*perceptual 0"):
        VAEObjective(weights, None, "contrasts", 1.0)
    assert VAEObjective(weights, torch.nn.MSELoss(), "contrasts", 1.0).perceptual is not None

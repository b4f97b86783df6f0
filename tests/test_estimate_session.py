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

"""The estimator on scans in memory, from one to none that is known, and what its sidecars say."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.acquisition import Acquisition, load_render
from scripts.estimate import Estimator, Posterior, Scans
from scripts.estimate.estimator import sidecar_about
from scripts.estimate.posterior import Fit
from scripts.networks.inferers import MapInferer
from scripts.render import SignalModel
from scripts.tissue import Estimate

from .studies import SIDECARS, tiny_vae, true_maps

NAMES = [*SIDECARS]
ROWS = torch.stack(
    [load_render([{"name": "x", "suffix": suffix, **sidecar}])[0].acquisition.to_row()
     for suffix, sidecar in SIDECARS.items()]
)  # fmt: skip
TOLD = {"Applied", "Gains", "GainsLogSD", "NotUsed", "CommonFactors", "CommonFactorsNote", "BimodalVoxels"}


def session(rows: Tensor = ROWS, slices: int = 3) -> Scans:
    """Scans of :func:`true_maps`, as the signal equations of ``ROWS`` make them, with ``rows`` stated."""
    maps = torch.from_numpy(true_maps())[None, ..., 1 : 1 + slices]
    image = SignalModel()(maps, ROWS[None, : len(rows)]).abs()
    high = image.flatten(2).amax(-1)
    window = torch.stack([torch.zeros_like(high), high], -1)
    scaled = 2 * image / high.view(1, -1, 1, 1, 1) - 1
    return Scans(scaled, window, rows[None], list(range(len(rows))), maps[:, :1] > 0)


def estimator(spatial_dims: int = 2, **options) -> Estimator:
    torch.manual_seed(0)
    posterior = Posterior(voxels=100, steps=3)
    return Estimator(tiny_vae(spatial_dims), MapInferer(spatial_dims), posterior, **options)


def unknown(count: int) -> Tensor:
    return Acquisition("unknown").to_row().expand(count, -1)


@pytest.mark.parametrize("spatial_dims,slices", [(2, 3), (2, 1), (3, 3)], ids=["2d", "one slice", "3d"])
@pytest.mark.parametrize("count", [1, 3], ids=["one scan", "three scans"])
def test_any_number_of_scans_by_networks_of_slices_and_of_volumes(spatial_dims, slices, count):
    scans, names = session(ROWS[:count], slices), NAMES[:count]
    plain, *_ = estimator(spatial_dims, data_consistency=False).estimate(scans, names)
    estimate, anchor, about, shares = estimator(spatial_dims).estimate(scans, names)
    inside = scans.mask[0, 0]
    torch.testing.assert_close(shares.sum(0)[inside], torch.ones(int(inside.sum())), atol=1e-3, rtol=0)
    assert estimate.log_maps.shape == (1, 3, *inside.shape) and estimate.cholesky.shape == (1, 6, *inside.shape)
    assert estimate.log_maps.isfinite().all() and estimate.cholesky.isfinite().all()
    assert (estimate.sd[0][:, inside] > 0).all()
    for one, other in zip(estimate, plain):
        assert torch.equal(one[0][:, ~inside], other[0][:, ~inside]), "voxels of air stay as they were"
        assert not torch.allclose(one[0][:, inside], other[0][:, inside], atol=0.01)
    told = about["DataConsistency"]
    assert [*told["Gains"]] == names and told["NotUsed"] == []
    assert all(gain > 0 for gain in told["Gains"].values()) and all(sd > 0 for sd in told["GainsLogSD"].values())


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_where_no_acquisition_is_known_the_estimate_is_the_network_s(spatial_dims):
    scans = session(unknown(3))
    plain, *_ = estimator(spatial_dims, data_consistency=False).estimate(scans, NAMES)
    estimate, _, about, shares = estimator(spatial_dims).estimate(scans, NAMES)
    for one, other in zip(estimate, plain):
        assert torch.equal(one, other)
    assert shares is None
    assert about["DataConsistency"] == {"Applied": False, "Gains": {}, "GainsLogSD": {}, "NotUsed": NAMES}


def test_one_known_scan_among_unknown_ones_is_used():
    rows = torch.cat([unknown(1), ROWS[1:2], unknown(1)])
    estimate, _, about, _ = estimator().estimate(session(rows), NAMES)
    told = about["DataConsistency"]
    assert [*told["Gains"]] == NAMES[1:2] and told["NotUsed"] == [NAMES[0], NAMES[2]]
    assert estimate.log_maps.isfinite().all()


def test_sidecars_say_what_the_whole_head_shares():
    _, anchor, about, _ = estimator().estimate(session(), NAMES)
    told = about["DataConsistency"]
    assert {*told} == TOLD | {"PriorWeights"} and told["Applied"]
    for factor in told["CommonFactors"].values():
        assert 0.5 < factor["Factor"] < 2 and 0 < factor["LogSD"] < 0.3
    t1, t2 = (round(100 * told["CommonFactors"][name]["LogSD"]) for name in ("T1", "T2"))
    assert f"T1 of the whole head is known to ±{t1} %, T2 to ±{t2} %" in told["CommonFactorsNote"]
    assert type(told["BimodalVoxels"]) is int and 0 <= told["BimodalVoxels"] <= session().mask.sum()
    assert sum(told["PriorWeights"].values()) == pytest.approx(1, abs=1e-3)
    assert {"WM", "GM", "CSF", "WM+CSF", "network"} < {*told["PriorWeights"]}
    json.dumps(about, allow_nan=False)


def fit(**changes) -> Fit:
    """A made-up fit of two scans, the second unused."""
    made = Fit(
        Estimate(torch.zeros(1, 3, 2), torch.zeros(1, 6, 2)), torch.tensor([50.0, 0.0]), torch.tensor([0.1, 0.0]),
        torch.zeros(5, 2), 7, torch.tensor([[1.1, 0.04], [0.9, 0.126]]), -3.0,
        {"WM": 0.123456789, "network": 0.876543211},
    )  # fmt: skip
    return made._replace(**changes)


def test_what_a_fit_says_becomes_a_sidecar():
    assert sidecar_about(fit(), 2.0, ["T1w", "T2w"]) == {
        "Applied": True,
        "Gains": {"T1w": 25.0},
        "GainsLogSD": {"T1w": 0.1},
        "NotUsed": ["T2w"],
        "CommonFactors": {"T1": {"Factor": 1.1, "LogSD": 0.04}, "T2": {"Factor": 0.9, "LogSD": 0.126}},
        "CommonFactorsNote": (
            "T1 of the whole head is known to ±4 %, T2 to ±13 % (one standard deviation, of white matter). Scans that "
            "share a gain, as echoes of one series do, make it surer."
        ),
        "BimodalVoxels": 7,
        "PriorWeights": {"WM": 0.12346, "network": 0.87654},
    }


def test_a_sidecar_of_no_fit_or_of_an_empty_one_claims_nothing():
    assert sidecar_about(None, 1.0, NAMES) == {"Applied": False}
    empty = fit(gains=torch.zeros(2), factors=torch.full((2, 2), torch.nan), weights={})
    told = sidecar_about(empty, 1.0, ["T1w", "T2w"])
    assert told == {"Applied": False, "Gains": {}, "GainsLogSD": {}, "NotUsed": ["T1w", "T2w"]}


def test_a_prior_without_white_matter_has_no_common_factors():
    told = sidecar_about(fit(factors=torch.full((2, 2), np.nan)), 1.0, ["T1w", "T2w"])
    assert {*told} == (TOLD | {"PriorWeights"}) - {"CommonFactors", "CommonFactorsNote"}
    json.dumps(told, allow_nan=False)

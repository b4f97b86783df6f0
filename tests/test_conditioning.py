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

from dataclasses import replace

import pytest
import torch
from torch import nn

from scripts.acquisition import FAMILIES, UNKNOWN, Acquisition, draw_acquisition
from scripts.networks.conditioning import (
    CANONICAL,
    MODES,
    TYPICAL,
    AcquisitionConditioning,
    adaptive_group_norm,
    fingerprint,
    parameters,
)
from scripts.randomness import rng
from scripts.signal import SEQUENCES, Sequence, spin_echo

CHANNELS = [16, 8]
ACQUISITIONS = [
    Acquisition("paper_mprage", te=0.003, tr=2.4, ti=1.0),
    Acquisition("paper_spin_echo", te=0.09, tr=4.0),
    Acquisition("paper_flair", te=0.09, tr=9.0, ti=2.5),
]
ROWS = torch.stack([acquisition.to_row() for acquisition in ACQUISITIONS])
# All scans of OASIS-3, a missing TI counted as 0.
POOLED = {"te": (0.161980, 0.203746), "tr": (4.125079, 2.660667), "ti": (1.040729, 0.895721)}


@pytest.fixture(params=[(6, 5), (3, 4, 5)], ids=["2d", "3d"])
def features(request) -> torch.Tensor:
    return 3 * torch.randn(3, 16, *request.param, generator=torch.Generator().manual_seed(0)) + 1


def trained(mode: str) -> AcquisitionConditioning:
    """A conditioning whose last layer is not at its start any more."""
    conditioning = AcquisitionConditioning(CHANNELS, mode)
    nn.init.normal_(conditioning.mlp[2].weight, generator=torch.Generator().manual_seed(1))
    return conditioning


@pytest.mark.parametrize("mode", MODES)
def test_starts_as_group_norm(mode, features):
    norm = nn.GroupNorm(4, 16)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    conditions = list(AcquisitionConditioning(CHANNELS, mode)(parameters(ROWS)))
    assert len(conditions) == len(CHANNELS)
    adapted = adaptive_group_norm(norm, features, conditions[0])
    tolerance = 0 if mode == "none" else 0.05
    torch.testing.assert_close(adapted, norm(features), atol=tolerance, rtol=tolerance)


def test_none_has_no_parameters():
    assert list(AcquisitionConditioning(CHANNELS, "none").parameters()) == []


def test_per_channel_has_one_pair_for_each_channel_of_each_layer():
    conditions = list(trained("per_channel")(parameters(ROWS)))
    assert [(scale.shape, shift.shape) for scale, shift in conditions] == [((3, n), (3, n)) for n in CHANNELS]
    numbers = torch.cat([torch.cat(pair, 1) for pair in conditions], 1)
    assert len(numbers[0].unique()) == 2 * sum(CHANNELS)


def test_shared_scalar_is_one_pair_for_all():
    conditions = list(trained("shared_scalar")(parameters(ROWS)))
    assert [(scale.shape, shift.shape) for scale, shift in conditions] == [((3, 1), (3, 1))] * len(CHANNELS)
    assert all(torch.equal(a, b) for pair in conditions[1:] for a, b in zip(pair, conditions[0]))
    assert [p.shape for p in AcquisitionConditioning(CHANNELS, "shared_scalar").mlp[2].parameters()] == [(2, 128), (2,)]


def test_unknown_mode_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'both'.*per_channel, shared_scalar, none"):
        AcquisitionConditioning(CHANNELS, "both")


@pytest.mark.parametrize("mode", ["per_channel", "shared_scalar"])
@pytest.mark.parametrize("name", ["te", "tr", "ti"])
def test_each_time_matters(mode, name):
    conditioning = trained(mode)
    longer = replace(ACQUISITIONS[2], **{name: 1.2 * getattr(ACQUISITIONS[2], name)}).to_row()
    [before, after] = [next(iter(conditioning(conditioning.features(row[None]))))[0] for row in (ROWS[2], longer)]
    assert (before - after).abs().max() > 1e-3


def test_times_are_z_scored_over_all_scans():
    conditioning = trained("per_channel")
    for z in (0.0, 1.0):
        times = {name: centre + z * sd for name, (centre, sd) in POOLED.items()}
        row = Acquisition("paper_flair", **times).to_row()
        found = torch.cat([torch.cat(pair, 1) for pair in conditioning(conditioning.features(row[None]))], 1)
        scale, shift = conditioning.mlp(torch.full((1, 3), z)).chunk(2, 1)
        expected = [torch.cat([a, b], 1) for a, b in zip(scale.split(CHANNELS, 1), shift.split(CHANNELS, 1))]
        torch.testing.assert_close(found, torch.cat(expected, 1), atol=1e-5, rtol=1e-5)


def test_a_row_does_not_depend_on_the_others():
    conditioning = trained("per_channel")
    together = list(conditioning(conditioning.features(ROWS)))
    for i, row in enumerate(ROWS):
        for pair, alone in zip(together, conditioning(conditioning.features(row[None]))):
            torch.testing.assert_close(tuple(x[i : i + 1] for x in pair), alone)


def test_scale_and_shift_are_explicit(features):
    norm = nn.GroupNorm(4, 16)
    scale, shift = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(2))
    adapted, plain = adaptive_group_norm(norm, features, (scale, shift)), norm(features)
    for n in range(3):
        for c in range(16):
            torch.testing.assert_close(adapted[n, c], scale[n, c] * plain[n, c] + shift[n, c])
    shared = adaptive_group_norm(norm, features, (scale[:, :1], shift[:, :1]))
    torch.testing.assert_close(shared[1], scale[1, 0] * plain[1] + shift[1, 0])


def test_precision_of_the_features_is_kept(features):
    pair = torch.ones(3, 16), torch.zeros(3, 16)
    assert adaptive_group_norm(nn.GroupNorm(4, 16).bfloat16(), features.bfloat16(), pair).dtype == torch.bfloat16


COUNT = len(CANONICAL)
SPIN_ECHO = Acquisition("spin_echo", te=0.09, tr=4.0, flip_angle=90.0, provenance={"te": "given", "tr": "given"})


def shape_of(acquisition: Acquisition) -> torch.Tensor:
    """What a fingerprint says of the signals, not of the parameters."""
    return fingerprint(acquisition.to_row()[None])[0, : 2 * COUNT]


@pytest.mark.parametrize("family", FAMILIES)
def test_fingerprints_are_moderate_and_tell_the_parameters_apart(family):
    rows = torch.stack([draw_acquisition(FAMILIES[family], rng(0, i), family).to_row() for i in range(3)])
    found = fingerprint(rows)
    assert found.shape == (3, 2 * COUNT + 2 * len(TYPICAL) + 1) and found.isfinite().all() and found.abs().max() < 8
    torch.testing.assert_close(found[:, :COUNT].square().mean(1), torch.ones(3))
    assert (found[0] - found[1]).abs().max() > 1e-3
    torch.testing.assert_close(fingerprint(rows[1:2]), found[1:2])


def test_a_sequence_that_is_added_is_known_by_its_signal(monkeypatch):
    def doubled(pd, t1, t2, *, te, tr, flip_angle):
        return 2 * spin_echo(pd, t1, t2, te=te, tr=tr, flip_angle=flip_angle)

    monkeypatch.setitem(SEQUENCES, "new", Sequence(doubled, ("te", "tr", "flip_angle")))
    torch.testing.assert_close(shape_of(replace(SPIN_ECHO, sequence="new")), shape_of(SPIN_ECHO))
    assert not torch.allclose(shape_of(replace(SPIN_ECHO, te=0.01)), shape_of(SPIN_ECHO), atol=0.1)


def test_the_sign_of_a_signal_is_told():
    nulled = [Acquisition("inversion_recovery", te=0.01, tr=10.0, ti=ti) for ti in (0.05, 3.0)]
    early, late = (shape_of(acquisition) for acquisition in nulled)
    assert (early[:COUNT] < 0).all() and late[0] > 0


def test_of_an_unknown_sequence_only_parameters_are_told():
    found = fingerprint(replace(SPIN_ECHO, sequence=UNKNOWN).to_row()[None])[0]
    assert not found[: 2 * COUNT].any() and found[-1] == 0
    torch.testing.assert_close(found[2 * COUNT : -1], fingerprint(SPIN_ECHO.to_row()[None])[0, 2 * COUNT : -1])
    assert not fingerprint(Acquisition(UNKNOWN).to_row()[None]).any()


def test_parameters_enter_as_logarithms_where_they_are_known():
    at = 2 * COUNT + list(TYPICAL).index("te")
    once, twice, unknown = (
        fingerprint(replace(SPIN_ECHO, te=te, provenance=origin).to_row()[None])[0]
        for te, origin in ((TYPICAL["te"], {"te": "given"}), (2 * TYPICAL["te"], {"te": "assumed"}), (0.3, {}))
    )
    assert once[at] == 0 and twice[at] == pytest.approx(torch.tensor(2.0).log().item() / 2, rel=1e-5)
    assert [x[at + len(TYPICAL)] for x in (once, twice, unknown)] == [1, 1, 0] and unknown[at] == 0


@pytest.mark.parametrize("mode", ["per_channel", "shared_scalar"])
def test_conditioning_by_fingerprint_tells_sequences_apart(mode):
    conditioning = AcquisitionConditioning(CHANNELS, mode, "fingerprint")
    nn.init.normal_(conditioning.mlp[2].weight, generator=torch.Generator().manual_seed(1))
    flair = Acquisition("inversion_recovery", te=0.09, tr=4.0, ti=2.0)
    rows = torch.stack([SPIN_ECHO.to_row(), flair.to_row()])
    scale, shift = next(conditioning(conditioning.features(rows)))
    assert (scale[0] - scale[1]).abs().max() > 1e-2 and (shift[0] - shift[1]).abs().max() > 1e-2
    with pytest.raises(ValueError, match="condition: found 'name'.*parameters, fingerprint"):
        AcquisitionConditioning(CHANNELS, mode, "name")

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


import pytest
import torch

from scripts.acquisition import FIELDS, Acquisition
from scripts.render import T2_STAR_RATIO, SignalModel, volumes
from scripts.signal import SEQUENCES

from .test_render import rows

TIMES = {
    "te": 0.004,
    "tr": 5.0,
    "ti": 0.8,
    "flip_angle": 8.0,
    "echo_train_length": 100.0,
    "echo_spacing": 0.007,
    "echoes_before_centre": 50.0,
    "te_equivalent": 0.1,
    "ti2": 2.6,
    "flip_angle2": 5.0,
    "field_strength": 3.0,
}
OTHERS = {"double_inversion_recovery": {"ti": 3.0, "ti2": 0.5}, "vfa_turbo_spin_echo": {"te": 0.4}}
ALL = {
    name: Acquisition(name, **{field: OTHERS.get(name, {}).get(field, TIMES[field]) for field in FIELDS})
    for name in SEQUENCES
}
AIR = (slice(None), slice(None), 0)


@pytest.fixture
def maps() -> torch.Tensor:
    """Maps ``(2, 3, 4, 5, 6)``; the first slab of each is air with undefined relaxation times."""
    unit = torch.rand(2, 4, 5, 6, 3, generator=torch.Generator().manual_seed(0))
    maps = (torch.tensor([0.5, 0.3, 0.05]) + unit * torch.tensor([0.5, 3.0, 0.25])).movedim(-1, 1)
    maps[:, 1, 0], maps[:, 2, 0] = float("nan"), 0.0
    return maps


@pytest.fixture
def b1(maps) -> torch.Tensor:
    return 0.8 + 0.4 * torch.rand(2, 4, 5, 6, generator=torch.Generator().manual_seed(1))


def contrasts(names=ALL) -> torch.Tensor:
    """Rows ``(2, M, A)``, the second subject's in reversed order."""
    return rows([ALL[name] for name in names], [ALL[name] for name in reversed(list(names))])


def knowing(option: str) -> list[str]:
    return [name for name, sequence in SEQUENCES.items() if option in sequence.options]


def test_images_do_not_depend_on_whether_gradients_are_asked_for(maps, b1):
    options = {"b1": b1, "t2_star": 0.5 * maps[:, 2], "inversion_efficiency": 0.95, "mask": b1 > 0.9}
    plain = SignalModel()(maps, contrasts(), **options)
    torch.testing.assert_close(SignalModel()(maps.requires_grad_(), contrasts(), **options), plain)
    assert plain.flatten(2).amax(2).min() > 0


def test_parameters_are_rendered_without_gradients_too(maps, b1):
    plain = SignalModel()(maps, contrasts(), b1=b1, t2_star=0.05)
    maps.requires_grad_(), b1.requires_grad_()
    with torch.no_grad():
        signal = SignalModel()(maps, contrasts(), b1=b1, t2_star=torch.tensor(0.05, requires_grad=True))
    assert torch.equal(signal, plain) and not signal.requires_grad


@pytest.mark.parametrize("mask", [False, True])
def test_chunks_change_nothing(maps, b1, monkeypatch, mask):
    options = {"b1": b1, "mask": b1 > 0.9 if mask else None}
    whole = SignalModel()(maps, contrasts(), **options)
    monkeypatch.setattr(volumes, "CHUNK", 7)
    torch.testing.assert_close(SignalModel()(maps, contrasts(), **options), whole)


@pytest.mark.parametrize(("option", "value"), [("b1", 0.7), ("t2_star", 0.02), ("inversion_efficiency", 0.8)])
def test_an_option_reaches_the_sequences_that_know_it(maps, option, value):
    plain, number = (SignalModel()(maps, contrasts(), **given)[0] for given in ({}, {option: value}))
    differs = [name for name, a, b in zip(ALL, plain, number) if not torch.allclose(a, b, rtol=1e-3)]
    assert differs == knowing(option)
    volume = torch.full_like(maps[:, 0], value)
    torch.testing.assert_close(SignalModel()(maps, contrasts(), **{option: volume})[0], number)


def test_a_map_belongs_to_its_subject(maps, b1):
    names = knowing("b1")
    together = SignalModel()(maps, contrasts(names), b1=b1)
    alone = SignalModel()(maps[1:], contrasts(names)[1:], b1=b1[1:])
    assert torch.equal(together[1:], alone)


def test_t2_star_is_a_part_of_t2_where_it_is_not_given(maps):
    names = knowing("t2_star")
    assert names
    given = SignalModel()(maps, contrasts(names), t2_star=T2_STAR_RATIO * maps[:, 2])
    torch.testing.assert_close(SignalModel()(maps, contrasts(names)), given)


def test_without_t2_star_only_images_that_depend_on_it_are_dark(maps):
    void = (0, slice(None), 2, 3, 4)
    t2_star = 0.6 * maps[:, 2]
    t2_star[0, 2, 3, 4] = 0.0
    assert [name for name, s in zip(ALL, SignalModel()(maps, contrasts(), t2_star=t2_star)[void]) if s == 0] == knowing(
        "t2_star"
    )


def test_images_signed_by_definition_keep_their_sign(maps):
    signed, stored = (SignalModel(signed)(maps, contrasts())[0] for signed in (True, False))
    for sequence, with_sign, image in zip(SEQUENCES.values(), signed, stored):
        assert torch.equal(image, with_sign if sequence.signed else with_sign.abs())
    assert stored[list(SEQUENCES).index("mp2rage")].min() < 0


@pytest.mark.parametrize("name", SEQUENCES)
def test_air_is_dark_and_no_gradient_comes_from_it(maps, b1, name):
    maps.requires_grad_(), b1.requires_grad_()
    signal = SignalModel()(maps, rows([ALL[name]], [ALL[name]]), b1=b1)
    assert signal[AIR].abs().max() == 0
    signal.square().sum().backward()
    assert maps.grad.isfinite().all() and maps.grad[AIR].abs().max() == 0
    assert maps.grad[:, 1, 1:].abs().amax() > 0
    if name in knowing("b1"):
        assert b1.grad.isfinite().all() and b1.grad[:, 0].abs().max() == 0 and b1.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["mprage", "paper_spin_echo"])
def test_nothing_is_computed_outside_the_mask(maps, b1, monkeypatch, name):
    mask, seen, sequence = b1 > 1.0, [], SEQUENCES[name]
    acquisition, count = rows([ALL[name]], [ALL[name]]), mask.flatten(1).sum(1).tolist()
    whole = SignalModel()(maps, acquisition)

    def spy(pd, t1, t2, **fields):
        seen.append(pd.numel())
        return sequence.signal(pd, t1, t2, **fields)

    monkeypatch.setitem(SEQUENCES, name, sequence._replace(signal=spy))
    inside = SignalModel()(maps, acquisition, mask=mask)
    assert seen == count and 0 < sum(count) < mask.numel()
    torch.testing.assert_close(inside, whole * mask[:, None])
    assert SignalModel()(maps, acquisition, mask=torch.zeros_like(mask)).abs().max() == 0

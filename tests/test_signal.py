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

"""Laws that every signal equation obeys."""

import inspect

import pytest
import torch

from scripts.signal import SEQUENCES
from scripts.signal.longitudinal import recover, regrowth, steady_state

from .protocols import CSF, GM, PROTOCOLS, WM, exact, signal

NAMES = list(SEQUENCES)
OPTIONS = {"b1": 0.9, "t2_star": 0.05, "inversion_efficiency": 0.95}
TIMES = ("te", "tr", "ti", "ti2", "echo_spacing")


def keywords(name: str) -> dict[str, float]:
    """Settings and options of a sequence, none of them neutral."""
    return {**PROTOCOLS[name], **{key: OPTIONS[key] for key in SEQUENCES[name].options}}


@pytest.mark.parametrize("name", NAMES)
def test_table_lists_what_the_equation_takes(name):
    sequence, parameters = SEQUENCES[name], inspect.signature(SEQUENCES[name].signal).parameters.values()
    named = {p.name: p.default is p.empty for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == ["pd", "t1", "t2"]
    assert tuple(key for key, required in named.items() if required) == sequence.fields
    assert tuple(key for key, required in named.items() if not required) == sequence.options
    assert sequence.signal.__name__ == name


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_is_documented(name):
    sequence = SEQUENCES[name]
    assert all(f"\n        {key}: " in sequence.signal.__doc__ for key in (*sequence.fields, *sequence.options))
    assert "Known limits: " in sequence.signal.__doc__


@pytest.mark.parametrize("name", [name for name in NAMES if SEQUENCES[name].paper])
def test_the_published_equation_needs_nothing_more(name):
    paper = SEQUENCES[SEQUENCES[name].paper]
    assert set(paper.fields) <= set(SEQUENCES[name].fields) and paper.signal.__name__ == paper.paper


@pytest.mark.parametrize("name", NAMES)
def test_signal_is_proportional_to_pd(name):
    once, twice, none = (signal(name, (pd, *GM[1:])) for pd in (0.7, 1.4, 0.0))
    assert none == 0 and once != 0
    # A ratio of two images knows no proton density.
    torch.testing.assert_close(twice, once if name == "mp2rage" else 2 * once)


@pytest.mark.parametrize("name", NAMES)
def test_signal_never_exceeds_pd(name):
    for tissue in (WM, GM, CSF):
        assert 0 < signal(name, (1.0, *tissue[1:])).abs() < 1


@pytest.mark.parametrize("name", [name for name in NAMES if "te_equivalent" not in SEQUENCES[name].fields])
def test_signal_does_not_depend_on_the_unit_of_time(name):
    """Unless it refers to a certain tissue, whose relaxation times are in seconds."""
    milliseconds = {key: 1000 * value for key, value in PROTOCOLS[name].items() if key in TIMES}
    torch.testing.assert_close(signal(name, (0.7, 900.0, 90.0), **milliseconds), signal(name, (0.7, 0.9, 0.09)))


@pytest.mark.parametrize("name", NAMES)
def test_options_are_neutral_by_default(name):
    neutral = {"b1": 1.0, "t2_star": GM[2], "inversion_efficiency": 1.0}
    assert signal(name, GM) == signal(name, GM, **neutral)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    sequence, given = SEQUENCES[name], keywords(name)
    maps = [exact(values).requires_grad_() for values in zip(WM, CSF)]
    numbers = [exact(value).requires_grad_() for value in given.values()]
    torch.autograd.gradcheck(lambda pd, t1, t2, *x: sequence.signal(pd, t1, t2, **dict(zip(given, x))), maps + numbers)


@pytest.mark.parametrize("name", NAMES)
def test_air_and_dead_coils_have_no_signal_and_finite_gradients(name):
    sequence, given = SEQUENCES[name], {key: torch.tensor(value) for key, value in keywords(name).items()}
    maps = [torch.tensor(values, requires_grad=True) for values in ([0.0, 0.8], [1.3, 1.3], [0.1, 0.1])]
    if "b1" in sequence.options:
        given["b1"] = torch.tensor([1.0, 0.0], requires_grad=True)
    contrast = sequence.signal(*maps, **given)
    contrast.sum().backward()
    assert contrast[0] == 0 and ("b1" not in given or contrast[1] == 0)
    leaves = [*maps, *([given["b1"]] if "b1" in given else [])]
    assert all(x.grad is None or x.grad.isfinite().all() for x in leaves)


@pytest.mark.parametrize("name", NAMES)
def test_protocols_broadcast_over_maps(name):
    sequence, factors = SEQUENCES[name], torch.tensor([0.97, 1.0, 1.01, 1.02])
    generator = torch.Generator().manual_seed(0)
    pd, t1, t2, b1 = torch.rand(4, 2, 5, generator=generator) + 0.1
    fields = {key: PROTOCOLS[name][key] * factors for key in sequence.fields}
    options = {"b1": b1} if "b1" in sequence.options else {}
    together = sequence.signal(pd, t1, t2, **{key: value.view(4, 1, 1) for key, value in fields.items()}, **options)
    apart = [sequence.signal(pd, t1, t2, **{k: value[i] for k, value in fields.items()}, **options) for i in range(4)]
    assert together.shape == (4, 2, 5) and together.dtype == torch.float32
    torch.testing.assert_close(together, torch.stack(apart))


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_suffices(name):
    t1, t2 = torch.meshgrid(torch.logspace(-1, 0.7, 40), torch.logspace(-2, 0.5, 40), indexing="ij")
    maps, given = (torch.ones_like(t1), t1, t2), {k: torch.tensor(value) for k, value in keywords(name).items()}
    single = SEQUENCES[name].signal(*maps, **given)
    double = SEQUENCES[name].signal(*(m.double() for m in maps), **{k: value.double() for k, value in given.items()})
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-6 * float(double.abs().max()))


def test_steady_state_is_what_the_shots_repeat():
    t1 = exact([0.3, 1.3, 4.3])
    steps = [recover(exact(0.7), t1, -0.95), recover(exact(0.2), t1, 0.3), recover(exact(1.1), t1)]
    m = torch.ones_like(t1)
    for _ in range(60):
        for step in steps:
            m = step(m)
    torch.testing.assert_close(steady_state(*steps), m)


def test_regrowth_keeps_its_digits():
    t1 = torch.logspace(-4, 4, 1000)
    torch.testing.assert_close(
        regrowth(torch.tensor(1.0), t1).double(), -torch.expm1(-1 / t1.double()), rtol=4e-7, atol=0
    )

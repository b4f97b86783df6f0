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

import random

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, ConcatItemsd

from scripts.acquisition import Acquisition, check, values
from scripts.acquisition.families import FAMILIES, check_family, draw_acquisition
from scripts.augment import RandRenderContrastd, RenderContrastd
from scripts.errors import UserError
from scripts.render import SignalModel
from scripts.signal import SEQUENCES

STIR = Acquisition("inversion_recovery", te=0.02, tr=4.0, ti=0.3)
AFFINE = torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0])).double()


def head(dimensions: int = 3) -> torch.Tensor:
    """WM, GM, CSF and air, a quarter each."""
    tissues = torch.tensor([[0.7, 0.82, 1.0, 0.0], [0.83, 1.33, 4.3, 0.0], [0.08, 0.11, 2.0, 0.0]])
    maps = tissues.repeat_interleave(3, 1)[:, :, None].repeat(1, 1, 5)
    return maps if dimensions == 2 else maps[..., None].repeat(1, 1, 1, 4)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_renders_what_the_signal_model_does(dimensions):
    maps = head(dimensions)
    data = RenderContrastd("maps", STIR)({"maps": maps, "label": 3})
    assert data["image"].shape == (1, *maps.shape[1:]) and data["label"] == 3 and data["maps"] is maps
    assert type(data["image"]) is torch.Tensor and torch.equal(data["acquisition"], STIR.to_row())
    assert torch.equal(data["image"], SignalModel()(maps[None], STIR.to_row()[None, None])[0])
    assert data["image"].min() == 0 and (data["image"][0, :9] > 0).all() and (data["image"][0, 9:] == 0).all()


def test_sign_is_kept_on_request():
    signed = RenderContrastd("maps", STIR, signed=True)({"maps": head()})["image"]
    assert signed.min() < 0 and torch.equal(signed.abs(), RenderContrastd("maps", STIR)({"maps": head()})["image"])


def test_affine_is_kept_and_maps_may_be_separate():
    names = ("PDmap", "T1map", "T2map")
    data = {name: MetaTensor(channel[None], affine=AFFINE) for name, channel in zip(names, head())}
    steps = Compose([ConcatItemsd(names, "maps"), RenderContrastd("maps", STIR, "stir", "row")])
    contrast = steps(data)["stir"]
    assert isinstance(contrast, MetaTensor) and torch.equal(contrast.affine, AFFINE)
    assert torch.equal(contrast.as_tensor(), RenderContrastd("maps", STIR)({"maps": head().numpy()})["image"])


def test_transmit_field_reaches_the_equation():
    flash = Acquisition("spoiled_gradient_echo", te=0.004, tr=0.02, flip_angle=20)
    twice = Acquisition("spoiled_gradient_echo", te=0.004, tr=0.02, flip_angle=40)
    b1 = torch.ones(1, *head().shape[1:])
    b1[..., 2:] = 2.0
    image = RenderContrastd("maps", flash, b1_key="b1")({"maps": head(), "b1": b1})["image"]
    for part, acquisition in ((image[..., :2], flash), (image[..., 2:], twice)):
        expected = RenderContrastd("maps", acquisition)({"maps": head()})["image"][..., :2]
        torch.testing.assert_close(part, expected)


def test_missing_maps_are_an_error_unless_allowed():
    for kind in (lambda **k: RenderContrastd("maps", STIR, **k), lambda **k: RandRenderContrastd("maps", **k)):
        with pytest.raises(KeyError):
            kind()({"other": 1})
        assert kind(allow_missing_keys=True)({"other": 1}) == {"other": 1}


def test_a_seed_decides_the_acquisition_and_it_is_told():
    transform = RandRenderContrastd("maps", signed=True)
    rows = []
    for seed in (0, 0, 1, 2):
        data = transform.set_random_state(seed)({"maps": head()})
        rows.append(data["acquisition"])
        assert torch.equal(rows[-1], transform.acquisition.to_row())
        expected = RenderContrastd("maps", transform.acquisition, signed=True)({"maps": head()})["image"]
        assert torch.equal(data["image"], expected) and data["image"].isfinite().all()
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[1], rows[2]) and not torch.equal(rows[2], rows[3])


def test_every_family_comes_up_and_every_draw_is_possible():
    transform = RandRenderContrastd("maps").set_random_state(0)
    seen = set()
    for _ in range(300):
        transform.randomize()
        check(transform.acquisition, "draw")
        seen.add(transform.acquisition.sequence)
    assert seen == {family["sequence"] for family in FAMILIES.values()}
    only = RandRenderContrastd("maps", ["FLAIR", "MPRAGE"]).set_random_state(0)
    sequences = [only({"maps": head(2)}) and only.acquisition.sequence for _ in range(30)]
    assert set(sequences) == {"mprage", "inversion_recovery_turbo_spin_echo"}


def test_contrasts_differ_as_those_of_a_hospital_do():
    transform = RandRenderContrastd("maps").set_random_state(1)
    images = [transform({"maps": head(2)})["image"][0, :, 0] for _ in range(200)]
    brightest = [int(image[[0, 3, 6]].argmax()) for image in images]
    assert min(brightest.count(tissue) for tissue in range(3)) > 10, "WM, GM and CSF are each the brightest in some"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_fits_its_equation_and_its_ranges(name):
    family, draw = FAMILIES[name], random.Random(0)
    drawn = {key.partition("/")[0] for key in family} - {"sequence"}
    assert set(SEQUENCES[family["sequence"]].fields) <= drawn
    signal = SignalModel()
    for _ in range(50):
        acquisition = draw_acquisition(family, draw, name)
        for key, (low, high) in [(key, limits) for key, limits in family.items() if key != "sequence"]:
            field, _, other = key.partition("/")
            value = getattr(acquisition, field) / (getattr(acquisition, other) if other else 1)
            slack = 0.06 if field.startswith("echoes") else 1e-9
            assert low * (1 - slack) <= value <= high * (1 + slack), key
        assert values(acquisition.to_row(), "tr") == pytest.approx(acquisition.tr)
        contrast = signal(head(2)[None], acquisition.to_row()[None, None])
        assert contrast.isfinite().all() and contrast.max() > 0


def test_any_uniform_source_draws_and_times_are_log_uniform():
    family = {"sequence": "spin_echo", "te": [0.001, 0.1], "tr": [1, 1], "flip_angle": [90, 90]}
    for draw in (random.Random(0), np.random.default_rng(0), np.random.RandomState(0)):
        log = np.log10([draw_acquisition(family, draw, "SE").te for _ in range(2000)])
        assert np.mean(log < -2) == pytest.approx(0.5, abs=0.04)


WRONG = {
    "two keys": lambda: RenderContrastd(["PDmap", "T1map"], STIR),
    "impossible acquisition": lambda: RenderContrastd("maps", Acquisition("inversion_recovery", te=0.1, tr=1, ti=2)),
    "incomplete acquisition": lambda: RenderContrastd("maps", Acquisition("mprage", tr=2.4)),
    "unknown family": lambda: RandRenderContrastd("maps", ["FLAIRE"]),
    "no family": lambda: RandRenderContrastd("maps", []),
    "no sequence": lambda: check_family({"te": [0.1, 0.2]}, "mine"),
    "unknown sequence": lambda: check_family({"sequence": "epi"}, "mine"),
    "unknown field": lambda: check_family({"sequence": "spin_echo", "echo": [0.1, 0.2]}, "mine"),
    "ratio to nothing": lambda: check_family({"sequence": "spin_echo", "te/tr": [0.1, 0.2]}, "mine"),
    "no range": lambda: check_family({"sequence": "spin_echo", "te": 0.1, "tr": [1, 2]}, "mine"),
    "reversed": lambda: check_family({"sequence": "spin_echo", "te": [0.2, 0.1], "tr": [1, 2]}, "mine"),
    "never possible": lambda: check_family({"sequence": "spin_echo", "te": [0.2, 0.3], "tr": [0.1, 0.2]}, "mine"),
    "channels": lambda: RenderContrastd("maps", STIR)({"maps": head()[:2]}),
    "milliseconds": lambda: RenderContrastd("maps", STIR)(
        {"maps": head() * torch.tensor([1, 1e3, 1e3]).view(3, 1, 1, 1)}
    ),
    "shape of b1": lambda: RenderContrastd("maps", STIR, b1_key="b1")({"maps": head(), "b1": head()}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused(name):
    with pytest.raises(UserError, match="; "):
        WRONG[name]()

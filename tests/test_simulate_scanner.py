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

"""Scanned slices: what is drawn, what a sidecar keeps of it, and that every sample can be scaled back."""

import pytest
import torch

from scripts.acquisition import FIELDS, UNKNOWN, known, sequence_code, values
from scripts.errors import UserError
from scripts.randomness import rng
from scripts.simulate import Scanner, Slices, scanner
from scripts.simulate.scanner import SUBSETS, draw_subset, forget, misstate, scale

from .test_simulate_slices import ball_heads

WHOLE = Scanner(crop_size=None)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> dict:
    return Slices(ball_heads(tmp_path_factory), size=(52, 60), positions=(0.0, 0.0))[0]


def test_a_sample_is_a_function_of_seed_epoch_and_index(clean):
    first, others = WHOLE(clean, 1, 5), [WHOLE(clean, 2, 5), WHOLE(clean, 1, 6), Scanner(1, None)(clean, 1, 5)]
    again = WHOLE(clean, 1, 5)
    assert all(torch.equal(again[key], first[key]) for key in first)
    assert not any(torch.equal(other["image"], first["image"]) for other in others)


def test_a_sample_has_what_it_says(clean):
    for index in range(30):
        sample = Scanner(crop_size=(40, 48))(clean, 1, index)
        contrasts = len(sample["image"])
        assert sample["image"].shape == (contrasts, 40, 48) and sample["acquisition"].shape[0] == contrasts
        assert sample["mask"].shape == sample["labels"].shape == (1, 40, 48) and sample["window"].shape == (
            contrasts,
            2,
        )
        assert all(sample[key].isfinite().all() for key in ("image", "window", "target", "target_window"))
        assert (sample["window"][:, 1] > sample["window"][:, 0]).all() and sample["image"].min() >= -1
        inside = sample["mask"][0] > 0
        assert sample["maps"][:, inside].min() > 0 and not sample["maps"][:, ~inside].any()


def test_without_harm_a_sample_is_clean_and_complete(clean):
    sample = Scanner(crop_size=None, harm=False)(clean, 3, 0)
    assert torch.equal(sample["acquisition"], clean["acquisition"]) and torch.equal(sample["maps"], clean["maps"])
    low, high = sample["window"][..., None, None].unbind(1)
    raw = (sample["image"] + 1) / 2 * (high - low) + low
    inside = clean["maps"][0] > 0
    for image, signal in zip(raw[:, inside], clean["signal"][:, inside].abs()):
        assert torch.corrcoef(torch.stack([image, signal]))[0, 1] > 0.9
        assert (image - signal).abs().median() < 0.15 * signal.max()


def test_targets_are_clean_magnitudes_as_played_out(clean):
    sample = WHOLE(clean, 1, 7)
    assert sample["target"].shape[0] == scanner.TARGETS
    for target, row in zip(sample["target"], sample["target_acquisition"]):
        which = (clean["acquisition"] == row).all(1).nonzero()[0, 0]
        assert torch.equal(target, clean["signal"][which].abs() * sample["mask"][0])


def test_stripped_images_have_no_skull_and_zeroed_ones_no_noise(clean, monkeypatch):
    monkeypatch.setattr(scanner, "STRIPPED", 1.0)
    monkeypatch.setattr(scanner, "ZEROED", 1.0)
    sample = WHOLE(clean, 0, 0)
    outside = ~clean["brain"]
    assert not sample["mask"][0, outside].any() and not sample["labels"][0, outside].any()
    assert (sample["image"][:, outside] == -1).all()
    monkeypatch.setattr(scanner, "ZEROED", 0.0)
    assert (WHOLE(clean, 0, 0)["image"][:, outside] > -1).float().mean() > 0.9


def test_an_empty_slice_is_noise(clean, monkeypatch):
    monkeypatch.setattr(scanner, "ZEROED", 0.0)
    empty = {key: torch.zeros_like(value) for key, value in clean.items()} | {"acquisition": clean["acquisition"]}
    for index in range(10):
        sample = WHOLE(empty, 0, index)
        assert sample["image"].isfinite().all() and sample["image"].std() > 0 and not sample["mask"].any()


def test_a_crop_larger_than_the_slice_is_refused(clean):
    with pytest.raises(UserError, match="crop_size"):
        Scanner(crop_size=(60, 40))(clean, 0, 0)


def test_one_to_five_contrasts_are_taken_most_of_them_clinical():
    subsets = [draw_subset(rng(0, i), 6) for i in range(1000)]
    sizes = torch.tensor([len(subset) for subset in subsets]).bincount(minlength=6)[1:] / 1000
    torch.testing.assert_close(sizes, torch.tensor(SUBSETS), atol=0.05, rtol=0)
    assert all(len(set(subset)) == len(subset) and set(subset) <= set(range(6)) for subset in subsets)
    assert 0.45 < sum(max(subset) < 3 for subset in subsets) / 1000 < 0.75


def test_what_is_prescribed_is_near_what_is_played_out(clean):
    rows = clean["acquisition"].repeat(200, 1)
    stated = torch.cat([misstate(rng(0, i), rows[i::200]) for i in range(200)])
    played = torch.cat([rows[i::200] for i in range(200)])
    for name in FIELDS:
        a, b = values(stated, name), values(played, name)
        ratio = (a / b)[b > 0].log()
        assert torch.equal(a == 0, b == 0), name
        if name not in scanner.NOMINAL_SD:
            assert torch.equal(a, b)
        elif len(ratio):
            # The scale itself is uniform from 0 to 1.5: its root mean square is 0.87.
            assert 0.6 < ratio.std() / scanner.NOMINAL_SD[name] < 1.1 and abs(ratio.mean()) < 0.2 * ratio.std()
    codes = slice(1 + len(FIELDS), None)
    assert torch.equal(stated[:, codes], played[:, codes]) and torch.equal(stated[:, 0], played[:, 0])


def test_forgotten_acquisitions_are_unknown_and_hold_only_what_is_known(clean):
    rows = clean["acquisition"]
    left = torch.stack([forget(rng(0, i), rows) for i in range(500)])
    unknown = left[..., 0] == sequence_code(UNKNOWN)
    assert torch.equal(left[~unknown][:, 0], rows.expand(500, -1, -1)[~unknown][:, 0])
    assert 0.14 < unknown.float().mean() < 0.25 and 0.08 < unknown.all(1).float().mean() < 0.17
    for name in FIELDS:
        value, is_known = values(left, name), known(left, name)
        assert not value[~is_known].any()
        assert torch.equal(value[is_known], values(rows, name).expand(500, -1)[is_known])
        if name != "field_strength":
            assert torch.equal(is_known[~unknown], known(rows, name).expand(500, -1)[~unknown])
    field = known(left, "field_strength")[~unknown].float().mean()
    some = known(left, "te")[unknown].float().mean() / known(rows, "te").float().mean()
    assert 0.4 < field < 0.6 and 0.05 < some < 0.3


@pytest.mark.parametrize("sd", [0.0, 0.3])
def test_the_window_undoes_the_scaling(clean, sd):
    head = clean["maps"][0] > 0
    images = 100 * clean["signal"].abs() + 7
    scaled, window = scale(rng(0), images, head, sd)
    low, high = window[..., None, None].unbind(1)
    torch.testing.assert_close((scaled + 1) / 2 * (high - low) + low, images)
    assert torch.equal(window[:, 0], images.flatten(1).amin(1))
    bright = torch.quantile(images[:, head], 0.995, dim=1)
    assert torch.allclose(window[:, 1], bright) == (sd == 0)

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

"""Correction of bias fields: shading is found and divided out, and nothing else is."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from monai.data import MetaTensor

from scripts.nuisance.fields import bias_field
from scripts.parallel import use_threads
from scripts.preprocess import CorrectBiasd, ForegroundMaskd

SIZE, EDGE = (40, 44, 34), 4.0
"""Voxels of a head, and their edge [mm]."""


def head() -> torch.Tensor:
    """A scalp around a brain of three tissues in folds of 2 cm, none of them smooth ``(X, Y, Z)``."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SIZE), indexing="ij")
    radius = torch.stack(axes).square().sum(0).sqrt()
    folds = sum(torch.sin(12 * axis + number) for number, axis in enumerate(axes))
    brain = torch.where(folds > 0.3, 100.0, torch.where(folds > -0.9, 70.0, 30.0))
    volume = torch.where(radius < 0.78, brain, torch.where(radius < 0.88, 160.0, 0.0))
    random = torch.Generator().manual_seed(0)
    return volume * (1 + 0.02 * torch.randn(SIZE, generator=random))


def record(*images: torch.Tensor, gains: tuple[int, ...] | None = None) -> dict:
    """A record as the mask leaves it, in voxels of 4 mm."""
    affine = torch.diag(torch.tensor([EDGE, EDGE, EDGE, 1.0]))
    found = ForegroundMaskd()({"image": MetaTensor(torch.stack(images), affine=affine)})
    contrasts = [SimpleNamespace(path=Path(f"scan-{number}.nii.gz")) for number in range(len(images))]
    session = SimpleNamespace(contrasts=contrasts)
    return {**found, "session": session, "gains": gains or tuple(range(len(images)))}


@pytest.fixture(scope="module")
def shading() -> torch.Tensor:
    """A field of 15 %, of order 2."""
    coefficients = [0.2, -0.15, 0.1, 0.1, 0.05, -0.05, -0.15, 0.05, 0.1]
    return bias_field(coefficients, SIZE, None)


def uneven(corrected: torch.Tensor, true: torch.Tensor) -> float:
    """Standard deviation of the logarithm of what an image is too bright by, inside the brain, noise averaged."""
    inside = true > 20
    inside[:, :, ::2] = False
    ratio = torch.where(inside, (corrected / true).log().nan_to_num(0, 0, 0), 0.0)[None]
    share = torch.nn.functional.avg_pool3d(inside[None].float(), 5)
    means = torch.nn.functional.avg_pool3d(ratio, 5)[share > 0.3] / share[share > 0.3]
    return float(means.std())


def test_shading_is_divided_out(shading):
    true = head()
    spoiled = 37 * true * shading
    found = CorrectBiasd()(record(spoiled))
    before, after = uneven(spoiled, true), uneven(found["image"].as_tensor()[0], true)
    assert before > 0.1 and after < before / 3
    assert found["bias_sd"][0] == pytest.approx(float(shading[true > 0].log().std()), rel=0.25)


def test_an_even_scan_stays_as_it_is_and_units_do_not_matter():
    true = head()
    found = CorrectBiasd()(record(true, 5000 * true))
    first, second = found["image"].as_tensor()
    assert uneven(first, true) < 0.02 and max(found["bias_sd"]) < 0.03
    torch.testing.assert_close(5000 * first, second, rtol=1e-3, atol=1)


def test_echoes_of_one_gain_keep_their_ratio(shading):
    true = head()
    echoes = true * shading, 0.4 * true.clamp_max(80) * shading
    before = record(*echoes, gains=(7, 7))
    found = CorrectBiasd()(before)["image"].as_tensor()
    inside = before["mask"][0] > 0
    ratio, after = (one[0][inside] / one[1][inside] for one in (torch.stack(echoes), found))
    torch.testing.assert_close(after, ratio)
    assert uneven(found[0], true) < 0.05


def test_off_changes_nothing(shading):
    before = record(head() * shading)
    found = CorrectBiasd(correct=False)(before)
    assert torch.equal(found["image"].as_tensor(), before["image"].as_tensor()) and found["bias_sd"] == [0]


@pytest.mark.parametrize("size", [(1, 44, 34), (40, 44, 1), (40, 44, 2), (3, 3, 3), (40, 2, 1)])
def test_thin_volumes_give_finite_images(size):
    volume = head()[tuple(slice(n // 2 - (one + 1) // 2, n // 2 - (one + 1) // 2 + one) for n, one in zip(SIZE, size))]
    found = CorrectBiasd()(record(volume, torch.zeros(size), torch.ones(size)))
    image = found["image"].as_tensor()
    assert image.isfinite().all() and not image[1].any() and max(found["bias_sd"]) < 0.5


def test_the_number_of_threads_does_not_matter(shading):
    before = record(head() * shading, head())
    try:
        results = []
        for threads in (1, 2):
            use_threads(threads)
            results.append(CorrectBiasd()(before)["image"].as_tensor())
    finally:
        use_threads(None)
    assert torch.equal(*results)


def test_what_n4_refuses_is_said_and_left(shading, monkeypatch, caplog):
    def refuse(*_):
        raise RuntimeError("ITK ERROR:\n no luck")

    monkeypatch.setattr("scripts.preprocess.bias._n4", refuse)
    before = record(head() * shading)
    with caplog.at_level(logging.WARNING):
        found = CorrectBiasd()(before)
    assert torch.equal(
        found["image"].as_tensor(), before["image"].as_tensor()
    ) and "scan-0.nii.gz: no bias field found, left as it is: no luck" in " ".join(caplog.text.split())

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

"""Measures of generators: closed forms, limits, and second libraries."""

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from torch import nn

from scripts.acquisition import load_render
from scripts.errors import UserError
from scripts.evaluate.anatomy import asked_row
from scripts.evaluate.distances import (
    density_coverage,
    frechet_distance,
    kernel_distance,
    mean_discrepancy,
    neighbour_ratio,
    precision_recall,
)
from scripts.evaluate.features import OWN, Features, is_torchscript
from scripts.evaluate.similarity import explained_share, gradient_structure_similarity, mutual_information
from scripts.networks import PhysicsVAE

CROSS = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
"""Four points of mean 0 and covariance 2/3 in both axes."""


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_frechet_distance_of_gaussians_is_their_closed_form():
    sd, shift = (2 / 3) ** 0.5, np.array([3.0, 4.0])
    assert frechet_distance(CROSS * [2, 5] + shift, CROSS) == pytest.approx(25 + sd**2 * (1 + 16))
    # Fewer images than features: equal sets are equal all the same.
    few = normal(10, 100)
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-4)


def test_kernel_distance_is_that_of_another_librarys_kernel():
    x, y = normal(12, 5), 0.5 + normal(9, 5, seed=1)
    xx, yy, xy = (polynomial_kernel(a, b, degree=3, gamma=1 / 5, coef0=1) for a, b in ((x, x), (y, y), (x, y)))
    expected = (xx.sum() - np.trace(xx)) / (12 * 11) + (yy.sum() - np.trace(yy)) / (9 * 8) - 2 * xy.mean()
    assert kernel_distance(x, y) == pytest.approx(expected)


def test_distances_without_bias_are_zero_on_average():
    pairs = [(normal(20, 4, seed=2 * n), normal(20, 4, seed=2 * n + 1)) for n in range(200)]
    for distance in (kernel_distance, mean_discrepancy):
        values = [distance(x, y) for x, y in pairs]
        assert abs(np.mean(values)) < 3 * np.std(values) / len(values) ** 0.5
    assert mean_discrepancy(normal(500, 3) + [2, 0, 0], normal(500, 3, seed=1)) == pytest.approx(4, rel=0.2)


def test_precision_recall_density_and_coverage_of_points_on_a_line():
    real = np.array([[0.0], [1], [2], [3]])
    generated = np.array([[0.5], [1.5], [10], [11]])
    # The balls around real points have radius 1 with one neighbour; around generated ones too.
    assert precision_recall(generated, real, 1) == (0.5, 0.75)
    # .5 lies in the balls of 0 and 1, 1.5 in those of 1 and 2; the ball of 3 has none.
    assert density_coverage(generated, real, 1) == (1.0, 0.75)
    assert precision_recall(real, real, 2) == (1.0, 1.0)


def test_density_and_coverage_of_one_distribution_are_their_expectations():
    n, k = 40, 5
    found = np.mean([density_coverage(normal(n, 8, seed=2 * m), normal(n, 8, seed=2 * m + 1), k) for m in range(60)], 0)
    steps = np.arange(1, k + 1)
    assert found == pytest.approx([1, 1 - np.prod((n - steps) / (2 * n - steps))], abs=0.02)


def test_copies_are_seen_as_such():
    training, held_out = normal(300, 6), normal(300, 6, seed=1)
    assert neighbour_ratio(training[:20], held_out, training) == pytest.approx((0, 1), abs=1e-6)
    ratio, near = neighbour_ratio(normal(300, 6, seed=2), held_out, training)
    assert ratio == pytest.approx(1, abs=0.15) and near < 0.12


def test_the_structure_of_gradients_is_that_of_the_image():
    random = np.random.default_rng(0)
    image = np.zeros((48, 48))
    image[12:36, 12:36] = 1
    image += 0.02 * random.standard_normal(image.shape)
    assert gradient_structure_similarity(image, image) == pytest.approx(1)
    assert gradient_structure_similarity(3 - 2 * image, image) == pytest.approx(1), "its sign and scale do not count"
    other = image + 0.3 * random.standard_normal(image.shape)
    assert gradient_structure_similarity(other, image) < 0.6
    assert gradient_structure_similarity(np.zeros((48, 48)), image) < 0.05, "an image without structure"
    assert gradient_structure_similarity(np.ones((9, 9, 9)), np.ones((9, 9, 9))) == 1, "three axes"


def test_shared_structure_is_what_follows_from_the_other_contrasts():
    x, noise = normal(2, 200, 200)
    mask = np.ones(x.shape, bool)
    assert explained_share(np.cos(x), x[None], mask) > 0.97, "any function of the other"
    assert explained_share(x + noise, x[None], mask) == pytest.approx(0.5, abs=0.02)
    assert explained_share(x + noise, np.stack([x, noise]), mask) > 0.93
    assert explained_share(noise, x[None], mask) < 0.01
    assert mutual_information(x, x, mask) == pytest.approx(2)
    assert mutual_information(x, noise, mask) == pytest.approx(1, abs=0.02)


def test_the_interval_of_a_correlation_is_fishers():
    asked = np.arange(10.0)
    found = asked + np.tile([1.0, -1.0], 5)
    row = asked_row([*zip(asked, found)])
    r = np.corrcoef(asked, found)[0, 1]
    half = 1.959964 / 7**0.5
    assert row["r"] == pytest.approx(r) and row["mean error"] == 1
    assert [row["r from"], row["r to"]] == pytest.approx([*np.tanh([np.arctanh(r) - half, np.arctanh(r) + half])])
    assert asked_row([(1, 2)]) == {"samples": 1}


class Pooled(nn.Module):
    """Features that a test can compute."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(1, keepdim=True) * self.weight[:, None, None]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((3, 16, 24), np.float32)


def test_features_come_from_torchscript_or_a_state_dict(tmp_path, images):
    request, *_ = load_render("oasis3")
    torch.jit.save(torch.jit.script(Pooled()), tmp_path / "net.ts")
    torch.save(Pooled().state_dict(), tmp_path / "net.pt")
    assert is_torchscript(tmp_path / "net.ts") and not is_torchscript(tmp_path / "net.pt")
    for name in ("net.ts", "net.pt"):
        features = Features(None, "", tmp_path / name, Pooled())
        features.load()
        expected = images.mean((1, 2))[:, None] * [1, 2]
        assert features(images, request.acquisition) == pytest.approx(expected, rel=1e-5) and features.name == name
    with pytest.raises(UserError, match="no such file"):
        Features(None, "", tmp_path / "absent.ts").load()
    with pytest.raises(UserError, match="another network"):
        Features(None, "", tmp_path / "net.pt", nn.Linear(2, 2)).load()
    narrow = torch.jit.script(nn.Conv2d(1, 4, 3))
    torch.jit.save(narrow, tmp_path / "one.ts")
    features = Features(None, "", tmp_path / "one.ts")
    features.load()
    with pytest.raises(UserError, match="channels"):
        features(images, request.acquisition)


def test_the_own_encoder_is_told_the_acquisition(tmp_path, images):
    network = PhysicsVAE(channels=(8, 8, 8, 8), skip_channels=())
    torch.save(network.state_dict(), tmp_path / "model.pt")
    nn.init.normal_(network.conditioning.mlp[2].weight)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    features = Features(network, tmp_path / "model.pt")
    features.load()
    one, other, _ = (features(images, request.acquisition) for request in load_render("oasis3"))
    assert features.name == OWN and one.shape[0] == 3 and np.isfinite(one).all() and not np.allclose(one, other)

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

"""What training data are worth: samples are what they claim to be, scores are what they are called."""

import pytest
import torch

from benchmarks.utility.network import average_precision, dice, lesion_scores, shares, train
from benchmarks.utility.samples import (
    LESION,
    TISSUES,
    WAYS,
    make_samples,
    only_brain,
    random_contrasts,
    tissue_labels,
    with_lesions_of,
)
from scripts.tissue import FRACTIONS

SIZE = (48, 64)


def fractions() -> torch.Tensor:
    """Boxes in boxes: scalp, bone, fluid, cortex, white matter with a lesion."""
    numbers = torch.zeros(SIZE, dtype=torch.long)
    for edge, name in ((2, "scalp"), (5, "bone"), (8, "CSF"), (10, "cortex"), (14, "white matter"), (20, "lesion")):
        numbers[edge : SIZE[0] - edge, edge : SIZE[1] - edge] = FRACTIONS.index(name)
    return torch.nn.functional.one_hot(numbers, len(FRACTIONS)).movedim(-1, 0).float()


def test_labels_are_those_of_the_brain():
    stripped = only_brain(fractions())
    assert torch.allclose(stripped.sum(0), torch.ones(SIZE))
    labels = tissue_labels(stripped)
    assert labels[3, 30] == labels[6, 30] == 0 and labels[9, 30] == TISSUES.index("CSF")
    assert labels[12, 30] == TISSUES.index("GM") and labels[16, 30] == TISSUES.index("WM") and labels[24, 32] == LESION


def test_heads_are_chosen_that_show_as_much_lesion():
    def lesion(voxels: int) -> torch.Tensor:
        numbers = torch.full((1, 8), FRACTIONS.index("white matter"))
        numbers[0, :voxels] = FRACTIONS.index("lesion")
        return torch.nn.functional.one_hot(numbers, len(FRACTIONS)).movedim(-1, 0).float()

    slices = [lesion(voxels) for voxels in (0, 5, 2, 7, 0)]
    chosen = with_lesions_of([lesion(6), lesion(0), lesion(2)], slices)
    assert [int((tissue_labels(one) == LESION).sum()) for one in chosen] in ([5, 0, 2], [7, 0, 2])
    assert len({id(one) for one in with_lesions_of([lesion(0)] * 3, slices)}) == 3, "no slice is taken twice"


def test_random_intensities_differ_between_classes_and_contrasts_but_hardly_inside_a_class():
    images = random_contrasts(only_brain(fractions()), 0, 0)
    labels = tissue_labels(only_brain(fractions()))
    levels = torch.stack([images[:, labels == n].mean(1) for n in range(1, len(TISSUES))])
    deviations = torch.stack([images[:, labels == n].std(1) for n in range(1, len(TISSUES))])
    assert deviations.max() < 0.15 < levels.std(0).min() and (images[:, labels == 0] == 0).all()
    assert not torch.equal(images, random_contrasts(only_brain(fractions()), 0, 1))


@pytest.mark.parametrize("way", WAYS)
def test_samples_are_functions_of_the_seed(way):
    images, labels = make_samples([fractions()], way, 1, 2)
    assert images.shape == (2, 3, *SIZE) and labels.shape == (2, *SIZE) and 0 <= images.min() and images.max() == 1
    assert torch.equal(images, make_samples([fractions()], way, 1, 2)[0]) and not torch.equal(images[0], images[1])
    assert (images[:, :, labels[0] == 0] == 0).float().mean() > 0.9, "no skull"


def test_scores_of_known_cases():
    true = torch.tensor([[True, True, False, False]])
    assert dice(true, true) == 1 and dice(~true, true) == 0
    assert dice(torch.tensor([[True, False, True, False]]), true) == 0.5
    assert average_precision(torch.tensor([4.0, 3, 2, 1]), true[0]) == 1
    assert average_precision(torch.tensor([4.0, 1, 3, 2]), true[0]) == pytest.approx((1 + 2 / 4) / 2)
    probability = torch.zeros(1, len(TISSUES), 2, 2)
    probability[0, LESION, 0] = 1
    probability[0, 1, 1] = 1
    scores = lesion_scores(probability, torch.tensor([[[True, False], [False, False]]]), torch.ones(1, 2, 2) > 0)
    assert scores["Dice"] == pytest.approx(2 / 3) and scores["precision"] == 0.5 and scores["recall"] == 1


def test_training_learns():
    images, labels = make_samples([fractions()], "physics", 0, 2)
    said = []
    network = train(images, labels, 12, 0, said.append)
    first, last = (float(line.split()[-1]) for line in (said[0], said[-1]))
    assert last < 0.8 * first
    assert torch.allclose(shares(network, images).sum(1), torch.ones(2, *SIZE), atol=1e-5)

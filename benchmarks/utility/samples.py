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

"""Training samples: tissue fractions -> contrasts in one of two ways, and labels."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from scripts.acquisition import FAMILIES, draw_acquisition
from scripts.nuisance import apply_nuisances
from scripts.randomness import rng
from scripts.render import SignalModel, share_beside_fluid
from scripts.simulate.contrasts import FLUID_NULLED, T1W, T2W
from scripts.simulate.drawn import FLUID, sample_maps, scale_contrast
from scripts.simulate.fields import smooth_field
from scripts.simulate.nuisances import draw_nuisances
from scripts.simulate.scanner import NUISANCES
from scripts.tissue import CLASSES, FRACTIONS
from scripts.tissue.fractions import AREAS

TISSUES = ("background", "CSF", "GM", "WM", "lesion")
"""What the network tells apart."""
IN_TISSUE = {"deep grey matter": "GM", "brain stem": "WM"}
"""Regions that count as another tissue."""
BRAIN = [FRACTIONS.index(name) for name in AREAS["brain"]]
SPREAD = 0.1
"""Largest standard deviation of random intensities inside a class, whose means lie between 0 and 1."""
GRAIN = 1.0
LESION = TISSUES.index("lesion")


def tissue_labels(fractions: Tensor) -> Tensor:
    """Number in :data:`TISSUES` of the largest share of each voxel ``(H, W)`` of fractions ``(K, H, W)``."""
    shares = torch.zeros(len(TISSUES), *fractions.shape[1:])
    for name, share in zip(FRACTIONS, fractions):
        region = CLASSES[name].region
        tissue = IN_TISSUE.get(region, region)
        shares[TISSUES.index(tissue) if tissue in TISSUES else 0] += share
    return shares.argmax(0)


def with_lesions_of(wanted: Sequence[Tensor], slices: Sequence[Tensor]) -> list[Tensor]:
    """One of the slices for each wanted one, so that the areas of their lesions differ least in all.

    Networks that see more lesion find more of it; where a slice comes from is to be the only difference.
    """
    areas, others = ([float((tissue_labels(one) == LESION).sum()) for one in group] for group in (wanted, slices))
    return [slices[index] for index in linear_sum_assignment(np.abs(np.subtract.outer(areas, others)))[1]]


def only_brain(fractions: Tensor) -> Tensor:
    """Fractions of which all but the brain is air, as after the skull is stripped."""
    stripped = torch.zeros_like(fractions)
    stripped[BRAIN] = fractions[BRAIN]
    stripped[0] = 1 - stripped.sum(0)
    return stripped


def random_contrasts(fractions: Tensor, seed: int, index: int) -> Tensor:
    """Three contrasts ``(3, H, W)`` with a random intensity for each class, as SynthSeg has them; no physics.

    Source: Billot et al. 2023 (doi:10.1016/j.media.2023.102789): means and standard deviations are uniform.
    """
    random, images = rng(seed, index, 4), []
    for _ in range(3):
        means = torch.from_numpy(random.uniform(0, 1, len(FRACTIONS))).float()
        deviations = torch.from_numpy(random.uniform(0, SPREAD, len(FRACTIONS))).float()
        means[0] = deviations[0] = 0
        grain = smooth_field(random, tuple(fractions.shape[1:]), GRAIN)[0]
        levels = means.view(-1, 1, 1) + deviations.view(-1, 1, 1) * grain
        images.append((fractions * levels).sum(0).clamp_min(0))
    return torch.stack(images)


def physics_contrasts(fractions: Tensor, seed: int, index: int) -> Tensor:
    """T1w, T2w and FLAIR ``(3, H, W)`` of random acquisitions, of drawn tissue with texture."""
    random, rows = rng(seed, index, 5), []
    for weights in (T1W, T2W, FLUID_NULLED):
        name = random.choice([*weights], p=np.array([*weights.values()]) / sum(weights.values()))
        rows.append(draw_acquisition(FAMILIES[str(name)], random, name).to_row())
    maps = sample_maps(fractions, seed, index)
    fluid = torch.from_numpy(share_beside_fluid(fractions[FLUID].sum(0).numpy()))
    return SignalModel(signed=True)(maps[None], torch.stack(rows)[None], fluid=fluid[None], mask=maps[None, 0] > 0)[0]


WAYS: dict[str, Callable[[Tensor, int, int], Tensor]] = {"random": random_contrasts, "physics": physics_contrasts}


def make_samples(slices: Sequence[Tensor], way: str, seed: int, draws: int) -> tuple[Tensor, Tensor]:
    """Images ``(N, 3, H, W)`` from 0 to 1, with nuisances and without skull, and labels ``(N, H, W)``.

    Args:
        slices: fractions ``(K, H, W)`` each.
        way: of :data:`WAYS`.
        seed: of all draws.
        draws: samples of each slice.
    """
    images, labels = [], []
    for index in range(draws * len(slices)):
        fractions = only_brain(slices[index % len(slices)])
        signal, brain = WAYS[way](fractions, seed, index), fractions[0] < 0.5
        if not brain.any():
            continue
        random = rng(seed, index, 6)
        scans = [_scanned(random, one, brain) * brain.numpy() for one in signal]
        images.append(torch.from_numpy(np.stack([scale_contrast(one) for one in scans])))
        labels.append(tissue_labels(fractions))
    return torch.stack(images), torch.stack(labels)


def _scanned(random: np.random.Generator, signal: Tensor, brain: Tensor) -> np.ndarray:
    """The magnitude of a signal with noise, bias field, motion and larger voxels."""
    reference = brain & (signal.abs() >= signal[brain].abs().median())
    return apply_nuisances(signal, draw_nuisances(random, NUISANCES, axes=2), [1.0, 1.0], brain, reference).numpy()

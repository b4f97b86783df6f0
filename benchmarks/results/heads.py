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

"""Heads of known truth under every protocol: maps, intervals, unseen contrasts, and what was promised of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from scripts.evaluate.contrasts import nrmse, render, ssim, with_gain
from scripts.evaluate.estimators import BOTH, Estimator, Found
from scripts.tissue import MAPS

from .label_maps import LITERATURE, Spread, label_truth
from .measures import MapScore, anchors_of, cramer_rao, medians, pool, score, tissue_voxels
from .settings import Protocol, Settings
from .truth import TISSUES, Truth, acquire, signals

TRUE_MAPS = "true maps"
"""Contrasts rendered from the true maps: what partial volume leaves of any maps."""


class ContrastScore(NamedTuple):
    """One rendered contrast, the mean over heads: SSIM and NRMSE of the head, and of the brain alone."""

    ssim: float
    nrmse: float
    brain_ssim: float
    brain_nrmse: float


class Outcome(NamedTuple):
    """One way to estimate under one protocol.

    Attributes:
        maps: tissue -> map -> score, over all heads.
        contrasts: name of an unseen contrast -> score.
    """

    maps: dict[str, dict[str, MapScore]]
    contrasts: dict[str, ContrastScore]

    @property
    def mean(self) -> ContrastScore:
        """Over all unseen contrasts."""
        return ContrastScore(*torch.tensor([*self.contrasts.values()]).mean(0).tolist())


class Evaluation(NamedTuple):
    """A protocol on some heads.

    Attributes:
        protocol: the scans.
        outcomes: way to estimate -> what it achieved.
        bounds: tissue -> Cramer-Rao standard deviations with prior of ln PD, ln T1, ln T2 ``(3,)``.
        example: the first head, and what the last way found in it.
    """

    protocol: Protocol
    outcomes: dict[str, Outcome]
    bounds: dict[str, Tensor]
    example: tuple[Truth, Found]


def label_map_truths(settings: Settings, folder: Path, spread: Spread = LITERATURE) -> list[Truth]:
    """The heads that nothing was trained or tuned on, with the tissue of several subjects each.

    An interval covers the tissue of one subject or does not, nearly everywhere alike: three subjects say little.
    """
    heads = settings.subjects * [*settings.heads.items()]
    return [
        label_truth(folder / f"{name}.nii.gz", slices, settings.seed, number, spread)
        for number, (name, slices) in enumerate(heads)
    ]


def evaluate(
    truths: Sequence[Truth], settings: Settings, ways: Mapping[str, Estimator], report: Callable[[str], object] = print
) -> tuple[list[Evaluation], dict[str, ContrastScore]]:
    """Every protocol on some heads of one field strength, and the contrasts of their true maps."""
    unseen = settings.unseen.at(truths[0].field_strength)
    targets = [signals(truth, unseen.rows).abs() for truth in truths]
    ceiling = contrasts_of(truths, targets, [(truth.maps.clamp_min(1e-6).log(), None) for truth in truths], unseen)
    evaluations = []
    for protocol in settings.protocols:
        report(f"{truths[0].name} ...: {protocol.name}")
        protocol = protocol.at(truths[0].field_strength)
        outcomes, example = {}, None
        scans = [acquire(truth, protocol, settings.nuisance, settings.seed, n) for n, truth in enumerate(truths)]
        for way, estimator in ways.items():
            found = [estimator(one) for one in scans]
            outcomes[way] = outcome(truths, targets, found, unseen)
            example = truths[0], found[0]
        values = medians(truths[0])
        anchors, snr = anchors_of(values), settings.nuisance.snr
        limit = {
            name: cramer_rao(protocol.acquisitions, protocol.gains, one, anchors, snr) for name, one in values.items()
        }
        evaluations.append(Evaluation(protocol, outcomes, limit, example))
    return evaluations, ceiling


def outcome(truths: Sequence[Truth], targets: Sequence[Tensor], found: Sequence[Found], unseen: Protocol) -> Outcome:
    """What that is worth which was found in some heads."""
    voxels = [tissue_voxels(truth, one.estimate) for truth, one in zip(truths, found)]
    maps = {tissue: score(pool([head[tissue] for head in voxels])) for tissue in TISSUES}
    return Outcome(
        maps, contrasts_of(truths, targets, [(one.estimate.log_maps[0], one.fluid) for one in found], unseen)
    )


def contrasts_of(
    truths: Sequence[Truth], targets: Sequence[Tensor], maps: Sequence[tuple[Tensor, Tensor | None]], unseen: Protocol
) -> dict[str, ContrastScore]:
    """Scores of the unseen contrasts rendered from log maps and shares of fluid, the mean over heads."""
    parts = []
    for truth, target, (log_maps, fluid) in zip(truths, targets, maps):
        rendered, scores = render(log_maps, unseen.rows, truth.mask, fluid), []
        # Fat sets gain and scale of a head; inside the brain they are those of the brain.
        for mask in (truth.mask, truth.brain):
            images = with_gain(target, rendered, unseen.rows, mask)
            scores.append([(ssim(*pair, mask), nrmse(*pair, mask)) for pair in zip(target, images)])
        parts.append([(*head, *brain) for head, brain in zip(*scores)])
    means = torch.tensor(parts).mean(0).tolist()
    return {request.name: ContrastScore(*mean) for request, mean in zip(unseen.requests, means)}


def cells(evaluation: Evaluation, tissue: str, way: str = BOTH) -> list[tuple[MapScore, float]]:
    """Score and Cramer-Rao standard deviation of each map in a tissue."""
    scores = evaluation.outcomes[way].maps[tissue]
    return [(scores[name], float(limit)) for name, limit in zip(MAPS, evaluation.bounds[tissue])]

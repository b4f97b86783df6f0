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

"""A contrast of a real patient, predicted from two others, against what needs no physics or no network."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import binary_dilation, binary_erosion, generate_binary_structure
from torch import Tensor, nn

from scripts.acquisition import AUTO, Acquisition
from scripts.bids import resolve_all
from scripts.estimate import Posterior
from scripts.evaluate.contrasts import closest_rescaled, correlation, render, ssim, with_gain
from scripts.evaluate.estimators import BOTH, NETWORK, Estimator, NetworkEstimator, by_evidence, estimators, subset

from .label_maps import filled
from .page import table
from .pictures import draw, grey
from .real_scans import find_session, load_scans

FOLDER, SUBJECT = "open_ms", "26"
LESIONS = "sub-26/anat/sub-26_space-MNI_label-lesion_mask.nii.gz"
PROTOCOL = "clinical_2d"
"""Guess of the parameters, which nobody recorded; fixed, never fitted to the scan that is predicted."""
STEP, FEWEST = 3, 2000
TASKS = (("FLAIR", ("T1w", "T2w")), ("T2w", ("T1w", "FLAIR")))
RESCALED, MONOTONE = "closest input, rescaled", "closest input, best monotone curve"
CONTROL = "control: non-physical intensities"
GUESSED, UNKNOWN, CHOSEN = "parameters guessed", "parameters unknown", "parameters chosen by evidence"
RING = (2, 6)
"""Voxels from a lesion between which its surroundings lie."""
WHITE = 0.6
"""White matter is brighter in T1w than this share of the brain."""
SHOWN = 2
LESION_HEADS = (
    "lesion / white matter − 1",
    "lesion contrast to noise",
    "lesion ROC area",
    "lesion cores read as fluid",
)
FLUID = 0.5
"""Share of fluid from which a voxel is read as fluid."""


class Prediction(NamedTuple):
    """A predicted contrast ``(X, Y, S)`` in the unit of the true one, how it was made, and lesions read as fluid."""

    way: str
    image: Tensor
    fluid: float | None = None


class Visibility(NamedTuple):
    """Lesions against the white matter around them.

    Attributes:
        contrast: difference of the means over the mean around.
        contrast_to_noise: that difference over the standard deviation around, in the true contrast.
        area: probability that a voxel of a lesion is brighter than one around, the area under the ROC curve.
    """

    contrast: float
    contrast_to_noise: float
    area: float


def run(folder: Path, network: nn.Module, control: nn.Module | None, pictures: Path, posterior: Posterior) -> str:
    """Tables of both tasks; a picture for each.

    Args:
        folder: of real scans.
        network: the estimator.
        control: the same, trained without physics; None leaves it out.
        pictures: folder of the pictures.
        posterior: as shipped.
    """
    session = find_session(folder / FOLDER, SUBJECT)
    scans, chosen = load_scans(session, PROTOCOL, STEP, FEWEST)
    suffixes = [contrast.suffix for contrast in session.contrasts]
    alternatives = resolve_all([session], AUTO, auto=True)[0][session.name]
    brain = filled((scans.image[0] > 0).any(0) & scans.mask[0])
    scans = scans._replace(mask=brain[None])
    lesions = nib.as_closest_canonical(nib.load(folder / FOLDER / LESIONS)).get_fdata()[..., chosen] > 0
    lesions = torch.from_numpy(lesions) & brain
    cores = torch.from_numpy(binary_erosion(lesions.numpy(), generate_binary_structure(2, 1)[..., None]))
    around = surroundings(lesions, scans.image[0, suffixes.index("T1w")], brain)
    text = []
    for suffix, inputs in TASKS:
        target, row = scans.image[0, suffixes.index(suffix)], scans.acquisition[0, [suffixes.index(suffix)]]
        numbers = [suffixes.index(one) for one in inputs]
        given = subset(scans, numbers)
        predictions = [*rescaled(target, given.image[0], inputs, brain)]
        for way, estimator in ways(network, control, posterior, [alternatives[number] for number in numbers]):
            found = estimator(given)
            image = render(found.estimate.log_maps[0], row, brain, found.fluid)
            fluid = None if found.fluid is None else float((found.fluid[cores] > FLUID).float().mean())
            predictions.append(Prediction(way, with_gain(target[None], image, row, brain)[0], fluid))
        shown = [*predictions, Prediction(f"the true {suffix}", target)]
        rows = [_scores(target, one, brain, lesions, around) for one in shown]
        head = ("Way", "SSIM", "correlation", *LESION_HEADS)
        text.append(f"**{suffix} from {' and '.join(inputs)}**, {len(chosen)} slices:\n\n{table(head, rows)}")
        path = pictures / f"results_real_{suffix.lower()}.jpg"
        _draw(path, f"{suffix} of sub-26 from {' and '.join(inputs)}", target, predictions, brain, lesions)
    return "\n".join(text)


def ways(
    network: nn.Module, control: nn.Module | None, posterior: Posterior, alternatives: Sequence[Acquisition]
) -> Iterator[tuple[str, Estimator]]:
    """What is compared, apart from rescaling; the alternatives are what the scans may be."""
    yield f"{NETWORK}, {UNKNOWN}", NetworkEstimator(network, unknown=True)
    for way, estimator in estimators(network, posterior).items():
        yield f"{way}, {GUESSED}", estimator
    yield f"{BOTH}, {CHOSEN}", by_evidence(network, alternatives, posterior)
    if control is not None:
        yield CONTROL, NetworkEstimator(control, unknown=True)


def rescaled(target: Tensor, inputs: Tensor, names: tuple[str, ...], mask: Tensor) -> list[Prediction]:
    """The input that resembles the target most, fitted to it: by a straight line, and by any monotone curve."""
    best, line, curve = closest_rescaled(target, inputs, mask)
    return [Prediction(f"{way} ({names[best]})", image) for way, image in ((RESCALED, line), (MONOTONE, curve))]


def surroundings(lesions: Tensor, t1w: Tensor, brain: Tensor) -> Tensor:
    """White matter near lesions, in the slices ``(X, Y, S)``."""
    near, far = (
        np.stack([binary_dilation(one, iterations=n) for one in lesions.movedim(-1, 0).numpy()], -1) for n in RING
    )
    white = brain & (t1w > torch.quantile(t1w[brain], WHITE))
    return torch.from_numpy(far & ~near) & white


def visibility(image: Tensor, target: Tensor, lesions: Tensor, around: Tensor) -> Visibility:
    """How lesions stand out in an image that should look like the target."""
    inside, outside = image[lesions], image[around]
    difference = float(inside.mean() - outside.mean())
    ordered, count = outside.sort().values, len(outside)
    below = (torch.searchsorted(ordered, inside) + torch.searchsorted(ordered, inside, right=True)) / 2
    area = float(below.double().mean()) / count
    return Visibility(difference / float(outside.mean()), difference / float(target[around].std()), area)


def _scores(target: Tensor, one: Prediction, brain: Tensor, lesions: Tensor, around: Tensor) -> tuple[str, ...]:
    seen = visibility(one.image, target, lesions, around)
    return (
        one.way,
        f"{ssim(target, one.image, brain):.3f}",
        f"{correlation(target, one.image, brain):.3f}",
        f"{seen.contrast:+.2f}",
        f"{seen.contrast_to_noise:.2f}",
        f"{seen.area:.2f}",
        "" if one.fluid is None else f"{100 * one.fluid:.1f} %",
    )


def _draw(
    path: Path, title: str, target: Tensor, predictions: list[Prediction], brain: Tensor, lesions: Tensor
) -> None:
    """The slices with most lesions, one a row."""
    rows, order = [], lesions.sum((0, 1)).argsort(descending=True)
    # Neighbours show the same lesions.
    shown = [int(order[0]), *(int(z) for z in order if abs(int(z) - int(order[0])) >= 4)][:SHOWN]
    top = float(torch.quantile(target[brain], 0.995))
    x, y = (slice(int(where.min()), int(where.max()) + 1) for where in brain.nonzero().T[:2])
    for z in shown:
        true = target[x, y, z] * brain[x, y, z]
        panels = [grey("true, lesions outlined", true, top, lesions[x, y, z]), grey("true", true, top)]
        panels += [grey(_short(one.way), (one.image * brain)[x, y, z], top) for one in predictions]
        rows.append(panels)
    draw(path, title, rows, width=1.7)


def _short(way: str) -> str:
    return way.replace(", ", ",\n").replace(": ", ":\n").replace(" (", "\n(").replace(" by ", "\nby ")

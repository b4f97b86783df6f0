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

"""Tables and the picture of scans that were left out and predicted, or reconstructed."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..train.monitor import upright
from .estimators import Scans
from .page import Part, Picture, Table, png_of
from .reconstruction import means

NOTHING = "nothing"
"""Left out where scans are reconstructed."""
NOTE = (
    "SSIM, NRMSE and Pearson's r inside the head (or brain); NRMSE of WM, GM and CSF: root mean square of the "
    "difference over that of the measured scan, in this tissue. The unit of a predicted scan is fitted, one number, in "
    "the head and for tissues in the brain. 'Rescaled' knows the scan that it predicts: two numbers, or a whole "
    "monotone curve, are fitted to it. 'Published equations': the same estimator, fitted and rendered with the three "
    "equations of the paper."
)
RECONSTRUCTED = (
    "Published definitions: maps from a sample of the posterior of the network's latent, batches of 4 slices, raw "
    "units, see docs/paper.md. The paper's released model has MSE 996, MAE 20.25, MS-SSIM .9632, PSNR 32.70 on OASIS-3."
)


def parts(
    content: Sequence[Mapping], picture: bytes | None, failures: Mapping[str, Exception] = MappingProxyType({})
) -> list[Part]:
    """Tables over all sessions, the picture, and why other sessions have no result."""
    groups: dict[tuple, list[Mapping]] = {}
    for one in content:
        for row in one["rows"]:
            groups.setdefault((row["left out"], row["contrast"], row["way"]), []).append(row)
    names = ("left out", "contrast", "way")
    rows = [
        dict(zip(names, key))
        | {"sessions": len(found)}
        | means([{k: v for k, v in row.items() if k not in names} for row in found])
        for key, found in groups.items()
    ]
    apart = {True: [], False: []}
    for row in rows:
        apart[row["left out"] == NOTHING].append(row)
    found: list[Part] = (
        [Table("predicted", "Scans that were left out", apart[False], note=NOTE)] if apart[False] else []
    )
    found.append(Table("reconstructed", "Scans that were given", apart[True], note=NOTE))
    published = means([one["published"] for one in content])
    found.append(
        Table("published", "Reconstruction as published", [{"sessions": len(content)} | published], note=RECONSTRUCTED)
    )
    if picture is not None:
        caption = (
            "One slice of the session that was evaluated first, the patient's right on the left: measured, then "
            "predicted by each way."
        )
        found.append(Picture("predictions", "Measured and predicted", picture, caption))
    if failures:
        reasons = [{"session": name, "reason": " ".join(str(error).split())} for name, error in failures.items()]
        found.append(Table("failures", "Sessions without a result", reasons))
    return found


def draw(scans: Scans, names: Sequence[str], shown: Mapping[str, Mapping[str, Tensor]]) -> bytes:
    """A row per contrast that was left out, or else per contrast, the measured scan first.

    Args:
        scans: slices of a session.
        names: of its scans.
        shown: name of a scan -> way to predict it -> image ``(X, Y, S)``.
    """
    ways = list(dict.fromkeys(way for images in shown.values() for way in images))
    chosen = [name for name in names if shown[name]] or names
    mask = scans.mask[0]
    figure = Figure((1.9 * (1 + len(ways)), 2.5 * len(chosen)), layout="constrained")
    panels = figure.subplots(len(chosen), 1 + len(ways), squeeze=False)
    middle = scans.image.shape[-1] // 2
    for line, name in zip(panels, chosen):
        measured = scans.image[0, names.index(name)] * mask
        top = float(torch.quantile(measured[mask], 0.995))
        images = {f"{name}, measured": measured} | dict(shown[name])
        for axis in line:
            axis.axis("off")
        for axis, (title, image) in zip(line, images.items()):
            image = (image * mask)[..., middle].numpy()
            axis.imshow(upright(image), cmap="gray", vmin=0, vmax=top)
            axis.set_title(title.replace(", ", ",\n").replace(" + ", "\n+ "), fontsize=7)
    return png_of(figure)

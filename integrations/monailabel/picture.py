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

"""The picture of a round trip: the scans that were sent above the answers."""

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

ANSWERS = {
    "t1": ("T1 [s]", "inferno", 3.0),
    "t1_sd": ("sd of ln T1", "cividis", 0.5),
    "t2": ("T2 [s]", "viridis", 0.25),
    "pd": ("PD", "gray", 1.6),
    "signal": ("a contrast nobody acquired", "gray", None),
}
"""Output -> title, colours, and what has the brightest; None for the brightest there is."""


def draw(path: Path, scans: dict[str, np.ndarray], answers: dict[str, np.ndarray], request: str) -> None:
    """Draws the middle slice of each image.

    Args:
        path: of the picture.
        scans: by suffix; fewer than answers.
        answers: by the name of the output.
        request: what was sent with the scans for the last answer.
    """
    head = np.ix_(*(np.flatnonzero(answers["t1"].any(other)) for other in ((1, 2), (0, 2))))
    width, height = head[0].size, head[1].size
    with plt.rc_context({"text.color": "white", "xtick.color": "white", "font.size": 9}):
        size = (2.4 * len(answers), 2 * 2.4 * height / width + 1.2)
        figure, axes = plt.subplots(2, len(answers), figsize=size, facecolor="black")
        figure.subplots_adjust(0.01, 0.08, 0.99, 0.93, 0.03, 0.22)
        for axis in axes.flat:
            axis.axis("off")

        def show(
            axis: plt.Axes, title: str, image: np.ndarray, colours: str, top: float | None
        ) -> plt.cm.ScalarMappable:
            shown = image[:, :, image.shape[2] // 2][head][::-1].T
            axis.set_title(title)
            top = top or np.percentile(shown[shown > 0], 99)
            return axis.imshow(np.ma.masked_equal(shown, 0), cmap=colours, origin="lower", vmin=0, vmax=top)

        for axis, (suffix, scan) in zip(axes[0], scans.items()):
            show(axis, f"sent: {suffix}", scan, "gray", None)
        axes[0, len(scans)].text(
            0, 0.5, request, family="monospace", va="center", transform=axes[0, len(scans)].transAxes
        )
        for axis, (output, answer) in zip(axes[1], answers.items()):
            title, colours, top = ANSWERS[output]
            drawn = show(axis, f'"output": "{output}"\n{title}', answer, colours, top)
            figure.colorbar(drawn, cax=axis.inset_axes([0.1, -0.07, 0.8, 0.03]), orientation="horizontal")
        figure.savefig(path, dpi=110)
    plt.close(figure)

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
"""What a person sees of a training run: a progress bar, TensorBoard, a table and pictures in the output folder."""

import time
from pathlib import Path

import ignite.distributed as idist
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from monai.handlers import TensorBoardStatsHandler
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..files import replacing, write_atomically
from ..tissue import MAPS

UNITS = ("relative", "s", "s")
LINEAR = {"PSNR": "PSNR [dB]", "MS-SSIM": "MS-SSIM"}
"""Metrics whose differences count, not their ratios: decibels and similarities. Metric -> title."""
PAUSE = 60.0
"""Least seconds from one drawing of the pictures to the next: an epoch of a small training takes less than they do."""
DECADES = 30
"""Ratio of largest to smallest value from which powers of ten are enough on a logarithmic axis."""


class Progress:
    """Progress bar over all epochs, with the loss and the time left.

    Ignite's ProgressBar counts the iterations of one epoch, or whole epochs. Neither says within the first epoch how
    long the whole run will take.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer; attach it last, so that a resumed run is counted from where it goes on."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._open)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._move)
            engine.add_event_handler(Events.COMPLETED, lambda: self._bar is not None and self._bar.close())

    def _open(self, engine: Engine) -> None:
        if self._bar is None:
            length = len(engine.data_loader)
            self._bar = tqdm(desc="training", total=engine.state.max_epochs * length, initial=engine.state.iteration)

    def _move(self, engine: Engine) -> None:
        self._bar.set_postfix(epoch=engine.state.epoch, loss=f"{engine.state.output['loss']:.4g}", refresh=False)
        self._bar.update()


class History:
    """Losses and validation metrics: TensorBoard, ``history.tsv``, ``curves.png`` and example pictures.

    MONAI's TensorBoardStatsHandler writes the losses of every iteration and the metrics of every validation. It would
    create its file when it is built; here this happens when training starts, and what a killed run wrote after its
    last checkpoint is purged. MONAI has no table and no curves that a resumed run continues. Its StatsHandler logs
    lines that tear the progress bar, and its TensorBoardImageHandler scales each picture by itself, without a unit.

    The table belongs to the checkpoint, so a resumed run keeps the whole history. Attach this after the validation
    and before the checkpoint. It is written after each epoch; pictures are drawn every :data:`PAUSE` seconds and at
    the end.

    Args:
        output_dir: folder of the run.
        evaluator: the validation engine.
    """

    def __init__(self, output_dir: str, evaluator: Engine) -> None:
        self.output_dir, self.evaluator = Path(output_dir), evaluator
        self.rows: list[dict[str, float]] = []
        self._values: dict[str, list[float]] = {}
        self._pictures: SummaryWriter | None = None
        self._example: dict = {}
        self._drawn, self._changed = 0.0, False

    def state_dict(self) -> dict:
        """The table."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        """Takes the table over."""
        self.rows = state["rows"]

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._open)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._close_epoch)
            engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, lambda: self._changed and self._draw())

    def show(self, name: str, figure: Figure, epoch: int) -> None:
        """Keeps a picture in the output folder and in TensorBoard."""
        self._pictures.add_figure(name, figure, epoch, close=False)
        self._pictures.flush()
        _save(figure, self.output_dir / f"{name}.png")

    def _open(self, engine: Engine) -> None:
        """Starts TensorBoard's files, one for steps that are iterations and one for epochs."""
        if self._pictures is None:
            folder, state = self.output_dir / "tensorboard", engine.state
            losses = SummaryWriter(str(folder / "training"), purge_step=state.iteration + 1)
            self._pictures = SummaryWriter(str(folder / "validation"), purge_step=state.epoch)
            self._drawn = time.monotonic()
            TensorBoardStatsHandler(losses, epoch_log=False, output_transform=lambda output: output).attach(engine)
            TensorBoardStatsHandler(self._pictures, iteration_log=False).attach(self.evaluator)

    def _add(self, engine: Engine) -> None:
        for name, value in engine.state.output.items():
            self._values.setdefault(name, []).append(value)

    def _close_epoch(self, engine: Engine) -> None:
        row = {"epoch": engine.state.epoch} | {name: float(np.mean(x)) for name, x in self._values.items()}
        self._values = {}
        if self.evaluator.state.epoch == engine.state.epoch:
            metrics = {name: value for name, value in self.evaluator.state.metrics.items() if value == value}
            row |= metrics
            tqdm.write(f"epoch {engine.state.epoch}: " + ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
            self._example = self.evaluator.state.output[0]
        self.rows.append(row)
        self._changed = True
        text = pd.DataFrame(self.rows).to_csv(sep="\t", index=False, float_format="%.6g")
        write_atomically(self.output_dir / "history.tsv", text)
        if time.monotonic() - self._drawn > PAUSE:
            self._draw()

    def _draw(self) -> None:
        """Draws the curves, and the example of the last validation unless that has been drawn."""
        _save(draw_curves(pd.DataFrame(self.rows)), self.output_dir / "curves.png")
        if "log_maps" in self._example:
            self.show("example", draw_example(self._example), self.evaluator.state.epoch)
        self._drawn, self._changed, self._example = time.monotonic(), False, {}


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)


def draw_curves(table: pd.DataFrame) -> Figure:
    """Every column of the table against the epoch, map errors in one panel.

    Losses and errors, which fall by a factor, have a logarithmic axis; :data:`LINEAR` metrics do not.
    """
    errors = [name for name in table if " error " in name]
    single = [name for name in table if name != "epoch" and name not in errors]
    panels = [[name] for name in single] + ([errors] if errors else [])
    rows = -(-len(panels) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(14, 2.6 * rows), squeeze=False, layout="constrained")
    for axis, names in zip(axes.flat, panels):
        for name in names:
            known = table[["epoch", name]].dropna()
            axis.plot(known["epoch"], known[name], marker=".", label=name)
        title = LINEAR.get(names[0], names[0])
        axis.set_title(title if len(names) == 1 else "median relative error of the maps", fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.xaxis.get_major_locator().set_params(integer=True)
        values = table[names].to_numpy()
        if not LINEAR.keys() & {*names} and (values[values == values] > 0).all():
            axis.set_yscale("log")
            if np.nanmax(values) < DECADES * np.nanmin(values):
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_formatter("")
        if len(names) > 1:
            axis.legend(fontsize=6)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    return figure


def draw_example(example: dict) -> Figure:
    """Maps of one validation sample, and each measured contrast above its reconstruction, in radiological display."""
    maps, signal, target = (x.numpy() for x in (example["log_maps"].exp(), example["signal"], example["target"]))
    if maps.ndim == 4:
        maps, signal, target = (x[..., x.shape[-1] // 2] for x in (maps, signal, target))
    # Nothing is asked of T1 and T2 in air, so nothing is shown.
    maps = np.where(maps[:1] > 0.06 * np.quantile(maps[0], 0.99), maps, [[[0]], [[np.nan]], [[np.nan]]])
    columns = max(len(MAPS), len(signal))
    figure, axes = plt.subplots(3, columns, figsize=(3 * columns, 11), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, name, unit, data in zip(axes[0], MAPS, UNITS, maps):
        shown = axis.imshow(upright(data), cmap="viridis", vmin=0, vmax=np.nanquantile(data, 0.99))
        axis.set_title(f"{name} [{unit}]")
        figure.colorbar(shown, ax=axis, shrink=0.7)
    for i, (measured, rendered) in enumerate(zip(target, signal)):
        top = np.quantile(measured, 0.995) or 1.0
        for axis, data, title in ((axes[1, i], measured, "measured"), (axes[2, i], rendered, "rendered")):
            axis.imshow(upright(data), cmap="gray", vmin=0, vmax=top)
            axis.set_title(f"contrast {i + 1}, {title}")
    for axis in axes.flat:
        if axis.has_data():
            axis.text(0.02, 0.98, "R", color="tab:orange", va="top", transform=axis.transAxes)
    return figure


def upright(image: np.ndarray) -> np.ndarray:
    """A slice ``(X, Y)``, RAS, as rows from front to back and columns from the patient's right to the left."""
    return image.T[::-1, ::-1]

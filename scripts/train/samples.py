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

"""Generated brains while the diffusion model trains."""

import ignite.distributed as idist
import matplotlib.pyplot as plt
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.networks.schedulers import DDIMScheduler, RFlowScheduler, Scheduler
from torch import Tensor, nn

from ..errors import UserError
from ..networks import DEFAULT_PROTOCOL, MapSampler
from ..render import SignalModel
from ..tissue import MAPS
from .data import LatentDataset
from .monitor import UNITS, History, upright

POSITIONS = (-20.0, 0.0, 20.0, 35.0)
"""Slices that are drawn [mm above the centre of the cerebrum]."""
STEPS = 20
CONTRASTS = ("T1w", "T2w", "FLAIR")
"""Those of the default protocol."""


class SamplePictures:
    """A few generated brains every so many epochs, maps and contrasts: ``samples.png`` and TensorBoard.

    Their noise is the same each time, so pictures of two epochs can be compared, and training is not disturbed: no
    random number, weight or mode of it changes. It is drawn with few steps and without guidance, so ``generate.json``
    does better.

    Args:
        diffusion: the diffusion network, usually the moving average of the trained one.
        data: latents of the training samples, whose encoder is also what decodes.
        scheduler: the noise schedule of training.
        history: where pictures go.
        interval: epochs from one picture to the next.

    Raises:
        UserError: for an interval that is no such number.
    """

    def __init__(
        self, diffusion: nn.Module, data: LatentDataset, scheduler: Scheduler, history: History, interval: int
    ) -> None:
        if not isinstance(interval, int) or isinstance(interval, bool) or interval < 1:
            raise UserError("sample_interval", repr(interval), "use a whole number of epochs")
        self.diffusion, self.data, self.scheduler = diffusion, data, scheduler
        self.history, self.interval = history, interval

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer; attach it after the history."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.draw)

    def draw(self, engine: Engine) -> None:
        """Draws the samples and hands their picture to the history."""
        network = self.data.encoder.load()
        sampler = MapSampler(_sampling(self.scheduler), STEPS, self.data[0]["mean"].shape[1:])
        samples = [sampler((0, k), network, self.diffusion, {"position": at}) for k, at in enumerate(POSITIONS)]
        log_maps = torch.cat(samples)
        rows = torch.stack([acquisition.to_row() for acquisition in DEFAULT_PROTOCOL]).expand(len(log_maps), -1, -1)
        figure = draw_samples(log_maps.exp(), SignalModel()(log_maps.exp(), rows))
        self.history.show("samples", figure, engine.state.epoch)


def _sampling(scheduler: Scheduler) -> Scheduler:
    """A flow itself; of others a DDIM scheduler with the same noise schedule."""
    if isinstance(scheduler, RFlowScheduler):
        return scheduler
    ddim = DDIMScheduler(
        num_train_timesteps=scheduler.num_train_timesteps, prediction_type=scheduler.prediction_type, clip_sample=False
    )
    ddim.betas, ddim.alphas, ddim.alphas_cumprod = scheduler.betas, scheduler.alphas, scheduler.alphas_cumprod
    return ddim


def draw_samples(maps: Tensor, signal: Tensor) -> Figure:
    """One row a sample, in radiological display, of volumes the middle slice.

    Args:
        maps: PD, T1, T2 ``(N, 3, ...)``.
        signal: :data:`CONTRASTS` ``(N, 3, ...)``.
    """
    if maps.ndim == 5:
        maps, signal = (x[..., x.shape[-1] // 2] for x in (maps, signal))
    titles = [f"{name} [{unit}]" for name, unit in zip(MAPS, UNITS)] + list(CONTRASTS)
    images = torch.cat([maps, signal], 1).numpy()
    size = (1.5 * len(titles), 1.7 * len(images))
    figure, axes = plt.subplots(*images.shape[:2], figsize=size, squeeze=False, layout="constrained")
    for column, title in enumerate(titles):
        # One window for the column, so that samples can be compared.
        top = float(torch.from_numpy(images[:, column]).flatten().quantile(0.99)) or 1.0
        axes[0, column].set_title(title, fontsize=9)
        for row, axis in enumerate(axes[:, column]):
            colours = "viridis" if column < len(MAPS) else "gray"
            axis.imshow(upright(images[row, column]), cmap=colours, vmin=0, vmax=top)
            axis.axis("off")
    return figure

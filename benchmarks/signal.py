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

"""Speed of the signal model on a whole volume, against plain eager code and against memory.

    python -m benchmarks.signal

Ten settings of the paper's equations on 160 x 224 x 160 voxels, then one setting of every sequence. ``published`` is a
plain evaluation of the equations: one torch expression after the other on the whole volume, settings as tensors that
broadcast, images stacked, or dropped where noted. ``floor`` only adds the three maps, in a compiled loop that reads
them once and writes all images, or in one for each setting. Contestants take turns, and the median of the rounds
counts. Images are asserted to agree.
"""

import argparse
import platform
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, exp

from scripts.acquisition import Acquisition
from scripts.render import SignalModel
from scripts.render.volumes import zeros
from scripts.signal import SEQUENCES

SHAPE = (160, 224, 160)
SETTINGS = [
    *[("paper_mprage", {"te": 0.003, "tr": 2.4, "ti": ti}) for ti in (0.25, 0.5, 0.9, 1.0)],
    *[("paper_spin_echo", {"te": te, "tr": 3.2}) for te in (0.03, 0.09, 0.455)],
    *[("paper_flair", {"te": 0.09, "tr": 9.0, "ti": ti}) for ti in (1.8, 2.2, 2.5)],
]
TYPICAL = {
    "te": 0.004,
    "tr": 5.0,
    "ti": 0.8,
    "flip_angle": 8.0,
    "echo_train_length": 100.0,
    "echo_spacing": 0.007,
    "echoes_before_centre": 50.0,
    "te_equivalent": 0.1,
    "ti2": 2.6,
    "flip_angle2": 5.0,
}
SPECIAL = {"double_inversion_recovery": {"ti": 3.0, "ti2": 0.5}, "vfa_turbo_spin_echo": {"te": 0.4}}


def published(maps: Tensor) -> Iterator[Tensor]:
    """The ten images ``(1, 1, ...)``, one expression at a time."""
    pd, t1, t2 = maps.split(1, dim=1)
    for name, setting in SETTINGS:
        te, tr, ti = (torch.tensor(setting.get(field, 0.0)).view(1, 1, 1, 1, 1) for field in ("te", "tr", "ti"))
        if name == "paper_mprage":
            yield pd * (1 - 2 * exp(-ti / t1) / (1 + exp(-tr / t1)))
        elif name == "paper_spin_echo":
            yield pd * (1 - exp(-tr / t1)) * exp(-te / t2)
        else:
            yield pd * (1 - 2 * exp(-ti / t1) + exp(-tr / t1)) * exp(-te / t2)


@torch.compile(dynamic=True)
def add(images: list[Tensor], pd: Tensor, t1: Tensor, t2: Tensor) -> None:
    """Reads three maps and writes images that cost nothing but memory traffic."""
    for image in images:
        image.copy_(pd + t1 + t2)


def floor(maps: Tensor, together: int) -> Tensor:
    """Ten images ``(10, voxels)``, so many of them in one pass over the maps."""
    maps = [x.clone() for x in maps[0].flatten(1)]
    images = zeros((len(SETTINGS), len(maps[0])), maps[0].device)
    for some in images.split(together):
        add([*some], *maps)
    return images


def medians(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median time of each [ms], taking turns, after one round to warm up."""
    times = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, work in contestants.items():
            start = time.perf_counter()
            result = work()
            times[name].append(1000 * (time.perf_counter() - start))
            del result
    return {name: statistics.median(took[1:]) for name, took in times.items()}


def disagreement(images: Tensor, reference: Tensor) -> float:
    """Largest difference in units of the largest signal of each image."""
    difference, size = ((x.flatten(2).abs().amax(2)) for x in (images - reference, reference))
    return float((difference / size).max())


def head(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Random maps ``(1, 3, ...)`` and an ellipsoid ``(1, ...)`` of the size of a brain."""
    unit = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    low, high = (torch.tensor(x).view(3, 1, 1, 1) for x in ([0.5, 0.3, 0.05], [1.0, 4.0, 2.0]))
    axes = [torch.linspace(-1, 1, n) for n in shape]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return low + unit * (high - low), ((x / 0.85) ** 2 + (y / 0.8) ** 2 + (z / 0.75) ** 2 < 1)[None]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")

    maps, mask = head(SHAPE)
    rows = torch.stack([Acquisition(name, **setting).to_row() for name, setting in SETTINGS])[None]
    model = SignalModel()
    difference = disagreement(model(maps, rows), torch.cat(list(published(maps)), 1).abs())
    print(f"images differ from published by {difference:.1e}")
    assert difference < 1e-6

    share = f"mask ({float(mask.float().mean()):.0%})"
    contestants = {
        "published": lambda: torch.cat(list(published(maps)), 1),
        "published, images dropped": lambda: deque(published(maps), maxlen=0),
        "signal model": lambda: model(maps, rows),
        f"signal model, {share}": lambda: model(maps, rows, mask=mask),
        "floor": lambda: floor(maps, len(SETTINGS)),
        "floor, a pass per setting": lambda: floor(maps, 1),
    }
    took = medians(contestants, options.rounds)
    print(f"\n{len(SETTINGS)} settings, {'x'.join(map(str, SHAPE))}")
    print(f"{'':30}{'ms/setting':>12}{'published/':>12}{'/floor':>12}{'/per setting':>14}")
    for name, ms in took.items():
        ratios = (took["published"] / ms, ms / took["floor"], ms / took["floor, a pass per setting"])
        print(f"{name:30}{ms / len(SETTINGS):12.2f}" + "".join(f"{ratio:12.2f}" for ratio in ratios))

    print(f"\n{'one setting [ms]':42}" + "".join(f"{column:>13}" for column in ("whole", "with mask")))
    for name, sequence in SEQUENCES.items():
        values = {field: SPECIAL.get(name, TYPICAL).get(field, TYPICAL[field]) for field in sequence.fields}
        row = Acquisition(name, **values).to_row()[None, None]
        took = medians({"whole": lambda: model(maps, row), "mask": lambda: model(maps, row, mask=mask)}, options.rounds)
        print(f"{name:42}" + "".join(f"{ms:13.1f}" for ms in took.values()), flush=True)


if __name__ == "__main__":
    main()

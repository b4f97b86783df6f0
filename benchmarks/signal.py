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
plain evaluation of the equations: one torch expression after the other on the whole volume, the settings as tensors that
broadcast, the images stacked. ``floor`` only adds the three maps, in one compiled loop: once per setting, or in chunks
so that the maps come from memory once for all settings. All make new images, contestants take turns, and the median of
the rounds counts. Images of the compiled equations are asserted to be those of the uncompiled to 1e-6.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, exp

from scripts.acquisition import Acquisition
from scripts.render import SignalModel
from scripts.render.compiled import standalone
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


def published(maps: Tensor) -> Tensor:
    """The ten images, ``(1, 10, ...)``, one expression at a time."""
    pd, t1, t2 = maps.split(1, dim=1)
    images = []
    for name, setting in SETTINGS:
        te, tr, ti = (torch.tensor(setting.get(field, 0.0)).view(1, 1, 1, 1, 1) for field in ("te", "tr", "ti"))
        if name == "paper_mprage":
            signal = pd * (1 - 2 * exp(-ti / t1) / (1 + exp(-tr / t1)))
        elif name == "paper_spin_echo":
            signal = pd * (1 - exp(-tr / t1)) * exp(-te / t2)
        else:
            signal = pd * (1 - 2 * exp(-ti / t1) + exp(-tr / t1)) * exp(-te / t2)
        images.append(signal)
    return torch.cat(images, dim=1)


@torch.compile(dynamic=True)
def add(out: Tensor, pd: Tensor, t1: Tensor, t2: Tensor) -> None:
    """Reads three maps and writes one image."""
    out.copy_(pd + t1 + t2)


def floor(maps: Tensor, chunk: int) -> Tensor:
    """Ten images that cost nothing but memory traffic."""
    images = zeros((len(SETTINGS), *maps.shape[2:]), maps.device).flatten(1)
    maps = maps[0].flatten(1)
    for start in range(0, maps.shape[1], chunk):
        near = [standalone(x[start : start + chunk]) for x in maps]
        for image in images:
            add(standalone(image[start : start + chunk]), *near)
    return images


def medians(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median time of each [ms], in turns, after one round to warm up."""
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
    eager, compiled = SignalModel(), SignalModel(compiled=True)
    start = time.perf_counter()
    images = compiled(maps, rows)
    print(f"compiled the paper's three equations in {time.perf_counter() - start:.1f} s")
    print(f"compiled - uncompiled: {disagreement(images, eager(maps, rows)):.1e}")
    assert disagreement(images, eager(maps, rows)) < 1e-6
    assert disagreement(images, published(maps).abs()) < 1e-6
    del images

    took = medians(
        {
            "published": lambda: published(maps),
            "uncompiled": lambda: eager(maps, rows),
            "compiled": lambda: compiled(maps, rows),
            "uncompiled, mask": lambda: eager(maps, rows, mask=mask),
            "compiled, mask": lambda: compiled(maps, rows, mask=mask),
            "floor, maps once per setting": lambda: floor(maps, mask.numel()),
            "floor, maps once": lambda: floor(maps, 2**19),
        },
        options.rounds,
    )
    print(f"\n{len(SETTINGS)} settings, {'x'.join(map(str, SHAPE))}; the mask holds {float(mask.float().mean()):.0%}")
    print(f"{'':30}{'ms/setting':>12}{'published/':>12}{'/floor':>12}{'/floor once':>12}")
    per_setting, once = (took[name] for name in ("floor, maps once per setting", "floor, maps once"))
    for name, ms in took.items():
        ratios = (took["published"] / ms, ms / per_setting, ms / once)
        print(f"{name:30}{ms / len(SETTINGS):12.2f}" + "".join(f"{ratio:12.2f}" for ratio in ratios))

    print(f"\n{'one setting [ms]':46}{'uncompiled':>12}{'compiled':>12}{'with mask':>12}{'to compile [s]':>16}")
    for name, sequence in SEQUENCES.items():
        values = {field: SPECIAL.get(name, TYPICAL).get(field, TYPICAL[field]) for field in sequence.fields}
        row = Acquisition(name, **values).to_row()[None, None]
        start = time.perf_counter()
        image = compiled(maps, row)
        compilation = time.perf_counter() - start
        assert disagreement(image, eager(maps, row)) < 2e-6, name
        took = medians(
            {
                "uncompiled": lambda: eager(maps, row),
                "compiled": lambda: compiled(maps, row),
                "mask": lambda: compiled(maps, row, mask=mask),
            },
            options.rounds,
        )
        print(f"{name:46}" + "".join(f"{ms:12.1f}" for ms in took.values()) + f"{compilation:16.1f}", flush=True)


if __name__ == "__main__":
    main()

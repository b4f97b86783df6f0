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

"""The published way of training and sampling beside this bundle's: ``python -m benchmarks.speed``.

The baseline is the published networks in stock MONAI and torch: float32, torch's layout and group norm, Adam without
fusion, every contrast encoded whether it exists or not, images encoded anew at each step of the diffusion model, 50
DDIM steps for a sample. Both ways run in turns in one process. Networks have random weights, which take as long as
trained ones, but in ``--curve``: how much samples of the shipped generator change with twice the steps.
"""

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from monai.networks.schedulers import DDIMScheduler
from torch import Tensor, nn

from scripts.networks import MapSampler, PublishedDiffusionUNet, PublishedVAE, on_device
from scripts.networks.group_norm import GroupNorm
from scripts.networks.weights import load_weights
from scripts.parallel import in_parallel, use_threads

from .steps import NOISE, ROOT, SAMPLES, diffusion_step, generator, sample, settings, side_by_side, vae_step

ABSENT = ((0, 2), (1, 1), (2, 2), (3, 1))
"""Contrasts, as (subject, number), that four subjects with three contrasts lack: a third of all."""
CPU = torch.device("cpu")
STEPS = (3, 6, 12, 24, 48, 96, 192, 384)
"""Steps of the sampler: each number is compared with the next."""


def stock(network: nn.Module) -> nn.Module:
    """A network with torch's own group norm and layout."""
    for module in network.modules():
        if isinstance(module, GroupNorm):
            module.__class__ = nn.GroupNorm
    return network.to(memory_format=torch.contiguous_format)


def in_turns(pair: tuple[Callable[[], object], Callable[[], object]], repeats: int) -> tuple[float, float]:
    """Best times of two works [s], one after the other, after one of each to warm up."""
    best = [float("inf"), float("inf")]
    for number in range(repeats + 1):
        for which, work in enumerate(pair):
            begun = time.perf_counter()
            work()
            took = time.perf_counter() - begun
            best[which] = min(best[which], took) if number else best[which]
    return best[0], best[1]


def vae_steps() -> tuple[Callable[[], dict], Callable[[], dict]]:
    """An iteration of stage 1, four subjects with three contrasts of which a third is missing."""
    weights = settings("paper")["loss_weights"]
    theirs = vae_step(stock(PublishedVAE()), weights, False, 4)
    ours = vae_step(on_device(PublishedVAE(), "cpu"), weights, True, 4, ABSENT, fused=True)
    return theirs, ours


def diffusion_steps() -> tuple[Callable[[], dict], Callable[[], dict]]:
    """An iteration of stage 2 with 16 samples."""
    vae, images = stock(PublishedVAE()), torch.rand(16, 3, 160, 224) * 2 - 1
    rows = vae.default_acquisition.expand(16, -1, -1)
    step = diffusion_step(stock(PublishedDiffusionUNet()), "epsilon", False, 16)

    def theirs() -> dict:
        with torch.no_grad():
            for image, row in zip(images.split(4), rows.split(4)):
                vae.encode(image, row)
        return step()

    return theirs, diffusion_step(on_device(PublishedDiffusionUNet(), "cpu"), "epsilon", True, 16, fused=True)


def samplers() -> tuple[Callable[[], object], Callable[[], object]]:
    """Slices of 176 x 224 from noise to maps, as many as a step of ``configs/generate.json`` makes."""
    scheduler = DDIMScheduler(num_train_timesteps=1000, prediction_type="epsilon", clip_sample=False, **NOISE)
    sampler, vae, unet = MapSampler(scheduler, 50, (24, 28)), stock(PublishedVAE()), stock(PublishedDiffusionUNet())
    # One is enough for the slower way: it makes them one after the other.
    return lambda: sampler((0, 0), vae, unet), side_by_side(sample(), SAMPLES)


def curve(picture: Path, count: int = 4) -> list[tuple[int, float]]:
    """Distance of samples of the shipped generator from those of the same noise with twice the steps, and a picture.

    Root mean square difference of the latents over their standard deviation.
    """

    def latents(steps: int) -> Tensor:
        sampler, codec, transformer, _ = generator(num_inference_steps=steps)
        load_weights(transformer, str(ROOT / "models/model_ldm.pt"), "")
        work = in_parallel(lambda index: sampler.latent((0, index), codec, transformer), range(count), CPU)
        return torch.cat([*work])

    made = [latents(steps) for steps in STEPS]
    found = [(n, float((a - b).square().mean().sqrt() / b.std())) for n, a, b in zip(STEPS, made, made[1:])]
    figure = Figure((5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.loglog(*zip(*found), "o-")
    axes.set(xlabel="calls of the network", ylabel="distance from twice as many")
    axes.set_xticks(STEPS[:-1], map(str, STEPS[:-1]))
    axes.set_yticks((0.03, 0.1, 0.3), ("0.03", "0.1", "0.3"))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=150)
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--curve", type=Path, help="picture of quality against calls of the network, made instead")
    options = parser.parse_args()
    use_threads(options.threads)
    if options.curve:
        for steps, distance in curve(options.curve):
            print(f"{steps:5d} calls   distance {distance:.4f}", flush=True)
        return
    torch.set_num_threads(options.threads)
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    for what, make, share in (
        ("VAE step, 4 subjects x 3 contrasts, 8 of 12 exist", vae_steps, 1),
        ("LDM step, batch 16", diffusion_steps, 1),
        ("one sample, published network and steps, shipped ones", samplers, SAMPLES),
    ):
        theirs, ours = in_turns(make(), options.repeats)
        ours /= share
        print(f"{what:55} {theirs:8.2f} s {ours:8.2f} s   {theirs / ours:5.1f} times", flush=True)


if __name__ == "__main__":
    main()

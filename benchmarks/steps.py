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
"""Time and memory of the parts a user waits for: ``python -m benchmarks.steps [--threads 2] [--repeats 3]``.

Networks have random weights, which take as long as trained ones. Peak memory is that of the whole process so far, so
it can only grow from row to row. Ratios of float32 to bfloat16 come from the same run.
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from monai.bundle import ConfigParser
from monai.inferers import DiffusionInferer
from monai.losses import JukeboxLoss
from monai.networks.nets import PatchDiscriminator
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor

from scripts.commands.study.brains import Brain
from scripts.networks import (
    LatentDiffusionUNet,
    MapInferer,
    MapSampler,
    PhysicsVAE,
    PublishedDiffusionUNet,
    PublishedVAE,
    on_device,
)
from scripts.parallel import in_parallel, use_threads
from scripts.train import DiffusionStep, TrainingForward, VAEObjective, VAEStep

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"unet": ("vae_latents",), "paper": ("paper",)}
"""Size -> overlays of the training configs, which say what is measured."""
NETWORKS = {"unet": (PhysicsVAE, LatentDiffusionUNet), "paper": (PublishedVAE, PublishedDiffusionUNet)}
ENGINE = SimpleNamespace(state=SimpleNamespace(epoch=1, device=torch.device("cpu")))
"""What an iteration is told by its trainer."""
SAMPLES = 8
"""Samples of a step of ``configs/generate.json``."""
NOISE = {"schedule": "scaled_linear_beta", "beta_start": 0.0015, "beta_end": 0.0205}


def settings(size: str) -> dict:
    """The options of both training configs, those of the overlays last."""
    names = ("train_vae", "train_ldm", *SIZES[size])
    contents = [json.loads((ROOT / f"configs/{name}.json").read_text(encoding="utf-8")) for name in names]
    return {key: value for content in contents for key, value in content.items()}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Best of some runs, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def report(what: str, work: Callable[[], object], repeats: int) -> float:
    """Prints one row."""
    took = seconds(work, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what:58} {took:8.2f} s   peak {peak:5.1f} GiB", flush=True)
    return took


def vae_step(
    vae: PhysicsVAE,
    weights: dict[str, float],
    amp: bool,
    batch_size: int,
    absent: Sequence[tuple[int, int]] = (),
    fused: bool = False,
) -> Callable[[], dict]:
    """A training iteration of stage 1 with three contrasts of 160 x 224, and the discriminator where it counts.

    Args:
        vae: the network.
        weights: of the losses.
        amp: bfloat16.
        batch_size: subjects.
        absent: contrasts that do not exist, as (subject, number).
        fused: the optimizer's own loop over parameters.
    """
    judge = on_device(PatchDiscriminator(2, 64, 1, num_layers_d=3), "cpu")
    optimizers = [torch.optim.Adam(network.parameters(), 1e-4, fused=fused) for network in (vae, judge)]
    rows = vae.default_acquisition.repeat(batch_size, 1, 1)
    for one in absent:
        rows[one] = 0
    step = VAEStep(
        TrainingForward(vae),
        optimizers[0],
        VAEObjective(weights, JukeboxLoss(2), judged="contrasts", fluid_weight=1.0),
        judge,
        optimizers[1],
        adversarial_start=0,
        modality_dropout=0.0,
        skip_dropout=0.5,
        seed=0,
        amp=amp,
    )
    maps = {"mask": torch.ones(batch_size, 1, 160, 224), "maps": torch.rand(batch_size, 3, 160, 224) + 0.1}
    batch = scans(rows, (160, 224)) | maps
    return lambda: step(ENGINE, batch)


def scans(rows: Tensor, size: Sequence[int]) -> dict[str, Tensor]:
    """A batch of random scans for :class:`VAEStep`, of acquisitions ``(B, M, A)``."""
    image = torch.rand(*rows.shape[:2], *size) * 2 - 1
    window = torch.tensor([0.0, 500.0]).expand(*rows.shape[:2], 2)
    return {"image": image, "window": window, "acquisition": rows, "index": torch.arange(len(rows))}


def diffusion_step(
    unet: LatentDiffusionUNet, prediction_type: str, amp: bool, batch_size: int, fused: bool = False
) -> Callable[[], dict]:
    """A training iteration of stage 2 on cached latents of 24 x 28."""
    inferer = DiffusionInferer(DDPMScheduler(num_train_timesteps=1000, prediction_type=prediction_type, **NOISE))
    step = DiffusionStep(unet, torch.optim.Adam(unet.parameters(), 1e-4, fused=fused), inferer, seed=0, amp=amp)
    latents = torch.randn(2, batch_size, 6, 24, 28)
    indices = torch.arange(batch_size)
    batch = {"mean": latents[0], "sd": latents[1].abs(), "position": torch.zeros(batch_size), "index": indices}
    return lambda: step(ENGINE, batch)


def generator(overlays: Sequence[str] = (), **options: object) -> tuple:
    """Sampler, codec, transformer and what makes brains, of ``configs/generate.json`` under overlays and options."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / f"configs/{name}.json") for name in ("generate", *overlays)])
    parser.update(options)
    return tuple(parser.get_parsed_content(name) for name in ("inferer", "network", "diffusion", "brains"))


def sample(overlays: Sequence[str] = (), **options: object) -> Callable[[], Brain]:
    """One sample of ``configs/generate.json`` under overlays and options, from noise to maps."""
    sampler, codec, transformer, brains = generator(overlays, **options)
    return lambda: brains(sampler.latent((0, 0), codec, transformer, {}), 0, 0)


def side_by_side(work: Callable[[], object], count: int) -> Callable[[], list]:
    """The same work several times, as many at once as there are threads."""
    return lambda: [*in_parallel(lambda _: work(), range(count), torch.device("cpu"))]


def both(make: Callable[[bool], Callable]) -> list[tuple[str, Callable]]:
    """The same work in both precisions."""
    return [("float32", make(False)), ("bfloat16", make(True))]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["unet"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{platform.processor() or platform.machine()}, {options.threads} threads, torch {torch.__version__}")
    use_threads(options.threads)
    for steps, guidance in ((24, 1.0), (16, 1.0), (24, 1.5)):
        work = side_by_side(sample(num_inference_steps=steps, guidance=guidance), SAMPLES)
        report(f"generate.json: {SAMPLES} samples, {steps} steps, guidance {guidance:g}", work, options.repeats)
    report("heads.json: one head", sample(["heads"]), 1)
    torch.set_num_threads(options.threads)
    for size in options.sizes:
        setting = settings(size)
        vae, unet = (on_device(network(), "cpu") for network in NETWORKS[size])
        weights, prediction = setting["loss_weights"], setting["prediction_type"]
        for batch_size in (1, 4):
            took = [
                report(f"{size}: VAE step, batch {batch_size}, {name}", work, options.repeats)
                for name, work in both(lambda amp: vae_step(vae, weights, amp, batch_size))
            ]
            print(f"{'':58} float32 / bfloat16 = {took[0] / took[1]:.2f}")
        took = [
            report(f"{size}: LDM step, batch 16, {name}", work, options.repeats)
            for name, work in both(lambda amp: diffusion_step(unet, prediction, amp, 16))
        ]
        print(f"{'':58} float32 / bfloat16 = {took[0] / took[1]:.2f}")
        volume, rows = torch.rand(1, 3, 160, 224, 160) * 2 - 1, vae.default_acquisition[None]
        report(f"{size}: maps and sd of one volume, 160 slices, float32", lambda: MapInferer()(volume, vae, rows), 1)
        sampling = {"prediction_type": prediction, "clip_sample": False, **NOISE}
        sampler = MapSampler(DDIMScheduler(num_train_timesteps=1000, **sampling), 50, (24, 28))
        report(
            f"{size}: one sample, 50 DDIM steps and decoding", lambda: sampler((0, 0), vae, unet, {"position": 0.0}), 1
        )


if __name__ == "__main__":
    main()

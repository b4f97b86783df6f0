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
"""Memory of one training step on a whole head: ``python -m benchmarks.memory [--size 160 224 160] [--contrasts 3]``.

The step is that of ``configs/train_vae.json`` under ``paper.json`` and ``pinaya.json``: network, losses,
discriminator and optimizer; only the perceptual loss is the one that needs no download. Scans are random numbers. Peak
memory is that of the whole process, so each run measures one step.
"""

import argparse
import resource
import time

import torch
from monai.bundle import ConfigParser

from scripts.parallel import use_threads

from .steps import ENGINE, ROOT, scans

CONFIGS = ("train_vae", "paper", "pinaya")


def main() -> None:
    """Prints peak memory before and after the step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, nargs=3, default=(160, 224, 160), help="of the head [voxels]")
    parser.add_argument("--contrasts", type=int, choices=(1, 2, 3), default=3)
    parser.add_argument("--all", action="store_true", help="keep all activations, no checkpointing")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    use_threads(options.threads)
    torch.set_num_threads(options.threads)
    config = ConfigParser()
    config.read_config([str(ROOT / f"configs/{name}.json") for name in CONFIGS])
    config.update({"perceptual": "spectral", "device": "cpu", "network_def::checkpointing": not options.all})
    step = config.get_parsed_content("train#step")
    batch = scans(step.vae.default_acquisition[None, : options.contrasts], options.size)
    before, start = peak(), time.process_time()
    losses = step(ENGINE, batch)
    what = f"one step, {options.contrasts} contrasts of {'x'.join(map(str, options.size))}"
    print(f"{what}: peak {peak():.1f} GB, {before:.1f} GB of it before the step")
    print(f"{time.process_time() - start:.0f} s of processor time; losses", {k: f"{v:.3g}" for k, v in losses.items()})


def peak() -> float:
    """Largest memory of this process so far [GB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()

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
"""Trains the estimator or the generator for some minutes on a GPU, and brings the weights back in pieces.

``python -m benchmarks.accelerator --help`` lists the options, accelerator.md beside this file says how it is used. It
runs ``configs/train_vae.json`` or ``train_ldm.json`` with other options; training code is not here.
"""

import argparse
import ast
import json
import math
import os
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

from scripts.errors import UserError, find_user_error

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("train_vae", "train_ldm")
PIECE = 16 * 2**20
"""Largest file that comes back [bytes]."""
KEPT = ("model.pt", "last.pt", "history.tsv")
"""What comes back: the best weights, the state of the training, its losses."""
SUMS = "sha256.json"
EPOCHS = 100_000
"""More than there is time for: the clock ends the training."""
REHEARSAL = {"slices": 8, "validation_slices": 4, "batch_size": 2}
"""Options of a training of a minute on a CPU."""


class Clock:
    """A training that lasts for some minutes: its learning rate falls with time, and it ends after a whole epoch.

    ``factor = (1 + cos(pi min(1, t / T))) / 2`` with the time t since the training started and its length T. How many
    epochs fit into T depends on the machine, so a schedule over epochs would end too early or too late.

    Args:
        minutes: length T of the training [min].
    """

    def __init__(self, minutes: float) -> None:
        self.seconds, self.started, self.epoch_started = 60 * minutes, None, 0.0

    @property
    def elapsed(self) -> float:
        """Time since the training started [s]; 0 before."""
        return 0.0 if self.started is None else time.monotonic() - self.started

    def __call__(self, epoch: int) -> float:
        """Factor of the learning rate, for ``LambdaLR``; the number of the epoch does not matter."""
        return (1 + math.cos(math.pi * min(1.0, self.elapsed / self.seconds))) / 2

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer; attach it after what saves the state."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._end)

    def _start(self) -> None:
        self.started, self.epoch_started = time.monotonic(), 0.0

    def _end(self, engine: Engine) -> None:
        """Ends the training where another epoch like the last one would end too late."""
        now = self.elapsed
        print(f"epoch {engine.state.epoch} ended after {now:.0f} s", flush=True)
        if now + (now - self.epoch_started) > self.seconds:
            engine.terminate()
        self.epoch_started = now


def overrides(options: argparse.Namespace, folder: str) -> dict:
    """The options of a training config, by the names they have there.

    Args:
        options: those of the command line.
        folder: for what is needed on this machine alone: slices and the state of the training.
    """
    handlers = json.loads(_path(options.config).read_text(encoding="utf-8"))["train"]["handlers"]
    mine = {
        "clock": {"_target_": "benchmarks.accelerator.Clock", "minutes": options.minutes},
        "scheduler": {
            "_target_": "torch.optim.lr_scheduler.LambdaLR",
            "optimizer": "@optimizer",
            "lr_lambda": "@clock",
        },
        "train::handlers": [*handlers, "@clock"],
        # Without what reads scans: it needs SimpleITK, whose wheel is too large to be carried.
        "scans": None,
        "train::preprocessing": None,
        "max_epochs": EPOCHS,
        "val_interval": 1,
        "slices": options.slices,
        "batch_size": options.batch,
        "label_maps": options.label_maps,
        "lesion_masks": options.lesion_masks,
        "initial_weights": options.weights,
        "cache_dir": options.cache_dir or f"{folder}/slices",
        "output_dir": f"{folder}/run",
    }
    of_config = _of_estimator if options.config == "train_vae" else _of_generator
    rehearsed = REHEARSAL if options.rehearse else {}
    return mine | of_config(options, os.cpu_count() or 1) | rehearsed | options.set


def _of_estimator(options: argparse.Namespace, cores: int) -> dict:
    """Slices are simulated, and scanned, while the training runs."""
    mine = {"data": "@stream"} | ({"slice_crop": [96, 96]} if options.rehearse else {})
    if options.on_device:
        mine |= {"stream::slices::device": "cuda" if torch.cuda.is_available() else "cpu", "stream::workers": 0}
    elif cores > 2:
        mine |= {"stream::workers": cores // 4}
        mine |= {f"{part}::dataloader::workers": cores // 2 for part in ("train", "validate")}
    return mine


def _of_generator(options: argparse.Namespace, cores: int) -> dict:
    """All latents are made before the first step; no samples are drawn in between."""
    workers = cores if cores > 2 else 0
    mine = {f"{part}::dataset::workers": workers for part in ("train", "validate")}
    return mine | {"data": "@population", "sample_interval": EPOCHS}


def _path(config: str) -> Path:
    return ROOT / "configs" / f"{config}.json"


def train(options: argparse.Namespace) -> None:
    """Trains, and writes what comes back.

    Raises:
        UserError: for options that the config refuses.
    """
    begun = time.perf_counter()
    with TemporaryDirectory() as folder:
        workflow = ConfigWorkflow(
            str(_path(options.config)),
            workflow_type=None,
            logging_file=False,
            run_id="training",
            **overrides(options, folder),
        )
        workflow.initialize()
        workflow.run()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        samples = trainer.state.iteration * trainer.data_loader.batch_size
        run = Path(folder) / "run"
        split([run / name for name in KEPT], options.output)
        print((run / "history.tsv").read_text(encoding="utf-8"))
    took = time.perf_counter() - begun
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{samples} samples in {took:.0f} s on {device}, torch {torch.__version__}")


def split(paths: Iterable[Path], folder: Path) -> None:
    """Writes files in pieces of at most :data:`PIECE`, with the sha256 of each whole file.

    Args:
        paths: of the files.
        folder: of the pieces, ``NAME.00``, ``NAME.01``, ... and ``sha256.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for path in paths:
        content = path.read_bytes()
        sums[path.name] = sha256(content).hexdigest()
        for number, start in enumerate(range(0, len(content), PIECE)):
            (folder / f"{path.name}.{number:02d}").write_bytes(content[start : start + PIECE])
    (folder / SUMS).write_text(json.dumps(sums, indent=4) + "\n", encoding="utf-8")


def join(folder: Path, output: Path) -> None:
    """Puts the pieces of :func:`split` together again.

    Args:
        folder: of the pieces.
        output: folder of the files; it is made if absent.

    Raises:
        UserError: where pieces are missing or damaged; then nothing is written.
    """
    if not (folder / SUMS).is_file():
        raise UserError(folder, f"no {SUMS}", "name the folder that a training wrote")
    contents = {}
    for name, expected in json.loads((folder / SUMS).read_text(encoding="utf-8")).items():
        contents[name] = b"".join(piece.read_bytes() for piece in sorted(folder.glob(f"{name}.[0-9][0-9]")))
        if sha256(contents[name]).hexdigest() != expected:
            raise UserError(folder / name, "pieces with another sha256", "fetch all pieces again")
    output.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (output / name).write_bytes(content)
        print(output / name)


def _option(text: str) -> tuple[str, object]:
    """``NAME=VALUE`` of the config, its value a Python literal or text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main() -> None:
    """Trains or joins."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accelerator", description=__doc__.splitlines()[0])
    out = os.environ.get("OUT", str(ROOT / "runs" / "accelerator"))
    parser.add_argument("--config", choices=CONFIGS, default=CONFIGS[0], help="what is trained")
    parser.add_argument("--minutes", type=float, default=8.0, help="length of the training")
    parser.add_argument("--weights", help="state dict to start from")
    parser.add_argument("--label_maps", help="folder of label maps; none for the embedded head")
    parser.add_argument("--lesion_masks", help="folder of lesion masks")
    parser.add_argument("--cache_dir", help="folder where slices are kept, and found if they were carried there")
    parser.add_argument("--slices", type=int, default=6400, help="slices to train on")
    parser.add_argument("--batch", type=int, default=32, help="samples of a step")
    parser.add_argument("--on_device", action="store_true", help="slices on the GPU instead of the cores beside it")
    parser.add_argument(
        "--set", type=_option, nargs="*", default=[], metavar="NAME=VALUE", help="options of the config"
    )
    parser.add_argument("--rehearse", action="store_true", help="a minute of the same, small enough for a CPU")
    parser.add_argument("--output", type=Path, default=Path(out), help="folder of the pieces, or of what is joined")
    parser.add_argument("--join", type=Path, metavar="PIECES", help="put the pieces of this folder together instead")
    options = parser.parse_args()
    options.set = dict(options.set)
    if options.rehearse:
        options.minutes = min(options.minutes, 0.5)
    try:
        join(options.join, options.output) if options.join else train(options)
    except Exception as error:
        # MONAI wraps what a config raises.
        if (reason := find_user_error(error)) is None:
            raise
        parser.exit(2, f"error: {reason}\n")


if __name__ == "__main__":
    main()

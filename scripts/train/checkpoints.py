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

"""The state of a training run on disk, and the weights it starts from."""

from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from ..errors import UserError
from ..files import check_writable, lock_folder, save_atomically
from ..networks.weights import load_file, load_weights

LAST, BEST = "last.pt", "model.pt"


class InitialWeights:
    """Training that starts from weights that exist, to fine-tune them. Attach it before everything that reads them.

    Args:
        network: the network to train, not wrapped.
        weights: its state dict's file, such as ``models/model.pt``; None starts from random weights.
    """

    def __init__(self, network: nn.Module, weights: str | None = None) -> None:
        self.network, self.weights = network, weights

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer's start."""
        if self.weights is not None:
            engine.add_event_handler(Events.STARTED, self.load)

    def load(self) -> None:
        """Loads the weights.

        Raises:
            UserError: when they are missing, broken, not finite or made for another architecture.
        """
        load_weights(self.network, self.weights, "name an existing file with --initial_weights")


class TrainingState:
    """Keeps a training run on disk and resumes it: ``last.pt`` each epoch, ``model.pt`` at the best validation.

    ``last.pt`` holds everything that is needed to go on; since random numbers are functions of (seed, epoch, index),
    a resumed run ends exactly as an undisturbed one. ``model.pt`` is a raw state dict. Attach it after the validation.

    MONAI's CheckpointSaver writes in place, so a kill while it writes leaves half a file; it does not keep the best
    metric of the evaluator, so a resumed run would take its first validation for the best; and it does not refuse to
    write into the folder of another run.

    Args:
        output_dir: folder of the run.
        objects: name -> whatever has ``state_dict`` and ``load_state_dict``; None is left out.
        model: the network whose raw state dict becomes ``model.pt``.
        evaluator: the validation engine, whose best metric decides.
        resume: go on from ``last.pt``.
        overwrite: start anew in a folder that holds a run.
    """

    def __init__(
        self,
        output_dir: str,
        objects: dict[str, object | None],
        model: nn.Module,
        evaluator: Engine,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.objects = {name: thing for name, thing in objects.items() if thing is not None}
        self.output_dir, self.model, self.evaluator = Path(output_dir), model, evaluator
        self.resume, self.overwrite = resume, overwrite

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def check(self) -> None:
        """Refuses, before any work, a folder that cannot be written or that holds another run, and locks it.

        Raises:
            UserError: in those cases, or when there is nothing to resume or another run is writing there.
        """
        last = self.output_dir / LAST
        if self.resume and not last.is_file():
            raise UserError("resume", f"no {last}", "start without --resume")
        if last.is_file() and not (self.resume or self.overwrite):
            raise UserError(last, "an earlier run", "go on with --resume, or give --overwrite or another --output_dir")
        if idist.get_rank() == 0:
            # Until this process ends.
            self.lock = lock_folder(check_writable(self.output_dir))

    def start(self, engine: Engine) -> None:
        """Loads the last state where asked to; else removes what another run left.

        Raises:
            UserError: when that state belongs to another configuration.
        """
        if not self.resume:
            if idist.get_rank() == 0:
                for name in (LAST, BEST):
                    (self.output_dir / name).unlink(missing_ok=True)
            return
        state = load_file(self.output_dir / LAST, "start without --resume")
        for name, thing in self.objects.items():
            planned, now = (s.get("T_max") for s in (state.get(name, {}), thing.state_dict()))
            if planned != now:
                found = f"{now} epochs where the run was planned for {planned}"
                raise UserError("max_epochs", found, f"resume with --max_epochs {planned}, or start anew")
        try:
            for name, thing in self.objects.items():
                thing.load_state_dict(state[name])
        except UserError:
            raise
        except (RuntimeError, KeyError, ValueError) as error:
            do = "resume with the options the run was started with"
            raise UserError(self.output_dir / LAST, "the state of another configuration", do) from error
        engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
        self.evaluator.state.best_metric = state["best_metric"]
        self.evaluator.state.best_metric_epoch = state["best_metric_epoch"]
        print(f"resuming after epoch {state['epoch']}", flush=True)

    def save(self, engine: Engine) -> None:
        """Writes ``last.pt``, and ``model.pt`` first where this epoch is the best so far."""
        if idist.get_rank() > 0:
            return
        best = self.evaluator.state
        if best.best_metric_epoch == engine.state.epoch or best.best_metric_epoch == -1:
            save_atomically(self.model.state_dict(), self.output_dir / BEST)
        state = {name: thing.state_dict() for name, thing in self.objects.items()}
        progress = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        metric = {"best_metric": float(best.best_metric), "best_metric_epoch": best.best_metric_epoch}
        save_atomically({**state, **progress, **metric}, self.output_dir / LAST)

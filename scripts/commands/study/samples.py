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

"""Generation: noise -> tissue maps -> contrasts, one sample after the other."""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn

from ...acquisition import load_render
from ...bids import Session, output_path
from ...errors import UserError
from ...estimate.maps import Maps
from ...networks import MapSampler
from ...networks.weights import load_weights, weights_digest
from ...randomness import rng
from ..report import MOST_SAMPLES, few, montage, overview, request_title
from .folder import Study
from .products import foreground_from_pd, read_maps, render, write_contrasts, write_maps
from .subjects import HOW_TO_TRAIN

HOW_TO_TRAIN_DIFFUSION = HOW_TO_TRAIN.replace("train_vae", "train_ldm")
POSITION = 1
"""Second address of a sample's slice position; its noise has none."""
logger = logging.getLogger(__name__)


@dataclass(eq=False)
class SampleStep:
    """Generates, renders and writes samples. The k-th sample is a function of (seed, k) alone.

    It is the iteration of an evaluator over lists of sample numbers, and one of its handlers.

    Args:
        study: where results go.
        inferer: a :class:`scripts.networks.inferers.MapSampler`.
        network: the physics VAE, on its device.
        diffusion: the diffusion network, on its device.
        weights: files of the state dicts of both.
        render: contrasts to render, see :func:`scripts.acquisition.load_render`.
        count: number of samples of the whole run, of all processes.
        seed: of all random numbers, not negative.
        slice_position: mm above the centre of the cerebrum; ``none`` samples without condition; None takes a random
            one from the range.
        slice_positions: that range [mm].
        threads: threads of a network call on the CPU; results depend on it in the last digits.
        equations: ``exact``, or ``paper`` for the published ones.
    """

    study: Study
    inferer: MapSampler
    network: nn.Module
    diffusion: nn.Module
    weights: tuple[str, str]
    render: object
    count: int
    seed: int = 0
    slice_position: float | str | None = None
    slice_positions: tuple[float, float] = (-20.0, 35.0)
    threads: int = 2
    equations: str = "exact"

    def attach(self, engine: Engine) -> None:
        """Hooks into the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.COMPLETED, self.write_montage)

    def check(self) -> None:
        """Refuses impossible options.

        Raises:
            UserError: naming the option.
        """
        for option, least in (("count", 1), ("seed", 0), ("threads", 1)):
            value = getattr(self, option)
            if not isinstance(value, int) or value < least:
                raise UserError(option, repr(value), f"use a whole number of at least {least}")
        position = self.slice_position
        if position not in (None, "none") and (isinstance(position, bool) or not isinstance(position, (int, float))):
            do = "use a number of mm, or none for samples without condition"
            raise UserError("slice_position", repr(position), do)
        factor = 2 ** (len(self.diffusion.down_blocks) - 1)
        if any(size % factor for size in self.inferer.latent_size):
            raise UserError("latent_size", str(self.inferer.latent_size), f"use multiples of {factor}")

    def start(self, engine: Engine) -> None:
        """Loads the weights, compares with what is there, opens the study.

        Raises:
            UserError: for missing weights, requests that cannot be rendered, or a folder with other samples.
        """
        torch.set_num_threads(self.threads)
        self.requests = load_render(self.render, self.equations)
        vae, diffusion = self.weights
        self.sha256 = {
            "vae": load_weights(self.network, vae, HOW_TO_TRAIN),
            "diffusion": load_weights(self.diffusion, diffusion, HOW_TO_TRAIN_DIFFUSION),
        }
        made_for = self.diffusion.vae_digest.cpu()
        if made_for.any() and not torch.equal(made_for, weights_digest(self.network)):
            raise UserError(
                diffusion, f"diffusion weights made with another VAE than {vae}", "name the two of one training"
            )
        for index in range(self.count):
            if self.study.holds(sample(index)):
                self.study.plan(sample(index), self._facts(index), self.requests)
        self.study.open()

    def __call__(self, engine: Engine, batch: list[int]) -> list[dict]:
        """Makes the samples with these numbers; returns their names and, if they failed, the exceptions."""
        for index in batch:
            with self.study.attempt(sample(index).name):
                self._run(index)
        names = [sample(index).name for index in batch]
        return [{"session": name, "failure": self.study.failures.get(name)} for name in names]

    def write_montage(self, engine: Engine) -> None:
        """Writes one picture of all samples; the process that finds them complete does so."""
        samples = [sample(index) for index in range(self.count)]
        if not all(self.study.holds(one) for one in samples):
            return
        rows = {}
        for one in samples[:MOST_SAMPLES]:
            maps = read_maps(self.study.root, one)
            maps = maps.axial(maps.middle)
            by_suffix = {request.suffix: request for request in reversed(self.requests)}
            first = [*reversed(by_suffix.values())]
            contrasts = dict(zip(map(request_title, first), render(maps, first)))
            rows[one.name] = (maps.values, maps.mask, contrasts)
        self.study.write("overview.png", montage(rows, self.count))

    def _run(self, index: int) -> None:
        session, facts = sample(index), self._facts(index)
        plan = self.study.plan(session, facts, self.requests)
        if not plan.maps and not plan.render:
            return
        logger.info(f"{session.name}: {index + 1} of {self.count}")
        maps = self._sample_maps(index) if plan.maps else read_maps(self.study.root, session)
        with self.study.publish(session, facts, plan) as folder:
            if plan.maps:
                write_maps(folder, session, maps, {"GeneratedFrom": facts["sample"], "Weights": self.sha256})
            write_contrasts(folder, session, maps, plan.render)
            shown = maps.axial(maps.middle)
            requests = few(self.requests)
            contrasts = dict(zip(map(request_title, requests), render(shown, requests)))
            path = output_path(folder, session, "overview", ".png")
            overview(path, session.name, shown.values, None, shown.mask, {}, contrasts, count=len(self.requests))

    def _sample_maps(self, index: int) -> Maps:
        position = self._position(index)
        log_maps = self.inferer((self.seed, index), self.network, self.diffusion, position)[0]
        values = log_maps.exp().numpy()
        values = values if values.ndim == 4 else values[..., None]
        if not np.isfinite(values).all():
            raise ValueError("the network's maps are not finite")
        mask = foreground_from_pd(values[0])
        return Maps(values * mask, None, mask, _centred(values.shape[1:], position or 0.0))

    def _position(self, index: int) -> float | None:
        """Slice position of a sample; None where it is free."""
        if not self.diffusion.condition_channels:
            return None
        if self.slice_position is not None:
            return None if self.slice_position == "none" else float(self.slice_position)
        return round(float(rng(self.seed, index, POSITION).uniform(*self.slice_positions)), 2)

    def _facts(self, index: int) -> dict:
        """Whatever a sample depends on besides the config."""
        return {
            "sample": {"seed": self.seed, "index": index, "slice_position": self._position(index)},
            "weights": self.sha256,
        }


def sample(index: int) -> Session:
    """The session that a sample is written as: ``sub-0001`` for index 0."""
    return Session(f"{index + 1:04d}", None, ())


def _centred(shape: tuple[int, ...], position: float) -> np.ndarray:
    """RAS affine of a volume with 1 mm voxels, its centre at (0, 0, position)."""
    affine = np.eye(4)
    affine[:3, 3] = [-(size - 1) / 2 for size in shape]
    affine[2, 3] += position
    return affine

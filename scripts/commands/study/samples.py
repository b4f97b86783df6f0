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
from dataclasses import dataclass, field

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.networks.utils import eval_mode
from torch import nn

from ...acquisition import load_render
from ...bids import LABEL_TABLE, Session, label_table, output_path
from ...errors import UserError
from ...estimate.maps import Maps
from ...networks import FractionCodec, MapSampler, PhysicsVAE
from ...networks.weights import load_weights, weights_digest
from ...nuisance import Noise
from ...parallel import in_parallel, use_threads
from ...shard import Part
from ...tissue import REGIONS
from ..report import AXIAL, MOST_SAMPLES, THREE_VIEWS, few, montage, overview, request_title
from .brains import Brain, Brains, write_fractions
from .conditions import Conditions
from .consoles import lacks_console, write_console
from .folder import Plan, Study
from .products import foreground_from_pd, read_maps, render, write_contrasts, write_maps
from .subjects import HOW_TO_TRAIN

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class SampleStep:
    """Generates, renders and writes samples. The k-th sample is a function of (seed, k) alone.

    It is the iteration of an evaluator over lists of sample numbers, and one of its handlers.

    Args:
        study: where results go.
        inferer: a :class:`scripts.networks.samplers.MapSampler`.
        brains: what makes brains of latents.
        network: what reads latents, the codec or the physics VAE, on its device.
        diffusion: the diffusion network, on its device.
        weights: files of the state dicts of both.
        render: contrasts to render, see :func:`scripts.acquisition.load_render`.
        count: number of samples of the whole run, of all processes.
        part: which of them are this process's.
        seed: of all random numbers, not negative.
        conditions: what is asked of the samples.
        noise: of the contrasts, as :meth:`scripts.nuisance.Noise.of` reads it; None for none.
        threads: how many samples are made side by side on a CPU; None for as many as the process has cores.
        equations: ``exact``, or ``paper`` for the published ones.
        console: also write a page that renders contrasts in the browser.
    """

    study: Study
    inferer: MapSampler
    brains: Brains
    network: nn.Module
    diffusion: nn.Module
    weights: tuple[str, str]
    render: object
    count: int
    part: Part = field(default_factory=Part)
    seed: int = 0
    conditions: Conditions = field(default_factory=lambda: Conditions({}))
    noise: float | str | None = None
    threads: int | None = None
    equations: str = "exact"
    console: bool = False

    def attach(self, engine: Engine) -> None:
        """Hooks into the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.COMPLETED, self.write_montage)

    def check(self) -> None:
        """Refuses impossible options.

        Raises:
            UserError: naming the option.
        """
        for option, least in (("count", 1), ("seed", 0)):
            value = getattr(self, option)
            if not isinstance(value, int) or value < least:
                raise UserError(option, repr(value), f"use a whole number of at least {least}")
        Noise.of(self.noise)
        self.conditions.check(self.diffusion.conditions)
        factor = self.diffusion.factor
        if any(size % factor for size in self.inferer.latent_size):
            raise UserError("latent_size", str(self.inferer.latent_size), f"use multiples of {factor}")

    def start(self, engine: Engine) -> None:
        """Loads the weights, compares with what is there, opens the study.

        Raises:
            UserError: for missing weights, requests that cannot be rendered, or a folder with other samples.
        """
        use_threads(self.threads)
        self.requests, self.added = load_render(self.render, self.equations), Noise.of(self.noise)
        decoder, diffusion = self.weights
        parts = {"decoder": (self.network, decoder), "diffusion": (self.diffusion, diffusion), **self.inferer.parts}
        stages = {"decoder": "vae" if isinstance(self.network, PhysicsVAE) else "codec", **self.inferer.stages}
        self.sha256 = {
            name: load_weights(*part, HOW_TO_TRAIN.replace("vae", stages[name])) for name, part in parts.items()
        }
        paths = dict(parts.values())
        for diffusion, network in self.inferer.pairs(self.network, self.diffusion):
            made_for = diffusion.vae_digest.cpu()
            if made_for.any() and not torch.equal(made_for, weights_digest(network)):
                found = f"diffusion weights made with other latents than those of {paths[network]}"
                raise UserError(paths[diffusion], found, "name the two of one training")
        self.conditions.compare(self.diffusion.column_ranges)
        for index in self.part.of(range(self.count)):
            if self.study.holds(sample(index)):
                self.study.plan(sample(index), self._facts(index), self.requests)
        self.study.open()
        if isinstance(self.network, FractionCodec):
            self.study.write(LABEL_TABLE, label_table(REGIONS))

    def __call__(self, engine: Engine, batch: list[int]) -> list[dict]:
        """Makes the samples with these numbers side by side on a CPU, and writes one after the other.

        Returns:
            their names and, if they failed, the exceptions.
        """
        device = next(self.diffusion.parameters()).device
        networks = self.network, self.diffusion, *(network for network, _ in self.inferer.parts.values())
        with eval_mode(*networks):
            for index, (plan, made) in zip(batch, in_parallel(self._make, batch, device)):
                with self.study.attempt(sample(index).name):
                    if isinstance(made, Exception):
                        raise made
                    self._write(index, plan, made)
        names = [sample(index).name for index in batch]
        return [{"session": name, "failure": self.study.failures.get(name)} for name in names]

    def write_montage(self, engine: Engine) -> None:
        """Writes one picture of all samples; the process that finds them complete does so."""
        samples = [sample(index) for index in range(self.count)]
        if not all(self.study.holds(one) for one in samples):
            return
        rows = {}
        for index, one in enumerate(samples[:MOST_SAMPLES]):
            maps = read_maps(self.study.root, one)
            maps, footnote = _shown(maps), _footnote(maps)
            by_suffix = {request.suffix: request for request in reversed(self.requests)}
            first = [*reversed(by_suffix.values())]
            contrasts = dict(zip(map(request_title, first), render(maps, first, self.added, (self.seed, index))))
            rows[one.name] = (maps.values, maps.mask, contrasts)
        self.study.write("overview.png", montage(rows, self.count, footnote))

    def _make(self, index: int) -> tuple[Plan | None, tuple[Brain, Maps] | Exception | None]:
        """What is to be made of a sample, and its brain where that is not there yet; or why there is none."""
        try:
            plan = self.study.plan(sample(index), self._facts(index), self.requests)
            return plan, self._sample(index) if plan.maps else None
        except Exception as error:
            return None, error

    def _write(self, index: int, plan: Plan, made: tuple[Brain, Maps] | None) -> None:
        session, facts = sample(index), self._facts(index)
        console = self.console and (plan.maps or lacks_console(self.study.root, session))
        if not plan.maps and not plan.render and not console:
            return
        logger.info(f"{session.name}: {index + 1} of {self.count}")
        brain, maps = made or (None, read_maps(self.study.root, session))
        about = {"GeneratedFrom": facts["sample"], "Weights": self.sha256}
        with self.study.publish(session, facts, plan) as folder:
            if brain is not None:
                measured = {"Measured": brain.measured, "MeasuredUnits": self.brains.unit, "Tissue": brain.tissue}
                about |= measured if brain.measured else {}
                write_maps(folder, session, maps, about)
                if brain.fractions is not None:
                    write_fractions(folder, session, brain, maps.affine, about)
            if console:
                write_console(folder, session, maps, self.study.root)
            noise = self.added, (self.seed, index)
            write_contrasts(folder, session, maps, plan.render, None, *noise)
            shown = _shown(maps)
            requests = few(self.requests)
            contrasts = dict(zip(map(request_title, requests), render(shown, requests, *noise)))
            path = output_path(folder, session, "overview", ".png")
            overview(
                path,
                session.name,
                shown.values,
                None,
                shown.mask,
                {},
                contrasts,
                count=len(self.requests),
                footnote=_footnote(maps),
            )

    def _sample(self, index: int) -> tuple[Brain, Maps]:
        asked = self.conditions.draw(self.seed, index)
        latent = self.inferer.latent((self.seed, index), self.network, self.diffusion, asked)
        brain = self.brains(latent, self.seed, index)
        if not np.isfinite(brain.maps).all():
            raise ValueError("the network's maps are not finite")
        mask = foreground_from_pd(brain.maps[0])
        affine = _centred(mask.shape, self.inferer.centre or asked.get("position") or 0.0)
        return brain, Maps(brain.maps * mask, None, mask, affine, brain.options)

    def _facts(self, index: int) -> dict:
        """Whatever a sample depends on besides the config."""
        requested = self.conditions.draw(self.seed, index)
        return {"sample": {"seed": self.seed, "index": index, "requested": requested}, "weights": self.sha256}


def sample(index: int) -> Session:
    """The session that a sample is written as: ``sub-0001`` for index 0."""
    return Session(f"{index + 1:04d}", None, ())


def _shown(maps: Maps) -> Maps:
    """What a picture shows: the slice, or three of a head."""
    return maps.orthogonal() if maps.mask.shape[2] > 1 else maps.axial(0)


def _footnote(maps: Maps) -> str:
    return THREE_VIEWS if maps.mask.shape[2] > 1 else AXIAL


def _centred(shape: tuple[int, ...], position: float) -> np.ndarray:
    """RAS affine of a volume with 1 mm voxels, its centre at (0, 0, position)."""
    affine = np.eye(4)
    affine[:3, 3] = [-(size - 1) / 2 for size in shape]
    affine[2, 3] += position
    return affine

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

"""Whole heads: a coarse volume first, then its slices, those between two others last."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from types import MappingProxyType

import torch
from monai.networks.schedulers import RFlowScheduler
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import UserError
from ..parallel import in_parallel
from ..randomness import generator
from ..tissue.fractions import VOLUMES, measure_volumes
from .codec import CoarseCodec, FractionCodec
from .levels import CELL_MM, CENTRE_MM, halving_order
from .refining import RefiningTransformer, Surroundings
from .samplers import MapSampler, denoise

SLICE = 4
"""Third address of the noise of a slice."""
GLIMPSE = 2
"""Rounds of slices that volumes are measured in before all are made: those 8 mm apart, of the shipped sampler."""


class HeadSampler(MapSampler):
    """Latents of all slices of new heads.

    A diffusion network makes the latent of a coarse volume, told what is asked. Another one refines it: it makes the
    slices in the order of :func:`.levels.halving_order`, told the coarse volume at their level and the slices nearest
    to them.

    Args:
        scheduler: of the coarse volume.
        coarse: the codec of the coarse volume.
        refining: the network that makes slices.
        refining_scheduler: its scheduler, a flow.
        weights: files of the weights of ``coarse`` and ``refining``.
        num_inference_steps: steps of the sampler of the coarse volume.
        refining_steps: steps of the sampler of slices: of those made first, of those halfway between them, and so on.
        latent_size: spatial size of the latent of the coarse volume.
        slice_size: spatial size of the latent of a slice.
        slices: slices of a head, 1 mm apart.
        guidance: of the coarse volume, see :class:`.samplers.MapSampler`.
        corrections: how often the coarse volume is asked for again, see :meth:`.samplers.MapSampler.closest`. Unless
            it is 0, what the slices make of it is looked at, see :meth:`glimpse`, and it is asked to make up for that.
        batch_size: slices of a call of the network; calls run side by side on a CPU.
        amp: slices are made in bfloat16.

    Raises:
        UserError: as :class:`.samplers.MapSampler`; for too few ``refining_steps``.
    """

    near = 0.0  # a coarse volume takes little time
    centre = CENTRE_MM
    stages = MappingProxyType({"diffusion": "heads", "coarse": "heads", "refining": "refining"})

    def __init__(
        self,
        scheduler: RFlowScheduler,
        coarse: CoarseCodec,
        refining: RefiningTransformer,
        refining_scheduler: RFlowScheduler,
        weights: tuple[str, str] = ("", ""),
        num_inference_steps: int = 24,
        refining_steps: Sequence[int] = (24, 16, 12, 6, 4),
        latent_size: Sequence[int] = (12, 14, 10),
        slice_size: Sequence[int] = (22, 28),
        slices: int = 160,
        guidance: float = 1.5,
        corrections: int = 2,
        batch_size: int = 5,
        amp: bool = True,
    ) -> None:
        super().__init__(scheduler, num_inference_steps, tuple(latent_size), guidance, corrections)
        self.coarse, self.refining, self.refining_scheduler = coarse, refining, refining_scheduler
        self.parts = {"coarse": (coarse, weights[0]), "refining": (refining, weights[1])}
        self.refining_steps, self.slice_size, self.slices = tuple(refining_steps), tuple(slice_size), slices
        self.batch_size, self.amp, self.order = batch_size, amp, halving_order(slices)
        if len(self.refining_steps) < len(self.order):
            found = f"{len(self.refining_steps)} numbers for {slices} slices"
            raise UserError("refining_steps", found, f"give {len(self.order)}")

    @property
    def settings(self) -> dict:
        """As those of :class:`.samplers.MapSampler`, and those of the refinement."""
        names = ("refining_steps", "slice_size", "slices", "batch_size", "amp")
        return super().settings | {name: getattr(self, name) for name in names}

    @property
    def positions(self) -> Tensor:
        """Levels of the slices [mm above the centre of the cerebrum]."""
        return torch.arange(self.slices) - (self.slices - 1) / 2 + CENTRE_MM

    def pairs(self, network: nn.Module, diffusion: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
        """Each diffusion network with what decodes its latents."""
        return [(diffusion, self.coarse), (self.refining, network)]

    @torch.no_grad()
    def latent(
        self,
        inputs: tuple[int, ...],
        network: nn.Module,
        diffusion: nn.Module,
        asked: Mapping[str, float | None] = MappingProxyType({}),
    ) -> Tensor:
        """The latents ``(Z, L, H, W)`` of the slices of one head.

        Args:
            inputs: address of the head's noise, ``(seed, index)``.
            network: the codec of slices.
            diffusion: the network that makes coarse volumes.
            asked: name of a condition -> its value, None where nothing is asked.
        """
        coarse, wanted = self.volume(inputs, diffusion, asked), self.measurable(VOLUMES, diffusion, asked)
        if wanted and self.corrections and self.guidance:
            found = self.glimpse(coarse, inputs, network)
            # Slices of one noise err alike: what they lack of one coarse volume, they lack of a similar one.
            aims = {name: max(2 * asked[name] - found[name], 0.0) for name in wanted}
            coarse = self.volume(inputs, diffusion, {**asked, **aims})
        return self.refine(coarse, inputs, network.latent_channels)

    def glimpse(self, coarse: Tensor, inputs: tuple[int, ...], network: FractionCodec) -> dict[str, float]:
        """Volumes [mL] of the head that a coarse volume becomes, from those of its slices that are made first.

        Arguments as of :meth:`refine`.
        """
        numbers = torch.cat([step.made for step in self.order[:GLIMPSE]]).sort().values
        latents = self.refine(coarse, inputs, network.latent_channels, GLIMPSE)[numbers]
        fractions = torch.stack([network.decode(one[None])[0] for one in latents], -1)
        measured = measure_volumes(fractions[None], self.slices / len(numbers) / 1000)
        return {name: float(value) for name, value in measured.items()}

    def volume(self, inputs: tuple[int, ...], diffusion: nn.Module, asked: Mapping[str, float | None]) -> Tensor:
        """Fractions of the coarse volume of one head ``(1, K, X, Y, Z)``; arguments as of :meth:`latent`."""

        def draw(told: Mapping[str, float | None]) -> Tensor:
            return self.coarse.decode(self.draw(inputs, self.coarse.latent_channels, diffusion, told))

        measure = partial(measure_volumes, voxel_ml=CELL_MM**3 / 1000)
        return self.closest(draw, measure, VOLUMES, diffusion, asked)

    @torch.no_grad()
    def refine(self, coarse: Tensor, inputs: tuple[int, ...], channels: int, rounds: int | None = None) -> Tensor:
        """The latents ``(Z, L, H, W)`` of the slices of one head.

        Args:
            coarse: fractions of its coarse volume ``(1, K, X, Y, Z)``.
            inputs: address of the head's noise.
            channels: L.
            rounds: of the slices, those made first, those halfway between them, and so on; None for all. The latents
                of others are 0.
        """
        order = self.order[:rounds]
        made = coarse.new_zeros(self.slices, channels, *self.slice_size)
        told = torch.tensor([name == "position" for name in self.refining.conditions])

        def make(part: tuple[Tensor, ...]) -> Tensor:
            numbers, below, above, distance = part
            positions = self.positions[numbers]
            known = Surroundings.of(coarse, positions.to(coarse), made[below], made[above], distance.to(coarse))
            noise = torch.stack([self._noise(inputs, number, made[0].shape) for number in numbers.tolist()])
            begin = self.refining.begin(noise.to(coarse), known)
            asked = torch.where(told, positions[:, None], torch.nan)
            return denoise(scheduler, self.refining, begin, asked, amp=self.amp, around=known.channels)

        scheduler = deepcopy(self.refining_scheduler)
        with (
            tqdm(total=sum(len(step.made) for step in order), desc="slices", unit=" slices") as progress,
            eval_mode(self.refining),
        ):
            for step, count in zip(order, self.refining_steps):
                scheduler.set_timesteps(count, input_img_size_numel=made[0, 0].numel())
                parts = [*zip(*(one.split(self.batch_size) for one in (*step, step.distance)))]
                for part, latents in zip(parts, in_parallel(make, parts, coarse.device)):
                    made[part[0]] = latents
                    progress.update(len(latents))
        return made / self.refining.scale_factor

    def _noise(self, inputs: tuple[int, ...], number: int, size: torch.Size) -> Tensor:
        return torch.randn(size, generator=generator(*inputs, SLICE, number))

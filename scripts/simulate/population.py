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

"""The tissue of a random subject: PD, T1 and T2 of every class."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from ..tissue import CLASSES, FRACTIONS, class_values
from ..tissue.fractions import mix_fractions
from .anatomy import BRAIN, INDEX

POPULATION: dict[str, dict] = {
    name: entry
    for name, entry in json.loads(Path(__file__).with_name("population.json").read_text(encoding="utf-8")).items()
    if name != "_desc_"
}
"""Class -> its spread or range, see ``population.json``."""
FIELD_STRENGTHS = {1.5: 0.35, 3.0: 0.5, 7.0: 0.15}
"""Field strength [T] -> how often it is drawn."""
COMMON = 0.8
"""What all tissues of a subject of the narrow population share of their deviation."""
ORDERED = 0.85
"""Share of the wide population whose tissues differ from the literature mostly in common, so that their order holds."""
COMMON_SD, OWN_SD = (0.025, 0.14, 0.16), (0.02, 0.05, 0.06)
"""Standard deviation of ln PD, ln T1, ln T2 of these subjects: common to all tissues of the brain, and of each."""
WIDE = (0.05, 0.3, 0.3)
"""The same of every brain tissue of the others: their order may invert."""
WIDE_FLUID = (0.2, 0.4, 0.7)
"""The same of fluid. Where it hardly varies, a network takes it for a reference and misreads heads with another one."""
COMMON_WIDE = 0.7
"""What fluid, and the tissues of subjects without an order, share of their deviation in the wide population."""
PD_OF_T1 = 0.25
"""d ln PD / d ln T1 among healthy tissues at one field strength: the more water, the longer T1.

Source: 1/PD = a + b/T1 (Fatouros 1991) with a and b of about 1 and 0.35 s gives 0.21 in grey, 0.29 in white matter."""
TEXTURE = (0.01, 0.03, 0.03)
"""Standard deviation of ln PD, ln T1, ln T2 inside a tissue."""
UPPER = (1.0, 5.0, 2.5)
"""Free water at body temperature: the largest PD, T1 [s], T2 [s]."""
SHORTEST_T2 = 0.004
DISEASED_AT = {1.5: (1.0, 0.8, 1.05), 3.0: (1.0, 1.0, 1.0), 7.0: (1.0, 1.35, 0.65)}
"""PD, T1 and T2 of diseased tissue at a field strength [T] over those at 3 T, as of white matter."""
DISEASED_UPPER = (0.98, 2.7, 0.31)
"""The largest PD, T1 [s], T2 [s] of diseased tissue: it is no fluid, whatever its texture."""
RIMS, HOLES, OEDEMA = 0.5, 0.4, 0.5
"""Probabilities that lesions have a rim of milder tissue, that some are black holes, and that a mass has oedema around
it; otherwise these have the tissue of the lesion or the mass."""


class Tissue(NamedTuple):
    """The tissue of one subject.

    Attributes:
        values: PD, T1 [s], T2 [s] of every class ``(C, 3)``; zeros for air and for bone, which give no signal.
        field_strength: at which these are meant [T].
        t2_star_ratio: T2* over T2.
    """

    values: Tensor
    field_strength: float
    t2_star_ratio: float

    def maps(self, classes: Tensor, texture: Tensor) -> Tensor:
        """PD, T1 [s], T2 [s] ``(3, N)`` of points of these classes ``(N,)`` with textures of T1 and T2 ``(2, N)``."""
        return _textured(self.values.to(texture.device)[classes].T, texture)

    def mixed(self, fractions: Tensor, texture: Tensor) -> Tensor:
        """PD, T1 [s], T2 [s] ``(3, ...)`` of voxels with these fractions ``(K, ...)`` and textures ``(2, ...)``.

        The fractions are those of :data:`scripts.tissue.FRACTIONS`.
        """
        values = self.values[[INDEX[name] for name in FRACTIONS]]
        return _textured(mix_fractions(fractions[None], values)[0], texture)


def _textured(maps: Tensor, texture: Tensor) -> Tensor:
    """Maps ``(3, ...)`` with textures ``(2, ...)``, none beyond water."""
    shape = (-1, *[1] * (maps.ndim - 1))
    sd, upper = (torch.tensor(values, device=maps.device).view(shape) for values in (TEXTURE, UPPER))
    factors = (sd * torch.stack([texture[0], texture[0], 0.6 * texture[0] + 0.8 * texture[1]])).exp()
    pd, t1, t2 = (maps * factors).minimum(upper)
    return torch.stack([pd, t1, t2.minimum(t1)])


def draw_tissue(
    random: Generator,
    wide: float = 0.0,
    field_strengths: Sequence[float] = tuple(FIELD_STRENGTHS),
    variety: float = 1.0,
) -> Tissue:
    """Random tissue: log-normal around the literature, PD tied to T1; diseased tissue between white matter and fluid.

    Args:
        random: source of the random numbers.
        wide: probability of the wide population, see :data:`ORDERED` and :data:`WIDE`.
        field_strengths: one of these is drawn [T], as often as :data:`FIELD_STRENGTHS` says.
        variety: factor of the standard deviations of the brain's tissues.
    """
    weights = np.array([FIELD_STRENGTHS[field] for field in field_strengths])
    field_strength = float(random.choice(field_strengths, p=weights / weights.sum()))
    is_wide, is_ordered = random.uniform() < wide, random.uniform() < ORDERED
    common = random.standard_normal(3)
    values = np.zeros((len(CLASSES), 3))
    for number, (name, brain) in enumerate(zip(CLASSES, BRAIN.tolist())):
        own = random.standard_normal(3)
        if "spread" not in POPULATION.get(name, {}):
            continue
        deviation = np.array(POPULATION[name]["spread"]) * own
        if brain:
            fluid = CLASSES[name].tissue == "CSF"
            deviation = variety * _deviation(POPULATION[name]["spread"], common, own, fluid, is_wide, is_ordered)
            deviation[0] += PD_OF_T1 * deviation[1]
        pd, t1, t2 = np.minimum(_median(name, field_strength, is_wide) * np.exp(deviation), UPPER)
        values[number] = pd, t1, min(max(t2, SHORTEST_T2), t1)
    for name, tissue in _diseased(random, values[INDEX["white matter"]], field_strength).items():
        values[INDEX[name]] = tissue
    return Tissue(torch.from_numpy(values).float(), field_strength, random.uniform(0.45, 0.85))


def _deviation(
    spread: Sequence[float], common: np.ndarray, own: np.ndarray, fluid: bool, wide: bool, ordered: bool
) -> np.ndarray:
    """Deviation of ln PD, ln T1, ln T2 of a tissue of the brain ``(3,)``."""
    if wide and ordered and not fluid:
        return COMMON_SD * common + OWN_SD * own
    share, sd = COMMON, np.array(spread)
    if wide:
        share, sd = COMMON_WIDE, np.maximum(sd, WIDE_FLUID if fluid else WIDE)
    # Mostly common to all tissues: their order holds in nearly every subject of the narrow population.
    return sd * (share * common + (1 - share**2) ** 0.5 * own)


def _diseased(random: Generator, white: np.ndarray, field_strength: float) -> dict[str, np.ndarray]:
    """PD, T1 [s], T2 [s] of the classes of diseased tissue, given those of white matter ``(3,)``."""
    tissue = {}
    for name, entry in POPULATION.items():
        if "range" in entry:
            low, high = np.array(entry["range"]).T
            # More water lengthens T1 and T2 together, though not always.
            share = 0.7 * random.uniform() + 0.3 * random.uniform(size=3)
            drawn = low * (high / low) ** share * DISEASED_AT[field_strength]
            tissue[name] = np.minimum(drawn, DISEASED_UPPER)
    has_rim, has_holes, has_oedema = random.uniform(size=3) < (RIMS, HOLES, OEDEMA)
    towards = random.uniform(0.3, 0.7) * has_rim
    tissue["lesion rim"] = np.minimum(white**towards * tissue["lesion"] ** (1 - towards), DISEASED_UPPER)
    tissue["black hole"] = np.maximum(tissue["black hole"], tissue["lesion"]) if has_holes else tissue["lesion"]
    if not has_oedema:
        tissue["oedema"] = tissue["mass"]
    return tissue


def _median(name: str, field_strength: float, wide: bool) -> np.ndarray:
    median = np.array(class_values(name, field_strength))
    if wide:
        median[2] = POPULATION[name].get("wide_t2", {}).get(f"{field_strength:g}", median[2])
    return median

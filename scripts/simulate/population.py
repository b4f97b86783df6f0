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

from ..tissue import CLASSES, tissue_values
from .anatomy import BRAIN

POPULATION: dict[str, dict] = json.loads(Path(__file__).with_name("population.json").read_text(encoding="utf-8"))
"""Class -> its spread, and its values where the literature has none, see ``population.json``."""
FIELD_STRENGTHS = (1.5, 3.0)
WIDE = (0.05, 0.3, 0.4)
"""Standard deviation of ln PD, ln T1, ln T2 of every brain tissue in the wide population: their order may invert."""
WIDE_FLUID = (0.2, 0.4, 0.7)
"""The same of fluid. Where it hardly varies, a network takes it for a reference and misreads heads with another one."""
COMMON = {False: 0.8, True: 0.6}
"""What all tissues of a subject share of their deviation, in the narrow and in the wide population."""
PD_OF_T1 = 0.25
"""d ln PD / d ln T1 among healthy tissues at one field strength: the more water, the longer T1.

Source: 1/PD = a + b/T1 (Fatouros 1991) with a and b of about 1 and 0.35 s gives 0.21 in grey, 0.29 in white matter."""
TEXTURE = (0.01, 0.03, 0.03)
"""Standard deviation of ln PD, ln T1, ln T2 inside a tissue."""
UPPER = (1.0, 5.0, 2.5)
"""Free water at body temperature: the largest PD, T1 [s], T2 [s]."""
SHORTEST_T2 = 0.004


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
        sd = torch.tensor(TEXTURE, device=texture.device)[:, None]
        factors = (sd * torch.stack([texture[0], texture[0], 0.6 * texture[0] + 0.8 * texture[1]])).exp()
        upper = torch.tensor(UPPER, device=texture.device)[:, None]
        pd, t1, t2 = (self.values.to(texture.device)[classes].T * factors).minimum(upper)
        return torch.stack([pd, t1, t2.minimum(t1)])


def draw_tissue(random: Generator, wide: float = 0.0, field_strengths: Sequence[float] = FIELD_STRENGTHS) -> Tissue:
    """Random tissue: log-normal around the literature, PD tied to T1.

    Args:
        random: source of the random numbers.
        wide: probability of the wide population, see :data:`WIDE`.
        field_strengths: one of these is drawn [T].
    """
    field_strength = float(random.choice(field_strengths))
    is_wide = bool(random.uniform() < wide)
    common = random.standard_normal(3)
    values = torch.zeros(len(CLASSES), 3)
    for number, (name, brain) in enumerate(zip(CLASSES, BRAIN.tolist())):
        own = random.standard_normal(3)
        if name not in POPULATION:
            continue
        median, sd = _median(name, field_strength), np.array(POPULATION[name]["spread"])
        if brain:
            # Mostly common to all tissues: their order holds in nearly every subject of the narrow population.
            own = COMMON[is_wide] * common + (1 - COMMON[is_wide] ** 2) ** 0.5 * own
            sd = np.maximum(sd, WIDE_FLUID if CLASSES[name].tissue == "CSF" else WIDE) if is_wide else sd
        deviation = sd * own
        deviation[0] += PD_OF_T1 * deviation[1] * brain
        pd, t1, t2 = np.minimum(median * np.exp(deviation), UPPER)
        values[number] = torch.tensor([pd, t1, min(max(t2, SHORTEST_T2), t1)])
    return Tissue(values, field_strength, random.uniform(0.45, 0.85))


def _median(name: str, field_strength: float) -> np.ndarray:
    if CLASSES[name].tissue is not None:
        return np.array(tissue_values(CLASSES[name].tissue, field_strength)[:3])
    return np.array(POPULATION[name]["values"][f"{field_strength:g}"])

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

"""The random scanner: nuisances of one contrast of a simulated head, drawn from ranges."""

from dataclasses import dataclass

from numpy.random import Generator

from ..acquisition.families import log_uniform
from ..nuisance import Nuisances, polynomial_terms

BIAS_DEGREE = 3


@dataclass(frozen=True)
class NuisanceRanges:
    """What the nuisances of one contrast are drawn from.

    Args:
        snr: of the signal-to-noise ratio of the reference tissue, log-uniform.
        gain: of the stored units per unit of PD, log-uniform.
        bias_sd: largest standard deviation of the logarithm of the bias field, uniform from 0.
        moved: probability that the head moved against the other contrasts.
        motion_degrees: standard deviation of its rotation about each axis [degrees].
        motion_mm: standard deviation of its translation along each axis [mm].
        coarse: probability of larger voxels in the plane of the first two axes.
        fraction: of the part of k-space that is then acquired along each of the two.
        taper: of its tapered part.
        thick: probability of thick slices along the third axis.
        thickness_mm: of their thickness [mm]; one voxel at least.
    """

    snr: tuple[float, float]
    gain: tuple[float, float] = (1.0, 1.0)
    bias_sd: float = 0.0
    moved: float = 0.0
    motion_degrees: float = 0.7
    motion_mm: float = 0.6
    coarse: float = 0.0
    fraction: tuple[float, float] = (0.5, 1.0)
    taper: tuple[float, float] = (0.0, 0.6)
    thick: float = 0.0
    thickness_mm: tuple[float, float] = (2.0, 6.0)


def draw_nuisances(random: Generator, ranges: NuisanceRanges, axes: int, voxel_mm: float = 1.0) -> Nuisances:
    """Random nuisances of one contrast.

    All numbers are drawn in any case, so that a probability changes nothing but its own nuisance.

    Args:
        random: source of the random numbers.
        ranges: what they are drawn from.
        axes: 2 for a slice, 3 for a volume.
        voxel_mm: edge of a voxel [mm].
    """
    moves, rotation = random.uniform() < ranges.moved, random.normal(0, ranges.motion_degrees, 2 * axes - 3)
    translation = random.normal(0, ranges.motion_mm, axes)
    terms = len(polynomial_terms(axes, BIAS_DEGREE))
    bias = random.normal(0, 1, terms) * random.uniform(0, ranges.bias_sd) / terms**0.5
    is_coarse, fraction = random.uniform() < ranges.coarse, random.uniform(*ranges.fraction, 2)
    taper = random.uniform(*ranges.taper)
    is_thick, thickness = random.uniform() < ranges.thick, max(random.uniform(*ranges.thickness_mm), voxel_mm)
    return Nuisances(
        rotation=rotation.tolist() if moves else (),
        translation=translation.tolist() if moves else (),
        bias=bias.tolist() if ranges.bias_sd else (),
        gain=log_uniform(random, *ranges.gain),
        fraction=[*fraction.tolist(), 1.0][:axes] if is_coarse else 1.0,
        taper=taper if is_coarse else 0.0,
        thickness=thickness if is_thick else None,
        snr=log_uniform(random, *ranges.snr),
        seed=int(random.integers(2**63)),
    )

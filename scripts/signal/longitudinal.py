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

"""Longitudinal magnetisation (in units of its equilibrium) through a repeated shot, as a chain of affine steps."""

from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor


class Step(NamedTuple):
    """A stretch of a sequence: it turns the magnetisation ``m`` into ``scale m + offset``."""

    scale: Tensor
    offset: Tensor

    def __call__(self, m: Tensor) -> Tensor:
        return self.scale * m + self.offset

    def then(self, later: "Step") -> "Step":
        """This step followed by another."""
        return Step(self.scale * later.scale, later(self.offset))


def recover(time: Tensor, t1: Tensor, after: Tensor | float = 1.0) -> Step:
    """A pulse that leaves the part ``after`` of the magnetisation, then free recovery: ``m -> 1 - E + after E m``.

    Args:
        time: how long it recovers [s]; ``E = exp(-time / T1)``.
        t1: longitudinal relaxation time [s].
        after: cosine of the flip angle of an ideally spoiled pulse, ``-eta`` of an inversion, 0 of a saturation.
    """
    less = torch.expm1(-time / t1)  # E - 1: the difference itself loses its digits where time << T1
    return Step(after * (1 + less), -less)


def regrowth(time: Tensor, t1: Tensor) -> Tensor:
    """``1 - E`` with all its digits where ``time << T1``, for use in ratios.

    That is ``-expm1(-time / T1)``, of which TorchInductor makes ``1 - exp`` on a CPU.
    """
    half = torch.tanh(time / (2 * t1))
    return 2 * half / (1 + half)


def steady_state(*steps: Step) -> Tensor:
    """Magnetisation before the first of the steps that the sequence repeats for ever."""
    scale, offset = reduce(Step.then, steps)
    return offset / (1 - scale)


def quarter_turn(b1: Tensor | float, like: Tensor) -> Tensor:
    """A nominal 90 degree pulse [rad] where B1+ is ``b1`` times nominal, of the kind of ``like``."""
    return torch.deg2rad(b1 * like.new_full((), 90.0))

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

"""Signal equations compiled by ``torch.compile``: one loop over the voxels for a whole equation.

The first equation of a process takes some ten seconds to compile, each other one second or two, and half of that where
the machine has compiled it before; the numbers of voxels and of contrasts do not matter.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..signal import Sequence
from .contrast import draw


class Compiler:
    """What this process knows about its compiler: it works until it has failed once."""

    works = True


def draw_compiled(out: Tensor, sequence: Sequence, maps: list[Tensor], fields: dict, given: dict, signed: bool) -> None:
    """:func:`scripts.render.contrast.draw`, compiled; without a compiler it says so once and is the same."""
    if Compiler.works:
        try:
            options = {name: standalone(given[name]) for name in sequence.options if name in given}
            return compile_draw(sequence, signed)(standalone(out), [standalone(x) for x in maps], fields, options)
        except Exception as error:  # torch has no one class for what a missing or unfit compiler leads to
            Compiler.works = False
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            warnings.warn(f"signal equations run uncompiled, slower with the same values: {reason}", stacklevel=2)
    return draw(out, sequence, maps, fields, given, signed)


@cache
def compile_draw(sequence: Sequence, signed: bool) -> Callable[..., None]:
    """:func:`scripts.render.contrast.draw` for one sequence; it is compiled when it is first called."""

    def draw_sequence(out: Tensor, maps: list[Tensor], fields: dict[str, Tensor], given: dict[str, Tensor]) -> None:
        with AccurateExpm1():
            draw(out, sequence, maps, fields, given, signed)

    return torch.compile(draw_sequence, dynamic=True, isolate_recompiles=True)


def standalone(x: Tensor) -> Tensor:
    """The same memory as a tensor of its own: the offset of a view would be one more thing to compile for."""
    return torch.from_dlpack(x)


class AccurateExpm1(TorchFunctionMode):
    """Gives ``expm1`` back the digits that torch's C++ code generation drops: it writes ``exp(x) - 1``."""

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        return expm1(*args) if func in (torch.expm1, Tensor.expm1) else func(*args, **(kwargs or {}))


def expm1(x: Tensor) -> Tensor:
    """``exp(x) - 1`` to 2e-7 in float32; below 0.35 by the Taylor series ``x (1 + x/2 (1 + x/3 (... (1 + x/8))))``."""
    series = 1 + x * (1 / 8)
    for n in range(7, 1, -1):
        series = 1 + x * (1 / n) * series
    return torch.where(x.abs() < 0.35, x * series, torch.exp(x) - 1)

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

"""Signal equations compiled by ``torch.compile``: one loop over the voxels for some settings of a sequence.

It reads the maps once, needs no temporaries, and computes once what settings share, as ``exp(-TR/T1)`` of a sweep over
TI. The first equation of a process takes some ten seconds to compile, each other one to four, or two to twelve for four
settings in one loop; on a machine that has compiled them before, a fraction of that. The number of voxels does not
matter; that of settings does up to :data:`scripts.render.volumes.TOGETHER`, as does which of their fields are equal.
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


def draw_compiled(
    images: list[Tensor], sequence: Sequence, maps: list[Tensor], settings: list[dict], given: dict, signed: bool
) -> None:
    """:func:`scripts.render.contrast.draw`, compiled; without a compiler it says so once and is the same."""
    if Compiler.works:
        try:
            known = {name: given[name] for name in sequence.options if name in given}
            return compile_draw(sequence, signed)(images, maps, settings, known)
        except Exception as error:  # torch has no one class for what a missing or unfit compiler leads to
            Compiler.works = False
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            warnings.warn(f"signal equations run uncompiled, slower with the same values: {reason}", stacklevel=2)
    return draw(images, sequence, maps, settings, given, signed)


@cache
def compile_draw(sequence: Sequence, signed: bool) -> Callable[..., None]:
    """:func:`scripts.render.contrast.draw` for one sequence; it is compiled when it is first called."""

    def draw_sequence(images: list[Tensor], maps: list[Tensor], settings: list[dict], given: dict) -> None:
        with AccurateExpm1():
            draw(images, sequence, maps, settings, given, signed)

    return torch.compile(draw_sequence, fullgraph=True, dynamic=True, isolate_recompiles=True, recompile_limit=64)


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

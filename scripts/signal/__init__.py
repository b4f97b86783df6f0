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

"""MR signal equations: one pure function per sequence, and the table that names them.

A function has the signature ``f(pd, t1, t2, *, <fields>, <options>) -> signal`` with times in seconds and angles in
degrees; it is signed, differentiable, and broadcasts maps against fields. To add a sequence, write its function and
add a row to :data:`SEQUENCES`; everything else reads the table.

"Source" in a docstring says whom a sequence or its equation is attributed to. The forms here were derived and then
checked against Bloch and extended-phase-graph simulations; they are not transcriptions.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from .gradient_echo import bssfp, saturation_recovery, spoiled_gradient_echo
from .inversion_recovery import (
    double_inversion_recovery,
    inversion_recovery,
    inversion_recovery_turbo_spin_echo,
    inversion_recovery_vfa_turbo_spin_echo,
)
from .magnetisation_prepared import mp2rage, mp2rage_images, mprage
from .paper import paper_flair, paper_mprage, paper_spin_echo
from .spin_echo import spin_echo, turbo_spin_echo, vfa_turbo_spin_echo

__all__ = [
    "SEQUENCES",
    "Sequence",
    "bssfp",
    "double_inversion_recovery",
    "inversion_recovery",
    "inversion_recovery_turbo_spin_echo",
    "inversion_recovery_vfa_turbo_spin_echo",
    "mp2rage",
    "mp2rage_images",
    "mprage",
    "paper_flair",
    "paper_mprage",
    "paper_spin_echo",
    "saturation_recovery",
    "spin_echo",
    "spoiled_gradient_echo",
    "turbo_spin_echo",
    "vfa_turbo_spin_echo",
]


class Sequence(NamedTuple):
    """A signal equation and what it needs.

    Attributes:
        signal: the function.
        fields: acquisition fields it requires, its keyword-only arguments without default.
        options: its keyword-only arguments with a default: ``b1`` (B1+ relative to nominal), ``t2_star`` [s],
            ``inversion_efficiency``; each a scalar or a map.
        paper: the published equation that stands for this sequence, None where the paper has none.
        signed: whether images of it have a sign; magnitudes are stored of all others.
        volume: whether it excites a volume, never one thin slice: voxels are then about as long as wide.
    """

    signal: Callable[..., Tensor]
    fields: tuple[str, ...]
    options: tuple[str, ...] = ()
    paper: str | None = None
    signed: bool = False
    volume: bool = False


_TRAIN = ("echo_train_length", "echo_spacing")
_READOUT = (*_TRAIN, "echoes_before_centre")
_INVERTED = ("b1", "inversion_efficiency")

SEQUENCES: dict[str, Sequence] = {
    "spin_echo": Sequence(spin_echo, ("te", "tr", "flip_angle"), ("b1",), "paper_spin_echo"),
    "turbo_spin_echo": Sequence(turbo_spin_echo, ("te", "tr", *_TRAIN), ("b1",), "paper_spin_echo"),
    "vfa_turbo_spin_echo": Sequence(
        vfa_turbo_spin_echo, ("te", "te_equivalent", "tr", *_TRAIN), ("b1",), "paper_spin_echo", volume=True
    ),
    "inversion_recovery": Sequence(inversion_recovery, ("te", "tr", "ti"), _INVERTED, "paper_flair"),
    "inversion_recovery_turbo_spin_echo": Sequence(
        inversion_recovery_turbo_spin_echo, ("te", "tr", "ti", *_TRAIN), _INVERTED, "paper_flair"
    ),
    "inversion_recovery_vfa_turbo_spin_echo": Sequence(
        inversion_recovery_vfa_turbo_spin_echo,
        ("te", "te_equivalent", "tr", "ti", *_TRAIN),
        _INVERTED,
        "paper_flair",
        volume=True,
    ),
    "double_inversion_recovery": Sequence(double_inversion_recovery, ("te", "tr", "ti", "ti2"), _INVERTED),
    "mprage": Sequence(
        mprage,
        ("te", "tr", "ti", "flip_angle", *_READOUT),
        ("b1", "t2_star", "inversion_efficiency"),
        "paper_mprage",
        volume=True,
    ),
    "mp2rage": Sequence(
        mp2rage, ("te", "tr", "ti", "ti2", "flip_angle", "flip_angle2", *_READOUT), _INVERTED, signed=True, volume=True
    ),
    "spoiled_gradient_echo": Sequence(spoiled_gradient_echo, ("te", "tr", "flip_angle"), ("b1", "t2_star")),
    "bssfp": Sequence(bssfp, ("te", "tr", "flip_angle"), ("b1",)),
    "saturation_recovery": Sequence(saturation_recovery, ("te", "ti", "flip_angle"), ("b1", "t2_star")),
    "paper_mprage": Sequence(paper_mprage, ("tr", "ti"), paper="paper_mprage"),
    "paper_spin_echo": Sequence(paper_spin_echo, ("te", "tr"), paper="paper_spin_echo"),
    "paper_flair": Sequence(paper_flair, ("te", "tr", "ti"), paper="paper_flair"),
}
"""Sequence name -> equation. The position of a name is its code in an acquisition row minus 1."""

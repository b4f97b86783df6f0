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

A function has the signature ``f(pd, t1, t2, *, <required fields>) -> signal`` with times in seconds and angles in
degrees. To add a sequence, write its function and add a row to :data:`SEQUENCES`; everything else reads the table.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from .paper import paper_flair, paper_mprage, paper_spin_echo


class Sequence(NamedTuple):
    """A signal equation and the acquisition fields it needs."""

    signal: Callable[..., Tensor]
    fields: tuple[str, ...]


SEQUENCES: dict[str, Sequence] = {
    "paper_mprage": Sequence(paper_mprage, ("tr", "ti")),
    "paper_spin_echo": Sequence(paper_spin_echo, ("te", "tr")),
    "paper_flair": Sequence(paper_flair, ("te", "tr", "ti")),
}
"""Sequence name -> equation and required fields. The position of a name is its code in an acquisition row minus 1."""

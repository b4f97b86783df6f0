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

"""What the settings of a sequence must satisfy: the rules of :mod:`scripts.acquisition.timing` as inequalities.

The page needs them as numbers, to stop a slider where the next step would be refused. A test compares them with
:func:`scripts.acquisition.timing.check_timing` at random settings.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import fx

from ..acquisition.timing import SHORTEST_EQUIVALENT, TOLERANCE
from ..signal import SEQUENCES
from .equations import function


class Limit(NamedTuple):
    """One inequality.

    Attributes:
        fields: its arguments, in this order.
        room: how far the settings [s, or a number] are inside; linear in each of its arguments.
        why: a sentence with the inequality.
        strict: whether no room at all is too little.
    """

    fields: tuple[str, ...]
    room: Callable
    why: str
    strict: bool = False

    def holds(self, values: dict[str, float]) -> bool:
        """Whether settings satisfy it, as far as rounding of the times allows."""
        room = self.room(*(values[field] for field in self.fields))
        return room > 0 if self.strict else room >= -TOLERANCE

    @property
    def javascript(self) -> str:
        """``room`` as a JavaScript function."""
        graph = fx.Graph()
        tracer = fx.proxy.GraphAppendingTracer(graph)
        symbols = [fx.Proxy(graph.placeholder(field), tracer) for field in self.fields]
        return function(graph, self.room(*symbols).node, self.fields)


_ECHO = Limit(("te", "tr"), lambda te, tr: tr - te, "TE < TR: the echo comes before the next excitation", True)
_NEXT = Limit(("ti", "tr"), lambda ti, tr: tr - ti, "TI < TR: the next inversion follows TR after the last", True)
_BOTH = Limit(
    ("te", "tr", "ti"), lambda te, tr, ti: tr - ti - te, "TI + TE < TR: the echo comes before the next inversion", True
)
_EQUIVALENT = (
    Limit(("te", "te_equivalent"), lambda te, eq: te - eq, "equivalent TE ≤ TE: what is stored along z decays less"),
    Limit(
        ("te", "te_equivalent"),
        lambda te, eq: eq - SHORTEST_EQUIVALENT * te,
        f"equivalent TE ≥ {SHORTEST_EQUIVALENT:.3f} TE: nothing decays less than with T1",
    ),
)
_TRAIN = (
    Limit(
        ("te", "echo_train_length", "echo_spacing"),
        lambda te, n, d: n * d - te,
        "TE ≤ N d: the train of N echoes d apart reaches the effective echo",
    ),
    Limit(
        ("tr", "echo_train_length", "echo_spacing"),
        lambda tr, n, d: tr - n * d,
        "N d < TR: the train of N echoes d apart fits into TR",
        True,
    ),
)
_TRAIN_INVERTED = Limit(
    ("tr", "ti", "echo_train_length", "echo_spacing"),
    lambda tr, ti, n, d: tr - ti - n * d,
    "TI + N d ≤ TR: the train of N echoes d apart ends before the next inversion",
)
_READOUT = (
    Limit(
        ("echo_train_length", "echoes_before_centre"),
        lambda n, before: n - before,
        "nc ≤ N: the centre of k-space lies within the readout",
    ),
    Limit(
        ("ti", "echo_spacing", "echoes_before_centre"),
        lambda ti, d, before: ti - before * d,
        "nc d ≤ TI: the readout starts after the inversion",
    ),
)
_READOUT_ENDS = Limit(
    ("tr", "ti", "echo_train_length", "echo_spacing", "echoes_before_centre"),
    lambda tr, ti, n, d, before: tr - ti - (n - before) * d,
    "TI + (N − nc) d ≤ TR: the readout ends before the next inversion",
)
_SECOND_ENDS = Limit(
    ("tr", "ti2", "echo_train_length", "echo_spacing", "echoes_before_centre"),
    lambda tr, ti2, n, d, before: tr - ti2 - (n - before) * d,
    "TI2 + (N − nc) d ≤ TR: the second readout ends before the next inversion",
)
_BETWEEN = Limit(
    ("ti", "ti2", "echo_train_length", "echo_spacing"),
    lambda ti, ti2, n, d: ti2 - ti - n * d,
    "TI2 − TI ≥ N d: the first readout fits between the two centres",
)
_SHORTER = Limit(
    ("ti", "ti2"), lambda ti, ti2: ti - ti2, "TI2 < TI: both end at the excitation, the second is the shorter", True
)


def limits(sequence: str) -> list[Limit]:
    """The inequalities that the settings of a sequence must satisfy."""
    fields = {*SEQUENCES[sequence].fields}
    found = [_ECHO, _BOTH, _NEXT, *_EQUIVALENT]
    if {"echo_train_length", "flip_angle"} <= fields:
        found += [*_READOUT, *((_BETWEEN, _SECOND_ENDS) if "ti2" in fields else (_READOUT_ENDS,))]
    elif "echo_train_length" in fields:
        found += [*_TRAIN, _TRAIN_INVERTED]
    else:
        found.append(_SHORTER)
    return [limit for limit in found if fields.issuperset(limit.fields)]

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

"""What the times of one acquisition must satisfy: the one place that knows when a pulse would have to overlap another.

Which rules apply follows from the fields of the signal equation: one with an echo train and no flip angle is a turbo
spin echo, one with both reads a train of excitations after an inversion.
"""

import math
from collections.abc import Iterable, Iterator

from ..errors import UserError
from ..signal.spin_echo import REFERENCE_T1, REFERENCE_T2

TOLERANCE = 1e-6
"""Overlap [s] that rounding of the times in a sidecar may cause."""
SHORTEST_EQUIVALENT = REFERENCE_T2 / REFERENCE_T1
"""Contrast-equivalent over nominal echo time where nothing decays with T2: T2 / T1 of the reference tissue, see
:func:`scripts.signal.vfa_turbo_spin_echo`."""


def check_timing(acquisition, fields: Iterable[str], where: object) -> None:
    """Refuses an acquisition whose pulses cannot follow each other, as far as its values are known.

    Args:
        acquisition: a :class:`scripts.acquisition.Acquisition` whose values are numbers in SI seconds, or None.
        fields: those of its signal equation; they tell which rules apply.
        where: the file or request it comes from, for the message.

    Raises:
        UserError: naming ``where``, the BIDS key to look at, and the reason.
    """
    for key, reason, do in _conflicts(acquisition, set(fields)):
        raise UserError(f"{where}: {key}", reason, do)


def readout_room(tr: float, ti: float, echo_spacing: float) -> tuple[int, int]:
    """Most excitations before and after the centre of an MPRAGE's readout: ``TI / d`` and ``(TR - TI) / d``."""
    return int((ti + TOLERANCE) / echo_spacing), int((tr - ti + TOLERANCE) / echo_spacing)


def _conflicts(a, fields: set[str]) -> Iterator[tuple[str, str, str]]:
    te, tr, ti = a.te or 0.0, a.tr or math.inf, a.ti or 0.0
    if te >= tr:
        yield "EchoTime", f"TE {te:g} s ≥ TR {tr:g} s", "give an echo time below RepetitionTime"
    if ti >= tr:
        reason = f"TI {ti:g} s ≥ TR {tr:g} s, but the next inversion follows TR after the last"
        yield "InversionTime", reason, "give an inversion time below RepetitionTime"
    if ti + te >= tr:
        reason = f"TI + TE = {ti + te:g} s ≥ TR {tr:g} s, but the echo comes before the next inversion"
        yield "InversionTime", reason, "give times that fit into RepetitionTime"
    known = {name for name in fields if getattr(a, name) is not None}
    shortest = SHORTEST_EQUIVALENT * te
    if {"te", "te_equivalent"} <= known and not shortest - TOLERANCE <= a.te_equivalent <= te + TOLERANCE:
        reason = f"{a.te_equivalent:g} s for a nominal TE of {te:g} s"
        yield "ContrastEquivalentEchoTime", reason, f"give a time from {shortest:.2g} s to EchoTime"
    if {"echo_train_length", "flip_angle"} <= fields:
        if {"ti", "echo_train_length", "echo_spacing", "echoes_before_centre"} <= known:
            yield from _readout_conflicts(a, tr)
    elif "echo_train_length" in fields:
        if {"echo_train_length", "echo_spacing"} <= known:
            yield from _turbo_conflicts(a, te, tr, ti)
    elif {"ti", "ti2"} <= known and a.ti2 >= ti:
        reason = f"{a.ti2:g} s ≥ TI {ti:g} s, but both are counted to the excitation, so the second is the shorter one"
        yield "InversionTime2", reason, "give the time from the second inversion to the excitation"


def _turbo_conflicts(a, te: float, tr: float, ti: float) -> Iterator[tuple[str, str, str]]:
    train = a.echo_train_length * a.echo_spacing
    size = f"{a.echo_train_length:g} echoes of {1000 * a.echo_spacing:g} ms = {train:g} s"
    if te > train + TOLERANCE:
        yield "EchoTrainLength", f"{size} < TE {te:g} s", "give a train that reaches the effective echo time"
    if train >= tr:
        yield "EchoTrainLength", f"{size} ≥ TR {tr:g} s", "give a train that fits into RepetitionTime"
    if ti and ti + train > tr + TOLERANCE:
        reason = f"TI {ti:g} s and {size} together > TR {tr:g} s"
        yield "EchoTrainLength", reason, "give a train that ends before the next inversion"


def _readout_conflicts(a, tr: float) -> Iterator[tuple[str, str, str]]:
    """``nc`` excitations come before the centre of k-space, ``N - nc`` after it, ``d`` apart."""
    d, before, after = a.echo_spacing, a.echoes_before_centre, a.echo_train_length - a.echoes_before_centre
    ways = "check NumberShots ([before, after] the centre of k-space) and RepetitionTimeExcitation"
    if after < 0:
        yield "NumberShots", f"{before:g} excitations before the centre, of {a.echo_train_length:g}", ways
    if before * d > a.ti + TOLERANCE:
        reason = f"{before:g} excitations of {1000 * d:g} ms before the centre: TA = {a.ti - before * d:.4g} s < 0"
        yield "NumberShots", f"{reason}, the readout would start before the inversion", ways
    last = a.ti if a.ti2 is None else a.ti2
    if a.ti2 is not None and a.ti2 - a.ti + TOLERANCE < a.echo_train_length * d:
        reason = f"{a.ti2:g} s, {a.ti2 - a.ti:.4g} s after the first, for a readout of {a.echo_train_length * d:.4g} s"
        yield "InversionTime2", reason, "give inversion times between which the first readout fits"
    rest = tr - last - after * d
    if rest < -TOLERANCE:
        reason = f"{after:g} excitations of {1000 * d:g} ms after the centre: TC = {rest:.4g} s < 0"
        yield "NumberShots", f"{reason}, the readout would end after the next inversion", ways

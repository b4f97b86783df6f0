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

"""The usable scans of one subject: what they should look like, and how that hangs on the maps and on the scanner.

Unknown of a voxel are ln PD, ln T1, ln T2. Unknown of the scanner, and common to all voxels, are the logarithm of the
gain of each group of scans, and in units of their prior standard deviation: the inversion efficiency and B1+ relative
to nominal, which all scans share, and the assumed parameters of each scan.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...acquisition import FIELDS, UNKNOWN, assumed, known, present, sequence_name, values
from ...render import T2_STAR_RATIO
from ...signal import SEQUENCES
from ...signal import Sequence as Equation

T2_STAR_SD = 0.2
"""Standard deviation of ln(T2* / T2) between tissues, about :data:`scripts.render.T2_STAR_RATIO`."""
ASSUMED_SD = {"te_equivalent": 0.3, "flip_angle": 0.2, "flip_angle2": 0.2}
OTHER_ASSUMED_SD = 0.1
"""Standard deviations of the logarithm of a field that is assumed."""
FURTHEST = 2.0
"""No property of a scanner is further from what is expected of it than this many standard deviations."""


class Scan(NamedTuple):
    """One scan that can be rendered.

    Attributes:
        number: its place among the M contrasts.
        equation: of its sequence.
        fields: what the equation needs, in SI seconds and degrees.
        assumed: names of those that are assumed.
    """

    number: int
    equation: Equation
    fields: dict[str, float]
    assumed: tuple[str, ...]


class Property(NamedTuple):
    """An unknown of the scanner besides the gains: ``mean + sd z``, or ``mean exp(sd z)`` where it is a factor."""

    name: str
    scan: int | None
    mean: float
    sd: float

    def value(self, z: Tensor) -> Tensor:
        """What it is at ``z`` standard deviations from what is expected."""
        return self.mean * torch.exp(self.sd * z) if self.name in FIELDS else self.mean + self.sd * z


class Prediction(NamedTuple):
    """Signed signals of PD 1 of S scans at N nodes, and their derivatives.

    Attributes:
        signal: without gain ``(S, N)``.
        by_t2_star: derivatives by ln(T2* / T2) ``(S, N)``.
        by_property: derivatives by the properties of the scanner, in standard deviations, one of a scan for each of
            :attr:`Scanner.pairs` after the gains ``(U, N)``.
    """

    signal: Tensor
    by_t2_star: Tensor
    by_property: Tensor


def usable_scans(rows: Tensor) -> list[Scan]:
    """The scans with an equation, a magnitude and all parameters.

    Left out are absent contrasts, unknown sequences, sequences with a field that is unknown, and images that are signed
    by definition: the uniform image of MP2RAGE has no gain, and files store it on scales of their own.

    Args:
        rows: acquisitions of one subject ``(M, A)``.
    """
    scans, rows = [], rows.detach().float().cpu()
    for number in present(rows).nonzero().flatten().tolist():
        name = sequence_name(rows[number])
        if name == UNKNOWN or SEQUENCES[name].signed:
            continue
        row, equation = rows[number], SEQUENCES[name]
        fields = {field: values(row, field).item() for field in equation.fields}
        if all(fields[field] or known(row, field) for field in fields):
            scans.append(Scan(number, equation, fields, tuple(f for f in fields if assumed(row, f) and fields[f])))
    return scans


class Scanner:
    """S scans of one subject, and the unknowns of the scanner: G gains, then the properties.

    Args:
        scans: see :func:`usable_scans`.
        groups: which gain each of them has ``(S,)``; equal numbers share one.
        inversion_efficiency: mean and standard deviation.
        b1_sd: standard deviation of B1+ relative to nominal.
    """

    def __init__(
        self, scans: list[Scan], groups: Sequence[int], inversion_efficiency: tuple[float, float], b1_sd: float
    ) -> None:
        self.scans = scans
        names = list(dict.fromkeys(groups))
        self.group = [names.index(group) for group in groups]
        self.gains = len(names)
        self.properties = [
            Property(name, s, scan.fields[name], ASSUMED_SD.get(name, OTHER_ASSUMED_SD))
            for s, scan in enumerate(scans)
            for name in scan.assumed
        ]
        for name, expected in (("inversion_efficiency", inversion_efficiency), ("b1", (1.0, b1_sd))):
            if any(name in scan.equation.options for scan in scans):
                self.properties.append(Property(name, None, *expected))
        self.size = self.gains + len(self.properties)
        gains = list(enumerate(self.group))
        others = [
            (s, self.gains + p)
            for s, scan in enumerate(scans)
            for p, this in enumerate(self.properties)
            if this.name in _names(scan) and this.scan in (None, s)
        ]
        self.pairs = gains + others

    def expected(self) -> Tensor:
        """The unknowns before any scan: gains of 1, properties as expected ``(P,)``."""
        return torch.zeros(self.size)

    def bounded(self, unknown: Tensor) -> Tensor:
        """The unknowns within what is possible ``(P,)``."""
        limited = unknown.clone()
        limited[self.gains :] = unknown[self.gains :].clamp(-FURTHEST, FURTHEST)
        for p, this in enumerate(self.properties, self.gains):
            if this.name == "inversion_efficiency":
                limited[p] = min(float(limited[p]), (1 - this.mean) / max(this.sd, 1e-6))
        return limited

    def predict(self, log_times: Tensor, unknown: Tensor) -> Prediction:
        """Signals at ln T1, ln T2 ``(2, N)``; all derivatives of a scan come from one backward pass.

        Args:
            log_times: ln T1, ln T2 ``(2, N)``.
            unknown: unknowns of the scanner ``(P,)``; gains are left out.
        """
        signals, by_star, by_property = [], [], []
        for s, scan in enumerate(self.scans):
            mine = [p - self.gains for where, p in self.pairs if where == s and p >= self.gains]
            properties, z = [self.properties[p] for p in mine], unknown[[self.gains + p for p in mine]]
            signal, (star, *slopes) = _differentiate(scan, log_times, properties, z)
            signals.append(signal)
            by_star.append(star)
            by_property += slopes
        empty = log_times.new_zeros(0, log_times.shape[1])
        return Prediction(
            torch.stack(signals), torch.stack(by_star), torch.stack(by_property) if by_property else empty
        )


def _names(scan: Scan) -> set[str]:
    """What a property must be called to matter to a scan."""
    return {*scan.equation.options, *scan.assumed}


def _differentiate(
    scan: Scan, log_times: Tensor, properties: list[Property], z: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Signed signal of unit PD ``(N,)`` and its derivatives by ln(T2* / T2) and the properties."""
    # Autograd does not work on tensors of inference mode.
    with torch.inference_mode(False), torch.enable_grad():
        log_t1, log_t2 = (x.clone() for x in log_times)
        leaves = [torch.zeros_like(log_t1), *(torch.full_like(log_t1, number) for number in z.tolist())]
        log_ratio, *zs = (leaf.requires_grad_() for leaf in leaves)
        signal = _signal(scan, log_t1, log_t2, log_ratio, properties, zs)
        if not signal.requires_grad:
            return signal, tuple(torch.zeros_like(leaf) for leaf in leaves)
        slopes = torch.autograd.grad(signal.sum(), leaves, allow_unused=True, materialize_grads=True)
    return signal.detach(), slopes


def _signal(
    scan: Scan, log_t1: Tensor, log_t2: Tensor, log_ratio: Tensor, properties: list[Property], zs: Sequence[Tensor]
) -> Tensor:
    """Signed signal of unit PD ``(N,)`` at ln T1, ln T2, ln(T2* / T2) over its mean, and properties at ``zs``."""
    t2 = log_t2.exp()
    fields = {name: t2.new_tensor(value) for name, value in scan.fields.items()}
    options = {"t2_star": T2_STAR_RATIO * t2 * log_ratio.exp()} if "t2_star" in scan.equation.options else {}
    for this, z in zip(properties, zs):
        (fields if this.name in fields else options)[this.name] = this.value(z)
    return scan.equation.signal(torch.ones_like(t2), log_t1.exp(), t2, **fields, **options)

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

"""The images of a session as records, and the acquisitions they resolve to."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import nibabel as nib
import torch
from nibabel.filebasedimages import ImageFileError

from ..acquisition import AUTO, NAMES, SEQUENCE_KEYS, UNKNOWN, Acquisition, from_sidecar, load_protocol
from ..acquisition.keys import LABEL_KEYS
from ..errors import UserError
from .names import SUFFIXES, stem
from .words import CONTRAST_AGENT, STRIPPED

LONG = 2.0
"""Voxels so many times as long as wide are of thick slices."""


@dataclass(frozen=True)
class Contrast:
    """One image of one session.

    Args:
        path: the image.
        suffix: BIDS suffix, such as ``T1w``.
        entities: BIDS entities besides subject and session, such as ``{"acq": "2d", "run": "1"}``.
        sidecar: merged sidecars, nearest wins; empty where there is none.
        problem: why the image cannot be used at all, such as a broken sidecar.
        copy_of: name of the file that holds the same scan and counts instead; empty where none does.
    """

    path: Path
    suffix: str
    entities: dict[str, str]
    sidecar: dict
    problem: UserError | None = None
    copy_of: str = ""

    @property
    def unused(self) -> str:
        """Why the image does not count for estimation; nothing where it does."""
        if self.suffix not in SUFFIXES.values() and SEQUENCE_KEYS[0] not in self.sidecar:
            return f"the suffix {self.suffix}" if self.suffix else "a name that tells no contrast"
        if "desc" in self.entities:
            return f"a derivative (desc-{self.entities['desc']})"
        part = self.entities.get("part", "mag")
        if part != "mag":
            return f"no magnitude image (part-{part})"
        return f"the same scan as {self.copy_of}, stored once more" if self.copy_of else ""

    @property
    def where(self) -> str:
        """The sidecar a user would look into, for messages."""
        name = f"{stem(self.path)}.json"
        return name if name.startswith("sub-") else f"{self.path.parent.name}/{name}"

    @property
    def skull_stripped(self) -> bool:
        """Whether sidecar or name say that the image shows the brain alone."""
        stated = self.sidecar.get("SkullStripped")
        return stated if isinstance(stated, bool) else STRIPPED.search(stem(self.path).lower()) is not None

    @property
    def post_contrast(self) -> bool:
        """Whether the image looks as if taken after a contrast agent, which shortens T1."""
        agent = any(self.sidecar.get(key) for key in ("ContrastBolusAgent", "ContrastBolusIngredient"))
        name = re.sub(r"(sub|ses)-[^_]*", "", stem(self.path))
        texts = (name, *(str(self.sidecar.get(key) or "") for key in LABEL_KEYS))
        return agent or "ce" in self.entities or any(CONTRAST_AGENT.search(text.lower()) for text in texts)


@dataclass(frozen=True)
class Session:
    """The images of one subject at one time.

    Args:
        subject: label without ``sub-``.
        session: label without ``ses-``, or None.
        contrasts: every image that can be used, sorted by name.
        maps: ``PDmap``, ``T1map``, ``T2map`` and ``dseg``, ``T2starmap``, ``TB1map``, ``probseg`` (the
            share of fluid) where they exist.
        ignored: anatomical images of other kinds, for a warning.
        problem: why the session cannot be used; :func:`resolve` raises it.
        skull_stripped: whether all images or maps are said to be of the brain alone.
    """

    subject: str
    session: str | None
    contrasts: tuple[Contrast, ...]
    maps: dict[str, Path] = field(default_factory=dict)
    ignored: tuple[Path, ...] = ()
    problem: UserError | None = None
    skull_stripped: bool = False

    @property
    def name(self) -> str:
        """``sub-01`` or ``sub-01_ses-1``."""
        return f"sub-{self.subject}" + (f"_ses-{self.session}" if self.session else "")


def resolve(session: Session, protocol: str | Mapping | None = None, equations: str = "exact") -> list[Acquisition]:
    """The checked acquisitions of a session's contrasts, in their order.

    Args:
        session: from :func:`find_sessions`.
        protocol: fills what sidecars lack: a name or file for :func:`scripts.acquisition.load_protocol`, or its result;
            with ``unknown`` a scan of which too little is stated has an acquisition without a signal equation.
        equations: ``exact``, or ``paper`` for the published equations, see :func:`scripts.acquisition.from_sidecar`.

    Raises:
        UserError: with every problem of the session at once.
    """
    acquisitions, problems = _resolve(session, _table(protocol), equations)
    if problems:
        raise combine(problems)
    return acquisitions


def resolve_all(
    sessions: Iterable[Session], protocol: str | Mapping | None = None, equations: str = "exact", auto: bool = False
) -> tuple[dict[str, list[Acquisition]], dict[str, UserError]]:
    """As :func:`resolve`, for a folder: acquisitions of the usable sessions and problems of the others, by name.

    With ``auto``, the protocol may be that word: the scans choose later, see :func:`resolve_contrast`.

    Raises:
        UserError: when no session is usable: one message with what is missing in which file.
    """
    table, resolved, failures, everything = _table(protocol, auto), {}, {}, []
    for session in sessions:
        acquisitions, problems = _resolve(session, table, equations)
        if problems:
            failures[session.name] = combine(problems)
            everything += problems
        else:
            resolved[session.name] = acquisitions
    if everything and not resolved:
        raise combine(everything)
    return resolved, failures


def resolve_contrast(
    contrast: Contrast, protocol: Mapping | str | None = None, equations: str = "exact"
) -> Acquisition:
    """The checked acquisition of one image; arguments and errors as :func:`resolve`.

    With ``auto``, a scan of which too little is stated gets what the first named protocol says of its suffix, and the
    others as alternatives; it is unknown where none does. Where the slices are thick, protocols with a sequence that
    excites a volume are left out.
    """
    if contrast.problem:
        raise contrast.problem
    described = partial(from_sidecar, contrast.suffix, contrast.sidecar, contrast.where, equations=equations)
    if protocol != AUTO:
        return described(protocol)
    unknown = described(UNKNOWN)
    if unknown.sequence != UNKNOWN:
        return unknown
    found: dict[str, Acquisition] = {}
    for name in NAMES:
        try:
            one = described(load_protocol(name))
        except UserError:
            continue  # it says too little of this suffix
        if all(not torch.equal(one.to_row(), other.to_row()) for other in found.values()):
            found[name] = one
    if has_thick_slices(contrast.path):
        found = {name: one for name, one in found.items() if not one.volume}
    if not found:
        return unknown
    return replace(next(iter(found.values())), alternatives=tuple(found.items()))


def has_thick_slices(path: Path) -> bool:
    """Whether a header says that voxels are :data:`LONG` times as long as wide, or more."""
    try:
        edges = sorted(float(edge) for edge in nib.load(path).header.get_zooms()[:3])
    except (OSError, ImageFileError, AttributeError):
        return False
    return len(edges) == 3 and edges[2] >= LONG * edges[1]


def combine(problems: list[UserError]) -> UserError:
    """One error for several: files with the same problem are named together."""
    if len(problems) == 1:
        return problems[0]
    groups: dict[str, list[str]] = {}
    for problem in problems:
        groups.setdefault(problem.found, []).append(str(problem.where))
    found = "; ".join(f"{found} in {', '.join(where)}" for found, where in groups.items())
    clauses = [clause for problem in problems for clause in problem.do.split("; ")]
    do = "; ".join(reversed(dict.fromkeys(reversed(clauses))))
    return UserError(f"{len(problems)} images", found, do)


def _table(protocol: str | Mapping | None, auto: bool = False) -> Mapping | str | None:
    return protocol if isinstance(protocol, Mapping) else load_protocol(protocol, auto)


def _resolve(
    session: Session, table: Mapping | str | None, equations: str
) -> tuple[list[Acquisition], list[UserError]]:
    """Acquisitions of the contrasts that have one, and the problems of the others."""
    if session.problem:
        return [], [session.problem]
    acquisitions, problems = [], []
    for contrast in session.contrasts:
        try:
            acquisitions.append(resolve_contrast(contrast, table, equations))
        except UserError as error:
            problems.append(error)
    return acquisitions, problems

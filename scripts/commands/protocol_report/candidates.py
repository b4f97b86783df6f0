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
"""Scans that may be added to a protocol, from ``candidates.json`` or a user's own file, and which are new to it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ...acquisition import Acquisition, load_render, read_json
from ...errors import UserError
from .identifiability import log_sensitivities

FILE = Path(__file__).with_name("candidates.json")
NEAR = 0.15
"""Scans whose log signals depend on ln T1 and ln T2 of white and grey matter alike to this are near duplicates."""


class Candidate(NamedTuple):
    """A scan, or several of one measurement, that may be added. Its scans share one gain.

    Attributes:
        name: a short name, for tables.
        label: the words for a sentence, with its article.
        acquisitions: its scans.
    """

    name: str
    label: str
    acquisitions: tuple[Acquisition, ...]


def load_candidates(path: str | Path = FILE) -> list[Candidate]:
    """The candidates of a JSON file: ``{"candidates": [{"name", "label", "scans": [render requests]}]}``.

    Raises:
        UserError: for a file that is none, and for incomplete or impossible scans.
    """
    entries = read_json(path).get("candidates")
    if not isinstance(entries, list):
        raise UserError(
            path, "no list named candidates", "give one, as in scripts/commands/protocol_report/candidates.json"
        )
    return [_candidate(entry, f"{path}: candidate {number}") for number, entry in enumerate(entries)]


def near_duplicate(candidate: Candidate, acquisitions: Sequence[Acquisition], anchors: Tensor) -> bool:
    """Whether a scan of the protocol weights the anchor tissues ``(N, 3)`` as the candidate's only scan does.

    Several scans that share a gain are never that: the sharing is new.
    """
    if len(candidate.acquisitions) > 1:
        return False
    new, old = (log_sensitivities(scans, anchors) for scans in (candidate.acquisitions, acquisitions))
    return bool(((new - old).abs().amax((0, 2)) < NEAR).any())


def _candidate(entry: object, where: str) -> Candidate:
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in ("name", "label")):
        raise UserError(where, repr(entry), "give an object with name, label and scans")
    requests = load_render(entry.get("scans"))
    if not requests:
        raise UserError(where, "no scans", "give at least one")
    return Candidate(entry["name"], entry["label"], tuple(request.acquisition for request in requests))

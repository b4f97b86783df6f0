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

"""What the results rest on, from ``protocols.json``: protocols, unseen contrasts, nuisances, heads and slices."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from scripts.acquisition import Acquisition, RenderRequest, load_render, read_json

FILE = Path(__file__).with_name("protocols.json")


class Protocol(NamedTuple):
    """The scans of a session.

    Attributes:
        name: for tables.
        requests: name, suffix and acquisition of each scan.
        gains: which gain each scan has; scans of one series share theirs.
        targets: measure -> its limit, see :mod:`.targets`.
    """

    name: str
    requests: tuple[RenderRequest, ...]
    gains: tuple[int, ...]
    targets: dict[str, float]

    @property
    def acquisitions(self) -> list[Acquisition]:
        """The scans' acquisitions."""
        return [request.acquisition for request in self.requests]

    @property
    def rows(self) -> Tensor:
        """Acquisition rows ``(M, A)``."""
        return torch.stack([acquisition.to_row() for acquisition in self.acquisitions])

    def at(self, field_strength: float) -> "Protocol":
        """The same scans at another field strength [T]."""
        requests = [request._replace(acquisition=_at(request.acquisition, field_strength)) for request in self.requests]
        return self._replace(requests=tuple(requests))


class Nuisance(NamedTuple):
    """What a scanner does to the signal, see :func:`benchmarks.results.scans.acquire`.

    Attributes:
        snr: mean signal of the brighter of white and grey matter over the standard deviation of the noise.
        gain: lowest and highest, log-uniform for every series.
        bias_sd: standard deviation of the logarithm of each series' bias field.
        inversion_efficiency: mean and standard deviation, one value a head.
        b1: B1+ in the middle of the field of view and at the middle of its faces.
    """

    snr: float
    gain: tuple[float, float]
    bias_sd: float
    inversion_efficiency: tuple[float, float]
    b1: tuple[float, float]


class Settings(NamedTuple):
    """All of the file: ``heads`` maps a file's stem to its axial slices in RAS, each a head of so many ``subjects``;
    ``phantom`` are such slices."""

    protocols: tuple[Protocol, ...]
    unseen: Protocol
    nuisance: Nuisance
    seed: int
    heads: dict[str, tuple[int, ...]]
    subjects: int
    phantom: tuple[int, ...]


def load_settings(path: Path = FILE) -> Settings:
    """Reads the file.

    Raises:
        UserError: for a broken file or an impossible scan.
    """
    content = read_json(path)
    protocols = tuple(_protocol(entry) for entry in content["protocols"])
    unseen = _protocol({"name": "unseen contrasts", "scans": content["unseen"]})
    heads = {name: tuple(slices) for name, slices in content["heads"].items()}
    nuisance = Nuisance(**content["nuisance"])
    return Settings(protocols, unseen, nuisance, content["seed"], heads, content["subjects"], tuple(content["phantom"]))


def _at(acquisition: Acquisition, field_strength: float) -> Acquisition:
    provenance = acquisition.provenance | {"field_strength": "given"}
    return replace(acquisition, field_strength=field_strength, provenance=provenance)


def _protocol(entry: dict) -> Protocol:
    requests = tuple(load_render(entry["scans"]))
    gains = tuple(entry.get("gains", range(len(requests))))
    return Protocol(entry["name"], requests, gains, entry.get("targets", {})).at(3.0)

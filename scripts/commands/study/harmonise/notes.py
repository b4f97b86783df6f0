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

"""What a reader of harmonised images has to know of each session: what was assumed, what its scans cannot tell."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pandas import DataFrame

from ....acquisition import RenderRequest
from ....bids import Session
from ....bids.names import stem
from .intensities import ACQUIRED, HARMONISED

UNCERTAIN = 0.2
"""Standard deviation of a tissue's intensity, of 1 for the bright level of the brain, from which a note says so."""
SAME_FIELD = 1.1
"""Field strengths that differ by a smaller factor are one."""


class Scanned(NamedTuple):
    """A session with what is known of it.

    Attributes:
        session: the session.
        about: sidecar of its T1 map.
        table: its intensities, see :func:`.intensities.measure`.
    """

    session: Session
    about: dict
    table: DataFrame

    @property
    def acquisitions(self) -> dict[str, dict]:
        """Name of a scan -> its resolved acquisition, as sidecars state it."""
        stated = self.about.get("Acquisitions", {})
        return {stem(Path(uri)).removeprefix(self.session.name).strip("_"): one for uri, one in stated.items()}

    @property
    def assumed(self) -> dict[str, list[str]]:
        """Name of a scan -> parameters that were assumed."""
        found = {}
        for name, acquisition in self.acquisitions.items():
            origins = acquisition.get("ParameterProvenance", {})
            found[name] = [key for key, origin in origins.items() if origin.startswith("assumed")]
        return found

    @property
    def field_strengths(self) -> list[float]:
        """Of its scans [T], those that are known."""
        return sorted({one["MagneticFieldStrength"] for one in self.acquisitions.values()
                       if "MagneticFieldStrength" in one})  # fmt: skip


def notes(scanned: Scanned, requests: Sequence[RenderRequest]) -> list[str]:
    """Sentences about one session.

    Args:
        scanned: the session.
        requests: the contrasts that it was rendered as.
    """
    table, said = scanned.table, []
    there = {*table["suffix"][table["stage"] == ACQUIRED]}
    missing = [request.suffix for request in requests if request.suffix not in there]
    if missing:
        said.append(f"{', '.join(dict.fromkeys(missing))} was not scanned and follows from the other scans.")
    for name in scanned.about.get("UnknownAcquisitions", []):
        said.append(f"The acquisition of {Path(name).name} is unknown: only the network read it.")
    uncertain = table[(table["stage"] == HARMONISED) & (table["sd"] > UNCERTAIN)]
    if len(uncertain):
        what = ", ".join(f"{row.tissue} in {row.suffix}" for row in uncertain.itertuples())
        said.append(f"Not known to ± {100 * UNCERTAIN:.0f} % of the bright level: {what}.")
    if not table["voxels"].any():
        said.append("No tissue was found, so nothing was measured.")
    said += _field_notes(scanned.field_strengths, requests)
    for contrast in scanned.session.contrasts:
        if contrast.post_contrast:
            said.append(f"{contrast.path.name} looks as if taken after a contrast agent, which shortens T1.")
    return said


def _field_notes(fields: Sequence[float], requests: Sequence[RenderRequest]) -> list[str]:
    """A note where the scans and the protocol are of different field strengths."""
    wanted = {request.acquisition.field_strength for request in requests} - {None}
    differs = [one for one in fields if any(max(one, other) > SAME_FIELD * min(one, other) for other in wanted)]
    if not differs:
        return []
    fields_of_protocol = " and ".join(f"{one:g}" for one in sorted(wanted))
    return [
        f"Scanned at {differs[0]:g} T, rendered for {fields_of_protocol} T: T1 and T2 stay those of {differs[0]:g} T."
    ]

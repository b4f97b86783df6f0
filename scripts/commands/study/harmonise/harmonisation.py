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

"""What a run that renders all sessions at one protocol adds: intensities of each, a report on all."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from ignite.engine import Engine, Events
from pandas import DataFrame

from ....acquisition import RenderRequest, load_render, read_json
from ....bids import Session, load_image, output_path
from ....errors import UserError
from ....estimate.estimator import Estimator
from ....estimate.maps import Maps
from ..folder import Study
from .intensities import ACQUIRED, HARMONISED, Image, brain_of, contrast_deviations, measure, read_labels, scaled
from .notes import Scanned, notes
from .page import page
from .pictures import comparison_picture, spread_picture
from .spread import per_session, spreads

REPORT, PICTURE, CHART = "harmonised.md", "harmonised.png", "harmonised_spread.png"
SPREADS, SESSIONS = "harmonised_spread.tsv", "harmonised_sessions.tsv"


@dataclass(eq=False)
class Harmonisation:
    """Measures tissues in every session's scans and in its contrasts at the common protocol, and reports on all.

    It is a part of :class:`scripts.commands.study.SubjectStep`, and a handler of its evaluator: the report is written
    when all sessions are done, from the tables of all that are complete.

    Args:
        study: where results go.
        dataset: the sessions, a :class:`scripts.commands.study.UsableSessions`.
        to: the protocol, see :func:`scripts.acquisition.load_render`.
    """

    study: Study
    dataset: object
    to: object

    def attach(self, engine: Engine) -> None:
        """Hooks into the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self.report)

    @cached_property
    def requests(self) -> list[RenderRequest]:
        """The contrasts of the protocol."""
        return load_render(self.to, self.dataset.equations)

    @property
    def title(self) -> str:
        """The protocol by its name."""
        return Path(self.to).stem if isinstance(self.to, (str, Path)) else "the protocol of this run"

    def check(self, estimator: Estimator) -> None:
        """Refuses what leaves nothing to measure.

        Raises:
            UserError: in that case.
        """
        if not self.requests:
            raise UserError("to", "an empty list", "ask for at least one contrast")
        for option in ("data_consistency", "fractions"):
            if not getattr(estimator, option):
                raise UserError(option, "false", "leave it on: the report needs to know where which tissue is")

    def lacks(self, session: Session) -> bool:
        """Whether the intensities of a session were not measured, or those of other contrasts."""
        try:
            found = self._read(session)
        except (OSError, ValueError, KeyError):
            return True
        return not {request.name for request in self.requests} <= {*found["image"][found["stage"] == HARMONISED]}

    def measure(self, folder: Path, session: Session, scans: Mapping[str, np.ndarray], maps: Maps) -> None:
        """Writes the intensities of one session.

        Args:
            folder: where its files are being written; what is not there is in the study.
            session: the session.
            scans: its scans by title, in the order of its contrasts, on the grid of the maps, in any unit.
            maps: its maps.
        """

        roots = folder, self.study.root
        labels = read_labels(roots, session, maps)
        brain = brain_of(labels, maps.mask)
        suffixes = [contrast.suffix for contrast in session.contrasts]
        images = [
            Image(name, suffix, ACQUIRED, scaled(array, brain, maps.affine)[0])
            for suffix, (name, array) in zip(suffixes, scans.items())
        ]
        brightness = []
        for request in self.requests:
            paths = [output_path(root, session, request.suffix, acq=request.name) for root in roots]
            rendered = load_image(next(path for path in paths if path.exists()), uniform=True)[0]
            array, bright = scaled(rendered, brain, maps.affine)
            images.append(Image(request.name, request.suffix, HARMONISED, array))
            brightness.append(bright)
        table = measure(images, labels, contrast_deviations(maps, labels, self.requests, brightness))
        path = output_path(folder, session, "intensities", ".tsv")
        path.parent.mkdir(parents=True, exist_ok=True)
        table.round(5).to_csv(path, sep="\t", index=False, na_rep="n/a")

    def report(self, engine: Engine | None = None) -> None:
        """Writes tables, page and pictures of all sessions that are complete; nothing for one of several shards."""
        root = self.study.root
        if not self.dataset.part.alone:
            print(f"{root}: no report of one shard; run the command without --shard when all have ended", flush=True)
            return
        records = {record["session"].name: record for record in self.dataset.records}
        tables = {
            name: self._read(record["session"])
            for name, record in records.items()
            if self.study.holds(record["session"]) and not self.lacks(record["session"])
        }
        if not tables:
            return
        names = [request.name for request in self.requests]
        table = pd.concat([one.assign(session=name) for name, one in tables.items()], ignore_index=True)
        table = table[(table["stage"] == ACQUIRED) | table["image"].isin(names)]
        # The contrasts of the protocol give the order.
        table = table.sort_values("stage", key=lambda stage: stage != HARMONISED, kind="stable")
        medians = per_session(table)
        found = spreads(medians)
        if found.empty:
            do = "state how the scans were acquired, in their sidecars or with --protocol"
            print(f"{root}: no report, since no tissue was found in any session; {do}", flush=True)
            return
        for name, one in ((SPREADS, found), (SESSIONS, table[["session", *table.columns.drop("session")]])):
            self.study.write(name, one.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.5g"))
        scanned = {name: self._scanned(records[name], one) for name, one in tables.items()}
        said = {name: notes(one, self.requests) for name, one in scanned.items()}
        self.study.write(
            REPORT, page(self.title, self.requests, found, scanned, said, self.study.failures, PICTURE, CHART)
        )
        self.study.write(CHART, spread_picture(medians, found))
        sessions = {name: records[name] for name in tables}
        self.study.write(PICTURE, comparison_picture(self.title, root, sessions, self.requests))
        print(f"report on {len(tables)} sessions: {root / REPORT}", flush=True)

    def _read(self, session: Session) -> DataFrame:
        return pd.read_csv(output_path(self.study.root, session, "intensities", ".tsv"), sep="\t", na_values="n/a")

    def _scanned(self, record: dict, table: DataFrame) -> Scanned:
        session = record["session"]
        about = read_json(output_path(self.study.root, session, "T1map", ".json"))
        return Scanned(session, about, table)

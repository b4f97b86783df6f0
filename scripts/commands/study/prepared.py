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

"""Scans prepared for training: those of each complete session, registered to each other and to the template."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...bids import Session, find_sessions, output_path, write_image
from ...errors import UserError
from ...preprocess.registration import figures
from ...preprocess.template import SPACE
from ...shard import Part
from .folder import Study
from .products import fingerprints
from .subjects import UsableSessions, warn

logger = logging.getLogger(__name__)


class CompleteSessions(UsableSessions):
    """The usable sessions of a folder that have a scan of each suffix, with the first by name of each, in this order.

    Args:
        dataset_dir: the folder, see :func:`scripts.bids.find_sessions`.
        suffixes: of the scans, such as ``T1w``.
        protocol: as :class:`UsableSessions` has it, and so are the others.
        equations: ``exact``, or ``paper`` for the published ones.
        memory_budget: GB of main memory that a session may take.
        part: which of the complete sessions are this process's; None for all.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        suffixes: Sequence[str],
        protocol: str | None = None,
        equations: str = "exact",
        memory_budget: float = 8.0,
        part: Part | None = None,
    ) -> None:
        super().__init__(dataset_dir, protocol, equations, memory_budget, part)
        self.suffixes = tuple(suffixes)

    def _sessions(self, dataset_dir: str) -> list[Session]:
        found = find_sessions(dataset_dir)
        complete = [chosen for session in found if (chosen := self._chosen(session))]
        wanted = ", ".join(self.suffixes)
        if not complete:
            found = f"{len(found)} sessions, none of them with {wanted}"
            raise UserError(dataset_dir, found, "ask for other scans with --suffixes")
        logger.info(f"{len(complete)} of {len(found)} sessions have {wanted}; the others are left out")
        return complete

    def _chosen(self, session: Session) -> Session | None:
        scans = [[scan for scan in session.contrasts if scan.suffix == suffix] for suffix in self.suffixes]
        if not all(scans):
            return None
        ignored = tuple(scan.path for _, *others in scans for scan in others)
        # What is wrong with a scan that is not taken does not count; what is wrong with another is its own problem.
        return replace(session, contrasts=tuple(first for first, *_ in scans), ignored=ignored, problem=None)


@dataclass(eq=False)
class Preparation:
    """Writes the scans of each session on the grid of the template. A session that fails is noted, the next follows.

    Args:
        study: where they go.
        dataset: the sessions.
        preprocessing: record -> ``image``, ``alignment``, ``motion``, see :class:`scripts.preprocess.AlignToTemplated`.
    """

    study: Study
    dataset: CompleteSessions
    preprocessing: Callable[[dict], dict]

    def run(self) -> None:
        """Prepares what is missing.

        Raises:
            UserError: for whatever is wrong with the request as a whole.
        """
        records = self.dataset.records
        self.study.open(self.dataset.dataset_dir)
        for name, error in self.dataset.failures.items():
            self.study.fail(name, error)
        for number, record in enumerate(records, 1):
            session = record["session"]
            with self.study.attempt(session.name):
                facts = {"inputs": fingerprints(self.dataset.dataset_dir, (scan.path for scan in session.contrasts))}
                plan = self.study.plan(session, facts, [])
                if plan.maps:
                    logger.info(f"{session.name}: {number} of {len(records)}")
                    warn(record)
                    with self.study.publish(session, facts, plan) as folder:
                        self._write(folder, record, [*facts["inputs"]])

    def _write(self, folder: Path, record: dict, names: Sequence[str]) -> None:
        session, volume = record["session"], self.preprocessing(record)
        alignment, affine = volume["alignment"], volume["image"].affine.numpy()
        for number, (scan, image) in enumerate(zip(session.contrasts, volume["image"].as_tensor().numpy())):
            own = alignment.motions.get(number)
            matrix = volume["motion"].matrix if own is None else own.matrix @ volume["motion"].matrix
            about = {"Reference": names[alignment.reference], "ReferenceToTemplate": figures(volume["motion"])}
            if own is not None:
                about["ScanToReference"] = figures(own)
            if number in alignment.refused:
                about["Refused"] = alignment.refused[number]
            about["MatrixFromTemplateToScan"] = np.round(matrix, 6).tolist()
            sidecar = {"SkullStripped": scan.skull_stripped, **scan.sidecar, "Sources": [names[number]]}
            path = output_path(folder, session, scan.suffix, space=SPACE)
            write_image(path, image, affine, {**sidecar, "Registration": about})

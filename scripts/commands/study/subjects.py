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

"""Inference on a folder of scans: scans -> tissue maps -> contrasts, one session after the other."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import SpatialImage

from ...acquisition import UNKNOWN, load_render, to_sidecar
from ...bids import (
    LABEL_TABLE,
    Session,
    check_image,
    combine,
    find_sessions,
    header_doubts,
    label_table,
    output_path,
    resolve_all,
    session_record,
)
from ...errors import UserError
from ...estimate.estimator import Estimator
from ...estimate.grids import on_grid
from ...estimate.maps import Maps
from ...networks.weights import load_weights
from ...parallel import use_threads
from ...preprocess import log_sd_of
from ...preprocess.registration import estimation_edges, sidecar_about, write_transforms
from ...shard import Part
from ...tissue import REGIONS
from ...train.data import SessionDataset
from ..report import acquisition_lines, few, overview, request_title
from .consoles import lacks_console, resample, scan_title, write_console
from .folder import Study
from .harmonise import Harmonisation
from .products import fingerprints, read_maps, render, write_contrasts, write_maps

HOW_TO_TRAIN = "train one with configs/train_vae.json, then put it there with configs/convert.json (run promote)"
PROGRAM_BYTES = 0.65e9
"""Memory of the program itself."""
SCAN_BYTES, RESAMPLING_BYTES = 4, 8
"""Of each voxel of every scan that is read, and besides of the scan that is being resampled."""
ESTIMATE_BYTES, CONTRAST_BYTES = 100, 16
"""Of each voxel that maps are estimated on, and for each contrast."""
GRID_BYTES, HEAD_BYTES, HEAD_MM3 = 20, 1050, 3.0e6
"""Of each of these voxels while the posterior is found, of each of those in the head, and how large a head is."""
logger = logging.getLogger(__name__)


class UsableSessions(SessionDataset):
    """The sessions of a folder that can be used; why the others cannot stands in ``failures`` by name.

    Headers and sidecars of all sessions are read when the first record is asked for, image data are not.

    Args:
        dataset_dir: the folder.
        protocol: fills what sidecars lack, see :func:`scripts.bids.resolve`.
        equations: ``exact``, or ``paper`` for the published ones.
        memory_budget: GB of main memory that a session may take, see :func:`memory_needed`.
        part: which of its sessions are this process's; None for all.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        protocol: str | None = None,
        equations: str = "exact",
        memory_budget: float = 8.0,
        part: Part | None = None,
    ) -> None:
        super().__init__(dataset_dir, protocol, equations=equations)
        self.memory_budget, self.part = memory_budget, part or Part()
        self.failures: dict[str, UserError] = {}

    @property
    def records(self) -> list[dict]:
        """Records of the usable sessions.

        Raises:
            UserError: for a missing or empty folder, and when no session is usable: one message for all files.
        """
        if self._records is None:
            if self.dataset_dir is None:
                raise UserError("dataset_dir", "no folder", "name one with --dataset_dir")
            sessions = self.part.of(self._sessions(self.dataset_dir))
            acquisitions, self.failures = resolve_all(sessions, self.protocol, self.equations, auto=True)
            usable = [session for session in sessions if session.name in acquisitions]
            for session in usable:
                try:
                    needed = memory_needed([check_image(contrast.path) for contrast in session.contrasts])
                    if needed > self.memory_budget:
                        found = f"scans that take {needed:.1f} GB of memory, of {self.memory_budget:g} that are allowed"
                        raise UserError(session.name, found, "resample them, or allow more with --memory_budget")
                except UserError as error:
                    self.failures[session.name] = error
            usable = [session for session in usable if session.name not in self.failures]
            if not usable:
                raise combine(list(self.failures.values()))
            self._records = [session_record(session, acquisitions[session.name], i) for i, session in enumerate(usable)]
        return self._records

    def _sessions(self, dataset_dir: str) -> list[Session]:
        return find_sessions(dataset_dir)

    def __iter__(self) -> Iterator[dict]:
        return iter(self.records)


def memory_needed(images: Sequence[SpatialImage]) -> float:
    """Peak of the main memory [GB] that a session takes, with the program's own, from constants that were measured.

    All scans are in memory while the largest is resampled, and later their copies on the grid of the estimate, with it.
    The posterior takes more, but of the head alone.

    Args:
        images: the scans, of which headers suffice.
    """
    voxels = [math.prod(image.shape[:3]) for image in images]
    reference = min(images, key=lambda image: voxel_sizes(image.affine).max())
    voxel = math.prod(estimation_edges(reference.affine))
    space = max(count * abs(np.linalg.det(image.affine[:3, :3])) for count, image in zip(voxels, images))
    grid, head = space / voxel, min(space, HEAD_MM3) / voxel
    loading = SCAN_BYTES * sum(voxels) + RESAMPLING_BYTES * max(voxels)
    estimating = (ESTIMATE_BYTES + CONTRAST_BYTES * len(images)) * grid
    refining = GRID_BYTES * grid + HEAD_BYTES * head
    return (PROGRAM_BYTES + max(loading, estimating, refining)) / 1e9


@dataclass(eq=False)
class SubjectStep:
    """Loads, estimates, renders and writes one session. One that fails is noted, and the next one follows.

    It is the iteration of an evaluator over :class:`UsableSessions`, and one of its handlers: when the evaluator
    starts, everything that a user can have got wrong is refused before anything is computed or written.

    Args:
        study: where results go.
        dataset: the sessions.
        preprocessing: record -> ``image``, ``mask``, ``acquisition``, ``alignment``, ``bias_sd``, see
            :mod:`scripts.preprocess`.
        estimator: volume -> maps.
        weights: file of the state dict of its network.
        render: contrasts to render, see :func:`scripts.acquisition.load_render`.
        threads: pieces of work on the CPU that run side by side; results do not depend on it. None for as many as the
            process has cores.
        native: write results on the grid of the reference scan, else on that of the estimate.
        console: also write a page that renders contrasts in the browser.
        harmonisation: also measure what all contrasts being rendered at one protocol changes; None not to.
    """

    study: Study
    dataset: UsableSessions
    preprocessing: Callable[[dict], dict]
    estimator: Estimator
    weights: str
    render: object
    threads: int | None = None
    native: bool = False
    console: bool = False
    harmonisation: Harmonisation | None = None

    def attach(self, engine: Engine) -> None:
        """Hooks into the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)

    def start(self, engine: Engine) -> None:
        """Checks everything, loads the weights, opens the study.

        Raises:
            UserError: for whatever is wrong with the request as a whole.
        """
        use_threads(self.threads)
        self.requests = load_render(self.render, self.dataset.equations)
        records = self.dataset.records
        open_choice = any(one.alternatives for record in records for one in record["acquisitions"])
        if open_choice and not self.estimator.data_consistency:
            do = "leave data_consistency on, or name a protocol"
            raise UserError("protocol", "auto without data consistency, which is what chooses", do)
        if self.harmonisation is not None:
            self.harmonisation.check(self.estimator)
        self.sha256 = load_weights(self.estimator.network, self.weights, HOW_TO_TRAIN)
        for record in records:
            if self.study.holds(record["session"]):
                self.study.plan(record["session"], self._facts(record), self.requests)
        self.study.open(self.dataset.dataset_dir)
        if self.estimator.fractions:
            self.study.write(LABEL_TABLE, label_table(REGIONS))
        for name, error in self.dataset.failures.items():
            self.study.fail(name, error)
        for record in records:
            warn(record)

    def __call__(self, engine: Engine, record: dict) -> dict:
        """Runs one session; returns its name and, if it failed, the exception."""
        name = record["session"].name
        with self.study.attempt(name):
            self._run(record)
        return {"session": name, "failure": self.study.failures.get(name)}

    def _run(self, record: dict) -> None:
        session, facts = record["session"], self._facts(record)
        _refuse_copies(facts["inputs"])
        plan = self.study.plan(session, facts, self.requests)
        console = self.console and (plan.maps or lacks_console(self.study.root, session))
        unmeasured = self.harmonisation is not None and (plan.maps or self.harmonisation.lacks(session))
        if not plan.maps and not plan.render and not console and not unmeasured:
            return
        logger.info(f"{session.name}: {record['index'] + 1} of {len(self.dataset.records)}")
        volume = self.preprocessing(record)
        names, alignment = [*facts["inputs"]], volume["alignment"]
        maps, about = self.estimator(volume, names) if plan.maps else (read_maps(self.study.root, session), {})
        if self.native:
            reference = check_image(session.contrasts[alignment.reference].path)
            maps = on_grid(maps, reference.shape[:3], reference.affine)
        with self.study.publish(session, facts, plan) as folder:
            if plan.maps:
                # Those that the scans chose, where the protocol is theirs to choose.
                acquisitions = dict(zip(names, map(to_sidecar, volume["acquisitions"])))
                origin = {"Sources": names, "Acquisitions": acquisitions, "Weights": self.sha256}
                origin["UnknownAcquisitions"] = _unknown(names, volume)
                origin["Alignment"] = sidecar_about(alignment, session, names)
                origin["BiasFieldLogSD"] = log_sd_of(names, volume["bias_sd"])
                write_maps(folder, session, maps, {**origin, **about}, self.estimator.sd_note)
                write_transforms(folder, session, alignment, names)
            if console:
                self._write_console(folder, session, volume, maps)
            write_contrasts(folder, session, maps, plan.render)
            if unmeasured:
                self.harmonisation.measure(folder, session, _scans_on(maps, session, volume), maps)
            self._write_overview(output_path(folder, session, "overview", ".png"), record, volume, maps)

    def _write_console(self, folder: Path, session: Session, volume: dict, maps: Maps) -> None:
        scans = _scans_on(maps, session, volume)
        suffixes = (contrast.suffix for contrast in session.contrasts)
        known = dict(zip(scans, zip(suffixes, volume["acquisitions"])))
        write_console(folder, session, maps, self.study.root, scans, known)

    def _write_overview(self, path: Path, record: dict, volume: dict, maps: Maps) -> None:
        name, image = record["session"].name, volume["image"]
        maps = on_grid(maps, image.shape[1:], image.affine.numpy())
        middle = maps.middle
        shown = maps.axial(middle)
        files = [contrast.path.name for contrast in record["session"].contrasts]
        scans = []
        for number, (file, acquisition) in enumerate(zip(files, volume["acquisitions"])):
            label = file.removeprefix(name).strip("_").split(".")[0]
            moved = volume["alignment"].caption(number).split(", ")
            scans.append("\n".join([label, *acquisition_lines(acquisition), *moved]).rstrip())
        inputs = dict(zip(scans, image.as_tensor()[..., middle].numpy()))
        requests = few(self.requests)
        contrasts = dict(zip(map(request_title, requests), render(shown, requests)))
        count = len(self.requests)
        overview(path, name, shown.values, shown.sd, shown.mask, inputs, contrasts, count=count)

    def _facts(self, record: dict) -> dict:
        """Whatever results depend on besides the config."""
        inputs = fingerprints(self.dataset.dataset_dir, (contrast.path for contrast in record["session"].contrasts))
        return {
            "inputs": inputs,
            "acquisitions": dict(zip(inputs, map(to_sidecar, record["acquisitions"]))),
            "gains": dict(zip(inputs, record["gains"])),
            "weights": self.sha256,
            "native": self.native,
        }


def _scans_on(maps: Maps, session: Session, volume: dict) -> dict[str, np.ndarray]:
    """The registered and scaled scans of a session on the grid of its maps, by title."""
    image = volume["image"]
    titles = [scan_title(session, contrast.path) for contrast in session.contrasts]
    arrays, affine = image.as_tensor().numpy(), image.affine.numpy()
    same = maps.mask.shape == arrays.shape[1:] and np.allclose(maps.affine, affine)
    return {title: array if same else resample(array, affine, maps) for title, array in zip(titles, arrays)}


def _unknown(names: Iterable[str], record: dict) -> list[str]:
    """Of the names of a session's scans, those of which too little is known for a signal equation."""
    return [name for name, acquisition in zip(names, record["acquisitions"]) if acquisition.sequence == UNKNOWN]


def _refuse_copies(inputs: Mapping[str, str]) -> None:
    """Refuses two files of one content: a scan that counts twice makes intervals too narrow."""
    first: dict[str, str] = {}
    for name, digest in inputs.items():
        if digest in first:
            raise UserError(name, f"the same content as {first[digest]}", "remove one of the two files")
        first[digest] = name


def warn(record: dict) -> None:
    """Says what may mislead about the scans of a session, and which are left out."""
    session = record["session"]
    for contrast in session.contrasts:
        for doubt in header_doubts(check_image(contrast.path)):
            logger.warning(f"{contrast.path.name}: {doubt}")
        if contrast.post_contrast:
            effect = "T1 will come out too short where the agent is"
            logger.warning(f"{contrast.path.name} looks as if taken after a contrast agent: {effect}")
    if unknown := _unknown((contrast.path.name for contrast in session.contrasts), record):
        effect = "intervals will be wider, and data consistency does without"
        logger.warning(f"{session.name}: acquisition unknown of {', '.join(unknown)}: {effect}")
    if session.ignored:
        logger.warning(f"{session.name}: left out {', '.join(path.name for path in session.ignored)}")

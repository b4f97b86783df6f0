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

"""Rendering of a folder of maps: maps -> contrasts, one session after the other. No network is involved."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from zlib import crc32

import nibabel as nib
import numpy as np
from ignite.engine import Engine, Events

from ...acquisition import load_render
from ...bids import MAP_UNITS, Session, combine, find_maps, load_image, output_path, parse_name
from ...bids.names import ENTITIES, stem
from ...errors import UserError
from ...estimate.maps import Maps
from ...nuisance import Noise
from ...render import share_beside_fluid
from ...shard import Part
from ..report import overview, request_title
from .folder import Study
from .products import OPTIONS, fingerprints, render, write_contrasts

HIGHEST = {"T1map": 20, "T2map": 5, "T2starmap": 5, "TB1map": 5}
"""Medians that no map [s, or relative to nominal] of a head exceeds where it is positive."""
logger = logging.getLogger(__name__)


class MapSets:
    """The sessions of a folder that have a set of maps; why the others cannot be used stands in ``failures`` by name.

    Headers are read when the first session is asked for, voxels are not.

    Args:
        dataset_dir: the folder, see :func:`scripts.bids.find_maps`.
        part: which of its sessions are this process's; None for all.
    """

    def __init__(self, dataset_dir: str | None, part: Part | None = None) -> None:
        self.dataset_dir, self.part = dataset_dir, part or Part()
        self.failures: dict[str, UserError] = {}
        self._sessions: list[Session] | None = None

    @property
    def sessions(self) -> list[Session]:
        """The usable sessions.

        Raises:
            UserError: for a missing folder, and when no session is usable: one message for all.
        """
        if self._sessions is None:
            if self.dataset_dir is None:
                raise UserError("dataset_dir", "no folder", "name one with --dataset_dir")
            sessions = self.part.of(find_maps(self.dataset_dir))
            self.failures = {session.name: session.problem for session in sessions if session.problem}
            if len(self.failures) == len(sessions):
                raise combine([*self.failures.values()])
            self._sessions = [session for session in sessions if not session.problem]
        return self._sessions

    def __iter__(self) -> Iterator[Session]:
        return iter(self.sessions)

    def open(self, study: Study) -> None:
        """Opens a study of results from these maps, and says what is left out."""
        study.open(self.dataset_dir)
        for name, error in self.failures.items():
            study.fail(name, error)
        for session in self:
            if session.ignored:
                logger.warning(f"{session.name}: left out {', '.join(path.name for path in session.ignored)}")


class RenderStep:
    """Loads the maps of one session, renders and writes. One that fails is noted, and the next one follows.

    It is the iteration of an evaluator over :class:`MapSets`, and one of its handlers: when the evaluator starts,
    everything that is wrong with the request as a whole is refused before anything is computed or written.

    Args:
        study: where results go.
        dataset: the sessions.
        render: contrasts to render, see :func:`scripts.acquisition.load_render`.
        equations: ``exact``, or ``paper`` for the published ones.
        noise: of the contrasts, as :meth:`scripts.nuisance.Noise.of` reads it; None for none.
        seed: of the noise, not negative. That of a contrast is a function of it, the session and the contrast's name.
    """

    def __init__(
        self,
        study: Study,
        dataset: MapSets,
        render: object,
        equations: str = "exact",
        noise: float | str | None = None,
        seed: int = 0,
    ) -> None:
        self.study, self.dataset, self.render, self.equations = study, dataset, render, equations
        self.noise, self.seed = noise, seed

    def attach(self, engine: Engine) -> None:
        """Hooks into the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)

    def start(self, engine: Engine) -> None:
        """Checks everything, opens the study.

        Raises:
            UserError: for whatever is wrong with the request as a whole.
        """
        self.requests, self.added = load_render(self.render, self.equations), Noise.of(self.noise)
        if not self.requests:
            raise UserError("render", "an empty list", "ask for at least one contrast")
        for session in self.dataset:
            if self.study.holds(session):
                self.study.plan(session, self._facts(session), self.requests)
        self.dataset.open(self.study)

    def __call__(self, engine: Engine, session: Session) -> dict:
        """Renders one session; returns its name and, if it failed, the exception."""
        with self.study.attempt(session.name):
            self._run(session, engine.state.iteration)
        return {"session": session.name, "failure": self.study.failures.get(session.name)}

    def _run(self, session: Session, number: int) -> None:
        facts = self._facts(session)
        plan = self.study.plan(session, facts, self.requests)
        if not plan.maps and not plan.render:
            return
        logger.info(f"{session.name}: {number} of {len(self.dataset.sessions)}")
        maps = load_maps(session.maps)
        sources = dict(zip(session.maps, facts["inputs"]))
        entities = parse_name(stem(session.maps["PDmap"]))[0].items()
        kept = {entity: label for entity, label in entities if entity in ENTITIES and entity != "acq"}
        noise = self.added, (self.seed, crc32(session.name.encode()))
        with self.study.publish(session, facts, plan) as folder:
            write_contrasts(folder, session, maps, plan.render, sources, *noise, **kept)
            shown = to_ras(maps)
            shown = shown.axial(shown.middle)
            contrasts = dict(zip(map(request_title, self.requests), render(shown, self.requests, *noise)))
            path = output_path(folder, session, "overview", ".png")
            maps = (shown.values, None, shown.mask)
            overview(path, session.name, *maps, inputs={}, contrasts=contrasts, options=shown.options)

    def _facts(self, session: Session) -> dict:
        """Whatever results depend on besides the config and the requests."""
        return {"inputs": fingerprints(self.dataset.dataset_dir, session.maps.values())}


def load_maps(paths: Mapping[str, Path]) -> Maps:
    """The maps of one session; undefined where PD, T1 or T2 is 0.

    Args:
        paths: ``PDmap``, ``T1map``, ``T2map`` and perhaps ``T2starmap``, ``TB1map`` and ``probseg``, the share of
            fluid -> file.

    Raises:
        UserError: for unreadable files, voxels that are NaN, infinite or negative, and other units.
    """
    arrays = {}
    for suffix, path in paths.items():
        arrays[suffix], affine = load_image(path, uniform=True)
        negative = int((arrays[suffix] < 0).sum())
        if negative:
            found = f"{negative} of {arrays[suffix].size} voxels negative"
            raise UserError(path, found, "set them to 0, which stands for undefined")
        positive = arrays[suffix][arrays[suffix] > 0]
        median = float(np.median(positive)) if positive.size else 0.0
        if median > HIGHEST.get(suffix, np.inf):
            unit = "values relative to the nominal flip angle" if suffix == "TB1map" else "seconds"
            raise UserError(path, f"the median {median:g}", f"give {unit}")
    values = np.stack([arrays[suffix] for suffix in MAP_UNITS])
    mask = (values > 0).all(0)
    if not mask.any():
        raise UserError(paths["PDmap"], "no voxel where PD, T1 and T2 are positive", "give maps that overlap")
    for shorter, longer in (("T2map", "T1map"), ("T2starmap", "T2map")):
        if shorter in arrays and np.median(arrays[shorter][mask]) > np.median(arrays[longer][mask]):
            found = f"values longer than those of {paths[longer].name}"
            raise UserError(paths[shorter], found, "check whether the two files were exchanged")
    if "probseg" in arrays and arrays["probseg"].max() > 1.001:
        raise UserError(paths["probseg"], f"{arrays['probseg'].max():g}", "give shares, from 0 to 1")
    for suffix in (arrays.keys() & OPTIONS.keys()) - {"probseg"}:
        undefined = int((mask & (arrays[suffix] == 0)).sum())
        if undefined:
            found = f"0 in {undefined} of {int(mask.sum())} voxels that the other maps define"
            raise UserError(paths[suffix], found, "fill them (TB1map: 1 is nominal), or leave this map out")
    options = {OPTIONS[suffix]: array for suffix, array in arrays.items() if suffix in OPTIONS}
    if "fluid" in options:
        options["fluid"] = share_beside_fluid(options["fluid"])
    return Maps(values, None, mask, affine, options)


def to_ras(maps: Maps) -> Maps:
    """The same maps with the axes that point most to the right, front and top first, second and third."""
    turn = nib.io_orientation(maps.affine)

    def turned(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(nib.apply_orientation(array, turn))

    affine = maps.affine @ nib.orientations.inv_ornt_aff(turn, maps.mask.shape)
    options = {name: turned(array) for name, array in maps.options.items()}
    return Maps(np.stack([turned(array) for array in maps.values]), None, turned(maps.mask), affine, options)

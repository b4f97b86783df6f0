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

"""Consoles: a page for each session that renders contrasts of its maps in the browser."""

import logging
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events
from nibabel import Nifti1Image
from nibabel.processing import resample_from_to

from ...acquisition import UNKNOWN, Acquisition, read_json
from ...bids import MAP_UNITS, Session, find_sessions, load_image, output_path, parse_name, resolve_contrast
from ...bids.names import stem
from ...console import About, Volume, console_page, preset
from ...errors import UserError
from ...estimate.maps import Maps
from ...signal import SEQUENCES
from .folder import Study, bundle_version
from .products import fingerprints, image_note
from .renders import MapSets, load_maps, to_ras

SOURCES = {"PDmap": "pd", "T1map": "t1", "T2map": "t2", "T2starmap": "t2_star", "TB1map": "b1", "probseg": "fluid"}
"""Suffix of a map -> its name in the page."""
RENDER = "python -m monai.bundle run --config_file configs/render.json --dataset_dir {} --output_dir OUT"
UNREGISTERED = "Scans lie where their headers say: they were not registered."
logger = logging.getLogger(__name__)


@dataclass(eq=False)
class ConsoleStep:
    """Loads the maps of one session and writes its page. One that fails is noted, and the next one follows.

    It is the iteration of an evaluator over :class:`scripts.commands.study.MapSets`, and one of its handlers.

    Args:
        study: where pages go.
        dataset: the sessions.
        scans_dir: folder of the scans to compare with; None for the study whose ``derivatives`` hold the maps, if there
            is one.
        megabytes: largest size of a page [MB].
    """

    study: Study
    dataset: MapSets
    scans_dir: str | None = None
    megabytes: float = 15.0

    def attach(self, engine: Engine) -> None:
        """Hooks into the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)

    def start(self, engine: Engine) -> None:
        """Checks everything, opens the study.

        Raises:
            UserError: for whatever is wrong with the request as a whole.
        """
        # A folder that was named is looked at before anything is written.
        known = {session.name for session in self.dataset} & self.scans.keys()
        for session in self.dataset:
            if self.study.holds(session):
                self.study.plan(session, self._facts(session), [])
        self.dataset.open(self.study)
        if self.scans_dir is not None and not known:
            logger.warning(f"{self.scans_dir}: no subject is named as one of the maps, so pages have no scans")

    def __call__(self, engine: Engine, session: Session) -> dict:
        """Writes the page of one session; returns its name and, if it failed, the exception."""
        with self.study.attempt(session.name):
            self._run(session, engine.state.iteration)
        return {"session": session.name, "failure": self.study.failures.get(session.name)}

    @cached_property
    def scans(self) -> dict[str, Session]:
        """The sessions of scans by name.

        Raises:
            UserError: for a folder that was named and cannot be read.
        """
        folder = self.scans_dir
        if folder is None:
            above = Path(os.path.abspath(self.dataset.dataset_dir)).parents
            folder = next((place.parent for place in above[:2] if place.name == "derivatives"), None)
            if folder is None:
                return {}
        try:
            return {session.name: session for session in find_sessions(folder)}
        except UserError as error:
            if self.scans_dir is not None:
                raise
            logger.warning(f"no scans to compare with: {error}")
            return {}

    def _run(self, session: Session, number: int) -> None:
        facts = self._facts(session)
        plan = self.study.plan(session, facts, [])
        if not plan.maps:
            return
        logger.info(f"{session.name}: {number} of {len(self.dataset.sessions)}")
        maps = load_maps(session.maps)
        maps = maps._replace(sd=load_sd(session.maps, maps.mask.shape))
        scans = load_scans(self.scans[session.name], maps) if session.name in self.scans else {}
        sources = dict(zip(session.maps, facts["inputs"]))
        with self.study.publish(session, facts, plan) as folder:
            known = known_acquisitions(self.scans[session.name]) if scans else {}
            remarks = (UNREGISTERED,) if scans else ()
            write_console(
                folder, session, maps, self.dataset.dataset_dir, scans, known, sources, remarks, self.megabytes
            )

    def _facts(self, session: Session) -> dict:
        """Whatever a page depends on besides the config."""
        facts = {"inputs": fingerprints(self.dataset.dataset_dir, session.maps.values())}
        facts["inputs"] |= fingerprints(self.dataset.dataset_dir, sd_paths(session.maps).values())
        if session.name in self.scans:
            paths = [contrast.path for contrast in self.scans[session.name].contrasts]
            facts["scans"] = {
                path.name: digest for path in paths for digest in fingerprints(path.parent, [path]).values()
            }
        return facts


def write_console(
    folder: Path,
    session: Session,
    maps: Maps,
    maps_dir: str | Path,
    scans: Mapping[str, np.ndarray] | None = None,
    acquisitions: Mapping[str, tuple[str, Acquisition]] | None = None,
    sources: Mapping[str, str] | None = None,
    remarks: tuple[str, ...] = (),
    megabytes: float = 15.0,
) -> None:
    """Writes the page of one session.

    Args:
        folder: root of the study.
        session: whose page.
        maps: its maps.
        maps_dir: folder of the maps, for the command that renders them.
        scans: acquired scans by title, on the grid of the maps.
        acquisitions: BIDS suffix and acquisition of those that are known, by title.
        sources: BIDS URIs of the maps by suffix; None for those of the study itself.
        remarks: sentences to show.
        megabytes: largest size of the page [MB].
    """
    turned = to_ras(maps)
    given = maps.all_options
    arrays = dict(zip(("pd", "t1", "t2"), turned.values))
    if maps.sd is not None:
        arrays |= dict(zip(("sd_pd", "sd_t1", "sd_t2"), to_ras(maps._replace(values=maps.sd)).values))
    arrays |= to_ras(maps._replace(options=given)).options
    on_grid = to_ras(maps._replace(options=dict(scans or {}))).options
    if sources is None:
        sources = {suffix: f"bids::{output_path('', session, suffix)}" for suffix in MAP_UNITS}
        if "fluid" in given:
            sources["probseg"] = f"bids::{output_path('', session, 'probseg', label='CSF')}"
    about = About(
        name=session.name,
        version=bundle_version(),
        command=RENDER.format(shlex.quote(_shown(maps_dir))),
        sidecar={"SkullStripped": session.skull_stripped},
        sources={SOURCES[suffix]: uri for suffix, uri in sources.items()},
        notes={name: image_note(sequence, given) for name, sequence in SEQUENCES.items()},
        scans=tuple(_settings(scans or {}, acquisitions or {})),
        remarks=remarks,
    )
    path = output_path(folder, session, "console", ".html")
    path.parent.mkdir(parents=True, exist_ok=True)
    page = console_page(Volume(arrays, turned.mask, turned.affine, on_grid), about, round(megabytes * 1e6))
    # A name need not be UTF-8.
    path.write_text(page, encoding="utf-8", errors="backslashreplace")


def lacks_console(root: str | Path, session: Session) -> bool:
    """Whether a study has no page of a session."""
    return not output_path(root, session, "console", ".html").exists()


def _settings(scans: Iterable[str], acquisitions: Mapping[str, tuple[str, Acquisition]]) -> Iterator[dict]:
    """Settings of scans whose signal equation is known, as presets of the page."""
    for number, title in enumerate(scans):
        suffix, acquisition = acquisitions.get(title, ("", None))
        if acquisition is not None and acquisition.sequence != UNKNOWN:
            yield {"scan": number, **preset(title, suffix, acquisition)}


def load_sd(maps: Mapping[str, Path], shape: tuple[int, ...]) -> np.ndarray | None:
    """Standard deviations of the logarithms of PD, T1 and T2 ``(3, X, Y, Z)``; None where one of them is missing.

    Raises:
        UserError: for unreadable files, and values that are none of a logarithm.
    """
    paths = sd_paths(maps)
    if len(paths) < len(MAP_UNITS):
        return None
    found = []
    for path in paths.values():
        array, _ = load_image(path, uniform=True)
        if array.shape != shape:
            raise UserError(path, "another shape than that of its map", "resample the maps of a session to one grid")
        if array.min() < 0:
            raise UserError(path, "values below 0", "give standard deviations of the natural logarithm")
        found.append(array)
    return np.stack(found)


def sd_paths(maps: Mapping[str, Path]) -> dict[str, Path]:
    """Standard deviations beside maps: suffix -> file of equal entities and ``desc-sd``, whose unit is said to be 1."""
    found = {}
    for suffix in MAP_UNITS:
        wanted = parse_name(stem(maps[suffix]))[0] | {"desc": "sd"}
        for path in sorted(maps[suffix].parent.glob(f"*_{suffix}.nii*")):
            if parse_name(stem(path))[0] == wanted and _of_logarithm(path):
                found[suffix] = path
    return found


def load_scans(session: Session, maps: Maps) -> dict[str, np.ndarray]:
    """The scans of a session on the grid of its maps, by what their file names say; unreadable ones are left out."""
    found = {}
    for contrast in session.contrasts:
        try:
            array, affine = load_image(contrast.path)
        except UserError as error:
            logger.warning(f"{session.name}: left out of the page: {error}")
            continue
        found[scan_title(session, contrast.path)] = resample(array, affine, maps)
    return found


def resample(array: np.ndarray, affine: np.ndarray, maps: Maps) -> np.ndarray:
    """A scan on the grid of maps, linearly; 0 beyond its own."""
    image = resample_from_to(Nifti1Image(array, affine), (maps.mask.shape, maps.affine), order=1)
    return np.asarray(image.dataobj, np.float32)


def known_acquisitions(session: Session) -> dict[str, tuple[str, Acquisition]]:
    """BIDS suffix and acquisition by title, of the scans whose sidecars tell."""
    found = {}
    for contrast in session.contrasts:
        try:
            found[scan_title(session, contrast.path)] = contrast.suffix, resolve_contrast(contrast)
        except UserError:
            # The scan is shown all the same.
            continue
    return found


def scan_title(session: Session, path: Path) -> str:
    """What is left of a file name without subject, session and ending."""
    return stem(path).removeprefix(session.name).strip("_") or stem(path)


def _of_logarithm(path: Path) -> bool:
    """Whether the sidecar of a standard deviation says that it has no unit, as those of logarithms have none."""
    try:
        return read_json(path.with_name(f"{stem(path)}.json")).get("Units") == "1"
    except UserError:
        return False


def _shown(folder: str | Path) -> str:
    """A folder as a command names it: from where the run was started, if it lies there."""
    path = Path(os.path.abspath(folder))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(folder)

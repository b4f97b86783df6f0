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

"""Folders of scans as sessions: BIDS, or one sub-folder of images per subject."""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..acquisition import read_json
from ..errors import UserError
from .copies import mark_copies
from .names import ENTITIES, MAP_UNITS, SUFFIXES, bids_label, parse_name, stem
from .records import Contrast, Session
from .shapes import HOW_TO_PLACE, Place, find_places, images, named_by_contrast
from .words import LABELS, strangers, told_suffix

POINTERS = {
    b"/annex/objects/": "get the data first: datalad get, or git annex get",
    b"version https://git-lfs": "get the data first: git lfs pull",
}
"""How small files begin that stand for data that are elsewhere -> what to do."""
LARGEST_POINTER = 1024
logger = logging.getLogger(__name__)
HOW_TO_GET_RAW = "name the folder of the raw scans: these are derivatives, as fMRIPrep writes them"
USABLE = ", ".join(dict.fromkeys(SUFFIXES.values()))


def find_sessions(dataset_dir: str | Path) -> list[Session]:
    """All sessions of a folder, sorted by name. Image data are not read.

    The folder is BIDS (``sub-*/[ses-*/]anat/*_T1w.nii.gz``), one subject or session of such a folder, or has one
    sub-folder of images per subject, whose names tell the contrast (``patient7/flair.nii``). Masks and segmentations
    are passed over.

    Raises:
        UserError: for an absent folder, one without usable images, or two subjects of one name. What is wrong with
            one session only is kept as its ``problem``.
    """
    root, places = find_places(dataset_dir)
    sidecars, read = cache(_sidecars), cache(read_json)
    sessions = sorted((_session(root, place, sidecars, read) for place in places), key=lambda one: one.name)
    for one, other in zip(sessions, sessions[1:]):
        if one.name == other.name:
            raise UserError(root, f"two folders that give the name {one.name}", "rename one of them")
    if not any(session.contrasts for session in sessions):
        first = sessions[0].problem
        derived = any("_desc-" in path.name for session in sessions for path in session.ignored)
        raise UserError(root, first.found, HOW_TO_GET_RAW if derived else first.do)
    return sessions


def find_scans(dataset_dir: str | Path) -> list[Contrast]:
    """All scans of a folder, sorted by path, those that are not used for estimation too. Image data are not read.

    Raises:
        UserError: for an absent folder, or one without images. What is wrong with one scan is kept as its ``problem``.
    """
    _, places = find_places(dataset_dir)
    sidecars, read = cache(_sidecars), cache(read_json)
    scans = []
    for place in places:
        try:
            scans += _scans(place, sidecars, read)
        except OSError as error:
            logger.warning(f"{place.folder}: left out, it cannot be read ({error.strerror or error})")
    if not scans:
        raise UserError(dataset_dir, "no images", HOW_TO_PLACE)
    return sorted(scans, key=lambda scan: scan.path)


def _session(root: Path, place: Place, sidecars: Callable, read: Callable) -> Session:
    """The session in one folder of images; ``sidecars`` lists a folder's JSON files, ``read`` reads one."""
    subject, session, *_ = [*(_label(name) for name in place.names), None]
    try:
        scans = _scans(place, sidecars, read)
    except OSError as error:
        found = f"a folder that cannot be read ({error.strerror or error})"
        return Session(subject, session, (), problem=UserError(place.folder, found, "make it readable"))
    contrasts = tuple(scan for scan in scans if not scan.unused)
    unused = [scan for scan in scans if scan.unused]
    problem = next((scan.problem for scan in scans if scan.problem and not (contrasts and scan.unused)), None)
    if not contrasts and not problem:
        others = "".join(f"; {scan.path.name}: {scan.unused}" for scan in unused[:3])
        problem = UserError(place.label, f"no {USABLE} images{others}", HOW_TO_PLACE)
    ignored = tuple(scan.path for scan in unused)
    stripped = bool(contrasts) and all(contrast.skull_stripped for contrast in contrasts)
    return Session(subject, session, contrasts, _true_maps(root, place), ignored, problem, stripped)


def _scans(place: Place, sidecars: Callable, read: Callable) -> list[Contrast]:
    """The images of one folder but for masks, segmentations and the maps among BIDS images."""
    paths, scans = place.images(), []
    names = [stem(path) for path in paths]
    for path, name in zip(paths, names):
        entities, suffix = _plain_name(path) if place.plain else parse_name(name)
        if suffix.endswith(("mask", "seg")) or "label" in entities or (suffix.endswith("map") and not place.plain):
            continue
        sidecar, problem = {}, _absent(path)
        if names.count(name) > 1:
            problem = UserError(path, "another image of this name, .nii or .nii.gz", "remove one of them")
        try:
            sidecar = _merge_sidecars(place, path, entities, suffix, sidecars, read)
        except UserError as error:
            problem = problem or error
        kept = {key: label for key, label in entities.items() if key in ENTITIES}
        scans.append(Contrast(path, suffix, kept, sidecar, problem))
    if place.plain and (problem := _several_subjects(place, scans)):
        return [replace(scan, problem=scan.problem or problem) for scan in scans]
    return mark_copies(scans)


def _several_subjects(place: Place, scans: list[Contrast]) -> UserError | None:
    """What tells that the images of a plain folder are not those of one subject; None where nothing does."""
    used = [stem(scan.path) for scan in scans if not scan.unused]
    if named_by_contrast(place.folder):
        count = f"{len(scans)} image{'s' * (len(scans) != 1)}"
        found = f"a folder named by a contrast, with {count}: folders are to be subjects, not contrasts"
        return UserError(place.label, found, "put all images of one person into one folder named by the person")
    several = strangers(used)
    if several:
        found = f"images of several people or visits in one folder ({', '.join(several[:3])})"
        return UserError(place.label, found, "put all images of one person and visit into a folder of their own")
    return None


def _absent(path: Path) -> UserError | None:
    """What tells that a file stands for data that are elsewhere; None for a file of its own."""
    if path.is_symlink() and not path.exists():
        annexed = "annex" in str(path.readlink())
        do = next(iter(POINTERS.values())) if annexed else "mend the link, or copy the file"
        return UserError(path, "a link to data that are not here", do)
    try:
        size = path.stat().st_size
        if size > LARGEST_POINTER:
            return None
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError:
        return None
    fitting = (do for words, do in POINTERS.items() if start.startswith(words))
    return next((UserError(path, "a pointer to data that are not here", do) for do in fitting), None)


def _label(folder: str) -> str:
    """The label of a folder; raises for a name without one."""
    found = bids_label(folder)
    if not found:
        raise UserError(folder, "a folder name without Latin letters or digits", "rename the folder")
    return found


def _plain_name(path: Path) -> tuple[dict[str, str], str]:
    """Entities and suffix of a file that need not follow BIDS."""
    name = stem(path)
    entities = {} if LABELS.search(name.lower()) else parse_name(name)[0]
    return {key: label for key, label in entities.items() if key in ENTITIES}, told_suffix(name)


def _sidecars(folder: Path) -> list[tuple[Path, dict[str, str], str]]:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".json" and path.name[0] != ".")
    return [(path, *parse_name(stem(path))) for path in paths]


def _merge_sidecars(
    place: Place, image: Path, entities: dict[str, str], suffix: str, sidecars: Callable, read: Callable
) -> dict:
    """BIDS inheritance: sidecars of all folders from the root on whose entities the image has; the nearest wins."""
    merged: dict = {}
    for folder in place.levels:
        fitting = []
        for path, its_entities, its_suffix in sidecars(folder):
            own = stem(path) == stem(image) and folder in (image.parent, *place.spread)
            if own or (
                folder not in place.spread and its_suffix == suffix and its_entities.items() <= entities.items()
            ):
                fitting.append((own, len(its_entities), path))
        for *_, path in sorted(fitting):
            if absent := _absent(path):
                raise absent
            merged |= read(path)
    return merged


def _true_maps(root: Path, place: Place) -> dict[str, Path]:
    """Maps of the session in the first folder of derivatives that has all three of them, and no estimates.

    Estimates come with standard deviations (``desc-sd``); they must never pass for the truth.
    """
    for anat in sorted(root.glob("/".join(("derivatives/*", *place.names, *([] if place.plain else ["anat"]))))):
        parsed = [(path, *parse_name(stem(path))) for path in images(anat)]
        maps = {suffix: path for path, entities, suffix in parsed if "desc" not in entities}
        estimated = any(entities.get("desc") == "sd" for _, entities, _ in parsed)
        if maps.keys() >= MAP_UNITS.keys() and not estimated:
            return {suffix: path for suffix, path in maps.items() if suffix in (*MAP_UNITS, "dseg")}
    return {}

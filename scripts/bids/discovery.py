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

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..acquisition import read_json
from ..errors import UserError
from .names import ENTITIES, MAP_UNITS, SUFFIXES, parse_name, stem
from .records import Contrast, Session

WORDS = re.compile(
    r"(?<![a-z0-9])(?:[23]d)?(t1|t2(?![-_. ]?(?:star|\*))|pd|flair|mprage)(?:w|ce|c|gd|post)?(?![a-z0-9])"
)
LABELS = re.compile(r"(?<![a-z0-9])[a-z]*(?:mask|seg|label|lesion|roi|parc)s?(?![a-z0-9])")
NOT_SUBJECTS = ("derivatives", "sourcedata", "code")
HOW_TO_PLACE = "put .nii or .nii.gz files into sub-*/anat (BIDS names), or into one sub-folder per subject"


def find_sessions(dataset_dir: str | Path) -> list[Session]:
    """All sessions of a folder, sorted by name. Image data are not read.

    The folder is BIDS (``sub-*/[ses-*/]anat/*_T1w.nii.gz``) or has one sub-folder of images per subject, whose names
    tell the contrast (``patient7/flair.nii``). Masks and segmentations are passed over.

    Raises:
        UserError: for an absent folder, one without usable images, or two subjects of one name. What is wrong with
            one session only is kept as its ``problem``.
    """
    root, places, plain = _places(dataset_dir)
    sidecars, read = cache(_sidecars), cache(read_json)
    sessions = sorted((_session(root, place, plain, sidecars, read) for place in places), key=lambda one: one.name)
    for one, other in zip(sessions, sessions[1:]):
        if one.name == other.name:
            raise UserError(root, f"two folders that give the name {one.name}", "rename one of them")
    usable = ", ".join(dict.fromkeys(SUFFIXES.values()))
    if not any(session.contrasts or session.problem for session in sessions):
        raise UserError(root, f"no {usable} images", HOW_TO_PLACE)
    missing = {one.name: UserError(one.name, f"no {usable} image", "add one or remove the folder") for one in sessions}
    return [one if one.contrasts or one.problem else replace(one, problem=missing[one.name]) for one in sessions]


def find_scans(dataset_dir: str | Path) -> list[Contrast]:
    """All scans of a folder, sorted by path, those that are not used for estimation too. Image data are not read.

    Raises:
        UserError: for an absent folder, or one without images. What is wrong with one scan is kept as its ``problem``.
    """
    root, places, plain = _places(dataset_dir)
    sidecars, read = cache(_sidecars), cache(read_json)
    scans = [scan for place in places for scan in _scans(root, place, plain, sidecars, read)]
    if not scans:
        raise UserError(root, "no images", HOW_TO_PLACE)
    return sorted(scans, key=lambda scan: scan.path)


def _places(dataset_dir: str | Path) -> tuple[Path, list[Path], bool]:
    """The folder, its folders of images, and whether these are plain ones instead of BIDS."""
    root = Path(dataset_dir)
    if not root.is_dir():
        raise UserError(root, "a file" if root.exists() else "no such folder", "name an existing folder of scans")
    places = [path for path in (*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat")) if path.is_dir()]
    if places:
        return root, places, False
    folders = (path for path in root.iterdir() if path.is_dir() and path.name not in NOT_SUBJECTS)
    return root, [path for path in folders if path.name[0] != "." and _images(path)], True


def _session(root: Path, place: Path, plain: bool, sidecars: Callable, read: Callable) -> Session:
    """The session in one folder of images; ``sidecars`` lists a folder's JSON files, ``read`` reads one."""
    subject, session, *_ = [*(_label(part) for part in place.relative_to(root).parts if part != "anat"), None]
    scans = _scans(root, place, plain, sidecars, read)
    contrasts = tuple(scan for scan in scans if not scan.unused)
    ignored = tuple(scan.path for scan in scans if scan.unused)
    problem = next((scan.problem for scan in scans if scan.problem), None)
    return Session(subject, session, contrasts, _true_maps(root, place), ignored, problem)


def _scans(root: Path, place: Path, plain: bool, sidecars: Callable, read: Callable) -> list[Contrast]:
    """The images of one folder but for masks, segmentations and maps."""
    images, scans = _images(place), []
    names = [stem(path) for path in images]
    for path, name in zip(images, names):
        entities, suffix = _plain_name(path) if plain else parse_name(name)
        if suffix.endswith(("mask", "seg", "map")) or "label" in entities:
            continue
        sidecar, problem = {}, None
        if names.count(name) > 1:
            problem = UserError(place / name, "both a .nii and a .nii.gz of this name", "remove one of them")
        try:
            sidecar = _merge_sidecars(root, path, entities, suffix, sidecars, read)
        except UserError as error:
            problem = error
        kept = {key: label for key, label in entities.items() if key in ENTITIES}
        scans.append(Contrast(path, suffix, kept, sidecar, problem))
    return scans


def _images(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.name.lower().endswith((".nii", ".nii.gz")))
    return sorted(path for path in files if path.name[0] != ".")


def _label(folder: str) -> str:
    """BIDS label of a folder: letters and digits only, so that no name we build can leave the output folder."""
    label = re.sub("[^A-Za-z0-9]", "", re.sub("^(sub|ses)-", "", folder))
    if not label:
        raise UserError(folder, "a folder name without Latin letters or digits", "rename the folder")
    return label


def _plain_name(path: Path) -> tuple[dict[str, str], str]:
    """Entities and suffix of a file that need not follow BIDS: its last word that names a contrast; FLAIR wins."""
    name = stem(path).lower()
    words = WORDS.findall(name)
    if LABELS.search(name):
        return {}, "mask"
    entities = {key: label for key, label in parse_name(stem(path))[0].items() if key in ENTITIES}
    return entities, SUFFIXES["flair" if "flair" in words else words[-1]] if words else ""


def _sidecars(folder: Path) -> list[tuple[Path, dict[str, str], str]]:
    return [(path, *parse_name(stem(path))) for path in sorted(folder.glob("*.json")) if path.name[0] != "."]


def _merge_sidecars(
    root: Path, image: Path, entities: dict[str, str], suffix: str, sidecars: Callable, read: Callable
) -> dict:
    """BIDS inheritance: sidecars of all folders from the root on whose entities the image has; the nearest wins."""
    merged: dict = {}
    for folder in [*reversed(image.relative_to(root).parents)]:
        fitting = []
        for path, its_entities, its_suffix in sidecars(root / folder):
            own = path.parent == image.parent and stem(path) == stem(image)
            if own or (its_suffix == suffix and its_entities.items() <= entities.items()):
                fitting.append((own, len(its_entities), path))
        for *_, path in sorted(fitting):
            merged |= read(path)
    return merged


def _true_maps(root: Path, place: Path) -> dict[str, Path]:
    """Maps of the session in the first folder of derivatives that has all three of them, and no estimates.

    Estimates come with standard deviations (``desc-sd``); they must never pass for the truth.
    """
    for anat in sorted(root.glob(f"derivatives/*/{place.relative_to(root)}")):
        parsed = [(path, *parse_name(stem(path))) for path in _images(anat)]
        maps = {suffix: path for path, entities, suffix in parsed if "desc" not in entities}
        estimated = any(entities.get("desc") == "sd" for _, entities, _ in parsed)
        if maps.keys() >= MAP_UNITS.keys() and not estimated:
            return {suffix: path for suffix, path in maps.items() if suffix in (*MAP_UNITS, "dseg")}
    return {}

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

"""Folders of quantitative maps as sessions: what our own studies and other BIDS derivatives hold."""

from pathlib import Path

import numpy as np

from ..acquisition import read_json
from ..errors import UserError
from .images import check_image
from .names import MAP_UNITS, parse_name, stem
from .records import Session

OPTIONAL_MAPS = ("T2starmap", "TB1map")
"""Maps [s, relative to nominal] that a session may have besides."""
SHARE, FLUID = "probseg", "CSF"
"""Suffix and label of the share of fluid in each voxel, which it may have too."""
ALL = ", ".join(MAP_UNITS)


def find_maps(dataset_dir: str | Path) -> list[Session]:
    """The sessions of a folder of maps (``sub-*/[ses-*/]anat/*_T1map.nii.gz``), sorted by name. Data are not read.

    A session's ``maps`` are a PDmap, T1map and T2map of equal entities and grids, and a T2starmap, TB1map and
    label-CSF_probseg if they belong to these. Maps left out are in ``ignored``; standard deviations (``desc-sd``) are
    not looked at.

    Raises:
        UserError: for an absent folder and one without maps. What is wrong with one session only is kept as its
            ``problem``.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise UserError(root, "a file" if root.exists() else "no such folder", "name an existing folder of maps")
    places = [path for path in (*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat")) if path.is_dir()]
    sessions = sorted((_session(root, anat) for anat in places), key=lambda one: one.name)
    if not any(session.maps or session.ignored for session in sessions):
        do = "name a folder of maps: an output of configs/inference.json, or derivatives/truth of a simulated study"
        raise UserError(root, f"no {ALL} in sub-*/[ses-*/]anat", do)
    return sessions


def _session(root: Path, anat: Path) -> Session:
    subject, session = ([*anat.relative_to(root).parts[:-1], None])[:2]
    sets: dict[str, dict[str, Path]] = {}
    shares: dict[str, Path] = {}
    problem = None
    for path in sorted((*anat.glob("*.nii*"), *anat.with_name("fmap").glob("*_TB1map.nii*"))):
        entities, suffix = parse_name(stem(path))
        of_fluid = suffix == SHARE and entities.pop("label", None) == FLUID
        key = "_".join(f"{k}-{v}" for k, v in entities.items() if k not in ("sub", "ses"))
        if of_fluid:
            shares[key] = path
        elif suffix in (*MAP_UNITS, *OPTIONAL_MAPS) and entities.get("desc") != "sd":
            if suffix in sets.setdefault(key, {}):
                problem = UserError(path, "another file of this name", "remove one of them")
            sets[key][suffix] = path
    whole = [key for key, maps in sets.items() if maps.keys() >= MAP_UNITS.keys()]
    if len(whole) > 1:
        found = f"{len(whole)} sets of maps ({', '.join(key or 'no entities' for key in whole)})"
        problem = UserError(anat.relative_to(root), found, "keep one set in a session")
    if not whole:
        there = ", ".join(f"{key}_{suffix}".strip("_") for key, maps in sets.items() for suffix in maps) or "none"
        problem = UserError(anat.relative_to(root), f"no {ALL} of equal entities (maps there: {there})", "add them")
    maps = sets[whole[0]] if whole else {}
    if whole and whole[0] in shares:
        maps[SHARE] = shares[whole[0]]
    ignored = [path for key, others in sets.items() if key not in whole[:1] for path in others.values()]
    try:
        problem or _check_grids(maps)
    except UserError as error:
        problem = error
    label = session and session.removeprefix("ses-")
    stripped = bool(maps) and _states_stripped(maps["T1map"])
    return Session(subject.removeprefix("sub-"), label, (), maps, tuple(ignored), problem, stripped)


def _states_stripped(path: Path) -> bool:
    """Whether the sidecar beside a map says that it shows the brain alone."""
    try:
        return read_json(path.with_name(f"{stem(path)}.json")).get("SkullStripped") is True
    except UserError:
        return False


def _check_grids(maps: dict[str, Path]) -> None:
    """Refuses maps whose headers are unusable or differ in shape or position."""
    images = {path: check_image(path) for path in maps.values()}
    first, *others = images
    for path in others:
        for what, a, b in (
            ("shape", images[path].shape[:3], images[first].shape[:3]),
            ("affine", images[path].affine, images[first].affine),
        ):
            if not np.allclose(a, b, atol=1e-3):
                found = f"another {what} than that of {first.name}"
                raise UserError(path, found, "resample the maps of a session to one grid")

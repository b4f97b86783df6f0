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

"""Shapes of folders of scans: where the images of each subject lie, or one sentence on what the folder is instead."""

import logging
import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .names import SUFFIXES, stem
from .words import CONTRASTS, told_suffix

NOT_SUBJECTS = ("derivatives", "sourcedata", "code")
HOW_TO_PLACE = "put .nii or .nii.gz files into sub-*/anat (BIDS names), or into one sub-folder per subject"
HOW_TO_CONVERT = (
    "convert them with dcm2niix -z y -b y -f %s_%d -o OUTPUT/SUBJECT FOLDER_OF_ONE_SUBJECT, or run"
    " configs/acquisitions.json on this folder, which does it where dcm2niix is installed"
)
OTHER_FORMATS = {
    (".mgz", ".mgh"): "convert them to NIfTI: mri_convert in.mgz out.nii.gz",
    (".nrrd", ".nhdr", ".mha", ".mhd", ".mnc", ".par", ".hdr", ".img"): "convert them to NIfTI (.nii.gz)",
    (".zip", ".tar", ".tgz", ".tar.gz", ".7z"): "unpack them first",
}
"""Endings of files that hold images all the same -> what to do."""
NIFTI = (".nii", ".nii.gz")
DOWNLOADED = re.compile(r"(OAS\d+)_MR_(d\d+)")
"""Folders of sessions of OASIS-3 and OASIS-4 as they are downloaded: the names of the files in them follow BIDS."""
MOST_FILES = 2000
"""So many files are looked at to tell what a folder without images is."""
logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """A folder of images.

    Attributes:
        folder: the folder.
        names: of the folders that name subject and session, ``("sub-01", "ses-1")``.
        levels: folders whose sidecars count, from the root of the data set to the images.
        plain: whether its names need not follow BIDS.
        spread: the folders that hold its images, where these are not in ``folder`` itself; a sidecar in one of them is
            that of the image of its name, and of no other.
    """

    folder: Path
    names: tuple[str, ...]
    levels: tuple[Path, ...]
    plain: bool
    spread: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        """Of the place, for the reader."""
        return "/".join(self.names)

    def images(self) -> list[Path]:
        """Its NIfTI files, sorted by name, links to absent files among them."""
        found = (path for folder in self.spread or (self.folder,) for path in images(folder))
        return sorted(found, key=lambda path: path.name)


def find_places(dataset_dir: str | Path) -> tuple[Path, list[Place]]:
    """The root of a data set and its folders of images; what is passed over beside them is logged.

    A folder is BIDS, or one sub-folder of images per subject, or a download of OASIS-3, or that of one BIDS subject or
    of one session of BIDS or OASIS-3.

    Raises:
        UserError: for an absent folder, and for one without any such place: what shape it has, and what to do.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        raise UserError(root, "a file" if root.exists() else "no such folder", "name an existing folder of scans")
    inside = _inside_subject(root)
    if inside is not None:
        return inside
    bids = [path for path in (*root.glob("sub-*/anat"), *root.glob("sub-*/ses-*/anat")) if path.is_dir()]
    closed = []
    if bids:
        # A pattern passes over what may not be looked into: the session then says so.
        folders = [path for path in (*root.glob("sub-*"), *root.glob("sub-*/ses-*")) if path.is_dir()]
        closed = [path for path in folders if not os.access(path, os.R_OK | os.X_OK)]
        bids += [path / "anat" for path in closed]
    try:
        plain = [folder for folder in _folders(root) if _may_hold_images(folder)]
    except OSError as error:
        raise UserError(root, f"a folder that cannot be read ({error.strerror or error})", "make it readable") from None
    above = Path(os.path.abspath(root)).parent
    if not images(root) and (downloaded := _downloaded(above, [root])):
        return above, downloaded
    downloaded = _downloaded(root, [folder for folder in _folders(root) if folder not in plain])
    if bids:
        beside = [folder for folder in plain if folder not in closed] + [place.folder for place in downloaded]
        _log_passed_over(root, "a BIDS folder (sub-*/anat)", beside, images(root))
        return root, [_place(root, path, False) for path in bids]
    if not plain and downloaded:
        return root, downloaded
    if not plain:
        _explain(root)
    _log_passed_over(root, "a folder of one sub-folder per subject", [place.folder for place in downloaded])
    contrasts = {told_suffix(folder.name): folder.name for folder in plain if named_by_contrast(folder)}
    if len(contrasts) > 1:
        found = f"one folder per contrast ({', '.join(contrasts.values())}), where folders are to be subjects"
        raise UserError(root, found, "put all images of one person into one folder named by the person")
    return root, [_place(root, path, True) for path in plain]


def images(folder: Path) -> list[Path]:
    """The NIfTI files of a folder, sorted, links to absent files among them."""
    files = (path for path in folder.iterdir() if path.name.lower().endswith(NIFTI))
    return sorted(path for path in files if path.name[0] != ".")


def find_dicom(root: Path) -> Path | None:
    """A DICOM file of a folder without NIfTI files, at any depth; None for any other folder."""
    files = [*_files(root)]
    if any(path.name.lower().endswith(NIFTI) for path in files):
        return None
    return next((path for path in files if _is_dicom(path)), None)


def named_by_contrast(folder: Path) -> bool:
    """Whether a folder is named by one contrast, as all its images are: ``IXI-T1``, not a patient's ``PD-012``."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return False
    suffix = told_suffix(folder.name)
    words = {match.lastgroup for match in CONTRASTS.finditer(folder.name.lower())}
    if suffix not in SUFFIXES.values() or (len(words) > 1 and suffix != "FLAIR"):
        return False
    told = {told_suffix(stem(path)) for path in images(folder)} - {"mask"}
    return told <= {suffix, ""}


def _inside_subject(root: Path) -> tuple[Path, list[Place]] | None:
    """The places of one subject or session, where that is what was named."""
    here = Path(os.path.abspath(root))
    top = here.parent if here.name == "anat" else here
    subject = top.parent if top.name.startswith("ses-") else top
    if not subject.name.startswith("sub-"):
        return None
    base, folders = subject.parent, [root]
    if here.name != "anat":
        folders = [path for path in (root / "anat", *sorted(root.glob("ses-*/anat"))) if path.is_dir()]
    places = []
    for folder in folders:
        below = Path(os.path.abspath(folder)).relative_to(base)
        levels = [base / parent for parent in reversed(below.parents)]
        own = tuple(part for part in below.parts if part != "anat")
        places.append(Place(folder, own, (*levels, folder), False))
    return (base, places) if places else None


def _place(root: Path, folder: Path, plain: bool) -> Place:
    below = folder.relative_to(root)
    names = tuple(part for part in below.parts if plain or part != "anat")
    return Place(folder, names, tuple(root / parent for parent in [*reversed(below.parents), below]), plain)


def _downloaded(root: Path, folders: Iterable[Path]) -> list[Place]:
    """The sessions of a download of OASIS-3: ``OAS30001_MR_d0129``, and in it images and sidecars below ``anat*``.

    They lie in ``anat1``, in ``anat1/NIFTI`` and ``anat1/BIDS``, or in ``scans/anat1-T1w/resources/*/files``. Without
    any image there are none.
    """
    places = []
    for folder in folders:
        if match := DOWNLOADED.fullmatch(Path(os.path.abspath(folder)).name):
            inside = sorted({path.parent for path in folder.glob("**/anat*/**/*") if not path.is_dir()})
            names = f"sub-{match[1]}", f"ses-{match[2]}"
            places.append(Place(folder, names, (root, *inside), False, (*inside,)))
    return places if any(place.spread and place.images() for place in places) else []


def _folders(root: Path) -> list[Path]:
    folders = (path for path in root.iterdir() if path.is_dir() and path.name not in NOT_SUBJECTS)
    return sorted(path for path in folders if path.name[0] != ".")


def _may_hold_images(folder: Path) -> bool:
    """Whether there are images in a folder; a folder that cannot be read counts, and is told later."""
    try:
        return bool(images(folder))
    except OSError:
        return True


def _log_passed_over(root: Path, kind: str, folders: Iterable[Path], files: Iterable[Path] = ()) -> None:
    beside = [f"{path.name}/" for path in folders] + [path.name for path in files]
    if beside:
        logger.warning(f"{root} is {kind}: left out beside it {_some(beside)}")


def _explain(root: Path) -> None:
    """Refuses a folder that has no place of images: by the shape it has."""
    flat = [path.name for path in images(root)]
    if flat:
        found = f"images in the folder itself ({_some(flat)}), where nothing tells the subjects apart"
        raise UserError(root, found, HOW_TO_PLACE)
    files = [*_files(root)]
    nested = [path for path in files if path.name.lower().endswith(NIFTI)]
    if nested:
        shown = min((path.relative_to(root) for path in nested), key=lambda path: (len(path.parts), path))
        found = f"no images in its sub-folders, but deeper ({shown.as_posix()})"
        raise UserError(root, found, f"{HOW_TO_PLACE}; or name the folder above the subjects, where that is another")
    if find_dicom(root):
        raise UserError(root, "DICOM files, no NIfTI", HOW_TO_CONVERT)
    for endings, do in OTHER_FORMATS.items():
        other = [path for path in files if path.name.lower().endswith(endings)]
        if other:
            raise UserError(root, f"no NIfTI images, but {other[0].relative_to(root).as_posix()}", do)
    raise UserError(root, "no images", HOW_TO_PLACE)


def _files(root: Path) -> Iterable[Path]:
    """The first files of a folder, at any depth; the shallow ones first."""

    def walk() -> Iterable[Path]:
        waiting = [root]
        for folder in waiting:
            try:
                entries = sorted(path for path in folder.iterdir() if path.name[0] != ".")
            except OSError:
                continue
            yield from (path for path in entries if not path.is_dir())
            waiting += [path for path in entries if path.is_dir() and not path.is_symlink()]

    return islice(walk(), MOST_FILES)


def _is_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

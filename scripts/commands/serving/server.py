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

"""What a request may ask of the server around the bundle: the files it may name, and MONAI Label's own parameters.

MONAI Label 0.8.5 takes any path as image, any file as weights and any folder as the tag of a label.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir

import torch

from ...errors import UserError
from .request import shown

STUDIES = "MONAI_LABEL_STUDIES"
"""Variable that a server of MONAI Label has: its folder of scans, or the address of another server."""
CACHES = ("MONAI_LABEL_SESSION_PATH", "MONAI_LABEL_DATASTORE_CACHE_PATH", "MONAI_LABEL_DICOMWEB_CACHE_PATH")
"""Variables of the folders where it keeps the images of sessions and of other servers, if they are not in
:data:`CACHE` of the user's folder."""
CACHE = ".cache/monailabel"
UPLOAD = re.compile(r"tmp[a-z0-9_]{8}(\.[^/\\]+)?")
"""Name that it gives to an uploaded image."""
IMAGES = (".nii", ".nii.gz")
WEIGHTS = "model.pt"
"""The weights of the network that estimates maps; MONAI Label loads any others without a word."""
EXTENSIONS = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha", ".mhd")
LONGEST_PATH = 4096


def check_server_keys(parameters: Mapping) -> None:
    """Refuses values of MONAI Label's own parameters that it would act on unseen.

    Raises:
        UserError: for a device there is not, weights other than the bundle's, a tag or an ending that is a path.
    """
    device = parameters.get("device")
    if device is not None and device not in _devices():
        raise UserError("device", shown(device), f"use {' or '.join(_devices())}")
    weights = parameters.get("model_filename")
    # Unless a request chooses, it is the list of all weights there are, the shortest name first.
    first = weights[0] if isinstance(weights, list) and weights else weights
    if weights is not None and first != WEIGHTS:
        raise UserError("model_filename", shown(first), f"use {WEIGHTS}, the only weights for images")
    tag = parameters.get("label_tag")
    if tag is not None and (not isinstance(tag, str) or not re.fullmatch("[A-Za-z0-9_-]{1,64}", tag)):
        raise UserError("label_tag", shown(tag), "use letters, digits, _ and -")
    extension = parameters.get("result_extension")
    if extension and extension not in EXTENSIONS:
        raise UserError("result_extension", shown(extension), f"use one of {', '.join(EXTENSIONS)}")


def request_files(image: object, names: Sequence[str]) -> list[Path]:
    """The files of a request, none twice: of the server's folders, or one that was uploaded.

    Where no server runs, the folder of the image is the only one.

    Args:
        image: path of a file, as the server found it or the request named it.
        names: of further files in its folder.

    Raises:
        UserError: for what is no such file, links to elsewhere, files beside an uploaded one, and a scan listed twice.
    """
    if not isinstance(image, str) or not image.isprintable() or len(image) > LONGEST_PATH:
        raise UserError("image", shown(image), "name one file, and further ones as files")
    path = Path(image)
    if names and _is_upload(path):
        do = "name files of the server's folder, or send one 4D file"
        raise UserError("files", "names beside an uploaded image", do)
    folders = _folders(path)
    files = [_inside(path.parent / name, folders) for name in (path.name, *names)]
    known: dict[tuple[int, int], Path] = {}
    for file in files:
        # Links and other spellings of a name lead to the same place on the disk.
        place = (file.stat().st_dev, file.stat().st_ino)
        if place in known:
            raise UserError("files", f"{shown(file.name)} twice", "list each scan once")
        known[place] = file
    return files


def sidecar_of(file: Path, stem: str) -> Path | None:
    """The sidecar beside a file of :func:`request_files`; None where there is none, and for an uploaded one.

    Raises:
        UserError: for a link to elsewhere.
    """
    sidecar = file.with_name(f"{stem}.json")
    if _is_upload(file) or not sidecar.exists():
        return None
    return _inside(sidecar, _folders(file), (".json",))


def _inside(file: Path, folders: Sequence[Path], endings: tuple[str, ...] = IMAGES) -> Path:
    """A regular file whose name has one of the endings and which lies in one of the folders, links followed."""
    name = shown(file.name)
    if not file.name.lower().endswith(endings):
        raise UserError("image", name, f"name a file that ends in {' or '.join(endings)}")
    try:
        resolved, is_file = file.resolve(), file.is_file()
    except (OSError, RuntimeError, ValueError):
        raise UserError(
            "image", f"{name}, a name that no file can have", "name a file of the server's folder"
        ) from None
    if not any(resolved.is_relative_to(folder) for folder in folders):
        raise UserError("image", f"{name}, which is outside the server's folder", "name a file of that folder")
    if not is_file:
        raise UserError("image", f"{name}, no such file", "name a file of the server's folder")
    # What was checked is what is opened, under its own name: a link's name tells what the scan is.
    return file


def _folders(image: Path) -> list[Path]:
    studies = os.environ.get(STUDIES)
    if not studies or _is_upload(image):
        return [image.parent.resolve()]
    named = [studies, *filter(None, map(os.environ.get, CACHES)), Path.home() / CACHE]
    return [Path(folder).resolve() for folder in named]


def _is_upload(path: Path) -> bool:
    """Whether MONAI Label made this file of what was sent; nobody else can know its name."""
    return (
        bool(os.environ.get(STUDIES))
        and UPLOAD.fullmatch(path.name) is not None
        and path.parent.resolve() == Path(gettempdir()).resolve()
    )


def _devices() -> list[str]:
    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *(["cuda", *cuda] if cuda else [])]

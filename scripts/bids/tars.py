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


"""Tars of many subjects each, in webdataset's layout: a large data set in few files, read from start to end.

A file ``sub-01/anat/sub-01_T1w.nii.gz`` is the member ``sub-01.anat.sub-01_T1w.nii.gz``: what stands before the first
dot is the sample, for webdataset too. Its path in the data set is kept as a header of the member. Sidecars at the top
of the data set, which are inherited, come first in every tar.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..errors import UserError
from ..files import make_folder, replacing, write_atomically

PATH = "BIDS.path"
"""Header of a member that holds its path in the data set."""
INHERITED = "dataset"
"""Name of the sample of what is not of one subject."""
LARGEST = 2**31
"""Bytes of a member that is read; more is no file of a subject."""


class Tar(NamedTuple):
    """One tar of a folder.

    Attributes:
        path: the file.
        subjects: in their order, ``sub-01``.
        first: number of the first one in the data set.
    """

    path: Path
    subjects: tuple[str, ...]
    first: int


def write_tar(path: Path, dataset_dir: Path, subjects: Sequence[str], first: int) -> bool:
    """Writes a tar with its list of subjects, ``.json`` beside it; False where that of the same files is there.

    Args:
        path: the tar.
        dataset_dir: the data set.
        subjects: names of its folders, ``sub-01``; derivatives below ``derivatives/*`` are taken along.
        first: number of the first subject in the data set.

    Raises:
        UserError: for what cannot be read or written.
    """
    files = [(INHERITED, file) for file in sorted(dataset_dir.glob("*.json")) if file.name != "participants.json"]
    for name in subjects:
        folders = [dataset_dir / name, *sorted(dataset_dir.glob(f"derivatives/*/{name}"))]
        files += [(name, file) for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]
    said, about = path.with_suffix(".json"), {"subjects": [*subjects], "first": first, "files": len(files)}
    if path.exists() and _read(said) == about:
        since = path.stat().st_mtime_ns
        if all(file.stat().st_mtime_ns <= since for _, file in files):
            return False
    make_folder(path.parent)
    said.unlink(missing_ok=True)
    with replacing(path) as target, tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for key, file in files:
            relative = file.relative_to(dataset_dir).as_posix()
            try:
                content = file.read_bytes()
            except OSError as error:
                raise UserError(file, f"no readable file ({error.strerror or error})", "see its permissions") from error
            # Times and owners are left out: equal files give equal tars.
            member = tarfile.TarInfo(f"{key}.{relative.removeprefix(key + '/').replace('/', '.')}")
            member.size, member.pax_headers = len(content), {PATH: relative}
            tar.addfile(member, io.BytesIO(content))
    write_atomically(said, json.dumps(about) + "\n")
    return True


def find_tars(folder: str | Path) -> list[Tar]:
    """The tars of a folder, in the order of their subjects; one without its list is not complete and left out.

    Raises:
        UserError: for a missing folder, one without tars, and one with tars of two ways to share the subjects.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(folder, "no such folder", "name one that configs/pack.json wrote")
    found = []
    for path in sorted(folder.glob("*.tar")):
        about = _read(path.with_suffix(".json"))
        if about:
            found.append(Tar(path, tuple(about["subjects"]), about["first"]))
    if not found:
        raise UserError(folder, "no tar with its list of subjects", "write some with configs/pack.json")
    found.sort(key=lambda tar: tar.first)
    for one, other in zip(found, found[1:]):
        if one.first + len(one.subjects) > other.first:
            both = f"subjects of {one.path.name} again in {other.path.name}"
            raise UserError(folder, both, "remove all tars there and run configs/pack.json again")
    return found


def read_tar(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The subjects of a tar: name, and path in the data set -> content, inherited files among them.

    The tar is read once, from start to end.

    Raises:
        UserError: for what is no such tar.
    """
    inherited: dict[str, bytes] = {}
    name, content = "", {}
    try:
        with open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key, inside = member.name.split(".")[0], member.pax_headers.get(PATH, "")
                if not member.isfile() or not _is_inside(inside) or member.size > LARGEST:
                    raise UserError(path, f"the member {member.name!r}", "write the tar with configs/pack.json")
                if key != name and content:
                    yield name, inherited | content
                    content = {}
                name = key
                # In one piece, where tarfile would copy small ones.
                file.seek(member.offset_data)
                data = file.read(member.size)
                if len(data) < member.size:
                    raise EOFError("it ends too early")
                (inherited if key == INHERITED else content)[inside] = data
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(path, f"no readable tar ({error})", "write it anew with configs/pack.json") from error
    if content:
        yield name, inherited | content


def unpack(content: dict[str, bytes], folder: Path) -> None:
    """Writes the files of a subject below a folder."""
    for inside, data in content.items():
        path = folder / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _is_inside(inside: str) -> bool:
    """Whether this is a path below the folder it is written to."""
    parts = PurePosixPath(inside).parts
    return bool(parts) and not PurePosixPath(inside).is_absolute() and ".." not in parts and "\0" not in inside


def _read(path: Path) -> dict:
    """List of the subjects of a tar; empty where there is none."""
    try:
        about = json.loads(path.read_text())
        whole = isinstance(about["first"], int) and all(isinstance(name, str) for name in about["subjects"])
        return about if whole else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}

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

"""Reading a data set as files and as tars: ``python -m benchmarks.streaming [--subjects 200] [--resolution 2]``.

One simulated subject is copied under many names; packing and both ways of reading start with nothing of it in the
page cache. Reading is all that is measured: images are not decoded. Openings of files are counted by Python's audit
events, so those of folders are not among them.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.bids.tars import find_tars, read_tar, write_tar
from scripts.simulate import Simulator

opened: list[str] = []


def copy_subject(study: Path, subjects: int) -> list[str]:
    """The data set of many subjects that are all the first one; returns their names."""
    names = [f"sub-{number + 1:06d}" for number in range(subjects)]
    for name in names:
        for folder in (study / "sub-01", study / "derivatives/truth/sub-01"):
            target = folder.parent / name / "anat"
            target.mkdir(parents=True)
            for path in (folder / "anat").iterdir():
                shutil.copyfile(path, target / path.name.replace("sub-01", name))
    shutil.rmtree(study / "sub-01"), shutil.rmtree(study / "derivatives/truth/sub-01")
    return names


def evict(folder: Path) -> None:
    """Takes the files of a folder out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            number = os.open(path, os.O_RDONLY)
            os.fsync(number)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(number)


def read_files(study: Path, names: list[str]) -> Iterator[int]:
    """Bytes of each subject, in a random order, as training asks for them."""
    for name in random.Random(0).sample(names, len(names)):
        folders = [study / name, study / "derivatives/truth" / name]
        content = {path: path.read_bytes() for folder in folders for path in sorted(folder.glob("anat/*"))}
        yield sum(map(len, content.values()))


def read_tars(folder: Path) -> Iterator[int]:
    """Bytes of each subject, tars in a random order."""
    tars = find_tars(folder)
    for tar in random.Random(0).sample(tars, len(tars)):
        yield from (sum(map(len, content.values())) for _, content in read_tar(tar.path))


@contextmanager
def measured(row: dict) -> Iterator[None]:
    """Adds seconds, CPU seconds and openings of the block."""
    opened.clear()
    began, cpu = time.monotonic(), time.process_time()
    yield
    row["seconds"] = round(time.monotonic() - began, 3)
    row["CPU seconds"] = round(time.process_time() - cpu, 3)
    row["files opened"] = len(opened)


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=arguments.dir) as scratch:
        study = Simulator(Path(scratch, "study"), subjects=1, resolution=arguments.resolution).run()
        names, tars = copy_subject(study, arguments.subjects), Path(scratch, "tars")
        sys.addaudithook(lambda event, given: event == "open" and scratch in str(given[0]) and opened.append(given[0]))
        rows: list[dict] = [{"what": "pack"}]
        evict(study)
        with measured(rows[0]):
            for first in range(0, len(names), arguments.per_tar):
                write_tar(tars / f"{first:06d}.tar", study, names[first : first + arguments.per_tar], first)
        ways: dict[str, Callable] = {"files": lambda: read_files(study, names), "tars": lambda: read_tars(tars)}
        for name in [*ways] * arguments.repeats:
            evict(Path(scratch))
            row = {"what": name}
            with measured(row):
                sizes = [*ways[name]()]
            rows.append(row | {"subjects": len(sizes), "MB a subject": round(sum(sizes) / len(sizes) / 1e6, 3)})
        for row in rows:
            print(json.dumps(row))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=200)
    parser.add_argument("--per-tar", type=int, default=100)
    parser.add_argument("--resolution", type=int, default=2, help="edge of a voxel [mm]")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dir", help="a folder on the disk to measure; else the one for temporary files")
    main(parser.parse_args())

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


"""A data set of many subjects as tars, which training reads without opening the files of each."""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..bids.tars import write_tar
from ..errors import UserError
from ..files import check_writable, writable
from ..shard import Part


@dataclass(eq=False)
class Packer:
    """Writes the subjects of a BIDS folder, and what of them lies in its derivatives, as tars of equally many.

    Tars that are there, of the files that are there, stay as they are: a run that was stopped goes on.

    Args:
        dataset_dir: the BIDS folder.
        output_dir: folder of the tars, outside of it.
        subjects_per_tar: subjects of a tar; the last may have fewer.
        part: which of the tars this process writes.
    """

    dataset_dir: str | None
    output_dir: str
    subjects_per_tar: int
    part: Part

    def run(self) -> None:
        """Writes what is missing.

        Raises:
            UserError: for a folder without subjects, one that cannot be written, or one with tars of another packing.
        """
        if self.dataset_dir is None:
            raise UserError("dataset_dir", "no folder", "name one with --dataset_dir")
        root, size = Path(self.dataset_dir), self.subjects_per_tar
        subjects = sorted(path.name for path in root.glob("sub-*") if path.is_dir())
        if not subjects:
            raise UserError(root, "no folder sub-*", "name a BIDS data set")
        names = [f"subjects-{number:06d}.tar" for number in range(-(-len(subjects) // size))]
        numbers = self.part.of(range(len(names)))
        with writable(Path(self.output_dir)):
            folder = check_writable(self.output_dir)
            others = sorted({path.name for path in folder.glob("*.tar")} - {*names})
            if others:
                found = f"{others[0]}, which is none of the {len(names)} tars of these subjects"
                raise UserError(folder, found, "choose another --output_dir, or remove the tars of an earlier packing")
            written = [
                write_tar(folder / names[number], root, subjects[first : first + size], first)
                for number in tqdm(numbers, f"packing into {folder}", unit="tar")
                for first in [number * size]
            ]
        print(f"{folder}: {sum(written)} of {len(written)} tars written, {len(subjects)} subjects in all", flush=True)

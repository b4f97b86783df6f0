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

"""A folder of random heads, laid out as a BIDS study with the truth as a derivative."""

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from shutil import rmtree

import numpy as np
import torch
from tqdm import tqdm

from ..acquisition import to_sidecar
from ..bids import LABEL_TABLE, MAP_UNITS, label_table, volume_column, write_image, write_segmentation
from ..errors import UserError
from ..files import (
    lock_folder,
    make_folder,
    remove_leftovers,
    scratch_folder,
    uninterrupted,
    writable,
    write_atomically,
)
from ..shard import Part
from ..tissue import REGIONS
from .head import Heads, simulate_head

VERSION = 5
"""Counts the changes after which equal seeds give other heads."""
BIDS_VERSION = "1.10.0"
TOOL = "brain_mri_physics_latent_diffusion simulate"
TEMPLATE = "https://nist.mni.mcgill.ca/icbm-152-nonlinear-atlases-2009/"
"""Source of the embedded head."""


@dataclass(eq=False)
class Simulator:
    """Writes a data set of random heads: their scans with sidecars, true maps and labels.

    Every file of a subject is a function of (seed, number of the subject): the same bytes however many subjects are
    asked for. A subject appears only when it is whole, so a run that was stopped goes on where it was, and existing
    subjects are left as they are. Building this object reads and writes nothing.

    Args:
        output_dir: folder of the study; it is made if absent.
        subjects: number of subjects.
        seed: seed of the study, not negative.
        overwrite: replace a study that was simulated here before, whatever its seed.
        resolution: voxel size [mm], an integer.
        heads: what the heads are drawn from.
        part: which of the subjects this process simulates.
    """

    output_dir: str | Path
    subjects: int = 8
    seed: int = 0
    overwrite: bool = False
    resolution: int = 1
    heads: Heads = field(default_factory=Heads)
    part: Part = field(default_factory=Part)

    @property
    def root(self) -> Path:
        """Folder of the study."""
        return Path(self.output_dir)

    @property
    def truth(self) -> Path:
        """Folder of the true maps and labels."""
        return self.root / "derivatives" / "truth"

    @cached_property
    def origin(self) -> dict:
        """Everything the content of the study depends on, but the number of subjects.

        Raises:
            UserError: for a folder without label maps or masks.
        """
        options = asdict(self.heads)
        options["label_maps"], options["lesion_masks"] = options.pop("anatomies").names, self.heads.lesion_masks.names
        if tuple(self.heads.gain) == Heads.gain:
            del options["gain"]  # Studies from before this option stay what they are.
        named = {"".join(word.capitalize() for word in key.split("_")): value for key, value in options.items()}
        tool = {"Name": TOOL, "Version": str(VERSION), "Seed": self.seed, "VoxelSize": self.resolution}
        # As it will be read again: lists for tuples.
        return dict(json.loads(json.dumps(tool | named)))

    def run(self) -> Path:
        """Writes what is missing of the study.

        Returns:
            The folder of the study.

        Raises:
            UserError: for impossible options, a folder that cannot be written, or one that holds something else.
        """
        for option, least in (("subjects", 1), ("seed", 0), ("resolution", 1)):
            value = getattr(self, option)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(option, repr(value), f"use a whole number of at least {least}")
        if not isinstance(self.overwrite, bool):
            raise UserError("overwrite", repr(self.overwrite), "use True or False")
        if self.overwrite and not self.part.alone:
            raise UserError("overwrite", "True for one of several shards", "remove the folder, then start all of them")
        names = {subject_name(index): index for index in self.part.of(range(self.subjects))}
        if self.overwrite or self._read_origin() != self.origin or self._missing(names):
            self._refuse_other_content()
            # Ranks of one job may start together; the second waits, then finds the work done. Shards work side by side.
            make_folder(self.root)
            with lock_folder(self.root, f".lock-{self.part.index}", wait=True), writable(self.root):
                with lock_folder(self.root, wait=True):
                    self._refuse_other_content()
                    self._prepare()
                missing = [name for name in self._missing(names) if name in names]
                for name in tqdm(missing, f"simulating {self.root}", unit="subject", disable=not missing):
                    head = simulate_head(self.heads, self.seed, names[name], self.resolution)
                    self._write_subject(name, head, names[name])
                # The shard that ends last finds the subjects of all.
                with lock_folder(self.root, wait=True):
                    self._write_participants()
        return self.root

    def ensure(self, dataset_dir: str | Path) -> None:
        """Simulates the study, and says so, where ``dataset_dir`` is this folder and it is not complete.

        Any other folder is the user's own: it is never made.

        Raises:
            UserError: when such a folder does not exist.
        """
        if Path(dataset_dir) != self.root:
            if not Path(dataset_dir).is_dir():
                raise UserError(dataset_dir, "no such folder", "name an existing one with --dataset_dir")
            return
        if not (self.root / "participants.tsv").exists():
            print(f"no data given: simulating {self.subjects} subjects in {self.root}", flush=True)
            self.run()

    def _missing(self, names: dict[str, int]) -> list[str]:
        """Which of the subjects, and of the list of them that is written last, are not there yet."""
        return [name for name in (*names, "participants.tsv") if not (self.root / name).exists()]

    def _read_origin(self) -> dict:
        """What the folder says it was made by; empty where it says nothing."""
        try:
            return dict(json.loads((self.root / "dataset_description.json").read_text())["GeneratedBy"][0])
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return {}

    def _refuse_other_content(self) -> None:
        """Stops at a folder that holds anything but this study, or one to be overwritten."""
        origin, content = self._read_origin(), self.root.iterdir() if self.root.exists() else []
        visible = sorted(path.name for path in content if not path.name.startswith("."))
        if visible and origin.get("Name") != TOOL:
            found = f"a folder with other content ({', '.join(visible[:3])}{', …' * (len(visible) > 3)})"
            raise UserError(self.root, found, "choose a new or empty output_dir")
        if visible and origin != self.origin and not self.overwrite:
            differs = [key for key in self.origin if origin.get(key) != self.origin[key]]
            found = f"a study simulated with {', '.join(f'{key} {origin.get(key)}' for key in differs)}"
            raise UserError(self.root, found, "choose another output_dir, or set overwrite to true to replace it")

    def _prepare(self) -> None:
        """Removes leftovers and, to be overwritten, the old study; describes the new one."""
        remove_leftovers(self.root)
        stale = [self.root / "participants.tsv", *self.root.glob("sub-*"), self.truth] if self.overwrite else []
        for path in stale:
            rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)

        description = {
            "Name": "Simulated heads",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "raw",
            "GeneratedBy": [self.origin],
        }
        if self.heads.anatomies.folder is None:
            description["SourceDatasets"] = [{"URL": TEMPLATE}]
        # First of all visible files: it tells a later run that the folder is ours.
        self._write(self.root / "dataset_description.json", description)
        self.truth.mkdir(parents=True, exist_ok=True)
        description |= {"Name": "Tissue maps and labels of the simulated heads", "DatasetType": "derivative"}
        self._write(self.truth / "dataset_description.json", description)
        self._write(self.truth / LABEL_TABLE, label_table(REGIONS))
        self._write(self.truth / ".bidsignore", "*_volumes.tsv\n")

    def _write_subject(self, name: str, head: dict, index: int) -> None:
        """All files of a subject under a hidden name, then two renames, the scans' last: they mark it as whole."""
        with scratch_folder(self.root, name) as partial:
            self._write_files(partial, name, head, index)
            with uninterrupted():
                if (self.truth / name).exists():
                    rmtree(self.truth / name)
                (partial / "truth").rename(self.truth / name)
                (partial / "scans").rename(self.root / name)

    def _write_files(self, partial: Path, name: str, head: dict, index: int) -> None:
        for suffix, image in head["contrasts"].items():
            path = partial / "scans" / "anat" / f"{name}_{suffix}.nii.gz"
            write_image(path, image.numpy(), head["scan_affine"], to_sidecar(head["acquisitions"][suffix]))
        for (suffix, unit), image in zip(MAP_UNITS.items(), head["maps"]):
            path = partial / "truth" / "anat" / f"{name}_{suffix}.nii.gz"
            write_image(path, image.numpy(), head["affine"], {"Units": unit, "SkullStripped": False})
        path, labels = partial / "truth" / "anat" / f"{name}_dseg.nii.gz", head["labels"].numpy()
        voxels = np.bincount(labels.flat, minlength=len(REGIONS))[1:]
        about = {
            "Description": "Region that has the most of each voxel, and what the subject was drawn as.",
            "SimulatedFrom": {"Seed": self.seed, "Index": index, "Version": VERSION, "Torch": torch.__version__},
            "Measured": dict(zip(REGIONS[1:], (voxels * self.resolution**3 / 1000).tolist())),
            "MeasuredUnits": "mL",
            **head["causes"],
        }
        write_segmentation(path, labels, head["affine"], dict(enumerate(REGIONS)), about)

    def _write_participants(self) -> None:
        """The list of subjects, with the volumes [ml] that their label maps have; n/a where an older run noted none."""
        path, head = self.root / "participants.tsv", ["participant_id", *map(volume_column, REGIONS[1:])]
        lines = path.read_text().splitlines() if path.exists() else []
        # Subjects that are listed are not looked up again: shards of a large study end often.
        known = {line.split("\t")[0]: line for line in lines[1:]} if lines[:1] == ["\t".join(head)] else {}
        rows = ["\t".join(head)]
        for name in sorted(path.name for path in self.root.glob("sub-*")):
            rows.append(known.get(name) or "\t".join([name, *self._volumes(name)]))
        self._write(path, "\n".join([*rows, ""]))

    def _volumes(self, name: str) -> list[str]:
        said = self.truth / name / "anat" / f"{name}_dseg.json"
        measured = json.loads(said.read_text()).get("Measured", {}) if said.exists() else {}
        return [f"{measured[one]:.3f}" if one in measured else "n/a" for one in REGIONS[1:]]

    def _write(self, path: Path, content: dict | str) -> None:
        """A small text file, whole or not at all."""
        write_atomically(path, content if isinstance(content, str) else json.dumps(content, indent=4) + "\n")


def subject_name(index: int) -> str:
    """BIDS name of a subject: ``sub-01`` for index 0."""
    return f"sub-{index + 1:02d}"

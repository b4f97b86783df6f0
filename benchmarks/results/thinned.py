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

"""Every third slice of generated scans, to estimate many heads: ``python -m benchmarks.results.thinned IN OUT``."""

import shutil
import sys
from pathlib import Path

import nibabel as nib

KEPT = slice(1, None, 3)
"""Axial slices that are kept: 1 mm, with gaps of 2 mm."""
SCANS = "*_acq-*.nii.gz"


def thin(samples: Path, folder: Path) -> None:
    """Writes the slices :data:`KEPT` of the contrasts of a folder of ``configs/generate.json`` to another."""
    for path in sorted(samples.glob(f"sub-*/anat/{SCANS}")):
        made = folder / path.relative_to(samples)
        made.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.load(path).slicer[:, :, KEPT], made)
        sidecar = path.name.replace(".nii.gz", ".json")
        shutil.copy(path.with_name(sidecar), made.with_name(sidecar))
    shutil.copy(samples / "dataset_description.json", folder)


if __name__ == "__main__":
    thin(*map(Path, sys.argv[1:]))

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

"""DICOM folders: converted once by dcm2niix, one sub-folder of images and sidecars per patient and study."""

import shutil
import subprocess
import sys
from pathlib import Path
from shutil import rmtree

from ..bids import find_dicom
from ..bids.shapes import HOW_TO_CONVERT
from ..errors import UserError

CONVERTER = "dcm2niix"
LAYOUT = "%i/%k/%s_%d"
"""Patient, study, then number and description of the series, in the words of dcm2niix."""
HOW_TO_INSTALL = "install it (apt install dcm2niix, or pip install dcm2niix) and run this again, or"
SEVERAL_SUBJECTS = "each study is a subject of its own: rename the folders as you like"


def find_converter() -> str | None:
    """The path of dcm2niix, on PATH or beside this Python; None where it is not installed."""
    return shutil.which(CONVERTER) or shutil.which(CONVERTER, path=str(Path(sys.executable).parent))


def nifti_folder(dataset_dir: str | Path, target: str | Path) -> Path:
    """A folder of scans as it is, or, where it holds DICOM files instead of NIfTI, what dcm2niix makes of them.

    Nothing is written into the DICOM folder. A folder that was converted before is used as it is, with whatever was
    changed in it since.

    Args:
        dataset_dir: the folder.
        target: where to put one sub-folder per patient and study; it is made.

    Raises:
        UserError: where dcm2niix is not installed or converts nothing, and for a target inside the DICOM folder.
    """
    root, target = Path(dataset_dir), Path(target)
    if not root.is_dir() or find_dicom(root) is None:
        return root
    if target.resolve().is_relative_to(root.resolve()):
        raise UserError("nifti_dir", f"{target}, inside the folder of DICOM files", "name a folder elsewhere")
    if target.is_dir() and any(target.iterdir()):
        print(f"{root}: DICOM files, converted before: {target} is used as it is\n", flush=True)
        return target
    converter = find_converter()
    if converter is None:
        raise UserError(root, f"DICOM files, and {CONVERTER} is not installed", f"{HOW_TO_INSTALL} {HOW_TO_CONVERT}")
    partial = target.with_name(f".{target.name}.partial")
    try:
        rmtree(partial, ignore_errors=True)
        (partial / "raw").mkdir(parents=True)
        _convert(converter, root, partial / "raw")
        subjects = _sort(partial / "raw", partial / "sorted")
        if not subjects:
            raise UserError(root, f"DICOM files, of which {CONVERTER} makes no image", "give MR images")
        if target.is_dir():
            target.rmdir()
        (partial / "sorted").rename(target)
    except OSError as error:
        found = f"a folder that cannot be written ({error.strerror or error})"
        raise UserError(target, found, "choose another nifti_dir, or make room there") from error
    finally:
        rmtree(partial, ignore_errors=True)
    print(f"{root}: DICOM files of {subjects} studies, converted by {CONVERTER}. From now on name {target}", flush=True)
    print(f"as dataset_dir; {SEVERAL_SUBJECTS}\n", flush=True)
    return target


def _convert(converter: str, root: Path, folder: Path) -> None:
    """Runs dcm2niix; some series may fail where others do not, so its exit status says little."""
    command = [converter, "-z", "y", "-b", "y", "-ba", "y", "-d", "9", "-f", LAYOUT, "-o", str(folder), str(root)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode and not any(folder.rglob("*.nii.gz")):
        lines = (done.stderr + done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(root, f"DICOM files that {CONVERTER} cannot convert ({lines[-1].strip()})", "see its manual")


def _sort(raw: Path, folder: Path) -> int:
    """Moves each study's images into a folder named by the patient; returns how many studies there are."""
    studies = sorted({path.parent for path in raw.rglob("*.nii.gz")})
    for study in studies:
        patient = study.parent.name if study.parent != raw else "unnamed"
        name, number = patient, 1
        while (folder / name).exists():
            number += 1
            name = f"{patient}-{number}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        study.rename(folder / name)
    return len(studies)

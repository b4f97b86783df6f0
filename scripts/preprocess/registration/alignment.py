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

"""What became of the scans of a session: its files, and what sidecars say of it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import SimpleITK as sitk  # noqa: N813

from ...bids import Session, output_path
from .rigid import FLIP, Motion

SOFTWARE = f"SimpleITK {sitk.Version.VersionString()}"
DESCRIPTION = (
    "Rigid transform as ITK writes it: from points of the reference to points of the moving scan [mm, LPS], which "
    "resamples the moving scan on the reference's grid."
)


class Alignment(NamedTuple):
    """How the scans of a session were aligned; those in neither dictionary are where their headers say.

    Attributes:
        reference: number of the scan that the others are brought to.
        motions: number of a scan -> what was taken out of it.
        refused: number of a scan -> why it stays where its header says although it was to be registered.
    """

    reference: int
    motions: Mapping[int, Motion]
    refused: Mapping[int, str]

    def caption(self, number: int) -> str:
        """A line for a picture of a scan; empty where nothing was done to it."""
        if number in self.refused:
            return "not registered: see the sidecars"
        if number not in self.motions:
            return ""
        motion = self.motions[number]
        moved = f"moved {motion.millimetres:.1f} mm {motion.degrees:.1f}°"
        return f"{moved}, NMI {motion.before:.2f} → {motion.after:.2f}"


def transform_path(root: str | Path, session: Session, alignment: Alignment, number: int) -> Path:
    """``sub-01/anat/sub-01_from-T2w_to-T1w_mode-image_xfm.txt``; scans of one suffix are numbered (``T2w1``)."""
    suffixes, labels = [contrast.suffix for contrast in session.contrasts], []
    for index, suffix in enumerate(suffixes):
        several = suffixes.count(suffix) > 1
        labels.append(f"{suffix}{suffixes[: index + 1].count(suffix)}" if several else suffix)
    entities = {"from": labels[number], "to": labels[alignment.reference], "mode": "image"}
    return output_path(root, session, "xfm", ".txt", **entities)


def sidecar_about(alignment: Alignment, session: Session, names: Sequence[str]) -> dict:
    """What the sidecars of maps say.

    Args:
        alignment: of the session's scans.
        session: the session.
        names: of its scans in the sidecars.
    """
    registered = {
        names[number]: {**figures(motion), "Transform": f"bids::{transform_path('', session, alignment, number)}"}
        for number, motion in alignment.motions.items()
    }
    refused = {names[number]: reason for number, reason in alignment.refused.items()}
    return {"Reference": names[alignment.reference], "Registered": registered, "Refused": refused}


def write_transforms(folder: Path, session: Session, alignment: Alignment, names: Sequence[str]) -> None:
    """Writes the transform of each scan that was registered, with a sidecar; arguments as :func:`sidecar_about`."""
    for number, motion in alignment.motions.items():
        path = transform_path(folder, session, alignment, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        matrix = FLIP @ motion.matrix @ FLIP
        transform = sitk.AffineTransform(matrix[:3, :3].ravel().tolist(), matrix[:3, 3].tolist())
        sitk.WriteTransform(transform, str(path))
        sources = [names[number], names[alignment.reference]]
        sidecar = {"Description": DESCRIPTION, "Sources": sources, **figures(motion), "Software": SOFTWARE}
        path.with_suffix(".json").write_text(json.dumps(sidecar, indent=4) + "\n")


def figures(motion: Motion) -> dict:
    """What a sidecar says of a motion."""
    return {
        "RotationDegrees": round(motion.degrees, 3),
        "TranslationMillimetres": round(motion.millimetres, 3),
        "NormalizedMutualInformation": {"Headers": round(motion.before, 4), "Registered": round(motion.after, 4)},
    }

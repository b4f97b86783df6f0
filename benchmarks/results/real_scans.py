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

"""Real scans as the estimators want them: some axial slices of one session, aligned and masked as for inference."""

from pathlib import Path

import torch
from monai.transforms import Compose
from torch import Tensor

from scripts.acquisition import Acquisition
from scripts.bids import Session, find_sessions, resolve, session_record
from scripts.errors import UserError
from scripts.evaluate.estimators import Scans
from scripts.preprocess import AlignContrastsd, ForegroundMaskd, LoadSessiond

PREPARE = Compose([LoadSessiond(), AlignContrastsd(), ForegroundMaskd()])


def find_session(folder: Path, subject: str) -> Session:
    """The session of one subject of a folder.

    Raises:
        UserError: when it is not there.
    """
    for session in find_sessions(folder):
        if session.subject == subject:
            return session
    raise UserError(folder, f"no subject {subject}", "name the folder that holds data/ with --shared")


def load_scans(session: Session, protocol: str | None, step: int, fewest: int) -> tuple[Scans, Tensor]:
    """All contrasts of a session, each with a gain of its own, and the numbers of the slices that were taken.

    Args:
        session: whose scans.
        protocol: for scans without a sidecar.
        step: every n-th axial slice [mm].
        fewest: voxels of foreground in a slice.
    """
    acquisitions: list[Acquisition] = resolve(session, protocol)
    record = PREPARE(session_record(session, acquisitions))
    mask = record["mask"] > 0
    chosen = torch.arange(0, mask.shape[-1], step)
    chosen = chosen[mask[0].sum((0, 1))[chosen] >= fewest]
    image = record["image"].as_tensor()[..., chosen]
    gains = torch.arange(len(acquisitions))[None]
    return Scans(image[None], record["acquisition"][None], mask[..., chosen], gains), chosen

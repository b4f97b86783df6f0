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

"""Paths and descriptions of the BIDS folders that are written."""

import re
from pathlib import Path

from ..errors import UserError
from .names import ENTITIES
from .records import Session


def output_path(root: str | Path, session: Session, suffix: str, extension: str = ".nii.gz", **entities: str) -> Path:
    """Path of a derivative below ``root``, e.g. ``sub-01/anat/sub-01_desc-sd_T1map.nii.gz``.

    Args:
        root: the output folder.
        session: whose derivative.
        suffix: BIDS suffix.
        extension: of the file.
        entities: BIDS entities and their labels; their order is BIDS's, whatever the order here.

    Raises:
        UserError: for a label with anything but letters and digits.
    """
    for entity, label in {"suffix": suffix, **entities}.items():
        if not re.fullmatch("[A-Za-z0-9]+", label):
            raise UserError(entity, repr(label), "use letters and digits only")
    parts = [f"{entity}-{entities[entity]}" for entity in sorted(entities, key=ENTITIES.index)]
    folders = [f"sub-{session.subject}", *([f"ses-{session.session}"] if session.session else []), "anat"]
    return Path(root, *folders, "_".join([session.name, *parts, suffix]) + extension)


def dataset_description(name: str, version: str) -> dict:
    """Content of ``dataset_description.json`` of a derivative."""
    generator = {"Name": "brain_mri_physics_latent_diffusion", "Version": version}
    return {"Name": name, "BIDSVersion": "1.10.0", "DatasetType": "derivative", "GeneratedBy": [generator]}

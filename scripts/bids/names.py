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

"""Parts of BIDS file names."""

import re
from pathlib import Path

ENTITIES = (
    "acq",
    "ce",
    "rec",
    "run",
    "echo",
    "flip",
    "inv",
    "mt",
    "part",
    "space",
    "seg",
    "res",
    "den",
    "label",
    "desc",
    "from",
    "to",
    "mode",
)
"""BIDS entities of an anatomical file after subject and session, in the order of the specification; the last three are
of transforms between files."""
SUFFIXES = {"t1": "T1w", "mprage": "T1w", "t2": "T2w", "pd": "PDw", "flair": "FLAIR"}
"""Word in a plain file name -> BIDS suffix; images of these suffixes count for estimation."""
MAP_UNITS = {"PDmap": "arbitrary", "T1map": "s", "T2map": "s"}


def stem(path: Path) -> str:
    """File name without ``.nii``, ``.nii.gz`` or ``.json``."""
    return re.sub(r"\.(nii(\.gz)?|json)$", "", path.name, flags=re.IGNORECASE)


def parse_name(name: str) -> tuple[dict[str, str], str]:
    """``sub-01_acq-2d_T1w`` -> ``{"sub": "01", "acq": "2d"}``, ``T1w``."""
    *parts, suffix = name.split("_")
    return dict(part.split("-", 1) for part in parts if "-" in part), suffix


def bids_label(name: str) -> str:
    """BIDS label of a subject or session: letters and digits only, so that no name built of it can leave a folder."""
    return re.sub("[^A-Za-z0-9]", "", re.sub("^(sub|ses)-", "", name))

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

"""Folders of scans, BIDS or one sub-folder per subject, as records; their images; names of what is written."""

from .discovery import find_scans, find_sessions
from .gains import gain_groups
from .header import header_doubts
from .images import check_image, load_image, write_image
from .intensities import check_intensities
from .labels import LABEL_TABLE, label_table, write_segmentation
from .maps import find_maps
from .names import MAP_UNITS, parse_name
from .outputs import dataset_description, output_path
from .participants import Participants, volume_column
from .records import Contrast, Session, combine, resolve, resolve_all, resolve_contrast
from .session_record import session_record
from .shapes import find_dicom

__all__ = [
    "LABEL_TABLE",
    "MAP_UNITS",
    "Contrast",
    "Participants",
    "Session",
    "check_image",
    "check_intensities",
    "combine",
    "dataset_description",
    "find_dicom",
    "find_maps",
    "find_scans",
    "find_sessions",
    "gain_groups",
    "header_doubts",
    "label_table",
    "load_image",
    "output_path",
    "parse_name",
    "resolve",
    "resolve_all",
    "resolve_contrast",
    "session_record",
    "volume_column",
    "write_image",
    "write_segmentation",
]

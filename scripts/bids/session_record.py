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

"""The record of a session, from which preprocessing and estimation start."""

from collections.abc import Sequence

from ..acquisition import Acquisition
from .gains import gain_groups
from .records import Session


def session_record(session: Session, acquisitions: Sequence[Acquisition], index: int = 0) -> dict:
    """What is known of a session before its images are read.

    Args:
        session: from :func:`find_sessions`.
        acquisitions: those of its contrasts, from :func:`resolve`.
        index: its number in the folder.

    Returns:
        ``session``, ``acquisitions``, ``index``, and ``gains``: which gain each scan has, see :func:`gain_groups`.
    """
    return {
        "session": session,
        "acquisitions": list(acquisitions),
        "gains": gain_groups(session.contrasts, acquisitions),
        "index": index,
    }

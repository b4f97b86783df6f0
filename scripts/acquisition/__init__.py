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

"""Acquisitions: the record and its tensor row, BIDS sidecars, named protocols, and what a user asks to render."""

from .families import FAMILIES, draw_acquisition
from .keys import SEQUENCE_KEYS
from .protocols import AUTO, NAMES, load_protocol, read_json
from .record import (
    CONFIDENCE,
    FIELDS,
    LIMITS,
    PROVENANCE,
    ROW_SIZE,
    SIDECAR_KEYS,
    UNKNOWN,
    Acquisition,
    assumed,
    check,
    check_value,
    forget_field,
    forget_sequence,
    has_sequence,
    is_number,
    known,
    present,
    sequence_code,
    sequence_name,
    values,
)
from .requests import RenderRequest, load_render
from .sidecar import EQUATIONS, from_sidecar, sidecar_key, to_sidecar

__all__ = [
    "CONFIDENCE",
    "EQUATIONS",
    "FAMILIES",
    "FIELDS",
    "LIMITS",
    "AUTO",
    "NAMES",
    "PROVENANCE",
    "ROW_SIZE",
    "SEQUENCE_KEYS",
    "SIDECAR_KEYS",
    "UNKNOWN",
    "Acquisition",
    "RenderRequest",
    "assumed",
    "check",
    "check_value",
    "draw_acquisition",
    "forget_field",
    "forget_sequence",
    "from_sidecar",
    "has_sequence",
    "is_number",
    "known",
    "load_protocol",
    "load_render",
    "present",
    "read_json",
    "sequence_code",
    "sequence_name",
    "sidecar_key",
    "to_sidecar",
    "values",
]

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

"""Random heads: label maps -> shapes, tissue, contrasts; as a stream of training samples, or as a BIDS study."""

from ..tissue import CLASSES, REGIONS
from .between import Between
from .cached import HeadCache, folder_name
from .head import Heads, simulate_head
from .labelled import CachedSlices, LabelledSlices
from .labels import LabelMaps
from .lesions import LesionMasks
from .scanner import Scanner
from .sections import LabelledHeads
from .slices import Slices
from .stream import SimulatedSlices
from .study import Simulator

__all__ = [
    "CLASSES",
    "REGIONS",
    "Between",
    "CachedSlices",
    "HeadCache",
    "Heads",
    "LabelMaps",
    "LabelledHeads",
    "LabelledSlices",
    "LesionMasks",
    "Scanner",
    "SimulatedSlices",
    "Simulator",
    "Slices",
    "folder_name",
    "simulate_head",
]

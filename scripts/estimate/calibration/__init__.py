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

"""Calibration of the standard deviations: 90 % intervals that cover 90 %, on heads nobody trained on.

They are the network's. Those of the posterior follow from it, the scans and the tissues of heads.
"""

from .intervals import HALF_WIDTH, LEVEL, TISSUES
from .network import Calibration

__all__ = ["Calibration", "HALF_WIDTH", "LEVEL", "TISSUES"]

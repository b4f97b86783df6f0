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

"""Scans to one estimate with its posterior: the network, data consistency, anchoring, calibration."""

from .estimator import Estimator
from .maps import Maps
from .posterior import Posterior
from .scans import Scans

__all__ = ["Estimator", "Maps", "Posterior", "Scans"]

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
"""Protocol report: what a set of scans can tell about PD, T1 and T2, in sentences, tables and a picture."""

from .analysis import Assumptions, Findings, Protocol, analyse
from .candidates import Candidate, load_candidates
from .run import ProtocolReport

__all__ = ["Assumptions", "Candidate", "Findings", "Protocol", "ProtocolReport", "analyse", "load_candidates"]

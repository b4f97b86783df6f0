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

"""Runs over a folder: one subject or sample after the other. Each is written whole or not at all; runs resume."""

from .brains import Brains
from .conditions import Conditions
from .consoles import ConsoleStep
from .folder import Plan, Study
from .harmonise import Harmonisation
from .prepared import CompleteSessions, Preparation
from .renders import MapSets, RenderStep
from .samples import SampleStep
from .subjects import SubjectStep, UsableSessions

__all__ = [
    "Brains",
    "CompleteSessions",
    "Conditions",
    "ConsoleStep",
    "Harmonisation",
    "MapSets",
    "Plan",
    "Preparation",
    "RenderStep",
    "SampleStep",
    "Study",
    "SubjectStep",
    "UsableSessions",
]

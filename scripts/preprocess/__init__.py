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

"""Dictionary transforms that make one aligned volume of a session's files."""

from .bias import CorrectBiasd, deep_inside, log_sd_of
from .register import RegisterContrastsd
from .session import (
    AlignContrastsd,
    CropAroundForegroundd,
    ForegroundMaskd,
    LoadSessiond,
    ScaleContrastsd,
    filled_foreground,
)
from .template import AlignToTemplated

__all__ = [
    "AlignContrastsd",
    "AlignToTemplated",
    "CorrectBiasd",
    "CropAroundForegroundd",
    "ForegroundMaskd",
    "LoadSessiond",
    "RegisterContrastsd",
    "ScaleContrastsd",
    "deep_inside",
    "filled_foreground",
    "log_sd_of",
]

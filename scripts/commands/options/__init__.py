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

"""Every option of every config: one table for the checks of a run, for ``--help`` and for ``docs/options.md``."""

from .check import check_arguments, check_names, check_unused, check_value, check_values
from .show import help_text, page
from .table import OPTIONS

__all__ = [
    "OPTIONS",
    "check_arguments",
    "check_names",
    "check_unused",
    "check_value",
    "check_values",
    "help_text",
    "page",
]

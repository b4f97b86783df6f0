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

"""Evaluation: tables and figures of the paper and of its neighbours, with published values beside ours."""

from .ablation import Ablation
from .figures import Figures
from .page import Picture, Table, Text, page_text, png_of, text_table, write_page
from .unseen import UnseenContrasts

__all__ = [
    "Ablation",
    "Figures",
    "Picture",
    "Table",
    "Text",
    "UnseenContrasts",
    "page_text",
    "png_of",
    "text_table",
    "write_page",
]

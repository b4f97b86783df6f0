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

"""MONAI Label's command line beside a CPU build of torch, where torchvision cannot load its own operators.

torchvision describes operators when it is imported and fails where their library is absent. Nothing here calls them,
so it is enough to declare the two that it describes.
"""

import runpy
import sys

import torch

OPERATORS = ("nms", "qnms")


def import_torchvision() -> None:
    """Imports torchvision, with declarations for the operators that its library would bring."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in OPERATORS:
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401


if __name__ == "__main__":
    import_torchvision()
    runpy.run_module("monailabel.main", run_name="__main__")

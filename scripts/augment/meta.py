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

"""Between MetaTensors, which MONAI's transforms pass on, and the plain tensors that the physics works on."""

import torch
from monai.data import MetaTensor
from monai.utils import convert_to_tensor
from torch import Tensor


def plain(image: object) -> Tensor:
    """A plain tensor of an array or tensor, float32 unless it is a floating-point or complex one already."""
    tensor = convert_to_tensor(image, track_meta=False)
    return tensor if tensor.is_floating_point() or tensor.is_complex() else tensor.to(torch.float32)


def like(image: object, result: Tensor) -> Tensor:
    """``result`` with the affine and other metadata of ``image``, where that has some."""
    if not isinstance(image, MetaTensor):
        return result
    return MetaTensor(result, meta=image.meta, applied_operations=image.applied_operations)


def spacing_of(image: object, default: float, axes: int) -> list[float]:
    """Edges of a voxel [mm] along each axis: those of a MetaTensor, else the default."""
    return image.pixdim[:axes].tolist() if isinstance(image, MetaTensor) else [default] * axes

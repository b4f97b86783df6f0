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

"""Images as rows of patches, and back: squares of a slice, cubes of a volume."""

from collections.abc import Sequence

from torch import Tensor


def to_patches(x: Tensor, edge: int) -> Tensor:
    """Images ``(B, C, ...)`` -> patches ``(B, N, C edge^D)``, in the order of ``torch.nn.functional.unfold``.

    Args:
        x: images of D dimensions, whose sizes are multiples of ``edge``.
        edge: of a patch.
    """
    dims = range(x.ndim - 2)
    parts = x.reshape(*x.shape[:2], *(part for size in x.shape[2:] for part in (size // edge, edge)))
    places, inside = [2 + 2 * d for d in dims], [3 + 2 * d for d in dims]
    return parts.permute(0, *places, 1, *inside).reshape(len(x), -1, x.shape[1] * edge ** len(dims))


def from_patches(patches: Tensor, edge: int, size: Sequence[int]) -> Tensor:
    """The images ``(B, C, ...)`` of this size whose patches these are."""
    dims = len(size)
    parts = patches.reshape(len(patches), *(n // edge for n in size), -1, *[edge] * dims)
    order = [axis for d in range(dims) for axis in (1 + d, 2 + dims + d)]
    return parts.permute(0, 1 + dims, *order).reshape(len(patches), -1, *size)

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

"""What a header says that is usable and yet may mislead."""

import nibabel as nib
import numpy as np

SAME_SIZE = 0.01
"""Relative difference of voxel sizes that rounding may cause."""
SAME_PLACE = 5.0
"""Largest distance [mm] between the two positions that a header gives a corner, beyond rounding and small changes."""


def header_doubts(image: nib.spatialimages.SpatialImage) -> tuple[str, ...]:
    """Remarks on orientation and voxel size, for a warning; none where the header agrees with itself.

    Args:
        image: an image that :func:`scripts.bids.check_image` accepts.
    """
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        return ()
    doubts = []
    codes = int(header["qform_code"]), int(header["sform_code"])
    if codes == (0, 0):
        doubts.append("the header has no orientation (qform_code and sform_code 0): left and right may be exchanged")
    stated, used = np.array(header.get_zooms()[:3]), nib.affines.voxel_sizes(image.affine)
    if not np.allclose(stated, used, rtol=SAME_SIZE):
        doubts.append(f"voxels of {_size(stated)} mm by pixdim, of {_size(used)} mm by the affine, which is used")
    elif codes == (1, 1):
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.shape[:3]])).reshape(3, -1).T
        places = [nib.affines.apply_affine(affine, corners) for affine in (header.get_qform(), header.get_sform())]
        apart = float(np.linalg.norm(places[0] - places[1], axis=1).max())
        if apart > SAME_PLACE:
            doubts.append(f"qform and sform put it {apart:.0f} mm apart; the sform is used")
    return tuple(doubts)


def _size(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)

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

"""Dictionary transforms from a session's files to one aligned, scaled volume.

Keys: ``image`` contrasts (M, X, Y, Z), ``acquisition`` rows (M, A), ``window`` lowest and highest intensity (M, 2),
``mask`` foreground (1, X, Y, Z), ``maps`` true PD, T1, T2 (3, X, Y, Z) and ``labels`` (1, X, Y, Z) where they exist.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import MapTransform, Orientation, ResampleToMatch, Spacing, generate_spatial_bounding_box
from monai.transforms.utils import Transform
from scipy import ndimage

from ..bids import Session, check_intensities, load_image
from ..errors import UserError
from ..tissue import MAPS
from .registration import estimation_edges, reference_index, same_grid

BLUR_MM = 1.0
"""Standard deviation of the Gaussian before the foreground is cut out."""
LARGE = 0.1
"""Components of the foreground have at least this share of the largest one's voxels."""
TRUTH = (*(f"{name}map" for name in MAPS), "dseg")


class LoadSessiond(Transform):
    """Reads every image of a record's session, with its acquisition and, where they exist, its true maps.

    Adds ``image`` (a list of MetaTensors (1, X, Y, Z), each on its own grid), ``acquisition`` and ``truth`` (a dict).

    Args:
        truth: read the true maps and labels of simulated subjects.

    Raises:
        UserError: for a file that cannot be used.
    """

    def __init__(self, truth: bool = False) -> None:
        self.truth = truth

    def __call__(self, record: dict) -> dict:
        session: Session = record["session"]
        paths = {name: path for name, path in session.maps.items() if self.truth and name in TRUTH}
        complete = set(TRUTH[:-1]) <= set(paths)
        return {
            **record,
            "image": [_load(contrast.path, scan=True) for contrast in session.contrasts],
            "acquisition": torch.stack([acquisition.to_row() for acquisition in record["acquisitions"]]),
            "truth": {name: _load(path) for name, path in paths.items()} if complete else {},
        }


def _load(path, scan: bool = False) -> MetaTensor:
    data, affine = load_image(path)
    if scan:
        check_intensities(data, path)
    return MetaTensor(torch.from_numpy(data)[None], affine=torch.from_numpy(np.asarray(affine)))


class AlignContrastsd(Transform):
    """Resamples all contrasts to the grid of the reference contrast: RAS, its whole field of view.

    The reference is that of :func:`scripts.preprocess.registration.reference_index`, its voxels become those of
    :func:`scripts.preprocess.registration.estimation_edges`. Contrasts are brought onto its grid by their affines,
    linearly; outside their own field of view they are 0. Negative intensities, which interpolation and bias correction
    leave behind, become 0.

    Args:
        spacing: edge of a voxel along all axes [mm]; None leaves thick axial slices as they are.

    Raises:
        UserError: for a contrast that shows nothing of what the reference shows.
    """

    def __init__(self, spacing: float | None = None) -> None:
        self.spacing, self.orient = spacing, Orientation(axcodes="RAS", labels=None)
        # In float32, which is exact to a ten-thousandth of a voxel: float64 took twice the memory of large scans.
        self.match = ResampleToMatch(padding_mode="zeros", dtype=torch.float32)

    def __call__(self, record: dict) -> dict:
        images = record["image"]
        reference = self._reference(images)
        image = torch.cat([self._on(reference, image) for image in images]).clamp_min(0)
        for contrast, aligned in zip(record["session"].contrasts, image):
            if not aligned.any():
                raise UserError(contrast.path, "nothing inside the reference's field of view", "check its affine")
        aligned = {**record, "image": MetaTensor(image, affine=reference.affine)}
        truth = aligned.pop("truth")
        if truth:
            aligned["maps"] = torch.cat([self._on(reference, truth[f"{name}map"]) for name in MAPS])
            if "dseg" in truth:
                aligned["labels"] = self._on(reference, truth["dseg"], mode="nearest")
        return aligned

    def _reference(self, images: Sequence[MetaTensor]) -> MetaTensor:
        """An image on the grid that the contrasts are brought to."""
        reference = images[reference_index(images)]
        edges = estimation_edges(reference.affine.numpy()) if self.spacing is None else (self.spacing,) * 3
        return Spacing(edges, mode="bilinear", dtype=torch.float32)(self.orient(reference))

    def _on(self, reference: MetaTensor, image: MetaTensor, mode: str = "bilinear") -> torch.Tensor:
        image = self.orient(image)
        return (image if same_grid(image, reference) else self.match(image, reference, mode=mode)).as_tensor()


class ForegroundMaskd(Transform):
    """Adds ``mask``: the head (or brain), filled, from the brightest of the normalised contrasts.

    Args:
        threshold: fraction of a contrast's bright level (its 99.5 percentile) that counts as signal.
    """

    def __init__(self, threshold: float = 0.12) -> None:
        self.threshold = threshold

    def __call__(self, record: dict) -> dict:
        bright = np.zeros(record["image"].shape[1:], dtype=np.float32)
        blur = (BLUR_MM / record["image"].pixdim).tolist()
        for contrast in record["image"].numpy():
            top = max(float(np.percentile(contrast, 99.5)), 1e-6)
            bright = np.maximum(bright, ndimage.gaussian_filter(contrast / top, blur))
        return {**record, "mask": torch.from_numpy(filled_foreground(bright > self.threshold))[None].float()}


def filled_foreground(mask: np.ndarray) -> np.ndarray:
    """The large connected components of a boolean mask, their holes filled, also those that end at the volume's faces.

    Where fluid and bone are dark, scalp and brain are two components; where the field of view ends, so do their holes.
    """
    # In a volume of one slice every hole would be open to the outside.
    region = mask.squeeze()
    components, count = ndimage.label(region)
    if count:
        sizes = np.bincount(components.flat)
        sizes[0] = 0
        region = (sizes >= LARGE * sizes.max())[components]
    return _filled(region).reshape(mask.shape)


def _filled(region: np.ndarray) -> np.ndarray:
    """A mask without holes. Those that a face of the volume cuts are holes of this face, and so on to its edges."""
    if region.ndim > 1:
        for axis in range(region.ndim):
            faces = np.moveaxis(region, axis, 0)
            for end in (0, -1):
                faces[end] = _filled(faces[end])
    return ndimage.binary_fill_holes(region)


class ScaleContrastsd(Transform):
    """Scales each contrast to about [-1, 1] by percentiles inside the foreground, once for the whole volume.

    ``image = 2 (raw - low) / (high - low) - 1``, not clipped, so that ``window = (low, high)`` undoes it.

    Args:
        lower: percentile that becomes -1.
        upper: percentile that becomes 1.
    """

    def __init__(self, lower: float = 0.0, upper: float = 99.5) -> None:
        self.percentiles = [lower, upper]

    def __call__(self, record: dict) -> dict:
        image = record["image"].as_tensor()
        inside = record["mask"][0] > 0
        # The lower end comes from the whole volume, so that air is -1 in every contrast.
        low = np.percentile(image.flatten(1).numpy(), self.percentiles[0], axis=1)
        high = np.percentile(image[:, inside].numpy(), self.percentiles[1], axis=1)
        window = torch.from_numpy(np.stack([low, np.maximum(high, low + 1e-6)], 1)).float()
        low, high = window.view(-1, 2, 1, 1, 1).unbind(1)
        scaled = MetaTensor(2 * (image - low) / (high - low) - 1, affine=record["image"].affine)
        return {**record, "image": scaled, "window": window}


class CropAroundForegroundd(MapTransform):
    """Crops or pads to a fixed size, centred on the foreground; an axis with size -1 is kept whole.

    Also records ``centre``: the foreground's centre on the last axis, as a voxel index of the result.

    Args:
        size: size of the result along (X, Y, Z).
        keys: volumes to crop, those that exist.
    """

    def __init__(self, size: Sequence[int], keys: Sequence[str] = ("image", "mask", "maps", "labels")) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.size = list(size)

    def __call__(self, record: dict) -> dict:
        low, high = generate_spatial_bounding_box(record["mask"])
        pads, start = [], 0
        for n, want, a, b in zip(record["mask"].shape[1:], self.size, low, high):
            start = 0 if want < 0 else (a + b) // 2 - want // 2
            pads.append((-start, start + (n if want < 0 else want) - n))
        # A negative pad crops.
        flat = [pad for axis in reversed(pads) for pad in axis]
        result = dict(record)
        for key in self.key_iterator(record):
            # Air is -1 in scaled contrasts and 0 in everything else.
            result[key] = F.pad(torch.as_tensor(record[key]), flat, value=-1.0 if key == "image" else 0.0)
        result["centre"] = (low[2] + high[2]) // 2 - start
        return result

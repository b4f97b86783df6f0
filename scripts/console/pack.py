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

"""Volumes as short texts: quantised, differences of neighbours, zlib, base64. ``template/volume.js`` reads them."""

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..bids import MAP_UNITS

MAPS = dict(zip(MAP_UNITS, ("pd", "t1", "t2")))
"""Suffix of a map -> its name in the page and in the signal equations."""
LARGEST = 15_000_000
"""Bytes that a page may have."""
PRECISION = ((0.001, 0.02), (0.002, 0.05), (0.005, 0.05), (0.01, 0.1), (0.02, 0.2), (0.05, 0.2))
"""Relative steps of maps, and of their standard deviations; the first with which a page is small enough is taken."""
MOST_VOXELS = 2**24
"""Of a box around the head; of a larger one every second voxel is shown, or every third."""
SHARE_STEP = 0.002
"""Step of the share of fluid."""
MARGIN = 2
"""Voxels around the head that are kept."""
LONGEST_LOG = 65534


@dataclass(frozen=True)
class Volume:
    """What a page shows of one session, on one grid.

    Attributes:
        maps: by name: ``pd``, ``t1`` [s], ``t2`` [s]; ``sd_pd``, ``sd_t1``, ``sd_t2`` of their natural logarithms where
            they are known; ``t2_star`` [s], ``b1``, ``fluid`` where they exist. Each ``(X, Y, Z)``, RAS.
        mask: where the maps are defined.
        affine: voxel to mm.
        scans: acquired scans by title, on the same grid.
    """

    maps: Mapping[str, np.ndarray]
    mask: np.ndarray
    affine: np.ndarray
    scans: Mapping[str, np.ndarray]

    @property
    def options(self) -> tuple[str, ...]:
        """The optional maps that there are."""
        return tuple(name for name in ("t2_star", "b1", "fluid") if name in self.maps)

    def cropped(self) -> "Volume":
        """The box around the head, thinned out where it is too large; equal to this volume where it is not."""
        boxes = []
        for axis in range(3):
            inside = np.flatnonzero(self.mask.any(tuple(other for other in range(3) if other != axis)))
            first, last = (inside[0], inside[-1] + 1) if len(inside) else (0, self.mask.shape[axis])
            boxes.append((max(first - MARGIN, 0), min(last + MARGIN, self.mask.shape[axis])))
        count = math.prod(stop - start for start, stop in boxes)
        step = max(1, math.ceil((count / MOST_VOXELS) ** (1 / 3)))
        place = tuple(slice(start, stop, step) for start, stop in boxes)
        affine = self.affine.astype(float).copy()
        affine[:3, 3] += affine[:3, :3] @ [start for start, _ in boxes]
        affine[:3, :3] *= step
        maps = {name: array[place] for name, array in self.maps.items()}
        scans = {name: array[place] for name, array in self.scans.items()}
        return Volume(maps, self.mask[place], affine, scans)


def pack(volume: Volume, room: int = LARGEST) -> dict:
    """A volume as JSON, as precisely as there is room for.

    Args:
        volume: what to pack.
        room: bytes that it may take. The coarsest precision is taken in any case, scans where there is room.

    Returns:
        ``shape``, ``affine``, ``channels`` (each with its code and text), ``precision`` and names of ``left_out`` scans.
    """
    for step, sd_step in PRECISION:
        channels = [_map_channel(name, array, volume.mask, step, sd_step) for name, array in volume.maps.items()]
        size = sum(len(channel["text"]) for channel in channels)
        # Half of what is left is for scans, where there are any.
        if size <= room * (0.75 if volume.scans else 1):
            break
    left_out = []
    for title, scan in volume.scans.items():
        channel = {**_linear(np.where(volume.mask, scan, 0), 254), "name": "scan", "title": title}
        if size + len(channel["text"]) > room:
            left_out.append(title)
            continue
        channels.append(channel)
        size += len(channel["text"])
    return {
        "shape": volume.mask.shape,
        "affine": volume.affine.tolist(),
        "channels": channels,
        "precision": {"maps": step, "sd": sd_step, "share": SHARE_STEP},
        "left_out": left_out,
    }


def unpack(channel: Mapping, shape: tuple[int, ...]) -> np.ndarray:
    """The values that the page has of a packed channel ``(X, Y, Z)``."""
    width = channel["bytes"]
    planes = np.frombuffer(zlib.decompress(base64.b64decode(channel["text"])), np.uint8).reshape(width, -1)
    differences = sum(plane.astype(np.uint16) << (8 * i) for i, plane in enumerate(planes))
    codes = np.cumsum(differences, dtype=np.uint64) % (1 << (8 * width))
    codes = codes.reshape(shape[::-1]).T.astype(float)
    if channel["code"] == "log":
        return np.where(codes > 0, channel["low"] * np.exp((codes - 1) * channel["step"]), 0).astype(np.float32)
    return (channel["low"] + codes * channel["step"]).astype(np.float32)


def _map_channel(name: str, array: np.ndarray, mask: np.ndarray, step: float, sd_step: float) -> dict:
    array = np.where(mask, array, 0)
    if name == "fluid":
        channel = _encoded(np.rint(array / SHARE_STEP), 2, code="linear", low=0.0, step=SHARE_STEP)
    else:
        channel = _logarithmic(array, sd_step if name.startswith("sd_") else step)
    return {**channel, "name": name}


def _logarithmic(array: np.ndarray, step: float) -> dict:
    """Values above 0 in equal steps of the logarithm: the code is 1 for the smallest, 0 for 0."""
    positive = array[array > 0]
    largest = float(positive.max()) if positive.size else 1.0
    # What is smaller than any quantity of tissue would only cost codes.
    low = max(float(positive.min()) if positive.size else 1.0, largest * math.exp(-step * LONGEST_LOG))
    codes = np.zeros(array.shape)
    codes[array > 0] = 1 + np.rint(np.log(np.maximum(positive, low) / low) / step)
    return _encoded(codes, 1 if codes.max() < 256 else 2, code="log", low=low, step=step)


def _linear(array: np.ndarray, levels: int) -> dict:
    """Equal steps from 0, or the lowest value, to all but the brightest thousandth."""
    inside = array[array != 0]
    low, high = (min(0.0, float(inside.min())), float(np.quantile(inside, 0.999))) if inside.size else (0.0, 1.0)
    step = (high - low) / levels or 1.0
    return _encoded(np.rint(np.clip((array - low) / step, 0, levels)), 1, code="linear", low=low, step=step)


def _encoded(codes: np.ndarray, width: int, **about: object) -> dict:
    """Codes of ``width`` bytes: differences along the first axis, low bytes before high ones, compressed."""
    # In the order of the page, the first axis fastest.
    flat = codes.T.ravel().astype(np.uint32)
    differences = np.diff(flat, prepend=flat[:1] * 0) & ((1 << (8 * width)) - 1)
    planes = b"".join(((differences >> (8 * i)) & 255).astype(np.uint8).tobytes() for i in range(width))
    return {**about, "bytes": width, "text": base64.b64encode(zlib.compress(planes, 6)).decode()}

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

"""Volumes as short texts; ``template/volume.js`` reads them.

A channel is quantised. Of each voxel of the head, what its neighbours do not predict is kept: the prediction is the
median of those before it along the three axes. These differences are compressed with zlib and written in base64.
"""

import base64
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..bids import MAP_UNITS

MAPS = dict(zip(MAP_UNITS, ("pd", "t1", "t2")))
"""Suffix of a map -> its name in the page and in the signal equations."""
PRECISION = ((0.001, 0.02), (0.002, 0.05), (0.005, 0.05), (0.005, 0.1), (0.01, 0.1), (0.01, 0.2), (0.02, 0.2))
"""Relative steps of maps, and of their standard deviations; the first with which a page is small enough is taken."""
LEVELS = 63
"""Steps of grey of a scan."""
MOST_VOXELS = 2**24
"""Of a box around the head, which a browser holds with ease."""
SHARE_STEP = 0.002
"""Step of the share of fluid."""
SMALLEST = 16
"""Voxels along the longest axis that are left in any case."""
MARGIN = 2
"""Voxels around the head that are kept."""
MOST_CODES = 32000
"""Largest code, so that twice a difference fits into two bytes."""


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

    @property
    def cropped(self) -> "Volume":
        """The box around the head."""
        boxes = []
        for axis in range(3):
            inside = np.flatnonzero(self.mask.any(tuple(other for other in range(3) if other != axis)))
            boxes.append(slice(max(inside[0] - MARGIN, 0), inside[-1] + 1 + MARGIN))
        return self._part(boxes)

    def thinned(self, step: int) -> "Volume":
        """Every ``step``-th voxel along each axis: means of neighbours would be no tissue."""
        return self if step == 1 else self._part([slice(None, None, step)] * 3)

    def _part(self, place: list[slice]) -> "Volume":
        affine = self.affine.astype(float).copy()
        affine[:3, 3] += affine[:3, :3] @ [one.start or 0 for one in place]
        affine[:3, :3] *= [one.step or 1 for one in place]
        box = tuple(place)
        maps = {name: array[box] for name, array in self.maps.items()}
        scans = {name: array[box] for name, array in self.scans.items()}
        return Volume(maps, self.mask[box], affine, scans)


def pack(volume: Volume, room: int) -> dict:
    """A volume as JSON: its head, as precisely as there is room for, and as many scans; thinned out where it has to be.

    Args:
        volume: what to pack. Its head is not empty.
        room: bytes that it may take.

    Returns:
        ``shape``, ``affine``, ``mask``, ``channels`` (each with its code and text), ``precision``, names of
        ``left_out`` scans, and which voxels along each axis are there, ``step``.
    """
    shown, step = volume.cropped, 1
    while shown.thinned(step).mask.size > MOST_VOXELS:
        step += 1
    while (packed := _fitting(shown.thinned(step), room)) is None:
        step += 1
    return {**packed, "step": step}


def _fitting(volume: Volume, room: int) -> dict | None:
    """A volume as JSON, None where not even the coarsest fits and there are voxels to leave out."""
    neighbours = Neighbours(volume.mask)

    @cache
    def channel(name: str, step: float) -> dict:
        array = volume.maps[name][volume.mask]
        codes = _linear(array, SHARE_STEP) if name == "fluid" else _logarithmic(array, step)
        return {**neighbours.encoded(*codes), "name": name}

    def channels(precision: tuple[float, float]) -> list[dict]:
        return [channel(name, precision[name.startswith("sd_")]) for name in volume.maps]

    scans = []
    for title, scan in volume.scans.items():
        codes = _linear(*_grey(scan[volume.mask]))
        scans.append({**neighbours.encoded(*codes), "name": "scan", "title": title})
    mask = _text(np.packbits(volume.mask.T.ravel(), bitorder="little").tobytes())
    for count in range(len(scans), -1, -1):
        for precision in PRECISION:
            chosen = [*channels(precision), *scans[:count]]
            if len(mask) + sum(len(one["text"]) for one in chosen) <= room:
                return _packed(volume, mask, chosen, precision)
    if max(volume.mask.shape) > SMALLEST:
        return None
    return _packed(volume, mask, channels(PRECISION[-1]), PRECISION[-1])


def _packed(volume: Volume, mask: str, channels: list[dict], precision: tuple[float, float]) -> dict:
    there = [channel["title"] for channel in channels if channel["name"] == "scan"]
    return {
        "shape": volume.mask.shape,
        "affine": volume.affine.tolist(),
        "mask": mask,
        "channels": channels,
        "precision": {"maps": precision[0], "sd": precision[1], "share": SHARE_STEP, "levels": LEVELS + 1},
        "left_out": [title for title in volume.scans if title not in there],
    }


def unpack(packed: Mapping) -> list[np.ndarray]:
    """The values that the page has of the channels of a packed volume, each ``(X, Y, Z)``."""
    shape = tuple(packed["shape"])
    bits = np.frombuffer(_bytes(packed["mask"]), np.uint8)
    mask = np.unpackbits(bits, count=math.prod(shape), bitorder="little").reshape(shape[::-1]).T > 0
    neighbours, found = Neighbours(mask), []
    for channel in packed["channels"]:
        codes = neighbours.decoded(channel).astype(float)
        steps = channel["step"] * (codes - 1 if channel["code"] == "log" else codes)
        values = channel["low"] * np.exp(steps) * (codes > 0) if channel["code"] == "log" else channel["low"] + steps
        array = np.zeros(shape, np.float32)
        array.T[mask.T] = values
        found.append(array)
    return found


class Neighbours:
    """Codes of the voxels of a head as differences from what their neighbours predict.

    Args:
        mask: the head ``(X, Y, Z)``. Its voxels are taken with the first axis fastest.
    """

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask
        number = np.full(mask.shape, -1)
        number.T[mask.T] = np.arange(mask.sum())
        before = np.full((3, *mask.shape), -1)
        before[0, 1:], before[1, :, 1:], before[2, :, :, 1:] = number[:-1], number[:, :-1], number[:, :, :-1]
        x, y, z = (one.T[mask.T] for one in before)
        # Where a neighbour is air, the others predict; where all are, the voxel that comes before.
        last = np.arange(len(x)) - 1
        x = np.where(x >= 0, x, np.where(y >= 0, y, np.where(z >= 0, z, last)))
        y = np.where(y >= 0, y, x)
        self.before = x, y, np.where(z >= 0, z, x)

    def encoded(self, codes: np.ndarray, about: Mapping) -> dict:
        """Codes ``(N,)`` of the voxels of the mask as text.

        A difference d is written as 2 d or, below 0, as -2 d - 1; low bytes come before high ones.
        """
        ordered = self._in_order(codes).astype(np.int64)
        x, y, z = (np.where(one >= 0, ordered[one], 0) for one in self.before)
        differences = ordered - np.maximum(np.minimum(x, y), np.minimum(np.maximum(x, y), z))
        folded = np.where(differences < 0, -2 * differences - 1, 2 * differences)
        width = 2 if folded.max(initial=0) > 255 else 1
        planes = b"".join(((folded >> (8 * i)) & 255).astype(np.uint8).tobytes() for i in range(width))
        return {**about, "bytes": width, "text": _text(planes)}

    def decoded(self, channel: Mapping) -> np.ndarray:
        """Codes of the voxels of the mask, with the first axis fastest."""
        planes = np.frombuffer(_bytes(channel["text"]), np.uint8).reshape(channel["bytes"], -1).astype(int)
        folded = sum(plane << (8 * i) for i, plane in enumerate(planes))
        codes = [0] * len(folded)
        for i, (one, x, y, z) in enumerate(zip(folded.tolist(), *(one.tolist() for one in self.before))):
            _, middle, _ = sorted(codes[j] if j >= 0 else 0 for j in (x, y, z))
            codes[i] = middle + (-(one + 1) // 2 if one & 1 else one // 2)
        return np.array(codes, int)

    def _in_order(self, values: np.ndarray) -> np.ndarray:
        """Values of the voxels of the mask with the first axis fastest, from the last axis fastest."""
        array = np.empty(self.mask.shape, values.dtype)
        array[self.mask] = values
        return array.T[self.mask.T]


def _logarithmic(values: np.ndarray, step: float) -> tuple[np.ndarray, dict]:
    """Equal steps of the logarithm: the code is 1 for the smallest value above 0, and 0 for 0."""
    positive = values[values > 0]
    largest = float(positive.max()) if positive.size else 1.0
    # What is smaller than any quantity of tissue would only cost codes.
    low = max(float(positive.min()) if positive.size else 1.0, largest * math.exp(-step * MOST_CODES))
    codes = np.where(values > 0, 1 + np.rint(np.log(np.maximum(values, low) / low) / step), 0)
    return codes, {"code": "log", "low": low, "step": step}


def _linear(values: np.ndarray, step: float, low: float = 0.0, most: int = MOST_CODES) -> tuple[np.ndarray, dict]:
    """Equal steps from the lowest value that is kept."""
    return np.clip(np.rint((values - low) / step), 0, most), {"code": "linear", "low": low, "step": step}


def _grey(values: np.ndarray) -> tuple[np.ndarray, float, float, int]:
    """Arguments of :func:`_linear` for a scan: from 0, or its lowest value, to all but the brightest thousandth."""
    low, high = (min(0.0, float(values.min())), float(np.quantile(values, 0.999))) if values.size else (0.0, 1.0)
    return values, (high - low) / LEVELS or 1.0, low, LEVELS


def _text(content: bytes) -> str:
    # Runs and Huffman's code alone: noise does not repeat.
    packer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return base64.b64encode(packer.compress(content) + packer.flush()).decode()


def _bytes(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))

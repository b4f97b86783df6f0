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

"""The embedded head: the MNI152 average brain inside a skull, scalp and face of simple shapes."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch.nn.functional import interpolate

from ..randomness import rng
from .anatomy import INDEX, Anatomy, crop_head

EMBEDDED = "embedded head 2"
"""Name of the embedded head; its number counts the changes."""
FLUID, VENTRICLE_DEPTH = 1.3, 22
"""Weight of fluid against tissue in the average, where sulci are blurred; fluid deeper than this is ventricle [mm]."""
BELOW_TEMPLATE = 20
"""The average ends below the medulla; so much neck is added [mm]."""
STEP = 2
"""Envelopes are smooth: they are found on a coarser grid [mm]."""
CAVITY_CLOSING, SKIN_CLOSING = 16, 12
"""Radius of the ball that rolls around the brain inside the skull, and around skull and face inside the skin [mm]."""
SPACE, SKULL, SCALP, FAT = 1.5, 7, 6, 3.5
"""Fluid under the skull, thickness of skull and of scalp, and of the fat under its skin [mm]."""
DEEP = (
    ("thalamus", (11, -18, 6), (11, 15, 10)),
    ("caudate and putamen", (12, 14, 5), (6, 10, 12)),
    ("caudate and putamen", (17, -3, 20), (5, 14, 5)),
    ("caudate and putamen", (26, 2, 1), (8, 18, 11)),
    ("pallidum", (19, -4, -1), (5, 9, 7)),
    ("hippocampus and amygdala", (25, -14, -20), (8, 18, 7)),
    ("brain stem", (0, -22, -12), (17, 12, 10)),
    ("brain stem", (0, -28, -32), (18, 15, 16)),
    ("brain stem", (0, -40, -60), (10, 9, 22)),
)
"""Class, centre and radii [mm] of ellipsoids in the space of the average, on both sides where x is not 0. Of these
the solid voxels count; of caudate, putamen, hippocampus and amygdala only those that are likelier grey than white."""
FACE = (
    ((0, 14, -52), (66, 76, 48)),
    ((0, 30, -92), (56, 58, 50)),
    ((0, 92, -52), (12, 14, 16)),
    ((0, -42, -92), (58, 58, 50)),
)
"""Ellipsoids that skull and skin enclose: face, jaw, nose, neck."""
ORGANS = (
    ("marrow", (45, 8, -78), (5, 14, 30)),
    ("marrow", (0, 66, -92), (30, 14, 16)),
    ("bone", (0, 22, -42), (26, 30, 16)),
    ("air", (0, 16, -40), (13, 12, 9)),
    ("bone", (25, 46, -60), (18, 20, 20)),
    ("mucosa", (25, 46, -60), (15, 18, 17)),
    ("air", (25, 46, -60), (13, 16, 15)),
    ("mucosa", (0, 52, -58), (16, 40, 20)),
    ("air", (7, 52, -56), (2.5, 38, 17)),
    ("other soft tissue", (0, 46, -90), (26, 26, 15)),
    ("air", (0, 6, -88), (9, 7, 26)),
    ("scalp", (30, 44, -34), (19, 28, 18)),
    ("muscle", (30, 36, -34), (5, 24, 5)),
    ("eye", (32, 58, -34), (12.5, 12.5, 12.5)),
    ("bone", (52, -28, -38), (12, 16, 12)),
    ("air", (56, -32, -44), (5, 7, 9)),
    ("bone", (0, -46, -92), (21, 19, 22)),
    ("marrow", (0, -30, -92), (13, 9, 22)),
)
"""The same outside the skull, later ones over earlier ones."""
CORD = (("CSF", (0, -45, -82), (9, 9, 26)), ("brain stem", (0, -45, -82), (6, 5, 26)))
"""The same outside the brain: what leaves the skull below."""


@lru_cache(maxsize=1)
def embedded_head() -> Anatomy:
    """A head around the skull-stripped MNI152 average that nilearn ships; nothing is downloaded.

    Each voxel of the brain gets its likeliest tissue; deep fluid becomes ventricles; deep grey matter, brain stem and
    cerebellum lie where they usually do. The average has no skull: layers of fluid, bone, marrow, bone, muscle and
    fat are put around it, as thick as they usually are, above a face of simple shapes: enough for a network to learn
    that they are not brain, no anatomy.
    """
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    images = [load(1) for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)]
    lengthen = [(0, 0), (0, 0), (BELOW_TEMPLATE, 0)]
    t1w, grey, white = (np.pad(image.get_fdata(dtype=np.float32), lengthen).clip(0, 1) for image in images)
    affine = images[0].affine.copy()
    affine[2, 3] -= BELOW_TEMPLATE
    axes = np.ogrid[tuple(slice(size) for size in t1w.shape)]
    mm = [(axis + offset).astype(np.float32) for axis, offset in zip(axes, affine[:3, 3])]
    brain = t1w > 0.05
    classes = _surroundings(brain, mm)
    classes[brain] = _brain(brain, grey, white, mm)[brain]
    return crop_head(classes, affine, EMBEDDED)


def _brain(brain: np.ndarray, grey: np.ndarray, white: np.ndarray, mm: list[np.ndarray]) -> np.ndarray:
    """Classes of the brain's voxels, from the probabilities of grey and white matter."""
    x, y, z = mm
    tissue = np.stack([FLUID * (brain - grey - white), grey, white]).argmax(0)
    edge = -36 - 0.3 * abs(x) + 0.6 * np.maximum(0, -15 - z)
    below_tent = (z < 2 - 0.42 * abs(x) - 0.55 * np.maximum(0, -y - 52)) & (y < edge)
    classes = np.array([INDEX["CSF"], INDEX["cortex"], INDEX["white matter"]], np.uint8)[tissue]
    classes[below_tent & (tissue == 1)] = INDEX["cerebellar cortex"]
    classes[below_tent & (tissue == 2)] = INDEX["cerebellar white matter"]
    classes[(tissue == 0) & (_distance(brain) > VENTRICLE_DEPTH)] = INDEX["ventricle"]
    for name, centre, radii in DEEP:
        mostly_grey = name in ("caudate and putamen", "hippocampus and amygdala")
        classes[_inside(mm, centre, radii) & (tissue == 1 if mostly_grey else tissue > 0)] = INDEX[name]
    return classes


def _surroundings(brain: np.ndarray, mm: list[np.ndarray]) -> np.ndarray:
    """Classes of all voxels as if the brain's cavity were fluid."""
    smooth = _smooth_noise(brain.shape)
    cavity = _envelope(brain, CAVITY_CLOSING)
    outline = cavity < SPACE + SKULL + SCALP
    for centre, radii in FACE:
        outline |= _inside(mm, centre, radii)
    skin = _envelope(outline, SKIN_CLOSING)
    classes = np.full(brain.shape, INDEX["muscle"], np.uint8)
    classes[skin > -FAT - 0.7 * smooth[0]] = INDEX["scalp"]
    for name, centre, radii in ORGANS:
        classes[_inside(mm, centre, radii) & (skin < -FAT)] = INDEX[name]
    outer = SPACE + SKULL + smooth[0]
    classes[cavity < outer] = INDEX["bone"]
    classes[(abs(cavity - (SPACE + outer) / 2) < 1 + 0.7 * smooth[1]) & (mm[2] > -30)] = INDEX["marrow"]
    # Fluid around the brain; where the cavity leaves the brain, under the temporal lobes, there is more bone.
    near = _distance(~brain) < 4 + 12 * (mm[2] > -20)
    classes[cavity < SPACE] = INDEX["bone"]
    classes[(cavity < SPACE) & near] = INDEX["CSF"]
    for name, centre, radii in CORD:
        classes[_inside(mm, centre, radii)] = INDEX[name]
    classes[skin > 0] = INDEX["air"]
    return classes


def _inside(mm: list[np.ndarray], centre: Iterable[float], radii: Iterable[float]) -> np.ndarray:
    """Where an ellipsoid is, and its mirror image."""
    x, *others = mm
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip((abs(x), *others), centre, radii)) <= 1


def _envelope(mask: np.ndarray, radius: float) -> np.ndarray:
    """Distance [mm] from the smooth surface of a morphological closing, negative inside; smooth."""
    coarse = np.pad(mask[::STEP, ::STEP, ::STEP], 10, mode="edge")
    closed = distance_transform_edt(distance_transform_edt(~coarse) * STEP <= radius) * STEP > radius
    distance = distance_transform_edt(~closed) - distance_transform_edt(closed)
    smooth = gaussian_filter(distance * STEP, 1.5)[10:-10, 10:-10, 10:-10]
    return _finer(smooth, mask.shape)


def _distance(mask: np.ndarray) -> np.ndarray:
    """Distance [mm] to the nearest voxel outside a mask."""
    return _finer(distance_transform_edt(mask[::STEP, ::STEP, ::STEP]) * STEP, mask.shape)


def _smooth_noise(shape: tuple[int, ...]) -> np.ndarray:
    """Two fields of variance about 1, always the same: layers are thicker here and thinner there."""
    noise = rng(0).standard_normal((2, *(size // 8 + 1 for size in shape)))
    noise = gaussian_filter(noise, (0, 2, 2, 2), mode="wrap")
    return np.stack([_finer(field / field.std(), shape) for field in noise])


def _finer(field: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    tensor = torch.from_numpy(field.astype(np.float32))[None, None]
    return interpolate(tensor, shape, mode="trilinear", align_corners=True)[0, 0].numpy()

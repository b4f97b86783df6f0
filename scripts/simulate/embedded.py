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

"""The embedded head: the MNI152 average brain inside fluid, skull, scalp, and a face and neck of simple shapes."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch.nn.functional import interpolate

from ..randomness import rng
from .anatomy import INDEX, Anatomy, crop_head

EMBEDDED = "embedded head 3"
"""Name of the embedded head; its number counts the changes."""
FLUID, SHARPENED, BLUR = 1.3, 4.0, 2.5
"""Weight of fluid against tissue in the average, where sulci are blurred; weight of what its fraction of fluid has over
that around it, within a Gaussian of this standard deviation [mm], which opens the sulci again."""
VENTRICLE_DEPTH = 30
"""Fluid deeper than this under the skull is ventricle [mm]."""
BELOW_TEMPLATE = 20
"""The average ends below the medulla; so much neck is added [mm]."""
STEP = 2
"""Envelopes are smooth: they are found on a coarser grid [mm]."""
CAVITY_CLOSING, SKIN_CLOSING = 16, 12
"""Radius of the ball that rolls around the brain inside the skull, and around skull and face inside the skin [mm]."""
SPACE, NEAR, NEAR_BASE = 1.8, 16, 3
"""Fluid between brain and skull [mm], and how far from the brain the cavity holds fluid above and at the skull base:
beyond that it is bone, as between temporal lobe and cerebellum [mm]."""
TABLE, DIPLOE = 1.8, 3.2
"""Thickness of each of the two tables of the skull, and of the marrow between them [mm]."""
BASE = (-28, -14)
"""Between these heights the marrow thins out towards the skull base [mm]."""
GALEA, FAT, SKIN = 1.4, 3.8, 1.8
"""Thickness of the layers of the scalp, from the skull outwards [mm]."""
TEMPLE, TEMPLE_RADII = (60, 6, -14), (26, 30, 28)
"""Centre and radii [mm] of the temples: there the skull is thin, without marrow, and muscle lies on it."""
TEMPORALIS = 7
"""Thickness of that muscle [mm]."""
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
    ((0, 34, -92), (54, 58, 50)),
    ((0, 96, -58), (11, 12, 15)),
    ((0, -42, -92), (58, 54, 50)),
)
"""Ellipsoids that skull and skin enclose: face, jaw, nose, neck."""
ORGANS = (
    ("scalp", (0, -64, -92), (1.6, 24, 42)),
    ("scalp", (17, -64, -92), (1.6, 18, 40)),
    ("scalp", (34, -52, -92), (1.6, 20, 40)),
    ("scalp", (40, 36, -74), (9, 14, 18)),
    ("scalp", (25, -2, -78), (5, 10, 24)),
    ("other soft tissue", (56, -10, -74), (9, 13, 22)),
    ("bone", (46, 10, -80), (5, 15, 30)),
    ("marrow", (46, 10, -80), (3, 12, 28)),
    ("bone", (0, 70, -96), (32, 14, 16)),
    ("marrow", (0, 68, -96), (30, 11, 14)),
    ("muscle", (0, 46, -94), (25, 27, 17)),
    ("scalp", (0, 46, -94), (2, 24, 15)),
    ("bone", (0, -14, -46), (14, 26, 18)),
    ("marrow", (0, -16, -50), (10, 18, 14)),
    ("bone", (0, 22, -42), (24, 26, 14)),
    ("mucosa", (8, 16, -42), (9, 12, 10)),
    ("air", (8, 16, -42), (7.5, 10.5, 8.5)),
    ("bone", (27, 46, -62), (18, 21, 21)),
    ("mucosa", (27, 46, -62), (16, 19, 19)),
    ("air", (27, 46, -62), (14, 17, 17)),
    ("bone", (0, 50, -54), (14, 42, 26)),
    ("mucosa", (0, 50, -58), (12, 42, 22)),
    ("bone", (0, 50, -58), (0.8, 36, 18)),
    ("air", (5.5, 52, -60), (1.6, 38, 18)),
    ("air", (10, 46, -46), (2.5, 20, 7)),
    ("bone", (0, 50, -81), (22, 34, 3)),
    ("bone", (9, 80, -22), (10, 7, 12)),
    ("mucosa", (9, 80, -22), (8, 5, 10)),
    ("air", (9, 80, -22), (7, 4, 9)),
    ("mucosa", (0, 8, -80), (12, 12, 30)),
    ("air", (0, 8, -80), (9, 8, 28)),
    ("bone", (30, 44, -34), (20, 30, 19)),
    ("scalp", (30, 46, -34), (18.5, 28, 17.5)),
    ("muscle", (41, 38, -34), (2.5, 20, 5)),
    ("muscle", (21, 38, -34), (2.5, 20, 5)),
    ("muscle", (30, 38, -24), (5, 20, 2)),
    ("muscle", (30, 38, -45), (5, 20, 2)),
    ("other soft tissue", (30, 34, -34), (2, 20, 2)),
    ("other soft tissue", (32, 59, -34), (13, 13, 13)),
    ("eye", (32, 59, -34), (12, 12, 12)),
    ("other soft tissue", (32, 67.5, -34), (4.5, 2.2, 4.5)),
    ("bone", (46, -26, -42), (20, 16, 14)),
    ("air", (56, -32, -46), (6, 9, 10)),
    ("bone", (56, -32, -46), (1, 9, 10)),
    ("bone", (57, -32, -46), (7, 1, 10)),
    ("air", (66, -22, -42), (12, 2.5, 2.5)),
    ("bone", (0, -46, -92), (21, 19, 22)),
    ("bone", (0, -30, -92), (14, 10, 24)),
    ("marrow", (0, -30, -92), (12, 8, 23)),
)
"""The same outside the brain's cavity and under the skin, later ones over earlier ones."""
CORD = (("CSF", (0, -45, -82), (9, 9, 26)), ("brain stem", (0, -45, -82), (6, 5, 26)))
"""The same outside the brain: what leaves the skull below."""
MOSTLY_GREY = ("caudate and putamen", "hippocampus and amygdala")


@lru_cache(maxsize=1)
def embedded_head() -> Anatomy:
    """A head around the skull-stripped MNI152 average that nilearn ships; nothing is downloaded.

    Each voxel of the brain gets its likeliest tissue; deep fluid becomes ventricles; deep grey matter, brain stem and
    cerebellum lie where they usually do. The average has no skull. Around its envelope lie layers as thick as they
    usually are: fluid, two tables of bone with marrow between them, muscle or galea, fat and skin. Face, skull base
    and neck are simple shapes.
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
    cavity, classes = _surroundings(brain, mm)
    classes[brain] = _brain(brain, grey, white, cavity, mm)[brain]
    return crop_head(classes, affine, EMBEDDED)


def _brain(
    brain: np.ndarray, grey: np.ndarray, white: np.ndarray, cavity: np.ndarray, mm: list[np.ndarray]
) -> np.ndarray:
    """Classes of the brain's voxels, from the probabilities of grey and white matter."""
    x, y, z = mm
    fluid = brain - grey - white
    around = _finer(gaussian_filter(fluid[::STEP, ::STEP, ::STEP], BLUR / STEP), brain.shape)
    tissue = np.stack([FLUID * (fluid + SHARPENED * (fluid - around).clip(0)), grey, white]).argmax(0)
    edge = -36 - 0.3 * abs(x) + 0.6 * np.maximum(0, -15 - z)
    below_tent = (z < 2 - 0.42 * abs(x) - 0.55 * np.maximum(0, -y - 52)) & (y < edge)
    classes = np.array([INDEX["CSF"], INDEX["cortex"], INDEX["white matter"]], np.uint8)[tissue]
    classes[below_tent & (tissue == 1)] = INDEX["cerebellar cortex"]
    classes[below_tent & (tissue == 2)] = INDEX["cerebellar white matter"]
    classes[(tissue == 0) & (cavity < -VENTRICLE_DEPTH)] = INDEX["ventricle"]
    for name, box, inside in _ellipsoids(DEEP, mm):
        solid = tissue[box] == 1 if name in MOSTLY_GREY else tissue[box] > 0
        classes[box][inside & solid] = INDEX[name]
    return classes


def _surroundings(brain: np.ndarray, mm: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the wall of the brain's cavity [mm], negative inside; classes as if that were full of fluid."""
    coarse_mm = [axis[tuple(slice(None, None, STEP if size > 1 else None) for size in axis.shape)] for axis in mm]
    distance, cavity = _closing(brain[::STEP, ::STEP, ::STEP], CAVITY_CLOSING)
    temple = np.exp(
        -sum(((a - c) / r) ** 2 for a, c, r in zip((abs(coarse_mm[0]), *coarse_mm[1:]), TEMPLE, TEMPLE_RADII))
    )
    uneven = _smooth_noise(cavity.shape)
    thickness = 2 * TABLE + DIPLOE * (1 - 1.1 * temple).clip(0) + 0.5 * uneven * (1 - temple)
    marrow = (thickness - 2 * TABLE) * ((coarse_mm[2] - BASE[0]) / (BASE[1] - BASE[0])).clip(0, 1)
    flesh = SPACE + thickness + GALEA + TEMPORALIS * temple
    outline = cavity < flesh + FAT + SKIN
    for _, box, inside in _ellipsoids((("", *ellipsoid) for ellipsoid in FACE), coarse_mm):
        outline[box] |= inside
    _, skin = _closing(outline, SKIN_CLOSING)
    fields = (distance, cavity, thickness, marrow, flesh, skin)
    distance, cavity, thickness, marrow, flesh, skin = (_finer(field, brain.shape) for field in fields)

    classes = np.full(brain.shape, INDEX["scalp"], np.uint8)
    classes[(cavity < flesh) | (skin < -SKIN - FAT - 3)] = INDEX["muscle"]
    for name, box, inside in _ellipsoids(ORGANS, mm):
        classes[box][inside & (skin[box] < -SKIN - FAT / 2)] = INDEX[name]
    in_bone = cavity - SPACE
    classes[in_bone < thickness] = INDEX["bone"]
    classes[abs(in_bone - thickness / 2) < marrow / 2] = INDEX["marrow"]
    # The cavity leaves the brain under the temporal lobes; there is bone, not fluid.
    classes[(in_bone < 0) & (distance < np.where(mm[2] > -20, NEAR, NEAR_BASE))] = INDEX["CSF"]
    for name, box, inside in _ellipsoids(CORD, mm):
        classes[box][inside] = INDEX[name]
    classes[skin > -SKIN] = INDEX["other soft tissue"]
    classes[skin > 0] = INDEX["air"]
    return cavity, classes


def _ellipsoids(
    parts: Iterable[tuple[str, tuple[float, ...], tuple[float, ...]]], mm: list[np.ndarray]
) -> Iterator[tuple[str, tuple[slice, ...], np.ndarray]]:
    """Name, box and voxels inside it of each ellipsoid (name, centre, radii), and of its mirror image if it has one."""
    for name, (x, *others), radii in parts:
        for side in {x, -x}:
            box, squares = [], 0.0
            for axis, centre, radius in zip(mm, (side, *others), radii):
                line = axis.ravel()
                first, last = np.searchsorted(line, (centre - radius, centre + radius + 1e-3))
                box.append(slice(int(first), int(last)))
                shape = [1, 1, 1]
                shape[len(box) - 1] = -1
                squares = squares + (((line[first:last] - centre) / radius) ** 2).reshape(shape)
            yield name, tuple(box), squares <= 1


def _closing(mask: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """On the coarser grid: distance [mm] from a mask, and from the smooth surface of its morphological closing.

    The latter is negative inside.
    """
    around = np.pad(mask, 10, mode="edge")
    distance = distance_transform_edt(~around).astype(np.float32) * STEP
    dilated = distance <= radius
    beyond = (distance_transform_edt(~dilated) - distance_transform_edt(dilated)).astype(np.float32) * STEP
    inner = (slice(10, -10),) * 3
    return distance[inner], gaussian_filter(radius + beyond, 1.5)[inner]


def _smooth_noise(shape: tuple[int, ...]) -> np.ndarray:
    """A field of variance about 1, always the same: the skull is thicker here and thinner there."""
    noise = rng(0).standard_normal([size // 4 + 1 for size in shape])
    noise = gaussian_filter(noise, 2, mode="wrap")
    return _finer(noise / noise.std(), shape)


def _finer(field: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    tensor = torch.from_numpy(field.astype(np.float32))[None, None]
    return interpolate(tensor, shape, mode="trilinear", align_corners=True)[0, 0].numpy()

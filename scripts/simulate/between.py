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

"""Heads between two anatomies: the velocity that moves one label map towards another, found once and kept on disk."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from monai.utils import optional_import
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor
from torch.nn.functional import grid_sample

from ..files import save_atomically
from ..tissue import CLASSES
from .anatomy import Anatomy
from .pose import level
from .shape import CONTROL_MM, SQUARINGS, control_grid

# Heads that are kept are read without it.
sitk, _ = optional_import("SimpleITK")
VERSION = 1
"""Counts the changes after which equal label maps give other velocities."""
BRIGHTNESS = {
    "white matter": 1.0,
    "cerebellar white matter": 1.0,
    "brain stem": 0.9,
    "pallidum": 0.85,
    "thalamus": 0.75,
    "caudate and putamen": 0.65,
    "cortex": 0.55,
    "cerebellar cortex": 0.55,
    "hippocampus and amygdala": 0.55,
    "CSF": 0.25,
    "ventricle": 0.05,
    "choroid plexus": 0.05,
    "scalp": 0.8,
    "marrow": 0.5,
    "bone": 0.15,
    "vessel": 0.3,
    "eye": 0.25,
}
"""Class -> its grey value in the images that are registered, about those of a T1w scan; :data:`OTHER` elsewhere."""
OTHER = 0.45
BLUR_MM = 1.5
ITERATIONS, SMOOTHING = 80, 1.3
"""Of the demons; standard deviation of the Gaussian that keeps the field smooth [grid points]."""
ROOTS = 20
"""Iterations of a square root."""


class Between:
    """Velocities from one head towards another, so that few anatomies become a continuum.

    ``exp(s v)`` moves a head by the share ``s`` of the way to the other. Both are levelled, blurred images of them are
    registered by diffeomorphic demons (Vercauteren et al. 2009, NeuroImage 45, S61-S72; SimpleITK), and ``v`` is the
    logarithm of the displacement, by repeated square roots: the inverse of scaling and squaring.

    Args:
        cache_dir: folder where velocities are kept; None finds them anew in each process.
    """

    def __init__(self, cache_dir: str | Path | None = None) -> None:
        self.cache_dir = None if cache_dir is None else Path(cache_dir)

    def velocity(self, anatomy: Anatomy, other: Anatomy) -> Tensor:
        """The velocity ``v (3, x, y, z)`` [mm] on the control grid of ``anatomy``.

        Raises:
            UserError: for label maps that cannot be levelled, or a folder that cannot be written.
        """
        if self.cache_dir is None:
            return find_velocity(anatomy, other)
        path = self.cache_dir / f"between-{_digest(anatomy)}-{_digest(other)}-{VERSION}.pt"
        kept = _read(path, control_grid(anatomy))
        if kept is None:
            kept = find_velocity(anatomy, other).half()
            save_atomically(kept, path)
        return kept.float()


def find_velocity(anatomy: Anatomy, other: Anatomy) -> Tensor:
    """As :meth:`Between.velocity`, without a cache."""
    points = _grid_points(anatomy)
    fixed, moving = _image(other, _into(anatomy, other, points)), _image(anatomy, points)
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfWorkUnits(1)
    demons.SetNumberOfIterations(ITERATIONS)
    demons.SetStandardDeviations(SMOOTHING)
    found = sitk.GetArrayFromImage(demons.Execute(_itk(fixed), _itk(moving)))
    # ITK's arrays are (z, y, x), its vectors (x, y, z).
    displacement = torch.from_numpy(found).permute(3, 2, 1, 0).float()
    for _ in range(SQUARINGS):
        displacement = square_root(displacement / CONTROL_MM) * CONTROL_MM
    return displacement * 2**SQUARINGS


def square_root(displacement: Tensor) -> Tensor:
    """The displacement ``w`` with ``w(x) + w(x + w(x)) = u(x)``, ``(3, x, y, z)`` [grid points]."""
    root = displacement / 2
    for _ in range(ROOTS):
        root = root + (displacement - root - _composed(root)) / 2
    return root


def _composed(field: Tensor) -> Tensor:
    """``w(x + w(x))`` of a field ``w (3, x, y, z)`` [grid points]."""
    size = field.shape[1:]
    grid = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in size], indexing="ij"), -1)
    at = grid + field.movedim(0, -1)
    unit = (2 * at / (torch.tensor(size) - 1) - 1).flip(-1)
    return grid_sample(field[None], unit[None], padding_mode="border", align_corners=True)[0]


def _grid_points(anatomy: Anatomy) -> np.ndarray:
    """Voxel coordinates of the points of the control grid ``(x, y, z, 3)``."""
    axes = [np.linspace(0, size - 1, n) for size, n in zip(anatomy.classes.shape, control_grid(anatomy))]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)


def _into(anatomy: Anatomy, other: Anatomy, points: np.ndarray) -> np.ndarray:
    """Voxels of the other head where these voxels of a head are, when both are levelled."""
    here, there = level(anatomy), level(other)
    canonical = here.place(points - np.array(anatomy.centre))
    return (canonical - there.shift) @ there.rotation + np.array(other.centre)


def _digest(anatomy: Anatomy) -> str:
    """Name of a head by its content."""
    return sha256(anatomy.classes.numpy().tobytes()).hexdigest()[:12]


def _read(path: Path, size: tuple[int, ...]) -> Tensor | None:
    """A velocity that is kept; None where it is missing or damaged."""
    try:
        kept = torch.load(path, weights_only=True)
    except Exception:  # torch has many for a damaged file
        return None
    return kept if kept.shape == (3, *size) else None


def _image(anatomy: Anatomy, points: np.ndarray) -> np.ndarray:
    """Blurred grey values of a head at voxels ``(x, y, z, 3)``, 0 outside."""
    values = np.array([BRIGHTNESS.get(name, OTHER) if name != "air" else 0.0 for name in CLASSES], np.float32)
    grey = gaussian_filter(values[anatomy.classes.numpy()], BLUR_MM)
    return map_coordinates(grey, np.moveaxis(points, -1, 0), order=1)


def _itk(image: np.ndarray) -> "sitk.Image":
    made = sitk.GetImageFromArray(image.astype(np.float32).transpose(2, 1, 0))
    made.SetSpacing([CONTROL_MM] * 3)
    return made

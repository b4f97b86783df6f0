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

"""Tissue maps of one session."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ..render import share_beside_fluid
from .posterior import CLASSES

CROWN = 85.0
"""Depth below the top of a head [mm] of the slice that a picture shows: through the ventricles."""


class Maps(NamedTuple):
    """Tissue maps of one session.

    Attributes:
        values: PD, T1 [s], T2 [s] ``(3, X, Y, Z)``, 0 outside the foreground.
        sd: log-domain standard deviations ``(3, X, Y, Z)``; None for samples, which are no estimates.
        mask: foreground ``(X, Y, Z)``.
        affine: voxel to mm ``(4, 4)``.
        options: maps that are not needed, by their names in :class:`scripts.render.SignalModel`: ``t2_star`` [s],
            ``b1`` (relative to nominal), ``fluid`` (share of the PD of a voxel), each ``(X, Y, Z)``.
        correlations: between the errors of the log maps, see :data:`CORRELATIONS` ``(3, X, Y, Z)``; None if not wanted.
        fractions: shares of :data:`scripts.estimate.posterior.CLASSES` ``(5, X, Y, Z)``; None if not wanted.
    """

    values: np.ndarray
    sd: np.ndarray | None
    mask: np.ndarray
    affine: np.ndarray
    options: Mapping[str, np.ndarray] = MappingProxyType({})
    correlations: np.ndarray | None = None
    fractions: np.ndarray | None = None

    @property
    def all_options(self) -> dict[str, np.ndarray]:
        """The options, with the share of fluid where the fractions say it."""
        if self.fractions is None:
            return dict(self.options)
        return {**self.options, "fluid": share_beside_fluid(self.fractions[CLASSES.index("CSF")])}

    @property
    def middle(self) -> int:
        """Index of the axial slice to show: through the middle of the foreground, or of the brain above a neck."""
        inside = np.flatnonzero(self.mask.any((0, 1)))
        if not len(inside):
            return self.mask.shape[2] // 2
        below_crown = round(CROWN / float(np.linalg.norm(self.affine[:3, 2])))
        return int(max(inside[len(inside) // 2], inside[-1] - below_crown))

    def axial(self, z: int) -> "Maps":
        """One axial slice, without its axis."""
        sd = None if self.sd is None else self.sd[..., z]
        options = {name: array[..., z] for name, array in self.all_options.items()}
        return Maps(self.values[..., z], sd, self.mask[..., z], self.affine, options)

    def orthogonal(self) -> "Maps":
        """Three slices through the head as one image, without the third axis: axial, coronal and sagittal, one below
        the other, the sagittal one a little beside the middle.
        """
        x, y, z = (size // 2 for size in self.mask.shape)
        x = x - x // 16
        height = self.middle if self.mask.any() else z

        def tiles(volume: np.ndarray) -> np.ndarray:
            views = [volume[..., x, :, :], volume[..., :, y, :], volume[..., height]]
            width = max(view.shape[-2] for view in views)
            gaps = [width - view.shape[-2] for view in views]
            still = [(0, 0)] * (volume.ndim - 3)
            padded = [np.pad(view, [*still, (gap // 2, gap - gap // 2), (0, 0)]) for view, gap in zip(views, gaps)]
            return np.concatenate(padded, -1)

        sd = None if self.sd is None else tiles(self.sd)
        options = {name: tiles(array) for name, array in self.all_options.items()}
        return Maps(tiles(self.values), sd, tiles(self.mask), self.affine, options)

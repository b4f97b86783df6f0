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

"""Levelling: the rigid motion that turns any label map into one canonical pose, by where the parts of its brain are."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import UserError
from .anatomy import INDEX, Anatomy

REFERENCE: dict[str, np.ndarray] = {
    name: np.array(place)
    for name, place in json.loads(Path(__file__).with_name("pose.json").read_text(encoding="utf-8")).items()
    if name != "_desc_"
}
"""Class -> centre of its right half in the canonical pose [mm], RAS; the left half is its mirror image."""
EVERY = 2
"""Every so many voxels along each axis tell where a class is."""
LEAST = 3
"""So many classes must be there: fewer say too little about the pitch."""
STEPS, TOLERANCE = 50, 1e-4
"""Turns until halves no longer change, and by how much [mm] they then still may."""


class Pose(NamedTuple):
    """A rigid motion: voxels ``h`` of an :class:`Anatomy` of 1 mm lie at ``R (h - c) + t`` in the canonical pose.

    ``c`` is the centre of the cerebrum's bounding box; the origin of the canonical pose is where ``c`` is on average.

    Attributes:
        rotation: R ``(3, 3)``.
        shift: t [mm] ``(3,)``.
    """

    rotation: np.ndarray
    shift: np.ndarray

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points ``(N, 3)`` [mm from the centre of the cerebrum] in the canonical pose."""
        return points @ self.rotation.T + self.shift


def level(anatomy: Anatomy, where: object = "label map") -> Pose:
    """The pose of a head, by the Procrustes fit of the centres of its halved classes to :data:`REFERENCE`.

    Label numbers are not needed: a class is halved by the plane x = 0 of the pose found so far, until that stays.

    Args:
        anatomy: the head.
        where: its name, for the message.

    Raises:
        UserError: where too few of the classes are there.
    """
    voxels = {name: _places(anatomy, name) for name in REFERENCE}
    known = [name for name, places in voxels.items() if len(places)]
    if len(known) < LEAST:
        do = f"give a label map with {LEAST} or more of {', '.join(REFERENCE)}"
        raise UserError(where, f"only {' and '.join(known)} of the structures that show its pose", do)
    mirror = np.array([-1.0, 1.0, 1.0])
    target = np.concatenate([[REFERENCE[name], REFERENCE[name] * mirror] for name in known])
    pose, before = Pose(np.eye(3), np.zeros(3)), None
    for _ in range(STEPS):
        halves = np.concatenate([_halves(voxels[name], pose) for name in known])
        pose = _fit(halves, target)
        if before is not None and abs(halves - before).max() < TOLERANCE:
            break
        before = halves
    return pose


def _places(anatomy: Anatomy, name: str) -> np.ndarray:
    """Voxels of a class ``(N, 3)`` [mm from the centre of the cerebrum]."""
    coarse = anatomy.classes.numpy()[::EVERY, ::EVERY, ::EVERY] == INDEX[name]
    return np.argwhere(coarse) * float(EVERY) - np.array(anatomy.centre)


def _halves(places: np.ndarray, pose: Pose) -> np.ndarray:
    """Centres ``(2, 3)`` of the places right and left of the plane x = 0 of a pose; of all, where one has none."""
    right = places @ pose.rotation[0] + pose.shift[0] > 0
    return np.stack([places[half if half.any() else slice(None)].mean(0) for half in (right, ~right)])


def _fit(source: np.ndarray, target: np.ndarray) -> Pose:
    """The rigid motion that brings points ``(N, 3)`` nearest to others in the least-squares sense (Kabsch 1976)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, _, v = np.linalg.svd(a.T @ b)
    turn = v.T @ np.diag([1, 1, np.sign(np.linalg.det(v.T @ u.T))]) @ u.T
    return Pose(turn, target.mean(0) - turn @ source.mean(0))

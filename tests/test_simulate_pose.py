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

"""Levelling: any pose of a head leads to the same one, and a levelled head stays as it is."""

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from scripts.errors import UserError
from scripts.simulate import LabelMaps
from scripts.simulate.anatomy import INDEX, Anatomy
from scripts.simulate.pose import REFERENCE, Pose, level


@pytest.fixture(scope="module")
def head() -> Anatomy:
    return LabelMaps()[0]


def turned(anatomy: Anatomy, rotation: np.ndarray, shift: np.ndarray) -> Anatomy:
    """The head with a structure at ``c + h`` moved to ``c + R h + t``."""
    centre = np.array(anatomy.centre)
    offset = centre - rotation.T @ (centre + shift)
    classes = affine_transform(anatomy.classes.numpy(), rotation.T, offset, order=0)
    return anatomy._replace(classes=torch.from_numpy(classes))


@pytest.mark.parametrize("degrees", [(20, 0, 0), (-8, 5, -6)])
def test_any_pose_leads_to_the_same(head, degrees):
    rotation, shift = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), np.array([1.0, -2.0, 3.0])
    straight, found = level(head), level(turned(head, rotation, shift))
    points = np.array([[0.0, 0, 0], [30, 0, 0], [0, -40, 10], [0, 0, 30]])
    assert np.abs(found.place(points @ rotation.T + shift) - straight.place(points)).max() < 0.5


def test_levelling_twice_changes_nothing(head):
    pose = level(head)
    again = level(turned(head, pose.rotation, pose.shift))
    assert np.abs(again.place(np.eye(3) * 50) - np.eye(3) * 50).max() < 1.0, "but for the rounding to voxels"


def test_a_pose_is_rigid_and_keeps_left_and_right(head):
    pose = level(head)
    np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose.rotation) == pytest.approx(1)
    mirrored = level(head._replace(classes=head.classes.flip(0), centre=_flipped(head)))
    mirror = np.diag([-1.0, 1, 1])
    np.testing.assert_allclose(mirrored.rotation, mirror @ pose.rotation @ mirror, atol=0.01)


def _flipped(head: Anatomy) -> tuple[float, float, float]:
    return (head.classes.shape[0] - 1 - head.centre[0], *head.centre[1:])


def test_the_reference_is_a_head_on_its_own(head):
    assert all(place[0] > 0 for place in REFERENCE.values())
    assert REFERENCE["brain stem"][2] < REFERENCE["thalamus"][2] < REFERENCE["white matter"][2]
    assert REFERENCE["cerebellar cortex"][1] < REFERENCE["caudate and putamen"][1]


def test_too_few_structures_are_refused(head):
    cortex = torch.where(head.classes == INDEX["cortex"], head.classes, torch.zeros_like(head.classes))
    with pytest.raises(UserError, match="scan.nii: found only cortex of the structures that show its pose; give a"):
        level(head._replace(classes=cortex), "scan.nii")


def test_a_pitched_head_is_found_to_be_so(shared):
    poses = [level(LabelMaps(shared / "data" / "label_maps", number, 1)[0]) for number in (0, 3)]
    pitch = [Rotation.from_matrix(pose.rotation).as_euler("xyz", degrees=True)[0] for pose in poses]
    assert pitch[0] < -25 and abs(pitch[1]) < 6, "head 01 is pitched, head 04 is not"
    assert isinstance(poses[0], Pose)

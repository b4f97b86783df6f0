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

"""Rigid motion between two scans of one head, of any contrasts: mutual information, from coarse to fine.

Everything runs in one thread and with a fixed seed, so equal scans give equal bits.
"""

from typing import NamedTuple

import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.data import MetaTensor

LEVELS = ((8.0, 4.0), (4.0, 2.0), (2.0, 0.0))
"""From coarse to fine: edge of a voxel, as far as those of the scans are finer, and sd of the blur before it [mm]."""
FEWEST = 8
"""Voxels along an axis that no level goes below."""
SAMPLES, BINS, STEPS, SEED = 50_000, 32, 100, 1
"""Voxels that a level looks at, bins of a histogram along each axis, most steps of a level, seed of the choice."""
BRIGHTEST = 0.998
"""Quantile above which intensities count as equal: a few bright vessels would fill most bins."""
MOST_DEGREES = 45.0
"""A head does not turn further between two scans of one session; shifts of any size come from lost origins."""
LEAST_SIMILARITY = 1.05
"""Scans of one head that hardly overlap have less, and so has noise."""
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Between NIfTI's world (RAS) and ITK's (LPS)."""


class Refused(ValueError):
    """A registration that is not to be trusted; the message says why."""


class Motion(NamedTuple):
    """What moved between two scans.

    Attributes:
        matrix: from the reference's world to that of the moving scan ``(4, 4)`` [mm, RAS].
        degrees: angle of the rotation.
        millimetres: displacement of the centre of the head.
        before: similarity as the headers have it, see :func:`similarity`.
        after: similarity after registration.
    """

    matrix: np.ndarray
    degrees: float
    millimetres: float
    before: float
    after: float

    def apply(self, image: MetaTensor) -> MetaTensor:
        """The moving scan ``(1, X, Y, Z)`` in the reference's world: the same voxels, another affine."""
        return MetaTensor(image.as_tensor(), affine=np.linalg.inv(self.matrix) @ image.affine.numpy())


def register(moving: MetaTensor, reference: MetaTensor) -> Motion:
    """The rigid motion that makes the most of the mutual information of two scans ``(1, X, Y, Z)``.

    The search starts where the headers say the scans are, and once more with the centres of mass of both on each other,
    since converters lose origins; the better of the two at the coarsest level goes on. Where nothing makes the scans
    more similar than their headers do, nothing has moved.

    Raises:
        Refused: for an empty scan, a rotation beyond :data:`MOST_DEGREES`, and scans that are less similar than
            :data:`LEAST_SIMILARITY` wherever they are put.
    """
    fixed, floating = _itk_image(reference), _itk_image(moving)
    try:
        centred = sitk.CenteredTransformInitializer(
            fixed, floating, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
        )
    except RuntimeError:
        raise Refused("one of the scans is empty") from None
    by_header = sitk.Euler3DTransform()
    by_header.SetCenter(centred.GetFixedParameters()[:3])
    starts = [by_header, sitk.Euler3DTransform(centred)]
    for edge, blur in LEVELS:
        pair = _level(fixed, edge, blur), _level(floating, edge, blur)
        fits = [_fit(*pair, start, edge) for start in starts]
        starts = [max(fits, key=lambda fit: similarity(*pair, fit))]
    return _checked(starts[0], similarity(*pair, by_header), similarity(*pair, starts[0]))


def _itk_image(image: MetaTensor) -> sitk.Image:
    """A scan as ITK has it, without negative and extremely bright intensities."""
    data = image.as_tensor()[0].numpy()
    made = sitk.GetImageFromArray(np.clip(data, 0, np.quantile(data, BRIGHTEST)).transpose(2, 1, 0))
    affine = FLIP @ image.affine.numpy()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    made.SetSpacing(spacing.tolist())
    made.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    made.SetOrigin(affine[:3, 3].tolist())
    return made


def _level(image: sitk.Image, edge: float, blur: float) -> sitk.Image:
    """The scan with voxels of about this edge, means of its own, and blurred."""
    sizes = zip(image.GetSpacing(), image.GetSize())
    factors = [max(1, min(round(edge / spacing), size // FEWEST)) for spacing, size in sizes]
    return sitk.DiscreteGaussian(sitk.BinShrink(image, factors), blur**2)


def _fit(fixed: sitk.Image, floating: sitk.Image, start: sitk.Euler3DTransform, edge: float) -> sitk.Euler3DTransform:
    """The transform uphill of a start; the start itself where the scans do not overlap there."""
    method = sitk.ImageRegistrationMethod()
    # Units of work, not threads, decide in which order sums are taken.
    method.SetNumberOfWorkUnits(1)
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, SAMPLES / fixed.GetNumberOfPixels()), SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(edge / 4, edge / 400, STEPS)
    method.SetOptimizerScalesFromPhysicalShift()
    transform = sitk.Euler3DTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(fixed, floating)
    except RuntimeError:
        return start
    return transform


def _checked(transform: sitk.Euler3DTransform, before: float, after: float) -> Motion:
    """The motion, unless it is none of a head."""
    if max(before, after) < LEAST_SIMILARITY:
        raise Refused(f"the scans have next to nothing in common (normalised mutual information {after:.3f})")
    if after <= before:
        return Motion(np.eye(4), 0.0, 0.0, before, before)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    centre, shift = np.array(transform.GetCenter()), np.array(transform.GetTranslation())
    matrix[:3, 3] = centre + shift - matrix[:3, :3] @ centre
    degrees = float(np.degrees(np.arccos(np.clip((matrix[:3, :3].trace() - 1) / 2, -1, 1))))
    if degrees > MOST_DEGREES:
        raise Refused(f"a rotation of {degrees:.0f}° is not plausible (normalised mutual information {after:.3f})")
    return Motion(FLIP @ matrix @ FLIP, degrees, float(np.linalg.norm(shift)), before, after)


def similarity(fixed: sitk.Image, floating: sitk.Image, transform: sitk.Transform) -> float:
    """Normalised mutual information ``(H(a) + H(b)) / H(a, b)``: 1 for unrelated images, 2 for equal ones.

    Studholme et al. 1999, Pattern Recognition 32. It is that of all voxels of the fixed image; outside its field of
    view the floating one is 0, as it will be read.
    """
    moved = sitk.Resample(floating, fixed, transform, sitk.sitkLinear, 0.0)
    flat = [sitk.GetArrayViewFromImage(image).ravel() for image in (fixed, moved)]
    joint = np.histogram2d(*flat, bins=BINS)[0] / flat[0].size
    return (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / _entropy(joint)


def _entropy(probabilities: np.ndarray) -> float:
    some = probabilities[probabilities > 0]
    return float(-(some * np.log(some)).sum())

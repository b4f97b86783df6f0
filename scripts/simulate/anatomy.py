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

"""The shape of a random head: tissue probabilities of the MNI152 average, moved by a random diffeomorphism."""

import warnings
from functools import lru_cache
from math import pi
from typing import NamedTuple

import numpy as np
import torch
from monai.networks.blocks import DVF2DDF
from numpy.random import Generator
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

TISSUES = ("CSF", "GM", "WM")
CONTROL_MM = 4.0
WAVES_MM = ((28.0, 3.3), (9.0, 1.1))
"""Random velocity as (smoothness, standard deviation) [mm]: lobes, then gyri. The flow moves a little less."""
VENTRICLE_MM = (-2.0, 4.0)
"""Range of the displacement of the ventricle walls [mm], outwards positive: slim to wide ventricles."""


class Template(NamedTuple):
    """The average head: channels CSF, GM, WM, then its T1w residual; the pull of the ventricles; the affine."""

    channels: Tensor
    ventricle_pull: Tensor
    affine: np.ndarray


@lru_cache(maxsize=1)
def load_template(resolution: int = 1) -> Template:
    """Reads the skull-stripped MNI152 average that nilearn ships; nothing is downloaded.

    CSF is what grey and white matter leave of the brain mask. The T1w residual is the average T1w image minus what
    its tissue fractions explain: it tells deep grey nuclei and well myelinated white matter apart.

    Args:
        resolution: voxel size [mm]; 1 is the template's own 197 x 233 x 189 grid.

    Returns:
        ``channels (4, X, Y, Z)`` in 0..1 (the residual about 0), ``ventricle_pull (3, x, y, z)`` a vector field on the
        control grid of length 1 at most that points to the ventricles, and the RAS affine.
    """
    from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template

    images = [load(resolution) for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)]
    t1w, grey, white = (np.clip(image.get_fdata(dtype=np.float32), 0, 1) for image in images)
    brain = t1w > 0.05
    grey, white = grey * brain, white * brain
    csf = np.clip(brain - grey - white, 0, 1)
    solid = np.stack([csf, grey, white]).reshape(3, -1)[:, brain.ravel()]
    levels = np.linalg.lstsq(solid.T, t1w[brain], rcond=None)[0]
    residual = (t1w - np.tensordot(levels, np.stack([csf, grey, white]), 1)) * (grey + white)
    channels = torch.from_numpy(np.stack([csf, grey, white, residual]).astype(np.float32))

    deep = distance_transform_edt(brain, sampling=resolution) > 22
    shape = control_shape(brain.shape, resolution)
    ventricles = interpolate(torch.from_numpy(csf * deep)[None, None].float(), shape, mode="area")[0, 0].numpy()
    pull = np.stack(np.gradient(gaussian_filter(ventricles, 7 / CONTROL_MM)))
    pull /= np.linalg.norm(pull, axis=0).max()
    return Template(channels, torch.from_numpy(pull.astype(np.float32)), images[0].affine)


def control_shape(shape: tuple[int, ...], resolution: float) -> tuple[int, ...]:
    """Size of the control grid of a volume: one point each :data:`CONTROL_MM`."""
    return tuple(round(size * resolution / CONTROL_MM) for size in shape)


def smooth_field(rng: Generator, shape: tuple[int, ...], sigma: float, channels: int = 1) -> Tensor:
    """Gaussian random field ``(channels, *shape)`` of mean 0 and variance about 1.

    Args:
        rng: source of the random numbers.
        shape: spatial size.
        sigma: standard deviation of the smoothing kernel [voxels]; smooth fields are drawn on a coarser grid.
        channels: number of independent fields.
    """
    step = max(1.0, sigma / 2)
    coarse = [int(np.ceil(size / step)) + 1 for size in shape]
    noise = rng.standard_normal((channels, *coarse), dtype=np.float32)
    width = sigma / step
    noise = gaussian_filter(noise, (0, width, width, width), mode="wrap") * (2 * pi**0.5 * width) ** 1.5
    return interpolate(torch.from_numpy(noise)[None], shape, mode="trilinear", align_corners=True)[0]


def draw_displacement(rng: Generator, template: Template, resolution: float) -> Tensor:
    """Random diffeomorphic displacement ``(3, x, y, z)`` on the control grid, in control voxels.

    A smooth velocity (lobes, gyri, ventricles) is integrated by scaling and squaring, so that nothing folds; then
    follows a small affine change of pose and size.
    """
    shape = control_shape(tuple(template.channels.shape[1:]), resolution)
    velocity = rng.uniform(*VENTRICLE_MM) * template.ventricle_pull
    for sigma, amplitude in WAVES_MM:
        velocity = velocity + amplitude * smooth_field(rng, shape, sigma / CONTROL_MM, channels=3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "monai.networks.blocks.Warp")
        integrate = DVF2DDF(num_steps=6, padding_mode="border")
    flow = integrate(velocity[None] / CONTROL_MM)[0]

    turn = Rotation.from_euler("xyz", rng.normal(0, 2.5, 3), degrees=True).as_matrix()
    scale = np.exp(rng.normal(0, 0.03) + rng.normal(0, 0.03, 3))
    matrix = torch.from_numpy(turn * scale).float()
    shift = torch.from_numpy(rng.normal(0, 1.5, 3)).float() / CONTROL_MM
    points = torch.stack(torch.meshgrid(*[torch.arange(float(size)) for size in shape], indexing="ij"))
    centre = (torch.tensor(shape).float() / 2).view(3, 1, 1, 1)
    moved = torch.tensordot(matrix, points + flow - centre, dims=1) + centre + shift.view(3, 1, 1, 1)
    return moved - points


def deform(channels: Tensor, displacement: Tensor) -> Tensor:
    """Channels ``(C, X, Y, Z)`` pulled back along a control grid displacement ``(3, x, y, z)``; zero from outside."""
    shape, control = channels.shape[1:], displacement.shape[1:]
    unit = displacement * 2 / (torch.tensor(control) - 1).view(3, 1, 1, 1)
    unit = interpolate(unit[None], tuple(shape), mode="trilinear", align_corners=True)[0]
    axes = torch.meshgrid(*[torch.linspace(-1, 1, size) for size in shape], indexing="ij")
    grid = torch.stack([axis + move for axis, move in zip(axes, unit)][::-1], -1)
    return grid_sample(channels[None], grid[None], align_corners=True)[0]

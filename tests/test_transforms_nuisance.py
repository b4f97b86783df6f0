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

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from scripts.augment import (
    RandGaind,
    RandKSpaceCropd,
    RandNoisyMagnituded,
    RandReceiveFieldd,
    RandRigidMotiond,
    RandThickSlicesd,
    RandTransmitFieldd,
)
from scripts.errors import UserError
from scripts.nuisance import crop_kspace, noisy_magnitude, rigid_motion, thick_slices

TWINS = (RandGaind, RandReceiveFieldd, RandKSpaceCropd, RandThickSlicesd, RandRigidMotiond, RandNoisyMagnituded)
SHAPES = [(2, 20, 24), (2, 20, 24, 16)]
AFFINE = torch.diag(torch.tensor([1.0, 1.5, 2.0, 1.0])).double()


def signed(shape: tuple[int, ...] = SHAPES[1], meta: bool = True) -> torch.Tensor:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 0.5
    return MetaTensor(image, affine=AFFINE) if meta else image


def run(transform, seed: int = 0, **data) -> dict:
    return transform.set_random_state(seed)(data)


NEUTRAL = {
    "gain": RandGaind("image", gain=(1, 1), prob=1),
    "receive field": RandReceiveFieldd("image", strength=(0, 0), prob=1),
    "k-space": RandKSpaceCropd("image", fraction=(1, 1), taper=(0, 0), prob=1),
    "slices": RandThickSlicesd("image", thickness=(1, 1), gap=(0, 0), prob=1),
    "motion": RandRigidMotiond("image", rotation=0, translation=0, prob=1),
    **{f"{twin.__name__} without luck": twin("image", prob=0) for twin in TWINS},
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NEUTRAL)
def test_neutral_is_identity(name, shape):
    image = signed(shape)
    result = run(NEUTRAL[name], image=image)["image"]
    expected = image.abs() if "Magnitude" in name else image
    assert torch.equal(result.as_tensor(), expected.as_tensor()) and torch.equal(result.affine, AFFINE)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_a_seed_decides_everything(twin, shape):
    transform, image = twin(["image", "other"], prob=1, allow_missing_keys=True), signed(shape)
    data = {"image": image, "label": torch.ones(2)}
    first, again, other = (transform.set_random_state(seed)(data)["image"] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], image[0]) and first.shape == image.shape and first.isfinite().all()
    assert torch.equal(first.affine, AFFINE) and torch.equal(image, signed(shape)), "the input is left as it was"
    with pytest.raises(KeyError):
        twin("other", prob=1)(data)
    assert transform(data)["label"] is data["label"]


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_every_contrast_has_a_draw_of_its_own(twin):
    one = signed((1, 20, 24), meta=False)
    data = run(twin(["image", "second"], prob=1), image=torch.cat([one, one]), second=one)
    assert not torch.equal(data["image"][0], data["image"][1])
    assert not torch.equal(data["image"][0], data["second"][0])
    some = run(twin("image", prob=0.5), seed=2, image=torch.cat([one] * 40))["image"]
    untouched = sum(torch.equal(image.abs(), one[0].abs()) for image in some)
    assert 8 < untouched < 32


@pytest.mark.parametrize("kind", [np.array, lambda x: torch.tensor(x, dtype=torch.int16)], ids=["numpy", "integers"])
def test_arrays_and_integers_are_images_too(kind):
    image = kind(np.arange(400).reshape(1, 20, 20))
    steps = Compose([twin("image", prob=1.0) for twin in TWINS]).set_random_state(0)
    result = steps({"image": image})["image"]
    assert result.shape == (1, 20, 20) and result.dtype in (torch.float32, torch.float64) and result.isfinite().all()


def test_gain_is_log_uniform():
    image = torch.ones(4000, 2, 2)
    log = run(RandGaind("image", gain=(0.1, 10), prob=1), image=image)["image"][:, 0, 0].log() / math.log(10)
    assert log.abs().max() < 1 and log.mean().abs() < 0.05 and log.std() == pytest.approx(3**-0.5, rel=0.05)


def test_receive_field_has_the_strength_and_mean_that_were_asked_for():
    image = torch.ones(3, 50, 60)
    field = run(RandReceiveFieldd("image", strength=(0.3, 0.3), prob=1), image=image)["image"]
    assert field.log().std((1, 2)).tolist() == pytest.approx([0.3] * 3, rel=0.02)
    mask = torch.zeros(1, 50, 60)
    mask[:, 30:] = 1
    field = run(RandReceiveFieldd("image", mask_key="mask", prob=1), image=image, mask=mask)["image"]
    assert field.log()[:, mask[0] > 0].mean(1).abs().max() < 1e-6 < field.log().mean((1, 2)).abs().max()


def test_kspace_delegates():
    image = signed((1, 20, 24), meta=False)
    transform = RandKSpaceCropd("image", (0.5, 0.5), (0.2, 0.2), (0.75, 0.75), prob=1)
    result = run(transform, image=image)["image"][0]
    assert result.is_complex()
    assert any(torch.equal(result, crop_kspace(image[0], 0.5, 0.2, 0.75, axis)) for axis in (0, 1))
    lucky = run(RandKSpaceCropd("image", partial_fourier=(0.6, 0.9), prob=0.5), image=image.repeat(9, 1, 1))
    assert lucky["image"].is_complex() and (lucky["image"].imag == 0).flatten(1).all(1).any()


def test_slices_delegate_with_the_voxels_of_the_image():
    for axis, edge in enumerate((1.0, 1.5, 2.0)):
        transform = RandThickSlicesd("image", (3.3, 3.3), (0.5, 0.5), axis, "gaussian", prob=1)
        result = run(transform, image=signed())["image"][1].as_tensor()
        assert torch.equal(result, thick_slices(signed()[1].as_tensor(), 3.3, edge, 0.5, axis, "gaussian"))
    plain = RandThickSlicesd("image", (3.0, 3.0), (0, 0), axis=0, spacing=0.75, prob=1)
    image = signed(meta=False)
    assert torch.equal(run(plain, image=image)["image"][0], thick_slices(image[0], 3.0, 0.75, axis=0))
    thin = RandThickSlicesd("image", (0.1, 0.2), (0, 0), axis=2, prob=1)
    assert torch.equal(run(thin, image=signed())["image"], signed()), "a voxel at least"


def test_motion_delegates_with_the_voxels_of_the_image():
    transform = RandRigidMotiond("image", rotation=10, translation=0, prob=1)
    result = run(transform, image=signed())["image"][0].as_tensor()
    draw = np.random.RandomState(0)
    draw.rand()
    angles = draw.uniform(-10, 10, size=3).tolist()
    expected = rigid_motion(signed()[0].as_tensor(), angles, [0, 0, 0], [1.0, 1.5, 2.0])
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_noise_refers_to_a_mask_or_to_what_is_bright():
    image = torch.zeros(1, 200, 200)
    image[:, 50:150, 50:150] = -400.0
    mask = (image < 0).float()
    image[:, :20] = -2000.0
    for known in ({"mask_key": "mask"}, {}):
        noisy = run(RandNoisyMagnituded("image", snr=(20, 20), prob=1, **known), image=image, mask=mask)["image"]
        reference = 400 if known else (400 * 10000 + 2000 * 4000) / 14000
        air = noisy[0, 30:, :40]
        assert air.mean() == pytest.approx(1.2533 * reference / 20, rel=0.02), "the noise floor of one coil"
        assert noisy[0, 60:140, 60:140].mean() == pytest.approx(400, rel=0.01)


def test_noise_draws_among_coils():
    image, mask = torch.zeros(60, 30, 30), torch.ones(1, 30, 30)
    image[:, 0] = 300.0
    transform = RandNoisyMagnituded("image", snr=(10, 10), coils=(1, 32), mask_key="mask", prob=1)
    floor = run(transform, image=image, mask=mask)["image"][:, 2:].mean((1, 2))
    one, many = (noisy_magnitude(torch.zeros(99, 99), 1.0, torch.Generator(), n).mean() for n in (1, 32))
    assert floor.max() / floor.min() == pytest.approx(float(many / one), rel=0.05)
    assert len(floor[floor < floor.mean()]) == pytest.approx(30, abs=15)


@pytest.mark.parametrize("shape", [(3, 20, 24), (3, 20, 24, 16)], ids=str)
def test_transmit_field_joins_the_maps(shape):
    maps = signed(shape)
    data = run(RandTransmitFieldd("maps", prob=1), maps=maps)
    assert data["b1"].shape == (1, *shape[1:]) and torch.equal(data["b1"].affine, AFFINE)
    assert data["b1"].max() <= 1.3 and data["b1"].max() > 1 > data["b1"].min() and data["maps"] is maps
    assert torch.equal(run(RandTransmitFieldd("maps", prob=1), maps=maps)["b1"], data["b1"])
    assert not torch.equal(run(RandTransmitFieldd("maps", prob=1), 1, maps=maps)["b1"], data["b1"])
    assert (run(RandTransmitFieldd("maps", prob=0), maps=maps)["b1"] == 1).all()


WRONG = {
    "gain": lambda: RandGaind("image", gain=(0, 1)),
    "order": lambda: RandGaind("image", gain=(2, 1)),
    "no pair": lambda: RandGaind("image", gain=2.0),
    "strength": lambda: RandReceiveFieldd("image", strength=(-1, 1)),
    "degree": lambda: RandReceiveFieldd("image", degree=4),
    "fraction": lambda: RandKSpaceCropd("image", fraction=(0.5, 1.5)),
    "taper": lambda: RandKSpaceCropd("image", taper=(0, 2)),
    "partial Fourier": lambda: RandKSpaceCropd("image", partial_fourier=(0.3, 1)),
    "gap": lambda: RandThickSlicesd("image", gap=(-1, 0)),
    "profile": lambda: RandThickSlicesd("image", profile="sinc"),
    "rotation": lambda: RandRigidMotiond("image", rotation=-3),
    "SNR": lambda: RandNoisyMagnituded("image", snr=(0, 3)),
    "coils": lambda: RandNoisyMagnituded("image", coils=(0, 4)),
    "centre": lambda: RandTransmitFieldd("maps", centre=(0, 1)),
}


@pytest.mark.parametrize("name", WRONG)
def test_impossible_ranges_are_refused_at_once(name):
    with pytest.raises(UserError, match="; "):
        WRONG[name]()

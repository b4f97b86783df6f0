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

"""Damaged folders by the hundred: one subject is spoiled at random; its neighbour is read as if nothing had happened.

Whatever is done to the subject, it is used, or left out with a reason of one line. Nothing is written. The spoiling is
a function of the number of the case, so that a failure can be looked at again.
"""

import gzip
import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose

from scripts.commands.study import UsableSessions
from scripts.errors import UserError, find_user_error
from scripts.preprocess import AlignContrastsd, ForegroundMaskd, LoadSessiond, RegisterContrastsd, ScaleContrastsd

from .studies import write_study

PREPARE = Compose([LoadSessiond(), RegisterContrastsd("auto"), AlignContrastsd(), ForegroundMaskd(), ScaleContrastsd()])
CASES, BATCH = 320, 20
SROWS = slice(280, 328)
"""Where a NIfTI-1 header holds the affine."""
VALUES = (
    *(None, True, "", "0.09", "nan", -1, 0, 1e-9, 1e9, 1e400, float("nan"), [], [0.09], [0.1, "x"], {}, {"a": 1}),
    *("\u202e", "x" * 10000, "$__import__('os')", "%run", "\x00", [[[]]], 90, 2400, "SE", "*tse2d1_17", [1] * 5000),
)
KEYS = (
    *(
        "EchoTime",
        "RepetitionTime",
        "InversionTime",
        "FlipAngle",
        "EchoTrainLength",
        "SequenceName",
        "PulseSequenceType",
    ),
    *(
        "ScanningSequence",
        "SequenceVariant",
        "ScanOptions",
        "MRAcquisitionType",
        "MagneticFieldStrength",
        "Manufacturer",
    ),
    *(
        "RepetitionTimePreparation",
        "RepetitionTimeExcitation",
        "NumberShots",
        "EchoSpacing",
        "PartialFourier",
        "Unknown",
    ),
    *(
        "SeriesNumber",
        "EchoNumber",
        "AcquisitionTime",
        "ImageType",
        "SeriesDescription",
        "ProtocolName",
        "SkullStripped",
    ),
)


def sidecar_value(anat: Path, rng: random.Random) -> None:
    path = rng.choice(sorted(anat.glob("*.json")))
    content = json.loads(path.read_text()) | {rng.choice(KEYS): rng.choice(VALUES) for _ in range(rng.randint(1, 3))}
    path.write_text(json.dumps(content))


def sidecar_bytes(anat: Path, rng: random.Random) -> None:
    path = rng.choice(sorted(anat.glob("*.json")))
    content = bytearray(path.read_bytes())
    match rng.randrange(5):
        case 0:
            content = content[: rng.randrange(len(content))]
        case 1:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case 2:
            content = bytearray(rng.choice([b"[]", b"null", b"7", b'"text"', b"[" * 5000, b"\xff\xfe", b"{}\x00", b""]))
        case 3:
            content = bytearray(path.read_text().encode(rng.choice(["utf-16", "utf-8-sig", "utf-32"])))
        case 4:
            content[-1:] = b', "PatientName": "M\xfcller"}'
    path.write_bytes(content)


def image_bytes(anat: Path, rng: random.Random) -> None:
    path = rng.choice(sorted(anat.glob("*.nii.gz")))
    content = bytearray(path.read_bytes())
    match rng.randrange(4):
        case 0:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case 1:
            content = content[: rng.randrange(len(content))]
        case 2:
            content += bytes(rng.randrange(256) for _ in range(rng.randint(1, 40)))
        case 3:
            plain = bytearray(gzip.decompress(content))
            plain[rng.randrange(352)] = rng.randrange(256)
            content = gzip.compress(bytes(plain), 1)
    path.write_bytes(content)


def image_content(anat: Path, rng: random.Random) -> None:
    path = rng.choice(sorted(anat.glob("*.nii.gz")))
    image = nib.load(path)
    voxels, affine = image.get_fdata(dtype=np.float32), image.affine.copy()
    match rng.randrange(9):
        case 0:
            voxels = np.full_like(voxels, rng.choice([0.0, 1.0, np.nan, np.inf, -5.0]))
        case 1:
            voxels[rng.randrange(len(voxels))] = rng.choice([np.nan, np.inf, -1e30, 1e38])
        case 2:
            voxels = voxels[..., : rng.randint(0, 1)] if rng.random() < 0.3 else voxels[..., None].repeat(2, -1)
        case 3:
            affine[:3, :3] *= rng.choice([0.0, 1e-3, 50.0, -1.0, np.nan])
        case 4:
            affine[rng.randrange(3), 3] = rng.choice([1e6, np.inf, -1e4])
        case 5:
            voxels = (voxels > 0).astype(np.uint8)
        case 6:
            voxels = (voxels - voxels.mean()) / voxels.std()
        case 7:
            voxels = np.random.default_rng(rng.randrange(99)).normal(size=voxels.shape).astype(np.float32)
        case 8:
            voxels = voxels.astype(np.complex64)
    made = nib.Nifti1Image(voxels, np.eye(4))
    if rng.random() < 0.3:
        made.header.set_xyzt_units(rng.choice(["meter", "micron", "mm", "unknown"]))
    nib.save(made, path)
    # nibabel refuses to write an impossible affine; a converter need not.
    plain = bytearray(gzip.decompress(path.read_bytes()))
    plain[SROWS] = affine[:3].astype("<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(plain), 1))


def names(anat: Path, rng: random.Random) -> None:
    path = rng.choice(sorted(anat.iterdir()))
    match rng.randrange(6):
        case 0:
            path.rename(anat / rng.choice(["T1w.nii.gz", ".nii.gz", "sub-02_.nii.gz", "x" * 200, "sub-02_T9w.nii.gz"]))
        case 1:
            path.unlink()
        case 2:
            path.unlink()
            path.symlink_to(rng.choice(["/nowhere", path.name, "../.git/annex/objects/XX/MD5E-s1--x", str(anat)]))
        case 3:
            path.unlink()
            path.mkdir()
        case 4:
            shutil.copy(path, anat / path.name.replace("sub-02", "sub-02_acq-copy"))
        case 5:
            os.rename(path, os.fsencode(anat) + b"/sub-02_acq-\xe9_T2w.nii.gz")


SPOILS: tuple[Callable[[Path, random.Random], None], ...] = (
    *(sidecar_value, sidecar_bytes, image_bytes, image_content, names),
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("batch", range(CASES // BATCH))
def test_a_spoiled_subject_is_used_or_has_a_reason_and_its_neighbour_is_read(tmp_path, batch):
    whole = write_study(tmp_path / "whole", subjects=2)
    for number in range(batch * BATCH, (batch + 1) * BATCH):
        study, rng = tmp_path / f"case-{number}", random.Random(number)
        shutil.copytree(whole, study)
        anat = study / "sub-02" / "anat"
        SPOILS[number % len(SPOILS)](anat, rng)
        if rng.random() < 0.3:
            # What is spoiled already need not be fit to be spoiled once more.
            with suppress(OSError, ValueError, EOFError, nib.filebasedimages.ImageFileError):
                rng.choice(SPOILS)(anat, rng)
        before = sorted((path, path.lstat().st_mtime_ns) for path in study.rglob("*"))
        dataset = UsableSessions(str(study))
        usable = {record["session"].name: record for record in dataset.records}
        assert "sub-01" in usable and set(usable) | set(dataset.failures) == {"sub-01", "sub-02"}, number
        for reason in dataset.failures.values():
            assert isinstance(reason, UserError) and len(str(reason).splitlines()) == 1, number
        if "sub-02" in usable:
            try:
                image = PREPARE(usable["sub-02"])["image"]
                assert image.isfinite().all() and float(image.max()) > float(image.min()), number
            except Exception as error:
                assert find_user_error(error) is not None, f"case {number}: {error!r}"
        assert sorted((path, path.lstat().st_mtime_ns) for path in study.rglob("*")) == before, number
        shutil.rmtree(study)

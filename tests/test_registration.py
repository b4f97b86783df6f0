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

"""Registration: a known motion is found, what needs none stays as it is, and what cannot be trusted is refused.

Training, evaluation and inference bring the scans of a session to each other in one way.
"""

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy.spatial.transform import Rotation

from scripts.acquisition import load_render
from scripts.bids import Contrast, Session, session_record
from scripts.errors import UserError
from scripts.preprocess import AlignContrastsd, LoadSessiond, RegisterContrastsd
from scripts.preprocess import register as registering
from scripts.preprocess.registration import Alignment, Motion, Refused, reference_index, register
from scripts.preprocess.registration import rigid as rigid_module
from scripts.preprocess.registration import sidecar_about, write_transforms
from scripts.simulate import Heads, simulate_head
from scripts.train.data import SessionDataset

from .studies import ROOT, write_study

SIDECAR = {"EchoTime": 0.09, "RepetitionTime": 4.5}
RESOLUTION = 2.0
MOVED = Motion(np.eye(4), 0.0, 0.0, 1.0, 1.1)


def rigid(degrees: tuple[float, ...], millimetres: tuple[float, ...]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = millimetres
    return matrix


@pytest.fixture(scope="module")
def head() -> dict[str, MetaTensor]:
    """T1w and T2w of one simulated head, on different grids of one world."""
    made = simulate_head(Heads(), 0, 0, RESOLUTION)
    t1w, t2w = (made["contrasts"][name].float()[None] for name in ("T1w", "T2w"))
    affine = made["affine"].copy()
    affine[:3, 3] += RESOLUTION * np.array([1, 0, 1])
    return {"T1w": MetaTensor(t1w, affine=made["affine"]), "T2w": MetaTensor(t2w[:, 1:, :-1, 1:-1], affine=affine)}


def moved(image: MetaTensor, matrix: np.ndarray) -> MetaTensor:
    return MetaTensor(image.as_tensor(), affine=matrix @ image.affine.numpy())


def record(*images: MetaTensor, echoes: bool = False) -> dict:
    """A session of these scans; as echoes, all but the first are of one acquisition."""
    contrasts, acquisitions = [], []
    for number, image in enumerate(images):
        sidecar = {**SIDECAR, "EchoTime": 0.02 * (number + 1)}
        [request] = load_render([{"name": "x", "suffix": "T2w", **sidecar}])
        entities = {"echo": str(number)} if echoes and number else {}
        contrasts.append(Contrast(Path(f"{number}_T2w.nii"), "T2w", entities, sidecar))
        acquisitions.append(request.acquisition)
    return session_record(Session("01", None, tuple(contrasts)), acquisitions) | {"image": list(images)}


def blank(edge: float, shift: float = 0.0) -> MetaTensor:
    affine = np.diag([edge, edge, edge, 1.0])
    affine[0, 3] = shift
    return MetaTensor(torch.arange(24.0).view(1, 2, 3, 4), affine=affine)


@pytest.mark.parametrize("true", [rigid((6, -4, 5), (7, -5, 8)), rigid((0, 0, 0), (0, 150, 0))], ids=["moved", "lost"])
def test_a_motion_or_a_lost_origin_is_recovered_across_contrasts_and_equally_each_time(head, true):
    found = register(moved(head["T2w"], true), head["T1w"])
    error = np.linalg.inv(found.matrix) @ true
    assert np.degrees(Rotation.from_matrix(error[:3, :3]).magnitude()) < 0.5
    assert np.linalg.norm(error[:3, 3]) < 0.5
    assert found.after > found.before
    again = register(moved(head["T2w"], true), head["T1w"])
    assert np.array_equal(again.matrix, found.matrix) and again[1:] == found[1:]
    back = found.apply(moved(head["T2w"], true))
    assert torch.equal(back.as_tensor(), head["T2w"].as_tensor()), "nothing is interpolated"
    np.testing.assert_allclose(back.affine.numpy(), error @ head["T2w"].affine.numpy(), atol=1e-9)


def test_scans_that_lie_as_well_as_they_can_stay_there(head):
    found = register(head["T1w"], head["T1w"])
    assert np.array_equal(found.matrix, np.eye(4)) and found[1:3] == (0, 0) and found.after == found.before > 1.9


def test_scans_of_nothing_in_common_are_refused_and_the_header_trusted(head, caplog):
    noise = MetaTensor(torch.rand(head["T2w"].shape), affine=head["T2w"].affine)
    with caplog.at_level(logging.WARNING):
        made = RegisterContrastsd()(record(head["T1w"], noise))
    assert "nothing in common" in made["alignment"].refused[1] and not made["alignment"].motions
    assert "1_T2w.nii: not registered, its header is trusted" in caplog.text
    assert made["image"][1] is noise


def test_a_head_does_not_turn_on_its_side(head, monkeypatch):
    monkeypatch.setattr(rigid_module, "MOST_DEGREES", 5.0)
    with pytest.raises(Refused, match="rotation of 9° is not plausible"):
        register(moved(head["T2w"], rigid((6, -4, 5), (7, -5, 8))), head["T1w"])


def test_a_scan_without_signal_is_refused(head):
    with pytest.raises(Refused, match="empty"):
        register(moved(head["T2w"] * 0, np.eye(4)), head["T1w"])


@pytest.mark.parametrize("word,numbers", [("auto", {2, 3}), (True, {1, 2, 3}), (False, set())])
def test_what_is_registered(monkeypatch, word, numbers):
    monkeypatch.setattr(registering, "register", lambda moving, reference: MOVED)
    # The reference; one on its grid; one of another place; one of another voxel size.
    images = [blank(1.0), blank(1.0), blank(1.0, shift=0.5), blank(1.2)]
    made = RegisterContrastsd(word)(record(*images))
    assert made["alignment"].reference == 0 and set(made["alignment"].motions) == numbers
    for number in {*range(4)} - numbers:
        assert made["image"][number] is images[number], "untouched"


def test_echoes_of_one_acquisition_move_together(monkeypatch):
    asked = []
    monkeypatch.setattr(registering, "register", lambda moving, reference: asked.append(moving) or MOVED)
    images = [blank(1.0), blank(1.2), blank(1.2)]
    made = RegisterContrastsd()(record(*images, echoes=True))
    assert len(asked) == 1 and asked[0] is images[1]
    assert made["alignment"].motions == {1: MOVED, 2: MOVED}


def test_the_switch_knows_three_words():
    with pytest.raises(UserError, match="register: found 'yes'; use true, false or auto"):
        RegisterContrastsd("yes")


def test_two_scans_are_registered_once_whatever_they_are_called_and_a_refusal_is_kept_too(
    tmp_path, monkeypatch, caplog
):
    asked, motion = [], Motion(rigid((1, 2, 3), (4, 5, 6)), 3.7, 8.8, 1.1, 1.2)

    def find(moving, reference):
        asked.append(moving)
        if moving.pixdim[0] > 2:
            raise Refused("no head")
        return motion

    monkeypatch.setattr(registering, "register", find)
    images = [blank(1.0), blank(1.2), blank(2.5)]
    made = [RegisterContrastsd(cache_dir=tmp_path)(record(*images))["alignment"] for _ in range(2)]
    assert len(asked) == 2 and caplog.text.count("2_T2w.nii: not registered, its header is trusted: no head") == 2
    for alignment in made:
        assert np.array_equal(alignment.motions[1].matrix, motion.matrix) and alignment.motions[1][1:] == motion[1:]
        assert alignment.refused == {2: "no head"}
    # One voxel, one affine, one damaged file: each is another pair of scans.
    images[1][0, 0, 0, 0] += 1
    RegisterContrastsd(cache_dir=tmp_path)(record(*images[:2]))
    RegisterContrastsd(cache_dir=tmp_path)(record(images[0], blank(1.2, shift=1.0)))
    for path in tmp_path.rglob("*.json"):
        path.write_text(path.read_text()[:-1])
    RegisterContrastsd(cache_dir=tmp_path)(record(*images[:2]))
    assert len(asked) == 5


@pytest.mark.parametrize("config", ["train_vae", "train_ldm", "evaluate", "inference"])
@pytest.mark.parametrize("switch", ["auto", False])
def test_training_and_evaluation_register_what_inference_registers(tmp_path, monkeypatch, config, switch):
    monkeypatch.setattr(
        registering, "register", lambda moving, reference: MOVED._replace(matrix=rigid((0, 0, 9), (2, 1, 0)))
    )
    scans = write_study(tmp_path / "in")
    for path in scans.rglob("*_T2w.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), rigid((0, 0, 0), (3, 0, 0)) @ image.affine), path)
    parser = ConfigParser(ConfigParser.load_config_file(str(ROOT / f"configs/{config}.json")))
    parser.update(
        {"register": switch, "cache_dir": str(tmp_path / "cache"), "spacing": None, "dataset_dir": str(scans)}
    )
    steps = parser.get_parsed_content("train::preprocessing" if "train" in config else "preprocessing").transforms
    [one] = SessionDataset(str(scans))
    expected = Compose([LoadSessiond(), RegisterContrastsd(switch), AlignContrastsd()])(one)["image"]
    assert torch.equal(Compose(steps[:3])(one)["image"], expected)
    unregistered = Compose([LoadSessiond(), AlignContrastsd()])(one)["image"]
    assert torch.equal(expected, unregistered) is not bool(switch)


def test_the_reference_has_the_finest_voxels_and_rounding_of_headers_does_not_decide():
    assert reference_index([blank(1.2), blank(0.9), blank(0.8)]) == 2
    assert reference_index([blank(1.2), blank(0.8125), blank(0.8125 - 1e-6)]) == 1
    assert RegisterContrastsd(False, reference=0)(record(blank(1.2), blank(0.9)))["alignment"].reference == 0


def test_transforms_are_written_as_itk_reads_them(tmp_path):
    session = record(blank(1.0), blank(1.2))["session"]
    motion = Motion(rigid((0, 0, 90), (1, 2, 3)), 90.0, 4.0, 1.1, 1.2)
    alignment, names = Alignment(0, {1: motion}, {}), ["bids:raw:0", "bids:raw:1"]
    write_transforms(tmp_path, session, alignment, names)
    path = tmp_path / "sub-01" / "anat" / "sub-01_from-T2w2_to-T2w1_mode-image_xfm.txt"
    read = sitk.ReadTransform(str(path))
    # ITK's first and second axes point the other way.
    point = motion.matrix @ [10, 20, 30, 1]
    np.testing.assert_allclose(read.TransformPoint((-10, -20, 30)), point[:3] * [-1, -1, 1])
    assert json.loads(path.with_suffix(".json").read_text())["Sources"] == ["bids:raw:1", "bids:raw:0"]
    told = sidecar_about(alignment, session, names)
    assert told["Reference"] == "bids:raw:0"
    assert told["Registered"]["bids:raw:1"]["Transform"] == f"bids::{path.relative_to(tmp_path)}"
    assert alignment.caption(1) == "moved 4.0 mm 90.0°, NMI 1.10 → 1.20" and alignment.caption(0) == ""

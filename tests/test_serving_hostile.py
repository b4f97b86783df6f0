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

"""What strangers may do with requests: nothing but ask. Attacks take MONAI Label's steps, see tests.monailabel."""

import copy
import itertools
import json
import os
import sys

import nibabel as nib
import numpy as np
import pytest

from scripts.commands.serving import scans, server
from scripts.commands.serving.request import PARAMETERS, read_request
from scripts.errors import UserError
from tests.hostile import ADDRESSES, CODE, KEYS, LEFT, NODES, VALUES, WORD, placed
from tests.monailabel import Server, ServerError
from tests.studies import SIDECARS

LONGEST_ANSWER = 1500
GIVEN = [{"suffix": "T1w", **SIDECARS["T1w"]}]


class Reached(Exception):
    """A request was accepted: its scans would be computed now."""


def write_scan(path, shape=(4, 5, 6), affine=None):
    voxels = np.random.default_rng(0).uniform(1, 100, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folder of a server with a scan and links, and one beside it that is none of a client's business."""
    studies, secret = tmp_path / "studies", tmp_path / "secret"
    studies.mkdir(), secret.mkdir()
    (secret / "secret.json").write_text(json.dumps({"a": WORD, "EchoTime": WORD, "T1w": WORD}))
    (secret / "secret.txt").write_text(WORD)
    (secret / "canary.py").write_text(f"open({str(secret / LEFT)!r}, 'w').close()\nx = 1\n")
    write_scan(secret / "scan.nii")
    write_scan(studies / "sub-01_T1w.nii.gz")
    (studies / "sub-01_T1w.json").write_text(json.dumps(SIDECARS["T1w"]))
    (studies / "link.nii").symlink_to(secret / "scan.nii")
    monkeypatch.syspath_prepend(str(secret))
    monkeypatch.setenv(server.STUDIES, str(studies))
    return studies, secret


def first_step(site, data):
    """What comes of a request: the refusal, or None where it is accepted."""

    def compute(record):
        raise Reached

    [step] = site.pre_transforms(data)
    step.preprocessing = compute
    try:
        step(data)
    except UserError as error:
        text = str(error)
        assert len(text) < LONGEST_ANSWER and "\n" not in text and WORD not in text, text[:3000]
        text.encode()
        return text
    except Reached:
        return None


def attack(site, places, parameters):
    studies, secret = places
    before = copy.deepcopy(site.config.config)
    try:
        refusal = first_step(site, site.request(studies / "sub-01_T1w.nii.gz", json.dumps(parameters)))
    except ServerError:
        refusal = "Internal Server Error"
    assert not (secret / LEFT).exists() and "canary" not in sys.modules
    # The server itself writes the device there, and nothing reads it.
    assert {**site.config.config, "device": 0} == {**before, "device": 0}
    return refusal


def test_values_of_strangers_are_refused_and_nothing_else_happens(places):
    site, accepted = Server(), []
    for key, (name, value) in itertools.product(KEYS, VALUES.items()):
        if attack(site, places, {key: placed(value, places[1])}) is None:
            accepted.append((key, name))
        if name in CODE | NODES:
            assert attack(site, places, {}) is None, f"the request after {key}, {name}"
    # MONAI Label takes its own default for what is empty; a tag may be any word.
    empty = [("device", "an empty object"), ("result_extension", "an empty object")]
    assert sorted(accepted) == sorted([*empty, ("label_tag", "an underscore in digits")])


def test_names_of_strangers_reach_no_node(places):
    site = Server()
    for name, parameters in ADDRESSES.items():
        refusal = attack(site, places, placed(parameters, places[1]))
        assert (refusal is None) == (name not in ("too many", "an odd name")), (name, refusal)


@pytest.mark.parametrize("key", ["te", "EchoTime", "SequenceName", "sequence", "suffix", "ImageType", "SeriesNumber"])
def test_values_inside_an_acquisition_are_as_strict(places, key):
    site = Server()
    for name, value in VALUES.items():
        refusal = attack(site, places, {"acquisitions": [{**GIVEN[0], **{key: placed(value, places[1])}}]})
        free = key in ("SequenceName", "ImageType", "SeriesNumber")
        assert refusal is not None or free, (key, name)


def test_a_list_of_choices_in_the_config_would_run_code(places):
    """Why there is no such list: the server copies what was sent, unchecked, and parses it, and the device too."""
    studies, secret = places
    choices = {"displayable_configs": {"output": ["t1", "t2"]}}
    for parameters in ({"output": "$import canary"}, {"device": "$import canary"}):
        site = Server(changes=choices)
        for sent in (parameters, {}):
            site.pre_transforms(site.request(studies / "sub-01_T1w.nii.gz", json.dumps(sent)))
        assert (secret / LEFT).exists()
        (secret / LEFT).unlink()
        del sys.modules["canary"]


def test_the_config_lets_a_request_set_nothing():
    assert not Server().config.get("displayable_configs")


IMAGES = {
    "secret/scan.nii": "outside the server's folder",
    "studies/link.nii": "outside the server's folder",
    "studies/../secret/scan.nii": "outside the server's folder",
    "secret/secret.json": "ends in .nii",
    "studies": "ends in .nii",
    "studies/absent.nii": "no such file",
    "studies/loop.nii": "no file can have",
    "studies/pipe.nii": "no such file",
    "studies/folder.nii": "no such file",
    "studies/text.nii": "no readable NIfTI image",
    f"studies/{'x' * 4000}.nii": "no file can have",
}


@pytest.mark.parametrize("image", IMAGES)
def test_only_files_of_the_servers_folder_are_opened(places, image):
    studies, secret = places
    (studies / "loop.nii").symlink_to(studies / "loop.nii")
    os.mkfifo(studies / "pipe.nii")
    (studies / "folder.nii").mkdir()
    (studies / "text.nii").write_text(WORD * 100)
    site = Server()
    refusal = first_step(site, site.request(studies.parent / image, "{}"))
    assert refusal is not None and IMAGES[image] in refusal and str(studies.parent) not in refusal


def test_a_request_may_not_name_another_image_than_the_servers(places):
    studies, secret = places
    refusal = attack(Server(), places, {"image": str(secret / "scan.nii")})
    assert "outside the server's folder" in refusal
    for image in (3, None, ["a"], {"a": 1}, "a\0.nii", "\ud800.nii", ""):
        assert attack(Server(), places, {"image": image}) is not None


def test_sidecars_are_files_of_the_folder_and_never_quoted(places):
    studies, secret = places
    site, image, sidecar = Server(), studies / "sub-01_T1w.nii.gz", studies / "sub-01_T1w.json"
    for content in (
        json.dumps({"EchoTime": WORD}),
        json.dumps({"SignalModel": WORD}),
        WORD,
        f'"{WORD}"',
        f'["{WORD}"]',
    ):
        sidecar.write_text(content)
        assert "sub-01_T1w.json" in first_step(site, site.request(image, "{}"))
    sidecar.unlink()
    sidecar.symlink_to(secret / "secret.json")
    assert "outside the server's folder" in first_step(site, site.request(image, "{}"))
    # Who says what the scan is needs no sidecar.
    assert first_step(site, site.request(image, json.dumps({"acquisitions": GIVEN}))) is None


def test_a_scan_is_used_once_whatever_it_is_called(places):
    studies, secret = places
    os.link(studies / "sub-01_T1w.nii.gz", studies / "sub-01_T2w.nii.gz")
    (studies / "sub-01_FLAIR.nii.gz").symlink_to("sub-01_T1w.nii.gz")
    for name in ("sub-01_T1w", "sub-01_T2w", "sub-01_FLAIR"):
        assert "twice; list each scan once" in attack(Server(), places, {"files": [f"{name}.nii.gz"]})


def test_an_upload_stands_alone(places, tmp_path, monkeypatch):
    studies, secret = places
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(server, "gettempdir", lambda: str(temporary))
    write_scan(temporary / "tmpabcd1234.nii.gz")
    write_scan(temporary / "other.nii.gz")
    (temporary / "tmpabcd1234.json").write_text("{}{")
    site = Server()
    ask = {"acquisitions": GIVEN}
    sent = temporary / "tmpabcd1234.nii.gz"
    assert first_step(site, site.request(sent, json.dumps(ask))) is None
    assert first_step(site, site.request(sent, json.dumps({"protocol": "unknown"}))) is None
    assert "beside an uploaded image" in first_step(site, site.request(sent, json.dumps({"files": ["other.nii.gz"]})))
    assert "outside" in first_step(site, site.request(temporary / "other.nii.gz", "{}"))


def test_two_files_of_one_stem_stay_apart(places, monkeypatch):
    studies, secret = places
    for number, name in enumerate(("all.nii", "all.nii.gz", "all.NII")):
        voxels = np.arange(2, dtype=np.float32) + 10 * (number + 1) + np.zeros((3, 3, 3, 2), np.float32)
        nib.Nifti1Image(voxels, np.eye(4)).to_filename(studies / name)
    seen = []

    def compute(record):
        seen.extend(float(nib.load(one.path).get_fdata().mean()) for one in record["session"].contrasts)
        raise Reached

    site = Server()
    ask = {"files": ["all.nii.gz", "all.NII"], "acquisitions": [{"suffix": "T1w", **SIDECARS["T1w"]}] * 6}
    data = site.request(studies / "all.nii", json.dumps(ask))
    [step] = site.pre_transforms(data)
    monkeypatch.setattr(step, "preprocessing", compute)
    with pytest.raises(Reached):
        step(data)
    assert seen == [10, 11, 20, 21, 30, 31]


def bomb(path, shape, edge=1.0):
    """A header that promises a volume, and no voxels."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header["vox_offset"] = 352
    header.set_sform(np.diag([edge, edge, edge, 1.0]), code=1)
    header["magic"] = b"n+1"
    path.write_bytes(header.binaryblock + bytes(4))


@pytest.mark.parametrize(
    "shape, edge, says",
    [
        ((2000, 2000, 2000), 0.1, "8e+09 voxels"),
        ((32767, 32767, 32767), 1.0, "voxels"),
        ((4, 4, 4, 5000), 1.0, "5000 contrasts"),
        ((300, 300, 300, 16), 1.0, "voxels"),
        ((4, 4, 4), 1000.0, "field of view of 4000 x 4000 x 4000 mm"),
        ((64, 64, 64), float("inf"), "field of view"),
    ],
)
def test_a_header_that_promises_too_much_is_refused(places, shape, edge, says):
    studies, secret = places
    bomb(studies / "bomb.nii", shape, edge)
    site = Server()
    ask = json.dumps({"protocol": "unknown"})
    refusal = first_step(site, site.request(studies / "bomb.nii", ask))
    assert refusal is not None and says in refusal


def test_limits_hold_the_largest_heads():
    assert 3 * 512 * 512 * 300 <= scans.MOST_VOXELS and 0.5**3 * 512 * 512 * 300 <= scans.MOST_CELLS


def test_numbers_may_be_texts_and_nothing_more():
    ask = {"output": "signal", "sequence": "spin_echo", "te": "0.02", "tr": "6e-1", "seed": "7"}
    request = read_request(ask)
    assert (request.contrast.acquisition.te, request.contrast.acquisition.tr, request.seed) == (0.02, 0.6, 7)
    for text in ("0x1", "1_0", "nan", "inf", "1e9999", "٣", "1 0", "--1", "0.02s", "9" * 400):
        for name in ("te", "seed"):
            with pytest.raises(UserError, match=name):
                read_request({**ask, name: text})
    for name in PARAMETERS:
        assert read_request({**ask, name: ""}) is not None if name not in ("sequence", "te", "tr") else True


def test_parameters_of_the_server_that_it_knows_are_passed_over(places):
    studies, secret = places
    own = {"device": ["cpu"], "model_filename": "model.pt", "label_tag": "final", "result_extension": ".nrrd"}
    own |= {"session": {"a": 1}, "result_dtype": "float32", "result_compress": True, "label": "", "logging": "info"}
    assert attack(Server(), places, own) is None
    assert "model_ldm.pt" in attack(Server(), places, {"model_filename": "model_ldm.pt"})
    assert "device" in attack(Server(), places, {"device": "cpu:7"})
    assert "label_tag" in attack(Server(), places, {"save_label": True, "label_tag": "../../x"})

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

"""Requests to a server: the three steps as MONAI Label runs them, against what a folder's run writes."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from scripts.acquisition.protocols import NAMES
from scripts.commands.serving import ReadRequestd, steps
from scripts.commands.serving.request import OUTPUTS, PARAMETERS, read_request
from scripts.commands.serving.server import EXTENSIONS
from scripts.errors import UserError
from scripts.preprocess.registration import Alignment, Motion
from tests.monailabel import Server
from tests.studies import INFER, ROOT, SHAPE, SIDECARS, workflow, write_study, write_weights

SUFFIXES = sorted(SIDECARS)
"""In the order in which a folder's run reads them: another changes the last digits."""
GIVEN = [{"suffix": suffix, **SIDECARS[suffix]} for suffix in SUFFIXES]
OTHERS = [f"sub-01_{suffix}.nii.gz" for suffix in SUFFIXES[1:]]
SIGNAL = {"output": "signal", "sequence": "spin_echo", "te": 0.02, "tr": 0.6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of one subject, weights, and its scans as one 4D file."""
    root = tmp_path_factory.mktemp("serving")
    anat = write_study(root / "study") / "sub-01/anat"
    scans = [nib.load(anat / f"sub-01_{suffix}.nii.gz") for suffix in SUFFIXES]
    nib.save(nib.concat_images(scans), root / "all.nii.gz")
    return root


@pytest.fixture(scope="module")
def weights(folder):
    return write_weights(folder / "weights")["vae"]


@pytest.fixture(scope="module")
def server(weights):
    return Server(weights)


@pytest.fixture(scope="module")
def first(folder):
    return folder / f"study/sub-01/anat/sub-01_{SUFFIXES[0]}.nii.gz"


@pytest.fixture(scope="module")
def estimate(server, first):
    return server(first, files=OTHERS)["pred"]


def test_a_server_gives_the_maps_of_a_folder(server, folder, first, weights, estimate):
    options = {
        "dataset_dir": str(folder / "study"),
        "output_dir": str(folder / "out"),
        "weights": weights,
        "render": [],
        "threads": torch.get_num_threads(),
    }
    workflow("inference", **INFER, **options, device="cpu").run()
    for output, name in (("t1", "T1map"), ("pd_sd", "desc-sd_PDmap")):
        [path] = (folder / "out").rglob(f"sub-01_{name}.nii.gz")
        answer = estimate if output == "t1" else server(first, files=OTHERS, output=output)["pred"]
        np.testing.assert_allclose(answer[0].numpy(), nib.load(path).get_fdata(), rtol=1e-5)


def test_the_ways_to_tell_what_the_scans_are_agree(server, folder, estimate):
    answer = server(folder / "all.nii.gz", acquisitions=GIVEN)
    torch.testing.assert_close(answer["pred"].as_tensor(), estimate.as_tensor())
    assert [one["SignalModel"] for one in answer["result"]["Acquisitions"].values()][1] == "mprage"
    short = {"EchoTime": "te", "RepetitionTime": "tr", "InversionTime": "ti"}
    told = [{short.get(key, key): value for key, value in entry.items()} for entry in GIVEN]
    for parameters in ({"acquisitions": told}, {"acquisitions": GIVEN}):
        read = ReadRequestd(lambda record: {**record, "image": estimate, "alignment": Alignment(0, {}, {})})(
            {"image": str(folder / "all.nii.gz"), "output": "t1", **parameters}
        )
        found = [(one.sequence, one.te, one.tr, one.ti) for one in read["image"].meta["volume"]["acquisitions"]]
        assert found == [
            ("inversion_recovery_turbo_spin_echo", 0.09, 9.0, 2.5),
            ("mprage", 0.003, 2.4, 1.0),
            ("turbo_spin_echo", 0.09, 4.5, None),
        ]


def test_an_answer_lies_where_its_input_lies(server, first, folder, tmp_path):
    scan, straight = nib.load(first), server(first)["pred"][0].numpy()
    flipped = scan.slicer[::-1]
    nib.save(flipped, tmp_path / "flipped.nii.gz")
    answer = server(tmp_path / "flipped.nii.gz", acquisitions=GIVEN[:1])["pred"]
    np.testing.assert_allclose(answer[0].numpy(), straight[::-1], rtol=1e-4)
    np.testing.assert_array_equal(answer.affine, flipped.affine)
    tilted = nib.Nifti1Image(
        scan.get_fdata(dtype=np.float32), np.array([[0, 0, 3, 5], [0.9, 0.1, 0, 1], [-0.1, 0.9, 0, 2], [0, 0, 0, 1.0]])
    )
    nib.save(tilted, tmp_path / "tilted.nii.gz")
    answer = server(tmp_path / "tilted.nii.gz", acquisitions="FLAIR", protocol="oasis3")["pred"]
    assert answer.shape == (1, *SHAPE) and answer.any()
    np.testing.assert_allclose(answer.affine, tilted.affine, atol=1e-6)


def test_one_slice_of_unknown_scans_is_enough(server, folder, tmp_path):
    nib.save(nib.load(folder / "all.nii.gz").slicer[:, :, 2:3], tmp_path / "slice.nii.gz")
    answer = server(tmp_path / "slice.nii.gz", protocol="unknown")["pred"]
    assert answer.shape == (1, *SHAPE[:2], 1) and (answer > 0).any()


def test_a_seed_names_a_draw(server, first):
    estimate, one, same, other = (server(first, **SIGNAL, seed=seed)["pred"] for seed in ("", 1, "1", 2))
    assert torch.equal(one, same)
    for answer in (estimate, other):
        assert not torch.equal(one, answer) and torch.equal(one > 0, answer > 0)


def test_an_answer_follows_a_scan_that_was_registered(first, folder):
    motion = Motion(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 7, 0.0, 7.0, 1.0, 1.1)
    moved = {"image": MetaTensor(torch.zeros(3, *SHAPE)), "alignment": Alignment(1, {0: motion}, {})}
    read = ReadRequestd(lambda record: {**record, **moved})({"image": str(first), "files": OTHERS, "output": "t1"})
    shape, affine, placed = read["grid"]
    assert shape == SHAPE
    np.testing.assert_array_equal(affine, nib.load(first).affine)
    np.testing.assert_allclose(motion.matrix @ placed, affine)


WRONG = {
    "a mistyped name": ({"outptu": "t1"}, "outptu.*use output"),
    "an unknown output": ({"output": "t3"}, "output: found 't3'.*use"),
    "no sequence": ({"output": "signal"}, "sequence: found nothing"),
    "an unknown sequence": ({**SIGNAL, "sequence": "spin"}, "sequence: found 'spin'"),
    "missing times": ({"output": "signal", "sequence": "mprage"}, "no EchoTime, RepetitionTime, InversionTime"),
    "milliseconds": ({**SIGNAL, "te": 20}, "EchoTime: found 20; give seconds"),
    "no number": ({**SIGNAL, "te": "short"}, r"te \(EchoTime\): found 'short'; give one number"),
    "impossible times": ({**SIGNAL, "te": 0.7}, "render signal"),
    "a negative seed": ({"seed": -1}, "seed: found -1"),
    "a fractional seed": ({"seed": 1.5}, "seed: found 1.5"),
    "an unknown protocol": ({"protocol": "oasis"}, "oasis3"),
    "a protocol of other scans": ({"protocol": "adni3"}, "3 contrasts and the protocol adni3, which is of T1w, FLAIR"),
    "nothing known": ({}, "none for 3 contrasts"),
    "too few acquisitions": ({"acquisitions": GIVEN[:2]}, "2 for 3 contrasts"),
    "no acquisition": ({"acquisitions": ["T1w", "T2w", 3]}, "acquisitions: 3: found 3"),
    "an unknown key": ({"acquisitions": [*GIVEN[:2], {"techo": 1}]}, "acquisitions: 3: found the key 'techo'"),
    "an acquisition in milliseconds": (
        {"acquisitions": [{**GIVEN[0], "EchoTime": 3}, *GIVEN[1:]]},
        "volume-1.*seconds",
    ),
    "an absent file": ({"files": ["absent.nii"]}, "'absent.nii', no such file"),
    "a path to elsewhere": ({"files": ["../../etc/x.nii"]}, "files: found '../../etc/x.nii'; .* without a path"),
    "an absolute path": ({"files": ["/etc/x.nii"]}, "files: found '/etc/x.nii'; .* without a path"),
    "no image": ({"files": ["/etc/passwd"]}, "files: found '/etc/passwd'; give names of .nii"),
    "no file names": ({"files": [3]}, "files: found 3"),
    "a scan twice": ({"files": ["other.nii", "other.nii"]}, "files: found 'other.nii' twice"),
    "the image once more": ({"files": ["all.nii.gz"]}, "files: found 'all.nii.gz' twice"),
    "a value twice": (
        {"acquisitions": [{"te": 0.09, "EchoTime": 0.003}, *GIVEN[1:]]},
        "acquisitions: 1: found te and EchoTime, which mean the same",
    ),
    "an equation twice": (
        {"acquisitions": [*GIVEN[:2], {"sequence": "mprage", "SignalModel": "spin_echo"}]},
        "acquisitions: 3: found sequence and SignalModel, which mean the same",
    ),
    "a BIDS key among the parameters": ({**SIGNAL, "EchoTime": 0.09}, "'EchoTime': found a BIDS key .* use te"),
    "a protocol of the user's own": ({"protocol": "mine.json"}, "protocol: found 'mine.json'; use one of: oasis3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_says_what_is_wrong(name, folder):
    parameters, message = WRONG[name]
    read = ReadRequestd(lambda record: pytest.fail("a wrong request was computed"))
    with pytest.raises(UserError, match=message):
        read({"image": str(folder / "all.nii.gz"), "output": "t1", **parameters})


def test_a_web_server_passes_on_what_is_wrong(folder, monkeypatch):
    class HTTPException(Exception):
        pass

    monkeypatch.setattr(steps, "SERVED", True)
    monkeypatch.setattr(steps, "HTTPException", HTTPException)
    with pytest.raises(HTTPException) as refused:
        ReadRequestd(lambda record: record)({"image": str(folder / "all.nii.gz"), "output": "t3"})
    status, text = refused.value.args
    assert status == 400 and text.startswith("output: found 't3'")


def test_the_default_request_is_one(server, folder):
    assert read_request(server.request(folder / "all.nii.gz", "{}")) == ("t1", None, None, None, None, ())


def test_what_a_server_adds_to_a_request_is_passed_over():
    own = (
        "model",
        "image",
        "image_path",
        "device",
        "description",
        "model_filename",
        "label",
        "label_tag",
        "save_label",
    )
    own += (
        "result_extension",
        "result_dtype",
        "result_compress",
        "result_write_to_file",
        "logging",
        "session",
        "timeout",
    )
    assert read_request({**dict.fromkeys(own), "output": "t2"}).output == "t2"


def test_requests_at_once_do_not_mix(server, first, folder):
    asked = [(first, {"files": OTHERS}), (folder / "all.nii.gz", {"acquisitions": GIVEN, "output": "t2"})] * 2
    alone = [server(image, **parameters)["pred"] for image, parameters in asked[:2]]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda one: server(one[0], **one[1])["pred"], asked))
    for answer, expected in zip(answers, alone * 2):
        torch.testing.assert_close(answer.as_tensor(), expected.as_tensor())


def test_the_examples_of_the_documentation_are_requests():
    text = (ROOT / "docs/monailabel.md").read_text()
    examples = re.findall(r"-F 'params=({.*?})'", text, re.DOTALL)
    assert len(examples) == 4
    outputs = [read_request(json.loads(example)).output for example in examples]
    assert outputs == ["t2", "t1", "t1", "signal"]
    for name in (*PARAMETERS, *OUTPUTS, *NAMES, *EXTENSIONS):
        assert f"`{name}`" in text, name

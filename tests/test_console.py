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

"""Consoles through the configs: which maps and scans get into a page, what one bad subject does to the others."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from scripts.bids import Session, output_path, write_image
from scripts.commands.study.consoles import sd_paths
from scripts.errors import find_user_error

from .consoles import Elements
from .maps import AFFINE, quantities, write_maps
from .studies import CODEC, workflow, write_weights


@pytest.fixture()
def maps(tmp_path):
    """A study with the true maps of two subjects, and scans of the first."""
    folder = tmp_path / "study" / "derivatives" / "truth"
    for subject in ("01", "02"):
        write_maps(folder, quantities(), subject)
    scan = tmp_path / "study/sub-01/anat/sub-01_T2w.nii.gz"
    times = {"EchoTime": 0.1, "RepetitionTime": 4.5, "EchoTrainLength": 16}
    write_image(scan, 100 * quantities()["PDmap"] + np.float32(1), AFFINE, times)
    return folder


@pytest.fixture()
def run(tmp_path, maps):
    """Writes pages into ``out`` and returns that folder; ``run.failures`` are those of the last run."""

    def start(output: str = "out", **overrides):
        made = workflow("console", output_dir=str(tmp_path / output), **{"dataset_dir": str(maps), **overrides})
        made.run()
        start.failures = made.parser.get_parsed_content("study").failures
        return tmp_path / output

    return start


def page(folder: Path, subject: str = "01") -> Elements:
    return Elements((folder / f"sub-{subject}/anat/sub-{subject}_console.html").read_text(encoding="utf-8"))


def channels(found: Elements) -> list[str]:
    return [channel["name"] for channel in found.json("volume")["channels"]]


def write_sd(folder: Path, subject: str, units: str = "1") -> None:
    for suffix, values in quantities().items():
        path = output_path(folder, Session(subject, None, ()), suffix, desc="sd")
        write_image(path, np.float32(0.05 * (values > 0)), AFFINE, {"Units": units})


def test_every_subject_gets_a_page_with_its_maps_and_scans(run):
    out = run()
    assert channels(page(out)) == ["pd", "t1", "t2", "scan"] and channels(page(out, "02")) == ["pd", "t1", "t2"]
    about = page(out).json("content")["about"]
    assert about["name"] == "sub-01" and about["sources"]["t1"] == "bids:raw:sub-01/anat/sub-01_T1map.nii.gz"
    assert "derivatives/truth" in about["command"] and "not registered" in about["remarks"][0]
    [scan] = about["scans"]
    assert scan["sequence"] == "turbo_spin_echo" and scan["values"]["te"] == 0.1 and scan["scan"] == 0


def test_a_second_run_makes_nothing_and_a_new_scan_is_refused_or_made_anew(run, maps):
    path = run() / "sub-01/anat/sub-01_console.html"
    before = path.stat().st_mtime_ns
    run()
    assert path.stat().st_mtime_ns == before
    scan = maps.parents[1] / "sub-01/anat/sub-01_FLAIR.nii.gz"
    times = {"EchoTime": 0.09, "RepetitionTime": 9.0, "InversionTime": 2.5}
    write_image(scan, quantities()["T2map"] + np.float32(1), AFFINE, times)
    with pytest.raises(Exception) as caught:
        run()
    assert "scans.sub-01_FLAIR.nii.gz absent" in str(find_user_error(caught.value))
    run(overwrite=True)
    assert channels(page(path.parents[2])).count("scan") == 2


def test_standard_deviations_are_taken_where_they_are_of_logarithms(run, maps):
    write_sd(maps, "01")
    write_sd(maps, "02", units="s")
    out = run()
    assert channels(page(out))[:6] == ["pd", "t1", "t2", "sd_pd", "sd_t1", "sd_t2"]
    assert "sd_t1" not in channels(page(out, "02"))


def test_standard_deviations_have_the_entities_of_their_maps(tmp_path):
    write_maps(tmp_path, quantities(), "01", acq="x")
    write_sd(tmp_path, "01")
    paths = {suffix: output_path(tmp_path, Session("01", None, ()), suffix, acq="x") for suffix in quantities()}
    assert sd_paths(paths) == {}


@pytest.mark.parametrize(
    "spoil,message",
    [
        (lambda t1: np.where(t1 > 1, np.nan, t1), "NaN or infinite"),
        (np.zeros_like, "no voxel where PD, T1 and T2 are positive"),
        (lambda t1: -t1, "negative"),
    ],
)
def test_one_bad_subject_does_not_stop_the_others(run, maps, spoil, message):
    write_maps(maps, {"T1map": spoil(quantities()["T1map"]).astype(np.float32)}, "01")
    out = run()
    assert message in str(run.failures["sub-01"]) and [*run.failures] == ["sub-01"]
    assert channels(page(out, "02")) == ["pd", "t1", "t2"]
    assert not (out / "sub-01").exists()


def test_slices_oblique_volumes_and_scans_on_other_grids(run, maps):
    write_maps(maps, quantities((24, 20, 1)), "03")
    turn = np.eye(4)
    turn[:3, :3] = np.array([[0, 0.2, 1.0], [0.9, -0.3, 0.1], [0.3, 0.9, -0.2]])
    write_maps(maps, quantities((24, 20, 12)), "04", affine=turn)
    other = np.diag([2.0, 2.0, 2.0, 1.0])
    image = np.float32(np.random.default_rng(0).random((20, 20, 20)))
    write_image(maps.parents[1] / "sub-04/anat/sub-04_T1w.nii.gz", image, other)
    out = run()
    assert page(out, "03").json("volume")["shape"] == [24, 20, 1]
    volume = page(out, "04").json("volume")
    assert sorted(volume["shape"]) == [12, 20, 24] and channels(page(out, "04"))[-1] == "scan"
    # The axes of the page point to the right, front and top.
    assert (np.abs(np.array(volume["affine"])[:3, :3]).argmax(0) == [0, 1, 2]).all()


def test_names_of_subjects_are_words(run, maps):
    name = "x'\"><img src=x>&amp;"
    write_maps(maps, quantities(), name)
    out = run()
    found = Elements((out / f"sub-{name}/anat/sub-{name}_console.html").read_text(encoding="utf-8"))
    assert found.title == f"sub-{name}: contrast console" and "img" not in [tag for tag, _ in found.found]


def test_the_command_names_the_folder_as_a_shell_reads_it(run, maps):
    folder = maps.rename(maps.with_name('o\'brien $(x) "y"'))
    command = page(run(dataset_dir=str(folder))).json("content")["about"]["command"]
    words = shlex.split(command)
    assert words[words.index("--dataset_dir") + 1] == str(folder)


def test_a_folder_of_scans_that_was_named_is_read_or_refused(run, tmp_path):
    with pytest.raises(Exception) as caught:
        run(scans_dir=str(tmp_path / "absent"))
    assert "no such folder" in str(find_user_error(caught.value))
    assert not (tmp_path / "out").exists()


def test_a_page_has_the_size_that_is_asked_for(run, maps):
    random = np.random.default_rng(0)
    clean = quantities((90, 90, 60))
    noisy = {name: np.float32(one * np.exp(random.normal(0, 0.2, one.shape))) for name, one in clean.items()}
    write_maps(maps, noisy, "01")
    path = run(megabytes=0.7) / "sub-01/anat/sub-01_console.html"
    assert path.stat().st_size <= 700_000 and page(path.parents[2]).json("volume")["step"] > 1


def test_generation_writes_pages_of_samples_and_adds_them_later(tmp_path):
    weights = write_weights(tmp_path / "weights")
    options = {"codec_weights": weights["codec"], "weights": weights["transformer"], "threads": 1, "count": 1, **CODEC}
    options |= {"latent_size": [4, 6], "num_inference_steps": 2, "output_dir": str(tmp_path / "out")}
    options |= {"render": [{"name": "t2", "suffix": "T2w", "EchoTime": 0.1, "RepetitionTime": 4.5}]}
    path = tmp_path / "out/sub-0001/anat/sub-0001_console.html"
    for console in (False, True):
        workflow("generate", device="$torch.device('cpu')", console=console, **options).run()
        assert path.exists() == console
    found = page(tmp_path / "out", "0001")
    assert found.json("volume")["shape"][2] == 1 and channels(found)[:3] == ["pd", "t1", "t2"]
    manifest = json.loads((path.parent / "sub-0001_manifest.json").read_text())
    assert str(path.relative_to(tmp_path / "out")) in manifest["files"]


def test_inference_writes_pages_with_its_scans(infer):
    out = infer(console=True)
    found = page(out)
    assert {"pd", "sd_t2", "scan"} <= {*channels(found)}
    about = found.json("content")["about"]
    assert about["scans"] and about["remarks"] == []
    names = [channel["title"] for channel in found.json("volume")["channels"] if channel["name"] == "scan"]
    assert {one["name"] for one in about["scans"]} <= {*names}

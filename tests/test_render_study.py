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

"""Rendering a folder of maps through its config: what is written, what is refused, what a second run does."""

import json
import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.acquisition import load_render
from scripts.bids import write_image
from scripts.commands.study import renders
from scripts.commands.study.products import render
from scripts.errors import find_user_error
from scripts.estimate.maps import Maps

from .maps import AFFINE, GM, WM, quantities, write_maps
from .studies import RENDER, ROOT, files, workflow
from .test_command_line import bundle_run, last_line

GRE = {"name": "gre", "suffix": "T2starw", "sequence": "spoiled_gradient_echo"}
GRE |= {"EchoTime": 0.03, "RepetitionTime": 0.5, "FlipAngle": 40}


@pytest.fixture()
def maps(tmp_path):
    """A folder with the maps of two subjects."""
    for subject in ("01", "02"):
        write_maps(tmp_path / "maps", quantities(), subject)
    return tmp_path / "maps"


@pytest.fixture()
def run(tmp_path, maps, monkeypatch):
    """Renders into ``out`` and returns that folder; ``run.failures`` are those of the last run.

    Pictures are replaced by the names of what is in them, which takes no time.
    """

    def write_names(path, title, *maps, inputs, contrasts, options):
        path.write_text("\n".join([title, *contrasts, *options]))

    monkeypatch.setattr(renders, "overview", write_names)

    def start(output: str = "out", **overrides):
        options = {"dataset_dir": str(maps), "render": RENDER, **overrides}
        made = workflow("render", output_dir=str(tmp_path / output), **options)
        made.run()
        start.failures = made.parser.get_parsed_content("study").failures
        return tmp_path / output

    return start


def refusal(run, *args, **overrides) -> str:
    with pytest.raises(Exception) as caught:
        run(*args, **overrides)
    error = find_user_error(caught.value)
    assert error is not None
    return str(error)


def data(path) -> np.ndarray:
    return nib.load(path).get_fdata(dtype=np.float32)


def sidecar(path) -> dict:
    return json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())


def sources(path) -> list[str]:
    """Suffixes of the maps that a contrast says it was made from."""
    return [source.rpartition("_")[2].removesuffix(".nii.gz") for source in sidecar(path)["Sources"]]


def test_contrasts_sidecars_and_the_picture(run, maps):
    out = run()
    anat = out / "sub-02" / "anat"
    assert sorted(path.name for path in anat.iterdir()) == [
        "sub-02_acq-one_T1w.json",
        "sub-02_acq-one_T1w.nii.gz",
        "sub-02_acq-two_T2w.json",
        "sub-02_acq-two_T2w.nii.gz",
        "sub-02_manifest.json",
        "sub-02_overview.png",
    ]
    values = np.stack([*quantities().values()])
    for request in load_render(RENDER):
        path = anat / f"sub-02_acq-{request.name}_{request.suffix}.nii.gz"
        np.testing.assert_array_equal(data(path), render(Maps(values, None, values[0] > 0, AFFINE), [request])[0])
        np.testing.assert_allclose(nib.load(path).affine, AFFINE)
        assert not data(path)[values[0] == 0].any() and (data(path)[values[0] > 0] > 0).all()
        said = sidecar(path)
        assert said["EchoTime"] == request.acquisition.te and said["SignalModel"] == request.acquisition.sequence
        assert sources(path) == ["PDmap", "T1map", "T2map"] and said["Units"] == "arbitrary"
        assert all((maps / source.removeprefix("bids:raw:")).exists() for source in said["Sources"])
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["DatasetLinks"]["raw"] == maps.as_uri()
    picture = (anat / "sub-02_overview.png").read_text()
    assert picture.startswith("sub-02\none (T1w)\nTE 3 ms  TR 2.4 s  TI 1 s")
    assert "two (T2w)\nTE 90 ms  TR 4.5 s" in picture


def test_the_truth_of_a_simulated_study_can_be_rendered(run, tiny_study):
    out = run(dataset_dir=str(tiny_study / "derivatives" / "truth"))
    assert len([*out.glob("sub-*/anat/*_T1w.nii.gz")]) == 4 and not run.failures


def test_a_second_run_adds_only_what_is_new(run):
    at_once, out = files(run("at_once")), run(render=RENDER[:1])
    kept = out / "sub-01" / "anat" / "sub-01_acq-one_T1w.nii.gz"
    before = kept.stat().st_mtime_ns
    run()
    assert files(out) == at_once and kept.stat().st_mtime_ns == before
    (out / "sub-01" / "anat" / "sub-01_manifest.json").unlink()
    picture = out / "sub-02" / "anat" / "sub-02_overview.png"
    drawn = picture.stat().st_mtime_ns
    run()
    assert files(out) == at_once and picture.stat().st_mtime_ns == drawn


def test_changed_maps_and_parameters_are_refused_unless_overwritten(run, maps):
    out = run()
    before = files(out)
    longer = [RENDER[0], {**RENDER[1], "EchoTime": 0.1}]
    assert "render.two.EchoTime 0.09 (now 0.1)" in refusal(run, render=longer)
    write_maps(maps, {"T1map": 1.1 * quantities()["T1map"]})
    assert "inputs.bids:raw:sub-01/anat/sub-01_T1map.nii.gz" in refusal(run)
    assert files(out) == before
    run(overwrite=True)
    changed = {name for name, content in files(out).items() if content != before[name]}
    assert {name.split("/")[0] for name in changed} == {"sub-01"}


def test_one_bad_subject_and_one_without_maps_leave_one_result_and_exit_code_1(maps, tmp_path):
    write_maps(maps, {"T1map": 1000 * quantities()["T1map"]})
    (maps / "sub-03" / "anat").mkdir(parents=True)
    config = ("--config_file", str(ROOT / "configs" / "render.json"))
    process = bundle_run(*config, "--dataset_dir", str(maps), "--output_dir", "out", cwd=tmp_path)
    assert process.returncode == 1, process.stderr
    assert last_line(process).startswith("error: 2 of 3: found no result; ")
    assert "sub-01_T1map.nii.gz: found the median 1330; give seconds" in process.stderr
    assert "sub-03/anat: found no PDmap, T1map, T2map of equal entities (maps there: none)" in process.stderr
    assert "Traceback" not in process.stderr
    assert [path.name for path in tmp_path.rglob("*_manifest.json")] == ["sub-02_manifest.json"]


def test_a_map_left_out_is_named(run, maps, caplog):
    write_maps(maps, {"T1map": 2 * quantities()["T1map"]}, acq="other")
    with caplog.at_level(logging.WARNING):
        run()
    assert "sub-01: left out sub-01_acq-other_T1map.nii.gz" in caplog.text and not run.failures


def test_entities_of_the_maps_are_kept_and_standard_deviations_passed_over(run, tmp_path):
    write_maps(tmp_path / "mine", quantities(), "07", "b", acq="fit", space="mni")
    write_maps(tmp_path / "mine", quantities(), "07", "b", desc="sd")
    out = run(dataset_dir=str(tmp_path / "mine"))
    assert (out / "sub-07" / "ses-b" / "anat" / "sub-07_ses-b_acq-one_space-mni_T1w.nii.gz").exists()


def test_optional_maps_are_used_and_named(run, maps):
    t2_star = np.where(quantities()["PDmap"] > 0, np.float32(0.04), 0)
    b1 = np.linspace(0.7, 1.3, 24, dtype=np.float32)[:, None, None] * np.ones((24, 20, 3), np.float32)
    write_maps(maps, {"T2starmap": t2_star})
    write_image(maps / "sub-01" / "fmap" / "sub-01_TB1map.nii.gz", b1, AFFINE)
    out = run(render=[GRE, RENDER[1]])
    both, none = (out / name / "anat" / f"{name}_acq-gre_T2starw.nii.gz" for name in ("sub-01", "sub-02"))
    values = np.stack([*quantities().values()])
    for path, options in ((both, {"t2_star": t2_star, "b1": b1}), (none, {})):
        expected = render(Maps(values, None, values[0] > 0, AFFINE, options), load_render([GRE]))[0]
        np.testing.assert_array_equal(data(path), expected)
    assert (np.abs(data(both) - data(none))[values[0] > 0] > 1e-3).mean() > 0.9
    assert sources(both) == ["PDmap", "T1map", "T2map", "T2starmap", "TB1map"]
    for assumed in ("T2* is taken for 0.63 T2.", "B1+ is taken for nominal."):
        assert assumed in sidecar(none)["Description"] and assumed not in sidecar(both)["Description"]
    spin_echo = out / "sub-01" / "anat" / "sub-01_acq-two_T2w.nii.gz"
    assert sources(spin_echo) == ["PDmap", "T1map", "T2map", "TB1map"]


def test_maps_that_contradict_each_other_are_refused(run, maps):
    t1, t2 = quantities()["T1map"], quantities()["T2map"]
    write_maps(maps, {"T1map": t2, "T2map": t1})
    run()
    assert "exchanged" in str(run.failures["sub-01"]) and "sub-02" not in run.failures
    write_maps(maps, {"T1map": t1, "T2map": t2, "T2starmap": 0 * t2})
    run("other")
    assert "leave this map out" in str(run.failures["sub-01"])


def test_a_map_may_be_uniform(run, tmp_path):
    write_maps(tmp_path / "mine", {**quantities(), "PDmap": np.ones_like(quantities()["PDmap"])}, "07")
    run(dataset_dir=str(tmp_path / "mine"))
    assert not run.failures


def test_the_published_equations_are_an_option(run):
    exact, paper = run("exact"), run("paper", equations="paper")
    name = "sub-01/anat/sub-01_acq-one_T1w.nii.gz"
    assert (sidecar(exact / name)["SignalModel"], sidecar(paper / name)["SignalModel"]) == ("mprage", "paper_mprage")
    wm_gm = [data(out / name)[WM] / data(out / name)[GM] for out in (exact, paper)]
    assert wm_gm[1] > 1.2 * wm_gm[0], "the published equation overstates the contrast of white and grey matter"
    assert "render.one." in refusal(run, "exact", equations="paper")
    assert "equations" in refusal(run, "new", equations="best")
    assert "spoiled_gradient_echo" in refusal(run, "new", equations="paper", render=[GRE])


def test_noise_is_that_of_a_magnitude_and_the_same_in_any_run(run):
    name, noise = "sub-02/anat/sub-02_acq-two_T2w.nii.gz", "snr=20,coils=4"
    clean, noisy = run("clean") / name, run("noisy", noise=noise) / name
    truth, image = data(clean), data(noisy)
    head, sigma = truth > 0, truth[truth > 0].mean() / 20
    assert (image - truth)[truth > 10 * sigma].std() == pytest.approx(sigma, rel=0.1)
    # Air in four coils, whose sum of squares has eight degrees of freedom.
    assert image[~head].mean() == pytest.approx(2.74 * sigma, rel=0.05)
    assert "with noise, SNR 20, 4 coils." in sidecar(noisy)["Description"]
    assert "without noise." in sidecar(clean)["Description"]
    assert np.array_equal(image, data(run("again", noise=noise, render=RENDER[1:]) / name))
    assert not np.array_equal(image, data(run("other", noise=noise, seed=1) / name))
    assert not np.array_equal(image - truth, data(Path(str(noisy).replace("02", "01"))) - truth), "of the other subject"
    assert "settings.noise" in refusal(run, "noisy", noise=30)


def test_images_with_a_sign_are_ratios_and_stay_free_of_noise(run):
    uni = {"name": "uni", "suffix": "UNIT1", "sequence": "mp2rage", "EchoTime": 0.003, "RepetitionTime": 5.0}
    uni |= {"InversionTime": [0.7, 2.5], "FlipAngle": [4, 5], "RepetitionTimeExcitation": 0.007, "PartialFourier": 1}
    name = "sub-01/anat/sub-01_acq-uni_UNIT1.nii.gz"
    clean, noisy = (run(output, render=[uni], noise=noise) / name for output, noise in (("a", None), ("b", 20)))
    assert np.array_equal(data(clean), data(noisy)) and "without noise" in sidecar(noisy)["Description"]


def test_presets(run, tmp_path):
    for preset in ("fig3", "clinical", "sweep"):
        out = run(preset, render=preset)
        names = {f"sub-01_acq-{r.name}_{r.suffix}.nii.gz" for r in load_render(preset)}
        assert {path.name for path in (out / "sub-01").rglob("*.nii.gz")} == names


IMPOSSIBLE = {"name": "fig3b", "suffix": "T1w", "EchoTime": 0.003, "RepetitionTime": 0.1, "InversionTime": 1.0}


@pytest.mark.parametrize(
    "overrides,message",
    [
        ({"dataset_dir": None}, "dataset_dir: found no folder; name one with --dataset_dir"),
        ({"dataset_dir": "absent"}, "absent: found no such folder"),
        ({"render": []}, "render: found an empty list"),
        ({"render": "fig4"}, "use fig3"),
        ({"render": [IMPOSSIBLE]}, "fig3b: InversionTime: found TI 1 s ≥ TR 0.1 s"),
    ],
)
def test_what_is_wrong_as_a_whole_is_refused_before_anything_is_written(run, tmp_path, overrides, message):
    assert message in refusal(run, **overrides)
    assert not (tmp_path / "out").exists()


def test_folders_without_maps_and_without_usable_maps_are_refused(run, maps, tmp_path, tiny_study):
    assert "found no PDmap, T1map, T2map in sub-*" in refusal(run, dataset_dir=str(tiny_study))
    for name in ("sub-01", "sub-02"):
        (maps / name / "anat" / f"{name}_PDmap.nii.gz").unlink()
    message = refusal(run)
    assert "sub-01/anat" in message and "sub-02/anat" in message
    assert not (tmp_path / "out").exists()


def test_building_the_config_reads_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workflow("render", dataset_dir="absent", output_dir="out").parser.get_parsed_content("evaluator")
    assert not [*tmp_path.iterdir()]

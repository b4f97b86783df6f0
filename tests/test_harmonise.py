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

"""Harmonisation: what the intensities of tissues are, how spreads are compared, and the report of a run."""

import json

import numpy as np
import pandas as pd
import pytest

from scripts.acquisition import load_render
from scripts.bids import Session, output_path, write_image
from scripts.commands.study.harmonise.harmonisation import CHART, PICTURE, REPORT, SESSIONS, SPREADS
from scripts.commands.study.harmonise.intensities import (
    HARMONISED,
    Image,
    brain_of,
    contrast_deviations,
    measure,
    read_labels,
    scaled,
)
from scripts.commands.study.harmonise.notes import Scanned, notes
from scripts.commands.study.harmonise.page import page
from scripts.commands.study.harmonise.spread import overall, per_session, spreads, within_subjects
from scripts.commands.study.products import render
from scripts.errors import UserError
from scripts.estimate.maps import Maps
from scripts.tissue import region_numbers

from .studies import INFER, RENDER, SHAPE, SIDECARS, files, workflow, write_study, write_weights
from .test_inference import user_error

NUMBERS = region_numbers("WM", "GM", "CSF")
LABELS = np.zeros(SHAPE, np.uint8)
LABELS[4:8], LABELS[8:12], LABELS[12:14] = NUMBERS.values()


def rows(*medians: tuple[str, float, float]) -> pd.DataFrame:
    """Medians of white matter in a T1w of sessions, acquired and harmonised."""
    stages = [(name, stage, value) for name, *both in medians for stage, value in zip(("acquired", "harmonised"), both)]
    table = pd.DataFrame(stages, columns=["session", "stage", "median"])
    return table.assign(image=table["stage"], suffix="T1w", tissue="WM", voxels=1, sd=np.nan)


def test_intensities_do_not_depend_on_the_unit_of_a_scan_and_span_0_to_1():
    image = np.random.default_rng(0).gamma(4, 1, SHAPE).astype(np.float32)
    mask = LABELS > 0
    first, bright = scaled(image, mask, np.eye(4))
    again, ten_times = scaled(10 * image, mask, np.eye(4))
    np.testing.assert_allclose(first, again, rtol=1e-5, atol=1e-6)
    assert ten_times == pytest.approx(10 * bright, rel=1e-5)
    assert first.min() == pytest.approx(0, abs=1e-6) and np.percentile(first[mask], 99.5) == pytest.approx(1, rel=1e-5)


def test_the_median_is_that_of_the_voxels_of_a_tissue():
    array = LABELS * 0.25
    table = measure([Image("T1w", "T1w", HARMONISED, array)], LABELS, {("T1w", "GM"): 0.1}).set_index("tissue")
    assert [*table["median"]] == [0.75, 0.5, 0.25] and [*table["voxels"]] == [240 * 4, 240 * 4, 240 * 2]
    assert table["sd"]["GM"] == 0.1 and np.isnan(table["sd"]["WM"])


def test_the_deviation_of_a_contrast_is_that_of_maps_drawn_around_the_estimate():
    [request] = load_render(RENDER[1:])
    values = np.tile(np.array([0.7, 0.83, 0.08], np.float32)[:, None], (1, 4000))
    sd = np.full_like(values, 0.03)
    one, labels = Maps(values, sd, np.ones(4000, bool), np.eye(4)), np.full(4000, region_numbers("WM")["WM"])
    found = contrast_deviations(one, labels, [request], [1.0])["two", "WM"]
    drawn = values * np.exp(sd * np.random.default_rng(0).standard_normal(values.shape)).astype(np.float32)
    assert found == pytest.approx(render(one._replace(values=drawn), [request])[0].std(), rel=0.05)


def test_a_spread_compares_the_sessions_that_have_both_images():
    table = rows(("sub-1", 0.4, 0.60), ("sub-2", 0.6, 0.62), ("sub-3", np.nan, 0.9))
    [found] = spreads(per_session(table)).to_dict("records")
    assert found["sessions"] == 2 and found["shrinks"] == pytest.approx(10)
    assert found["acquired"] == pytest.approx(0.2 / 2**0.5) and np.isnan(found["within_acquired"])


def test_differences_between_people_do_not_count_within_subjects():
    table = rows(("sub-1_ses-a", 0.4, 0.60), ("sub-1_ses-b", 0.6, 0.62), ("sub-2_ses-a", 0.5, 0.80))
    [found] = spreads(per_session(table)).to_dict("records")
    assert found["within_acquired"] == pytest.approx(0.2 / 2**0.5)
    assert found["within_harmonised"] == pytest.approx(0.02 / 2**0.5) and found["harmonised"] > 0.1
    assert np.isnan(within_subjects(pd.Series([1.0, 2.0]), pd.Series(["a", "b"])))


def test_the_ratio_of_grey_to_white_matter_is_that_of_each_image_and_fluid_does_not_count_overall():
    parts = [rows(("s1", 0.8, 0.8), ("s2", 0.4, 0.7)), rows(("s1", 0.4, 0.4), ("s2", 0.1, 0.35)).assign(tissue="GM")]
    parts.append(rows(("s1", 0.1, 0.0), ("s2", 0.2, 0.1)).assign(tissue="CSF"))
    medians = per_session(pd.concat(parts))
    ratios = medians[medians["tissue"] == "GM/WM"].set_index("session")
    assert ratios["acquired"].tolist() == [0.5, 0.25] and ratios["harmonised"].tolist() == [0.5, 0.5]
    found = spreads(medians)
    known = found.set_index("tissue")["shrinks"]
    assert np.isnan(known["GM/WM"])  # its spread is gone
    assert overall(found) == pytest.approx((known["WM"] * known["GM"]) ** 0.5)


@pytest.fixture
def harmonise(tmp_path):
    """Harmonises three tiny subjects; the second has no FLAIR, the third a time in milliseconds."""
    scans, weights = write_study(tmp_path / "in", subjects=3), write_weights(tmp_path / "weights")["vae"]
    for path in (scans / "sub-02" / "anat").glob("*_FLAIR.*"):
        path.unlink()
    (scans / "sub-03" / "anat" / "sub-03_T1w.json").write_text(json.dumps({**SIDECARS["T1w"], "EchoTime": 3}))

    def run(output="out", **options):
        given = {"dataset_dir": str(scans), "weights": weights, "threads": 1, "to": "oasis3", **INFER, **options}
        made = workflow(
            "inference", "harmonise", output_dir=str(tmp_path / output), device="$torch.device('cpu')", **given
        )
        made.run()
        run.study = made.parser.get_parsed_content("study")
        return tmp_path / output

    return run


def test_a_run_renders_all_at_one_protocol_and_reports(harmonise, estimates):
    out = harmonise()
    for subject in ("01", "02"):
        anat = out / f"sub-{subject}" / "anat"
        assert {path.name for path in anat.glob("*acq-oasis3*.nii.gz")} == {
            f"sub-{subject}_acq-oasis3{suffix}_{suffix}.nii.gz" for suffix in ("T1w", "T2w", "FLAIR")
        }
        table = pd.read_csv(anat / f"sub-{subject}_intensities.tsv", sep="\t")
        assert len(table) == 3 * (3 + (3 if subject == "01" else 2))
    spread, page = pd.read_csv(out / SPREADS, sep="\t"), (out / REPORT).read_text()
    assert spread["suffix"].unique().tolist() == ["T1w", "T2w", "FLAIR"]
    assert "| sub-03 | " in page.partition("## Without a result")[2] and "EchoTime" in page
    assert "2 sessions at oasis3" in page and "FLAIR was not scanned and follows from the other scans." in page
    assert "T1w: FlipAngle" in page  # which no sidecar states
    assert {*pd.read_csv(out / SESSIONS, sep="\t")["session"]} == {"sub-01", "sub-02"}
    assert all((out / name).read_bytes()[1:4] == b"PNG" for name in (PICTURE, CHART))
    before = files(out)
    estimates.clear()
    assert files(harmonise()) == before and not estimates
    harmonise(to="hcp_ya")
    assert not estimates and "at hcp_ya" in (out / REPORT).read_text()
    assert {*pd.read_csv(out / SPREADS, sep="\t")["suffix"]} == {"T1w", "T2w"}
    harmonise()  # all is there but the intensities
    assert not estimates and (out / SPREADS).read_bytes() == before[SPREADS]


def test_shards_are_reported_on_together(harmonise, capsys):
    out = harmonise(shard="0/2")
    assert not (out / REPORT).exists() and "run the command without --shard" in capsys.readouterr().out
    harmonise()
    assert "2 sessions at oasis3" in (out / REPORT).read_text()


def test_a_spread_that_grows_is_said_to_grow():
    found = spreads(per_session(rows(("sub-1", 0.5, 0.5), ("sub-2", 0.6, 0.7))))
    text = page("x", [], found, {}, {}, {}, PICTURE, CHART)
    assert "their ratio the spread grows 2.0-fold" in text and "| T1w | WM | 2 | 7.1 | 14.1 | 0.5-fold |" in text


def test_another_field_strength_is_said():
    [request] = load_render([{**SIDECARS["T1w"], "name": "x", "suffix": "T1w", "MagneticFieldStrength": 3}])
    uri = "bids:raw:sub-01/anat/sub-01_T1w.nii.gz"
    for field, said in ((1.5, ["Scanned at 1.5 T, rendered for 3 T: T1 and T2 stay those of 1.5 T."]), (2.9, [])):
        about = {"Acquisitions": {uri: {"MagneticFieldStrength": field}}}
        assert notes(Scanned(Session("01", None, ()), about, rows(("sub-01", 0.5, 0.5))), [request]) == said


@pytest.mark.parametrize("options, said", [({"fractions": False}, "fractions: found false"), ({"to": []}, "to: found")])
def test_what_leaves_nothing_to_measure_is_refused_before_any_work(harmonise, tmp_path, options, said):
    with pytest.raises((RuntimeError, UserError)) as caught:
        harmonise(**options)
    assert said in user_error(caught) and not (tmp_path / "out").exists()


def test_a_session_without_known_tissue_is_said_to_be_unmeasured(tmp_path):
    maps = Maps(np.ones((3, *SHAPE)), None, LABELS > 0, np.eye(4))
    labels = read_labels((tmp_path,), Session("01", None, ()), maps)
    table = measure([Image("x", "T1w", HARMONISED, np.ones(SHAPE))], labels)
    assert brain_of(labels, LABELS > 0).sum() == (LABELS > 0).sum() and table["median"].isna().all()
    assert contrast_deviations(maps, labels, [], []) == {}
    found = notes(Scanned(Session("01", None, ()), {}, table), [])
    assert found == ["No tissue was found, so nothing was measured."]


def test_what_looks_like_tissue_in_the_scalp_is_not_measured(tmp_path):
    head, labels = np.zeros((60, 60, 12), bool), np.zeros((60, 60, 12), np.uint8)
    head[2:-2, 2:-2], labels[2:-2, 2:-2], labels[16:-16, 16:-16] = True, NUMBERS["GM"], NUMBERS["WM"]
    maps = Maps(np.ones((3, *head.shape)), None, head, np.diag([2.0, 2.0, 5.0, 1.0]))
    write_image(output_path(tmp_path, Session("01", None, ()), "dseg"), labels, maps.affine, {})
    found = read_labels((tmp_path,), Session("01", None, ()), maps)
    assert not found[:10].any() and (found[16:-16, 16:-16] == labels[16:-16, 16:-16]).all()
    assert (found[30, 30] == NUMBERS["WM"]).all(), "the ends of the field of view are no surface"


def test_sessions_without_any_tissue_end_in_a_sentence(harmonise, monkeypatch, capsys):
    monkeypatch.setattr("scripts.commands.study.harmonise.harmonisation.read_labels", lambda *_: np.zeros(SHAPE))
    out = harmonise()
    assert not (out / REPORT).exists() and "no tissue was found in any session" in capsys.readouterr().out
    assert (out / "sub-01" / "anat" / "sub-01_intensities.tsv").exists()

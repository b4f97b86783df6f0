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

"""The protocol report: its sentences follow from the bounds, its files and its errors."""

import csv
import json
from math import exp
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigWorkflow

from scripts.acquisition import Acquisition, from_sidecar, load_protocol
from scripts.bids import Session, output_path, write_image
from scripts.commands.protocol_report import Assumptions, Protocol, ProtocolReport, analyse, load_candidates
from scripts.commands.protocol_report.analysis import ALONE, ANCHORS, BEST, KNOWN, PRIOR
from scripts.commands.protocol_report.candidates import near_duplicate
from scripts.commands.protocol_report.sentences import (
    bias_sentences,
    count,
    free_sentences,
    join,
    percent,
    tissue_sentences,
)
from scripts.commands.protocol_report.text import describe, report
from scripts.errors import UserError, find_user_error
from scripts.tissue import MAPS

from .studies import ROOT

TRAIN = {"echo_train_length": 282, "echo_spacing": 0.0035}
READOUT = {"echo_train_length": 176, "echo_spacing": 0.0073, "echoes_before_centre": 88}
MPRAGE = Acquisition("mprage", 0.00316, 2.4, 1.0, 8, **READOUT)
LONG = Acquisition("turbo_spin_echo", 0.12, 3.2, **TRAIN)
FLAIR = Acquisition("inversion_recovery", 0.091, 9.0, 2.5)
PDW = Acquisition("turbo_spin_echo", 0.012, 3.2, echo_train_length=8, echo_spacing=0.012)
SCANS = {"T1w": MPRAGE, "T2w": LONG, "FLAIR": FLAIR, "PDw": PDW}
SIDECAR = {"EchoTime": 0.1, "RepetitionTime": 4.0, "EchoTrainLength": 16, "EchoSpacing": 0.0125}


def findings(*suffixes: str, gain_sd: float = 0.05, field_strength: float = 3.0, gains=None, candidates=()):
    protocol = Protocol("some", suffixes, tuple(SCANS[s] for s in suffixes), gains or tuple(range(len(suffixes))))
    return analyse(protocol, Assumptions(field_strength, 50, gain_sd, (0.15, 0.35, 0.35)), candidates)


@pytest.fixture(scope="module")
def three():
    """T1w, T2w of a plain train and FLAIR: nearly redundant in white matter."""
    return findings("T1w", "T2w", "FLAIR", gain_sd=0.0, candidates=load_candidates())


def write_scans(folder: Path, subject: str, **sidecars: dict) -> None:
    for name, sidecar in sidecars.items():
        *entities, suffix = name.split("_")
        path = output_path(folder, Session(subject, None, ()), suffix, **dict(e.split("-") for e in entities))
        write_image(path, np.ones((2, 2, 2), np.float32), np.eye(4), sidecar)


@pytest.mark.parametrize(
    "sd, words", [(0.54, "±54 %"), (0.004, "±0.4 %"), (0.0096, "±1 %"), (1.3, "worse than ±100 %")]
)
def test_percentages(sd, words):
    assert percent(sd) == words


def test_words():
    assert (join(["a"]), join(["a", "b"]), join(["a", "b", "c"])) == ("a", "a and b", "a, b and c")
    assert (count(1, "scan"), count(3, "scan"), count(12, "scan")) == ("one scan", "three scans", "12 scans")


def test_what_cannot_be_separated_is_said_with_its_numbers(three):
    [first, *_] = tissue_sentences(three, "WM")
    sd = {case: three.bounds[case]["WM"].sd.tolist() for case in (ALONE, PRIOR, BEST)}
    alone, prior, best = (join([percent(value) for value in sd[case]]) for case in (ALONE, PRIOR, BEST))
    assert first.startswith(f"These three scans cannot separate PD, T1 and T2 in white matter: {alone}; ")
    assert f"with the prior {prior}" in first
    assert f"adding {three.ranking[0].candidate.label} would bring that to" in first
    assert join(list(dict.fromkeys(best.replace(" and ", ", ").split(", ")))) in first


def test_doubt_about_the_scales_is_told_apart_from_noise(three):
    unsure = findings("T1w", "T2w", "FLAIR", gain_sd=0.1)
    assert "even if the scales of the scans were known exactly" in tissue_sentences(unsure, "WM")[0]
    assert not any("known exactly" in sentence for sentence in tissue_sentences(three, "WM"))


def test_pd_that_stays_the_prior_is_said_to_be():
    assert "With the prior, PD is little more than the prior itself (±15 %)." in tissue_sentences(
        findings("T1w", "T2w", "FLAIR"), "WM"
    )


def test_t2_of_csf_comes_from_the_prior(three):
    [sentence] = [one for one in tissue_sentences(three, "CSF") if one.startswith("T2 ")]
    assert sentence.startswith("T2 of cerebrospinal fluid comes from the prior: the scans alone leave it at worse than")


def test_a_pd_weighted_echo_makes_everything_well_determined():
    four = findings("T1w", "T2w", "FLAIR", "PDw", gain_sd=0.0)
    values = join([percent(value) for value in four.bounds[ALONE]["WM"].sd.tolist()])
    assert tissue_sentences(four, "WM") == [
        f"PD, T1 and T2 of white matter are well determined by the scans alone: {values}."
    ]
    assert four.bounds[KNOWN]["WM"].sd.max() < 0.05


def test_one_scan_cannot_separate_pd_from_t1():
    one = findings("T1w")
    assert tissue_sentences(one, "WM")[0].startswith(
        "This scan cannot separate PD from T1 in white matter: worse than ±100 %; with the prior ±14 %"
    )
    assert free_sentences(one)[0].startswith("Even with known scales, two combinations of PD, T1 and T2 of every voxel")
    assert one.bias == {} and bias_sentences(one) == []


@pytest.mark.parametrize("gains, bullets", [((0, 1, 2, 3), 2), ((0, 1, 2, 1), 1)])
def test_free_directions_in_words(gains, bullets):
    sentences = free_sentences(findings("T1w", "T2w", "FLAIR", "PDw", gains=gains))
    assert sentences[0].startswith(f"Where the scales are unknown, {count(bullets, 'change')} of the maps")
    assert sum(sentence.startswith("- ") for sentence in sentences) == bullets
    assert any("1/T2 is not among them" in sentence for sentence in sentences) == (bullets == 1)


def test_three_scans_leave_nothing_to_check(three):
    assert three.free == (3, 0, True, True)
    assert any("a residual of zero certifies nothing" in sentence for sentence in free_sentences(three))


def test_ranking_is_by_the_mean_shrinkage_of_the_anchors(three):
    best = three.ranking[0]
    ratios = [best.bounds[name].sd / three.bounds[PRIOR][name].sd for name in ANCHORS]
    assert best.improvement == pytest.approx(1 - exp(sum(ratio.log().sum().item() for ratio in ratios) / 6))
    shares = [ranked.improvement for ranked in three.ranking]
    assert shares == sorted(shares, reverse=True) and shares[-1] >= 0
    assert three.bounds[BEST] == best.bounds


def test_near_duplicates_are_not_offered(three):
    assert {"FLAIR", "MPRAGE"} <= {candidate.name for candidate in three.duplicates}
    assert {"PDw12", "DualEcho"} <= {ranked.candidate.name for ranked in three.ranking}
    four = findings("T1w", "T2w", "FLAIR", "PDw", candidates=load_candidates())
    assert "PDw12" in {candidate.name for candidate in four.duplicates}
    [dual] = [candidate for candidate in load_candidates() if candidate.name == "DualEcho"]
    assert not near_duplicate(dual, dual.acquisitions, next(iter(three.tissues.values()))[None])


def test_seven_tesla_has_no_csf():
    seven = findings("T1w", "T2w", "FLAIR", field_strength=7.0)
    assert [*seven.tissues] == ["WM", "GM"]
    assert "erebrospinal" not in report([seven])


def test_an_assumed_equivalent_echo_time_is_named():
    table = load_protocol("oasis3")
    scans = tuple(from_sidecar(suffix, {}, suffix, table) for suffix in table)
    one = analyse(
        Protocol("oasis3", tuple(table), scans, (0, 1, 2)), Assumptions(3.0, 50, 0.05, (0.15, 0.35, 0.35)), []
    )
    assert one.ranking == () and BEST not in one.bounds
    [sentence] = [line for line in bias_sentences(one) if "contrast-equivalent" in line]
    assert f"of the T2w, {1000 * scans[1].te_equivalent:.0f} ms, is assumed" in sentence
    assert "equivalent TE" in describe(scans[1], ("assumed",)) and "TE 0.455 s" in describe(scans[1])


def test_files_of_a_named_protocol(tmp_path, capsys):
    [one] = ProtocolReport(protocol="ukb", output_dir=tmp_path).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bounds.tsv",
        "candidates.tsv",
        "protocol_report.png",
        "report.md",
    ]
    assert (tmp_path / "report.md").read_text(encoding="utf-8") in capsys.readouterr().out
    assert (tmp_path / "protocol_report.png").read_bytes().startswith(b"\x89PNG")
    rows = [*csv.DictReader((tmp_path / "bounds.tsv").open(encoding="utf-8"), delimiter="\t")]
    assert len(rows) == 3 * len(one.tissues) and {row["quantity"] for row in rows} == set(MAPS)
    found = {(row["tissue"], row["quantity"]): float(row["sd_with_prior"]) for row in rows}
    assert found["GM", "T2"] == pytest.approx(one.bounds[PRIOR]["GM"].sd[2].item(), rel=1e-3)
    ranked = [*csv.DictReader((tmp_path / "candidates.tsv").open(encoding="utf-8"), delimiter="\t")]
    assert [row["candidate"] for row in ranked][0] == one.ranking[0].candidate.name
    assert len(ranked) == len(load_candidates())


def test_a_folder_gives_its_protocols_the_most_frequent_first(tmp_path, capsys):
    data = tmp_path / "data"
    for subject in ("01", "03", "04"):
        write_scans(data, subject, T2w=SIDECAR, FLAIR=SIDECAR | {"RepetitionTime": 9.0, "InversionTime": 2.5})
    echoes = {f"echo-{n}_T2w": SIDECAR | {"EchoTime": te} for n, te in ((1, 0.0125), (2, 0.1))}
    write_scans(data, "02", **echoes)
    write_scans(data, "05", T2w={"EchoTime": 0.1})
    first, second = ProtocolReport(str(data), output_dir=tmp_path / "out").run()
    assert first.protocol.suffixes == ("T2w", "FLAIR") and first.protocol.gains == (0, 1)
    assert first.protocol.notes == ("the protocol of 3 sessions: sub-01, sub-03, sub-04",)
    assert second.protocol.gains == (0, 0) and "share their scale" in second.protocol.notes[1]
    assert second.bounds[ALONE]["WM"].sd[2] < 0.1 < first.bounds[ALONE]["WM"].sd[2]
    assert (tmp_path / "out" / "protocol_report_2.png").exists()
    assert "left out sub-05" in capsys.readouterr().out


def test_the_field_strength_is_that_of_the_scans(tmp_path):
    write_scans(tmp_path, "01", T2w=SIDECAR | {"MagneticFieldStrength": 1.494})
    [one] = ProtocolReport(str(tmp_path), output_dir=tmp_path / "out").run()
    assert one.tissues["WM"][1].item() == pytest.approx(0.646)
    [one] = ProtocolReport(str(tmp_path), output_dir=tmp_path / "out", field_strength=7).run()
    assert one.tissues["WM"][1].item() == pytest.approx(1.126)


@pytest.mark.parametrize(
    "options, where",
    [
        ({}, "protocol"),
        ({"protocol": "oasis"}, "protocol"),
        ({"protocol": "ukb", "gain_sd": -0.1}, "gain_sd"),
        ({"protocol": "ukb", "gain_sd": "much"}, "gain_sd"),
        ({"protocol": "ukb", "snr": 0}, "snr"),
        ({"protocol": "ukb", "prior_sd": [0.1, 0.1]}, "prior_sd"),
        ({"protocol": "ukb", "field_strength": 0.55}, "field_strength"),
        ({"protocol": "ukb", "field_strength": "three"}, "field_strength"),
        ({"protocol": "ukb", "equations": "best"}, "equations"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, options, where):
    with pytest.raises(UserError) as error:
        ProtocolReport(output_dir=tmp_path / "out", **options).run()
    assert where in str(error.value.where) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", [{}, {"candidates": [{"name": "x"}]}, {"candidates": [{"name": "x", "label": "y"}]}]
)
def test_unusable_candidates_are_refused(tmp_path, content):
    path = tmp_path / "candidates.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError):
        load_candidates(path)


def test_the_config_builds_nothing_on_disk_and_refuses_in_one_error(tmp_path):
    workflow = ConfigWorkflow(
        str(ROOT / "configs/protocol_report.json"), workflow_type="infer", logging_file=False, output_dir=str(tmp_path)
    )
    workflow.initialize()
    with pytest.raises(Exception) as error:
        workflow.run()
    assert find_user_error(error.value).where == "protocol"
    assert [*tmp_path.iterdir()] == []

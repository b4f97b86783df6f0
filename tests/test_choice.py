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

"""The scans choose among named protocols; shares of tissues as files."""

import json
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from scripts.acquisition import AUTO, NAMES, UNKNOWN, Acquisition, load_protocol
from scripts.bids import Session, resolve_all
from scripts.bids.records import Contrast, has_thick_slices, resolve_contrast
from scripts.commands.study.products import write_maps
from scripts.commands.study.subjects import SubjectStep
from scripts.errors import UserError
from scripts.estimate import Maps
from scripts.estimate.choice import ROUTINE, WORST, choose
from scripts.estimate.posterior import CLASSES
from scripts.estimate.scans import Scans
from scripts.tissue import REGIONS

GIVEN = {"EchoTime": 0.1, "RepetitionTime": 5.0, "EchoTrainLength": 12, "EchoSpacing": 0.01, "FlipAngle": 90}


def contrast(tmp_path, suffix: str = "T2w", sidecar: dict | None = None) -> Contrast:
    return Contrast(tmp_path / f"sub-1_{suffix}.nii.gz", suffix, {}, sidecar or {})


def test_auto_keeps_every_protocol_that_describes_the_scan(tmp_path):
    found = resolve_contrast(contrast(tmp_path), AUTO)
    names, options = zip(*found.alternatives)
    assert {"oasis3", "clinical_2d"} <= {*names}
    rows = [tuple(one.to_row().tolist()) for one in options]
    assert len({*rows}) == len(rows) and rows[0] == tuple(found.to_row().tolist())


def test_auto_leaves_a_scan_alone_whose_sidecar_says_enough(tmp_path):
    told = resolve_contrast(contrast(tmp_path, sidecar=GIVEN), AUTO)
    assert told == resolve_contrast(contrast(tmp_path, sidecar=GIVEN)) and not told.alternatives


def test_auto_takes_a_stated_field_into_every_alternative(tmp_path):
    found = resolve_contrast(contrast(tmp_path, sidecar={"EchoTime": 0.093}), AUTO)
    assert all(one.te == pytest.approx(0.093) for _, one in found.alternatives)


@pytest.mark.parametrize("suffix, volume", [("T1w", "mprage"), ("T2w", "vfa_turbo_spin_echo")])
def test_thick_slices_are_of_no_sequence_that_excites_a_volume(tmp_path, suffix, volume):
    image = contrast(tmp_path, suffix)
    for edges, thick in (((0.9, 0.9, 3.0), True), ((3.0, 0.9, 0.9), True), ((1.0, 1.0, 1.2), False)):
        nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.diag([*edges, 1.0])), image.path)
        assert has_thick_slices(image.path) == thick
        sequences = {one.sequence for _, one in resolve_contrast(image, AUTO).alternatives}
        assert sequences and (volume in sequences) != thick


def test_a_scan_that_no_protocol_describes_is_unknown(tmp_path):
    assert resolve_contrast(contrast(tmp_path, "T2starw"), AUTO).sequence == UNKNOWN


def test_auto_refuses_what_is_impossible(tmp_path):
    with pytest.raises(UserError, match="EchoTime"):
        resolve_contrast(contrast(tmp_path, sidecar={"EchoTime": -1}), AUTO)


class Judge:
    """Explains a head the better, the nearer the echo times are to some."""

    def __init__(self, wanted: list[float], misfit: float = 0.1) -> None:
        self.wanted, self.misfit, self.asked = wanted, misfit, 0

    def explain(self, start, image, rows, mask, gains):
        self.asked += 1
        te = rows[:, 1]
        return -float((te - torch.tensor(self.wanted)).abs().sum()), torch.full((len(rows),), self.misfit)


def options(*times: float) -> Acquisition:
    every = [Acquisition("spin_echo", te=te, tr=1.0) for te in times]
    named = tuple((f"p{number}", one) for number, one in enumerate(every))
    return Acquisition("spin_echo", te=times[0], tr=1.0, alternatives=named)


def scans(count: int) -> Scans:
    return Scans(
        torch.zeros(1, count, 4, 4, 1), torch.tensor([0.0, 1.0]).expand(1, count, 2), torch.zeros(1, count, 3),
        [*range(count)], torch.ones(1, 1, 4, 4, 1, dtype=torch.bool),
    )  # fmt: skip


@pytest.mark.parametrize("many", [2, 6])
def test_the_largest_evidence_is_chosen_whether_all_or_some_combinations_are_tried(many):
    given = [options(*(0.01 * n for n in range(1, many + 1))), options(*(0.02 * n for n in range(1, many + 1)))]
    judge = Judge([0.02, 0.04])
    chosen, about = choose(judge, None, scans(2), given, ["a", "b"])
    assert [one.te for one in chosen] == [0.02, 0.04] and not any(one.alternatives for one in chosen)
    told = about["ProtocolByEvidence"]
    assert told["a"]["Chosen"] == told["b"]["Chosen"] == "p1"
    assert told["a"]["RunnerUp"] in ("p0", "p2") and told["a"]["LogOddsOverRunnerUp"] >= 0
    assert judge.asked <= many**2


@pytest.mark.parametrize("apart,chosen", [(0.3, "clinical_2d"), (1.7, "p0")])
def test_of_protocols_that_explain_a_scan_alike_that_of_clinical_routine_is_chosen(apart, chosen):
    assert set(ROUTINE) <= set(NAMES)
    given = options(0.1, 0.1 + apart)
    given = replace(given, alternatives=(given.alternatives[0], ("clinical_2d", given.alternatives[1][1])))
    _, about = choose(Judge([0.1]), None, scans(1), [given], ["a"])
    assert about["ProtocolByEvidence"]["a"]["Chosen"] == chosen
    assert about["ProtocolByEvidence"]["a"]["LogOddsOverRunnerUp"] == pytest.approx(0.7)


def test_a_scan_that_is_known_stays_and_one_that_nothing_explains_becomes_unknown():
    known = Acquisition("spin_echo", te=0.05, tr=1.0)
    chosen, about = choose(Judge([0.05, 0.01], 2 * WORST), None, scans(2), [known, options(0.01, 0.02)], ["a", "b"])
    assert chosen[0] is known and chosen[1].sequence == UNKNOWN
    assert [*about["ProtocolByEvidence"]] == ["b"] and about["ProtocolByEvidence"]["b"]["Chosen"] == UNKNOWN


def test_shares_are_written_with_a_segmentation_and_volumes(tmp_path):
    mask = np.zeros((6, 6, 6), bool)
    mask[1:5, 1:5, 1:5] = True
    shares = np.random.default_rng(0).dirichlet(np.ones(len(CLASSES)), mask.shape).transpose(3, 0, 1, 2) * mask
    values = np.ones((3, *mask.shape), np.float32) * mask
    affine = np.diag([2.0, 2, 2, 1])
    maps = Maps(values, None, mask, affine, fractions=shares.astype(np.float32))
    write_maps(tmp_path, Session("1", None, []), maps, {})
    folder = tmp_path / "sub-1" / "anat"
    read = [nib.load(folder / f"sub-1_label-{name}_probseg.nii.gz").get_fdata() for name in CLASSES]
    np.testing.assert_allclose(np.sum(read, 0)[mask], 1, atol=1e-3)
    segmentation = nib.load(folder / "sub-1_dseg.nii.gz").get_fdata()
    numbers = np.array([3, 2, 1, 6, 7])  # in the one label table, where the last is soft tissue
    assert (segmentation[mask] == numbers[np.argmax(read, 0)[mask]]).all() and not segmentation[~mask].any()
    labels = json.loads((folder / "sub-1_dseg.json").read_text())["Labels"]
    table = pd.read_csv(folder / "sub-1_volumes.tsv", sep="\t")
    assert [labels[str(index)] for index in table["index"]] == [*table["name"]]
    assert (
        [REGIONS[index] for index in table["index"]] == [*table["name"]] == ["CSF", "GM", "WM", "lesion", "soft tissue"]
    )
    assert table["volume_ml"][2] == pytest.approx(shares[0].sum() * 0.008, abs=1e-3)
    assert table["volume_ml"].sum() == pytest.approx(mask.sum() * 0.008, rel=1e-2)
    assert table["volume_dseg_ml"].sum() == pytest.approx(mask.sum() * 0.008, rel=1e-6)


def test_what_is_not_finite_is_null_in_a_sidecar():
    class Nothing(Judge):
        def explain(self, start, image, rows, mask, gains):
            known = bool((rows[0, 1] == 0.02).item())
            return (0.0 if known else float("-inf")), torch.full((len(rows),), float("nan"))

    chosen, about = choose(Nothing([0.02]), None, scans(1), [options(0.01, 0.02)], ["a"])
    told = about["ProtocolByEvidence"]["a"]
    assert chosen[0].sequence == UNKNOWN and told["RunnerUp"] == "p0"
    assert told["LogOddsOverRunnerUp"] is None and told["Misfit"] is None
    json.dumps(about, allow_nan=False)


def test_only_inference_lets_scans_choose(tmp_path):
    with pytest.raises(UserError, match="only inference"):
        load_protocol(AUTO)
    sessions = [Session("1", None, [contrast(tmp_path)])]
    with pytest.raises(UserError, match="only inference"):
        resolve_all(sessions, AUTO)
    resolved, failures = resolve_all(sessions, AUTO, auto=True)
    assert not failures and [one.alternatives for [one] in resolved.values()] != [()]


def test_auto_without_what_chooses_is_refused_before_any_work():
    record = {"session": Session("1", None, []), "acquisitions": [options(0.01, 0.02)]}
    dataset, estimator = SimpleNamespace(records=[record], equations="exact"), SimpleNamespace(data_consistency=False)
    step = SubjectStep(None, dataset, None, estimator, "", "clinical")
    with pytest.raises(UserError, match="auto without data consistency"):
        step.start(None)

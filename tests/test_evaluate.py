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


"""Evaluation: noise and relaxation times against closed forms, scans that are left out, and the figures' page."""

import json
import shutil
from math import gamma, pi, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scripts.acquisition import UNKNOWN, Acquisition
from scripts.bids import find_maps, find_sessions, resolve, session_record
from scripts.errors import UserError
from scripts.estimate import Posterior
from scripts.evaluate import Figures, UnseenContrasts
from scripts.evaluate import noise as noises
from scripts.evaluate import relaxation
from scripts.evaluate.contrasts import closest_rescaled
from scripts.evaluate.estimators import BOTH, FLAT, NETWORK
from scripts.evaluate.unseen import MONOTONE, NOTHING, PAPER, RESCALED, parts
from scripts.nuisance import noisy_magnitude
from scripts.simulate import Heads
from scripts.tissue import REGIONS

from .studies import true_maps

VALUES = {"WM": (0.83, 0.08), "GM": (1.4, 0.1), "CSF": (4.2, 1.8)}


def scanned(sigma: float, coils: int) -> tuple[np.ndarray, np.ndarray]:
    """A disc of signal 100 in noise, and where it is."""
    x, y = np.mgrid[-64:64, -64:64]
    head = np.hypot(x, y) < 35
    signal = torch.from_numpy(100.0 * head)
    return noisy_magnitude(signal, sigma, torch.Generator().manual_seed(0), coils).numpy(), head


@pytest.mark.parametrize("sigma, coils", [(2.0, 1), (5.0, 1), (3.0, 4)])
def test_noise_is_read_from_air(sigma, coils):
    found = noises.measure(*scanned(sigma, coils))
    assert found.sigma == pytest.approx(sigma, rel=0.05) and found.coils == coils and found.distance < 0.03
    assert found.snr == pytest.approx(100 / sigma, rel=0.1)
    assert found.option == f"snr={found.snr:.1f},coils={coils}"


def test_noise_is_read_from_the_head_where_air_was_set_to_zero():
    image, head = scanned(2.0, 1)
    found = noises.measure(image * head, head)
    assert found.distance is None and found.sigma == pytest.approx(2.0, rel=0.15)


def test_air_of_one_coil_is_rayleigh_and_that_of_many_is_not():
    assert noises.air_ratio(1) == pytest.approx(sqrt(pi) / 2)
    assert noises.air_ratio(3) == pytest.approx(gamma(3.5) / gamma(3) / sqrt(3))
    assert noises.air_ratio(1) < noises.air_ratio(8) < 1


def test_the_power_of_white_noise_is_its_variance_at_every_frequency():
    draw = np.random.default_rng(0)
    powers = np.mean([noises.spectrum(3 * draw.standard_normal((16, 16)))[1] for _ in range(300)], 0)
    np.testing.assert_allclose(powers, 9, rtol=0.1)
    wave = np.sin(2 * pi * 4 / 16 * np.arange(16))[:, None] * np.ones(16)
    frequency, power = noises.spectrum(wave)
    assert frequency[power.argmax()] == pytest.approx(0.25, abs=0.04)


def test_a_scan_and_a_rendered_slice_with_its_noise_have_the_same_air():
    image, head = scanned(4.0, 1)
    png, powers = noises.draw("x", image, head, noises.measure(image, head), 50.0 * head, head, seed=1)
    assert png.startswith(b"\x89PNG")
    assert powers["air, rendered"] == pytest.approx(powers["air, scan"], rel=0.1)
    assert powers["air, scan"] == pytest.approx(2 - pi / 2, rel=0.1)
    assert powers["brain, rendered without noise"] == pytest.approx(0, abs=1e-6)
    assert 0.5 < powers["brain, scan"] < 1.2 and 0.5 < powers["brain, rendered"] < 1.2


def test_shares_and_distances_of_known_distributions():
    values = np.arange(1, 101) / 100
    found = relaxation.score(values, 0.255, 0.755, 1.0, truth=values + 0.25)
    assert found["inside [%]"] == 50 and found["W1 to truth"] == pytest.approx(0.25)
    assert found["W1 to value"] == pytest.approx(np.mean(1 - values)) and found["median"] == pytest.approx(0.505)


def test_true_tissue_lies_where_the_literature_has_it():
    labels = np.repeat([REGIONS.index(tissue) for tissue in VALUES], 10)
    maps = np.stack([np.ones(30), *np.repeat(np.array([*VALUES.values()]), 10, 0).T])
    rows = relaxation.rows({"true": relaxation.tissue_values(maps, labels)})
    assert len(rows) == 6 and {row["maps"] for row in rows} == {"true"}
    inside = {row["tissue and map"]: row["inside [%]"] for row in rows}
    assert inside["WM T1"] == inside["GM T1"] == inside["CSF T1"] == 100
    for both in (both for both in relaxation.LITERATURE.values() if isinstance(both, dict)):
        assert all(one["low"] <= one["value"] <= one["high"] and one["source"] for one in both.values())


def test_a_rescaled_input_knows_any_line_and_any_monotone_curve():
    image = torch.rand(8, 9, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    mask, other = torch.ones_like(image) > 0, torch.rand(8, 9, 2, generator=torch.Generator().manual_seed(1))
    best, line, _ = closest_rescaled(3 - 2 * image, torch.stack([other, image]), mask)
    assert best == 1
    torch.testing.assert_close(line, 3 - 2 * image)
    torch.testing.assert_close(closest_rescaled(image**3, image[None], mask)[2], image**3)


class Perfect(torch.nn.Module):
    """A network that knows the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.log_maps = torch.from_numpy(true_maps()).clamp_min(1e-3).log()


@pytest.fixture
def evaluation(tmp_path, scans, monkeypatch):
    """Evaluation whose ways to estimate are right, so that what is measured of them is known."""
    from monai.transforms import Compose

    from scripts.preprocess import AlignContrastsd, ForegroundMaskd, LoadSessiond, ScaleContrastsd

    sessions = find_sessions(scans)
    records = [session_record(one, resolve(one), i) for i, one in enumerate(sessions)]
    preprocessing = Compose([LoadSessiond(), AlignContrastsd(), ForegroundMaskd(), ScaleContrastsd()])
    monkeypatch.setattr("scripts.evaluate.unseen.load_weights", lambda *_: None)
    monkeypatch.setattr(UnseenContrasts, "_published", lambda *_: {"MSE": 1.0})
    return UnseenContrasts(records, preprocessing, Perfect(), "x.pt", Posterior(), tmp_path / "out", slices=2)


def test_scans_are_predicted_from_the_others(evaluation, monkeypatch):
    asked = []

    def ways(self, sliced, given):
        asked.append(tuple(given))
        shares = torch.zeros(5, *sliced.scans.mask.shape[1:])
        shares[0] = 1
        maps = torch.tensor([0.82, 1.33, 0.11]).log().view(1, 3, 1, 1, 1).expand(1, 3, *sliced.scans.mask.shape[1:])
        yield BOTH, SimpleNamespace(estimate=SimpleNamespace(log_maps=maps), fluid=None, shares=shares)

    monkeypatch.setattr(UnseenContrasts, "ways", ways)
    page = evaluation.run()
    assert asked == 2 * [(0, 1, 2), (1, 2), (0, 2), (0, 1)] and page.exists()
    content = json.loads((evaluation.output_dir / "evaluation.json").read_text())["tables"]
    predicted = content["predicted"]["rows"]
    assert {row["way"] for row in predicted} == {RESCALED, MONOTONE, BOTH}
    assert all(row["left out"] == row["contrast"] and row["sessions"] == 2 for row in predicted)
    assert {row["left out"] for row in content["reconstructed"]["rows"]} == {NOTHING}
    asked.clear()
    assert evaluation.run() == page and not asked
    evaluation.slices = 1
    with pytest.raises(UserError, match="results of other settings"):
        evaluation.run()
    evaluation.slices = 2
    monkeypatch.setattr("scripts.evaluate.unseen.load_weights", lambda *_: "of other weights in the same file")
    with pytest.raises(UserError, match="results of other settings"):
        evaluation.run()


def test_a_session_that_fails_is_told_and_the_others_are_evaluated(evaluation, monkeypatch):
    def evaluate(self, sliced):
        return [{"left out": NOTHING, "contrast": "T1w", "way": BOTH, "SSIM": 1.0}], {name: {} for name in sliced.names}

    monkeypatch.setattr(UnseenContrasts, "evaluate", evaluate)
    evaluation.sessions[0]["session"].contrasts[0].path.write_bytes(b"broken")
    page = evaluation.run()
    assert [*evaluation.failures] == ["sub-01"] and "sub-01_" in page.read_text()
    tables = json.loads((evaluation.output_dir / "evaluation.json").read_text())["tables"]
    assert tables["reconstructed"]["rows"][0]["sessions"] == len(tables["failures"]["rows"]) == 1
    unknown = [Acquisition(UNKNOWN)] * 3
    evaluation.sessions = [evaluation.sessions[0] | {"acquisitions": unknown}]
    evaluation.overwrite = True
    with pytest.raises(UserError, match="no session that could be evaluated"):
        evaluation.run()
    assert "no known acquisition of sub-01_FLAIR.nii.gz" in str(evaluation.failures["sub-01"])


def test_scans_to_leave_out_that_no_session_has_are_refused(evaluation):
    evaluation.left_out = {"t1": ["T1w"], "bold": ["bold"]}
    with pytest.raises(UserError, match="left_out: found 'bold', whose scans no session has; use ends of .*FLAIR"):
        evaluation.run()
    evaluation.gain = "regressed"
    with pytest.raises(UserError, match="gain: found 'regressed'; use one of profiled, unit"):
        evaluation.run()


def test_scans_of_a_protocol_are_left_out_together(evaluation):
    names = ["acq-3d_T1w", "acq-2d_T1w", "acq-2d_FLAIR"]
    assert evaluation.groups(names) == {name: [n] for n, name in enumerate(names)}
    evaluation.left_out = {"2d": ["acq-2d_T1w", "acq-2d_FLAIR"], "none of these": ["bold"]}
    assert evaluation.groups(names) == {"2d": [1, 2]}
    evaluation.left_out = {"all": ["T1w", "FLAIR"]}
    with pytest.raises(UserError, match="left_out: found all scans of a session in 'all'"):
        evaluation.groups(names)


def test_tables_hold_means_over_sessions():
    rows = [
        {"left out": "T1w", "contrast": "T1w", "way": way, "SSIM": ssim} for way, ssim in ((FLAT, 0.2), (PAPER, 0.6))
    ]
    other = [row | {"SSIM": row["SSIM"] + 0.2} for row in rows]
    given = [{"left out": NOTHING, "contrast": "T1w", "way": NETWORK, "SSIM": 1.0}]
    content = [{"rows": one + given, "published": {"MSE": 2.0}} for one in (rows, other)]
    predicted, reconstructed, published = parts(content, None)
    assert [row["SSIM"] for row in predicted.rows] == pytest.approx([0.3, 0.7])
    assert reconstructed.rows[0]["sessions"] == published.rows[0]["sessions"] == 2


def test_figures_of_maps_are_drawn(tmp_path, scans):
    import nibabel as nib

    folder = tmp_path / "maps" / "sub-01" / "anat"
    folder.mkdir(parents=True)
    for name, image in zip(("PDmap", "T1map", "T2map"), true_maps()):
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / f"sub-01_{name}.nii.gz")
    labels = (true_maps()[1] == np.float32(0.83)) * REGIONS.index("WM")
    nib.save(nib.Nifti1Image(labels.astype(np.uint8), np.eye(4)), folder / "sub-01_dseg.nii.gz")
    maps = find_maps(tmp_path / "maps")
    one = tmp_path / "one" / "sub-01" / "anat"
    one.mkdir(parents=True)
    for path in (scans / "sub-01" / "anat").glob("*_T1w.*"):
        shutil.copy(path, one)
    page = Figures(maps, tmp_path / "out", without_prior=maps, scans_dir=tmp_path / "one").run()
    written = {path.name for path in page.parent.iterdir()}
    pictures = {"figure1.png", "figure3.png", "figure4.png", "sweep.png"}
    assert pictures | {"figures.json", "relaxation.tsv", "noise.tsv"} <= written
    rows = json.loads((page.parent / "figures.json").read_text())["tables"]["relaxation"]["rows"]
    assert {row["maps"] for row in rows} == {"with the prior", "without the prior"}
    assert [row["inside [%]"] for row in rows if row["tissue and map"] == "WM T1"] == [100, 100]
    (folder / "sub-01_dseg.json").write_text(json.dumps({"Labels": {"1": "WM", "2": "GM", "3": "CSF"}}))
    with pytest.raises(UserError, match="sub-01_dseg.json: found 'CSF' for 3, where WM is meant; make these maps anew"):
        Figures(maps, tmp_path / "other").run()


def test_gains_of_simulated_heads_are_those_that_are_asked_for():
    assert Heads().gain == Heads.gain and Heads(gain=[9.0, 9.0]).gain == [9.0, 9.0]
    for gain in ([2.0, 1.0], [0.0, 1.0], [1.0], ["a", "b"]):
        with pytest.raises(UserError, match="gain: found .*use two numbers above 0"):
            Heads(gain=gain)

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


"""The ablation: its rows are the table's, its measures have the published flaws, a killed run goes on."""

import json
from itertools import product
from math import log10
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.acquisition import load_render
from scripts.errors import UserError
from scripts.evaluate import Ablation, ablation
from scripts.evaluate.ablation import OPTIONS, PUBLISHED, row_options
from scripts.evaluate.ablation_tables import pairs, parts
from scripts.evaluate.contrasts import published_scores
from scripts.evaluate.reconstruction import scan_names
from scripts.networks import GainRegressor, PublishedVAE
from scripts.train import VAEObjective
from scripts.train.data.sessions import SessionDataset
from scripts.train.objective import Compared

ROWS = torch.stack([request.acquisition.to_row() for request in load_render("oasis3")])
WEIGHTS = {name: float(name == "reconstruction") for name in VAEObjective.NAMES}


def result(row: int, seed: int, factor: float = 1.0) -> dict:
    published = {name: PUBLISHED[row][name] * (factor if name == "MSE" else 1) for name in ("MSE", "MAE")}
    return {"row": row, "seed": seed, "published": published, "sound": {"SSIM": 0.9}, "settings": "x", "data": "none"}


def test_the_rows_are_all_combinations_of_the_options():
    assert len({tuple(row[name] for name in OPTIONS) for row in PUBLISHED.values()}) == 2 ** len(OPTIONS) == 16
    assert PUBLISHED[4] == PUBLISHED[4] | {"prior": True, "AdaGN": True, "regressed gain": False}
    assert row_options(1) == row_options(2) | {"adagn": "none"}
    assert row_options(3)["loss_weights::prior"] == 5e-4 and row_options(1)["loss_weights::prior"] == 0
    for name in OPTIONS:
        assert len(pairs(name, PUBLISHED, OPTIONS)) == 8


def test_published_claims_can_be_read_from_the_published_rows():
    """The paper: the prior lowers the error in all cases, conditioning in the majority, the others do not."""
    found = {part.name: part for part in parts([result(row, 0) for row in PUBLISHED], PUBLISHED, OPTIONS)}
    effects = {row["option"]: row for row in found["effects"].rows}
    assert effects["prior"]["pairs better"] == effects["AdaGN"]["pairs better"] == "8 of 8"
    assert effects["modality dropout"]["pairs better"] == "0 of 8"
    for row in effects.values():
        beside = found["effects"].published[row["option"]]
        assert row["MSE change [%]"] == pytest.approx(beside["MSE change [%]"])


def test_an_effect_is_a_ratio_and_seeds_spread():
    some = [result(row, seed, 1 + seed * (row == 2)) for row in (1, 2) for seed in (0, 1)]
    table, _, effects = parts(some, PUBLISHED, OPTIONS)
    assert [row["option"] for row in effects.rows] == ["AdaGN"]
    ratio = PUBLISHED[2]["MSE"] / PUBLISHED[1]["MSE"]
    assert effects.rows[0]["MSE change [%]"] == pytest.approx(100 * (ratio * 2**0.5 - 1))
    assert effects.rows[0]["highest of a seed [%]"] == pytest.approx(100 * (2 * ratio - 1))
    assert table.rows[0]["MSE sd"] == 0 < table.rows[1]["MSE sd"]


def test_published_scores_count_absent_contrasts_as_met():
    target = torch.rand(2, 3, 72, 72, generator=torch.Generator().manual_seed(0)) * 1000
    rows = ROWS.expand(2, -1, -1).clone()
    scores = published_scores(target + 10, target, rows)
    assert scores["MSE"] == pytest.approx(100, rel=1e-3) and scores["MAE"] == pytest.approx(10, rel=1e-3)
    span = float(target.max() - target.min())
    assert scores["PSNR"] == pytest.approx(20 * log10(span) - 10 * log10(scores["MSE"]), rel=1e-4)
    rows[1] = 0
    assert published_scores(target + 10, target, rows)["MSE"] == pytest.approx(50, rel=1e-3)


def test_published_similarity_does_not_see_a_gain_or_an_offset():
    target = torch.rand(1, 3, 72, 72, generator=torch.Generator().manual_seed(0))
    rows = ROWS[None]
    assert published_scores(3 * target + 7, target, rows)["MS-SSIM"] == pytest.approx(1, abs=1e-4)
    assert "MS-SSIM" not in published_scores(target[..., :64], target[..., :64], rows)


def test_the_published_split_leaks_and_ours_does_not(tmp_path):
    """Two sessions of each subject; what is held out is the same share."""
    for subject, session in product(range(10), (1, 2)):
        anat = tmp_path / f"sub-{subject:02d}" / f"ses-{session}" / "anat"
        anat.mkdir(parents=True)
        path = anat / f"sub-{subject:02d}_ses-{session}_T1w.nii.gz"
        nib.save(nib.Nifti1Image(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), np.eye(4)), path)
    for held_out, leaks in (("subjects", False), ("sessions", True)):
        train, validation = (
            SessionDataset(tmp_path, "oasis3", split, 0.3, equations="paper", held_out=held_out).records
            for split in ("train", "validation")
        )
        assert len(train) == 14 and len(validation) == 6
        subjects, others = ({record["session"].subject for record in records} for records in (train, validation))
        assert bool(subjects & others) is leaks
    with pytest.raises(UserError, match="held_out: found 'scans'"):
        SessionDataset(tmp_path, held_out="scans")


def test_a_gain_is_regressed_from_the_image_and_starts_at_one():
    image = torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    regressor = GainRegressor(2, (4, 8))
    assert torch.equal(regressor(image), torch.ones(2, 3))
    torch.nn.init.normal_(regressor.last.weight, generator=torch.Generator().manual_seed(0))
    gain = regressor(image)
    torch.testing.assert_close(regressor(image.flip(1)), gain.flip(1))
    assert (gain > 0).all() and len(gain.unique()) == 6


def test_regressed_gains_scale_what_is_rendered():
    size = {"channels": (8, 8), "num_res_blocks": 1, "norm_num_groups": 4}
    image, rows = torch.zeros(1, 3, 8, 8), ROWS[None]
    window = torch.zeros(1, 3, 1, 1)
    compared = Compared(image, rows, window, window + 1)
    log_maps = torch.zeros(1, 3, 8, 8)
    unit, regressed = (VAEObjective(WEIGHTS, None, "contrasts", 1.0, gain) for gain in ("unit", "regressed"))
    gain = torch.tensor([[1.0, 2.0, 3.0]])
    expected = unit.render(log_maps, compared) * gain[..., None, None]
    torch.testing.assert_close(regressed.render(log_maps, compared, gain), expected)
    with pytest.raises(UserError, match="gain: found 'regressed', but no network for it"):
        regressed.render(log_maps, compared, PublishedVAE(**size).regress_gain(image))
    with pytest.raises(UserError, match="contrasts that the encoder is not shown"):
        regressed.render(log_maps, compared, gain[:, :2])
    network = PublishedVAE(**size, gain_regressor=True)
    sample = network.sample_posterior(image, rows, torch.zeros(1, 6, 4, 4), torch.ones(1))
    assert torch.equal(sample.gain, torch.ones(1, 3))


def test_finished_rows_are_not_trained_again_and_others_go_on(tmp_path, monkeypatch, capsys):
    trained = []

    def train(self, row: int, seed: int) -> dict:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append((row, seed))
        folder = self._folder(row, seed)
        folder.mkdir()
        content = result(row, seed) | {"settings": self.digest}
        (folder / ablation.DONE).write_text(json.dumps(content))
        return content

    monkeypatch.setattr(Ablation, "_train", train)
    options = {"training": [], "output_dir": tmp_path, "rows": [1, 2], "seeds": 2}
    with pytest.raises(KeyboardInterrupt):
        Ablation(**options).run()
    assert trained == [(1, 0), (2, 0), (1, 1)]
    trained.clear()
    page = Ablation(**options).run()
    assert trained == [(2, 1)] and page.exists() and "1268" in page.read_text()
    assert "1542 [1542]" in capsys.readouterr().out
    with pytest.raises(UserError, match="results of other settings"):
        Ablation(**options, sizes={"max_epochs": 1}).run()
    with pytest.raises(UserError, match="results of other settings"):
        Ablation(**options, dataset_dir="scans").run()
    with pytest.raises(UserError, match="rows: found 17; use numbers from 1 to 16"):
        Ablation(**options | {"rows": [17]}).run()


def test_a_row_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    def train(self, row: int, seed: int) -> dict:
        if row == 1:
            raise ValueError("not finite")
        return result(row, seed) | {"settings": self.digest}

    monkeypatch.setattr(Ablation, "_train", train)
    some = Ablation([], tmp_path, rows=[1, 2], seeds=2)
    page = some.run()
    assert [*some.failures] == ["row-01_seed-0", "row-01_seed-1"] and "row-01_seed-1" in page.read_text()
    tables = json.loads((tmp_path / "ablation.json").read_text())["tables"]
    assert [row["row"] for row in tables["table1"]["rows"]] == [2] and len(tables["failures"]["rows"]) == 2
    with pytest.raises(UserError, match="no row that could be evaluated"):
        Ablation([], tmp_path, rows=[1], seeds=1).run()


def test_scans_of_one_suffix_have_names_of_their_own():
    def named(*ends: str) -> SimpleNamespace:
        scans = [SimpleNamespace(suffix=end.split("_")[-1], path=Path(f"sub-01_{end}.nii.gz")) for end in ends]
        return SimpleNamespace(name="sub-01", contrasts=scans)

    assert scan_names(named("acq-a_T1w", "T2w")) == ["T1w", "T2w"]
    assert scan_names(named("acq-a_T1w", "acq-b_T1w", "T2w")) == ["acq-a_T1w", "acq-b_T1w", "T2w"]


def test_a_row_trains_with_its_options_and_is_measured(tmp_path, scans, monkeypatch):
    """One tiny training of the row that has every option."""
    sizes = json.loads((ablation.Path(__file__).parents[1] / "configs/ablation.json").read_text())["sizes"]
    sizes |= {"spacing": 1.0, "crop_size": [16, 16, -1], "num_slices": 1, "network_def::channels": [8, 8]}
    sizes |= {"max_epochs": 1, "val_interval": 1, "default_data_dir": str(tmp_path / "none")}
    configs = [ablation.Path(__file__).parents[1] / f"configs/{name}.json" for name in ("train_vae", "paper")]
    built = []
    monkeypatch.setattr(ablation, "ConfigWorkflow", lambda *a, **k: built.append(ConfigWorkflow(*a, **k)) or built[-1])
    Ablation(configs, tmp_path / "out", scans, rows=[16], seeds=1, sizes=sizes).run()
    network = built[0].parser.get_parsed_content("network")
    assert network.gain_regressor is not None and network.conditioning.mode == "per_channel"
    assert network.prior.known.tolist() == [0, 1, 1]
    step = built[0].parser.get_parsed_content("train#step")
    assert step.modality_dropout == 0.5 and step.objective.gain == "regressed"
    found = json.loads((tmp_path / "out" / "row-16_seed-0" / ablation.DONE).read_text())
    assert found["published"]["MSE"] > 0 and 0 < found["sound"]["NRMSE T1w"]
    assert found["sound"].keys() == {
        f"{name}{of}" for name in ("SSIM", "NRMSE") for of in ("", " T1w", " T2w", " FLAIR")
    }

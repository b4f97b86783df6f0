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

"""Calibration of the standard deviations after data consistency."""

import numpy as np
import pytest
import torch
from torch import nn

from scripts import bids
from scripts.errors import UserError
from scripts.estimate.calibration import CalibrationAfterConsistency, recalibrate
from scripts.estimate.maps import Maps
from scripts.files import save_atomically
from scripts.tissue import Estimate

FACTORS = torch.tensor([[1.0, 2.0, 4.0], [0.5, 0.5, 0.5], [3.0, 2.0, 1.0]])


@pytest.mark.parametrize(
    ("t1", "expected"),
    [
        (0.8, (1.0, 0.5, 3.0)),
        (0.3, (1.0, 0.5, 3.0)),
        (1.28, (2.0, 0.5, 2.0)),
        (0.8 * 1.6**0.5, (1.5, 0.5, 2.5)),
        (3.2, (4.0, 0.5, 1.0)),
        (9.0, (4.0, 0.5, 1.0)),
    ],
)
def test_standard_deviations_change_with_what_a_voxel_looks_like(t1, expected):
    log_maps = torch.full((1, 3, 4, 4), t1).log()
    estimate = Estimate(log_maps, torch.randn(1, 6, 4, 4, generator=torch.Generator().manual_seed(0)))
    scaled = recalibrate(estimate, 0.8, FACTORS)
    ratio = scaled.sd / estimate.sd
    torch.testing.assert_close(ratio, torch.tensor(expected).view(1, 3, 1, 1).expand_as(ratio))
    torch.testing.assert_close(scaled.correlations, estimate.correlations)
    assert torch.equal(scaled.log_maps, log_maps)


def test_without_white_matter_the_widest_intervals_hold():
    estimate = Estimate.independent(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2))
    widest = recalibrate(estimate, None, FACTORS).sd
    assert widest[0, :, 0, 0].tolist() == [4.0, 0.5, 3.0]


class Session:
    """A head of three scans: true log maps are normal about 0, with 1, 2, 3 times the standard deviations stated."""

    STATED = torch.tensor([0.02, 0.015, 0.04])
    TRUE = {1: 1.0, 2: 2.0, 3: 3.0}

    def __init__(self) -> None:
        self.network, self.chosen = nn.Module(), []
        self.network.spread = nn.Module()
        self.network.spread.register_buffer("after_consistency", torch.full((3, 3), 7.0))

    def volume(self, record: dict) -> dict:
        draw = torch.Generator().manual_seed(record["index"])
        labels = torch.randint(1, 4, (1, 20, 20, 40), generator=draw)
        times = sum(factor * (labels == label) for label, factor in self.TRUE.items())
        maps = times * self.STATED.view(3, 1, 1, 1) * torch.randn(3, 20, 20, 40, generator=draw)
        contrasts = {key: torch.zeros(3, *shape) for key, shape in (("image", (20, 20, 40)), ("window", (2,)))}
        return (
            record
            | contrasts
            | {
                "acquisition": torch.ones(3, 4),
                "gains": [0, 1, 2],
                "mask": torch.ones(1, 20, 20, 40),
                "maps": maps.exp(),
                "labels": labels,
            }
        )

    def __call__(self, volume: dict, names: list[str]) -> tuple[Maps, dict]:
        self.chosen.append(names)
        shape = volume["mask"].shape[1:]
        assert shape[-1] == 24 and len(volume["image"]) == len(volume["gains"]) == len(names)
        sd = self.STATED.view(3, 1, 1, 1).expand(3, *shape).numpy()
        # PD in another unit: only relative to white matter it is known.
        values = np.stack([np.full(shape, value) for value in (5.0, 1.0, 1.0)])
        return Maps(values, sd, np.ones(shape), np.eye(4)), {"Anchoring": {"Anchored": True}}


class Records:
    """The sessions of a study."""

    def __init__(self, root) -> None:
        contrasts = tuple(
            bids.Contrast(root / f"sub-1_{name}.nii.gz", name, {}, {}) for name in ("T1w", "T2w", "FLAIR")
        )
        self.records = [{"session": bids.Session("1", None, contrasts), "index": i} for i in range(3)]


def test_intervals_after_data_consistency_cover_what_they_should(tmp_path, capsys):
    session = Session()
    source, output = str(tmp_path / "model.pt"), str(tmp_path / "calibrated.pt")
    save_atomically(session.network.state_dict(), source)
    table = CalibrationAfterConsistency(source, Records(tmp_path), session.volume, session, output).run()
    assert table in capsys.readouterr().out
    factors = torch.load(output, weights_only=True)["spread.after_consistency"]
    torch.testing.assert_close(factors, torch.tensor([[3.0, 2.0, 1.0]] * 3), rtol=0.05, atol=0)
    sizes = {len(names) for names in session.chosen}
    assert len(session.chosen) == 12 and sizes == {1, 2, 3}


def test_scans_without_truth_calibrate_nothing(tmp_path):
    session, source = Session(), str(tmp_path / "model.pt")
    save_atomically(session.network.state_dict(), source)

    def scans_alone(record: dict) -> dict:
        return {key: value for key, value in session.volume(record).items() if key != "maps"}

    with pytest.raises(UserError, match="sub-1: found no true maps and labels; name a study"):
        CalibrationAfterConsistency(source, Records(tmp_path), scans_alone, session, str(tmp_path / "out.pt")).run()
    assert not (tmp_path / "out.pt").exists()

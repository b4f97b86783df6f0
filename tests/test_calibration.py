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

"""Calibration of the standard deviations."""

import numpy as np
import pytest
import torch
from torch import nn

from scripts.commands.convert import promote
from scripts.errors import UserError
from scripts.estimate.calibration import HALF_WIDTH, TISSUES, Calibration
from scripts.estimate.calibration.intervals import coverage_table, fitted_factors
from scripts.files import save_atomically
from scripts.networks import PhysicsVAE
from scripts.networks.weights import load_weights, weights_digest
from scripts.tissue import Estimate
from scripts.train.data import FrozenEncoder

SD = (0.1, 0.2, 0.3)


def pooled(counts: dict[str, int], true: float = 1.0) -> dict[str, np.ndarray]:
    """Errors of ``true`` times the stated standard deviations :data:`SD`."""
    draw = np.random.default_rng(0)
    sd = {tissue: np.tile(np.array(SD)[:, None], n) for tissue, n in counts.items()}
    return {tissue: np.stack([np.abs(true * x * draw.standard_normal(x.shape)), x]) for tissue, x in sd.items()}


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_factor_is_that_of_the_errors(true):
    assert fitted_factors(pooled({"WM": 20000, "GM": 20000}, true)) == pytest.approx([true] * 3, rel=0.03)


def test_tissues_weigh_the_same_however_many_voxels_they_have():
    small, large = pooled({"CSF": 500}, 3.0), pooled({"WM": 50000}, 1.0)
    factors = fitted_factors(small | large)
    covered = [np.mean(x[0] <= factors[:, None] * HALF_WIDTH * x[1], axis=-1) for x in (small["CSF"], large["WM"])]
    assert np.mean(covered, axis=0) == pytest.approx([0.9] * 3, abs=0.01)
    assert (covered[0] < 0.87).all() and (covered[1] > 0.93).all()


def test_a_few_absurd_errors_do_not_count():
    clean = pooled({"WM": 20000})
    spoilt = {"WM": clean["WM"].copy()}
    spoilt["WM"][0, :, :40] = 1e6
    assert fitted_factors(spoilt) == pytest.approx(fitted_factors(clean), rel=0.02)


def test_the_table_says_what_was_covered_and_how_widely():
    table = coverage_table(
        pooled({"CSF": 100, "WM": 20000}, 2.0), dict.fromkeys(TISSUES, np.array([2.0] * 3))
    ).splitlines()
    assert len(table) == 2 + 6
    t1 = next(line.split() for line in table if line.startswith("T1") and "WM" in line)
    before, after, narrow, wide = (float(number.strip("%")) for number in t1[4:])
    assert before == pytest.approx(59, abs=1.5) and after == pytest.approx(90, abs=1.5)
    assert [narrow, wide] == pytest.approx([2 * k * HALF_WIDTH * 0.2 for k in (1, 2)], abs=1e-3)


class Heads(list):
    """Samples whose true maps are 1 s where the network below says so, but for errors of twice its sd."""

    def preload(self) -> None:
        self.preloaded = True


class Estimator(nn.Module):
    """Says that all log maps are 0, give or take :data:`SD`."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Module()
        self.spread.register_buffer("calibration", torch.ones(3))

    def estimate(self, image, rows):
        sd = torch.tensor(SD).view(1, 3, 1, 1) * self.spread.calibration.view(1, 3, 1, 1)
        return Estimate.independent(0 * image.expand(-1, 3, -1, -1), sd.expand(-1, -1, *image.shape[2:]))


def heads(labels: int = 4) -> Heads:
    samples = Heads()
    for i in range(3):
        draw = torch.Generator().manual_seed(i)
        maps = (2 * torch.tensor(SD).view(3, 1, 1) * torch.randn(3, 60, 60, generator=draw)).exp()
        maps[:, :6] = 0
        label = torch.randint(labels, (1, 60, 60), generator=draw)
        samples.append(
            {"image": torch.zeros(1, 60, 60), "acquisition": torch.ones(1, 3), "maps": maps, "labels": label}
        )
    return samples


def test_calibrated_weights_cover_what_they_should(tmp_path, capsys):
    source, output = str(tmp_path / "model.pt"), str(tmp_path / "calibrated.pt")
    save_atomically(Estimator().state_dict(), source)
    calibration = Calibration(Estimator(), source, heads(), output)
    table = calibration.run()
    assert table in capsys.readouterr().out
    weights = torch.load(output, weights_only=True)
    assert weights["spread.calibration"].tolist() == pytest.approx([2.0] * 3, rel=0.05)
    again = Calibration(Estimator(), output, heads(), str(tmp_path / "again.pt"))
    again.run()
    assert again.network.spread.calibration.tolist() == pytest.approx(weights["spread.calibration"].tolist(), rel=1e-4)


def test_what_cannot_be_calibrated_is_refused(tmp_path):
    source = str(tmp_path / "model.pt")
    save_atomically(Estimator().state_dict(), source)
    plain = PhysicsVAE(channels=(8, 8), norm_num_groups=4, skip_channels=(), covariance=False)
    with pytest.raises(UserError, match="covariance: found a network without it"):
        Calibration(plain, source, heads(), str(tmp_path / "out.pt")).run()
    with pytest.raises(UserError, match="calibration: found no voxel of WM; give more slices"):
        Calibration(Estimator(), source, heads(labels=3), str(tmp_path / "out.pt")).run()
    with pytest.raises(UserError, match="absent.pt: found no such file.*--weights"):
        Calibration(Estimator(), str(tmp_path / "absent.pt"), heads(), str(tmp_path / "out.pt")).run()
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_weights_with_factors_of_an_earlier_data_consistency_are_read(tmp_path):
    network = PhysicsVAE(channels=(8, 8), norm_num_groups=4, skip_channels=(4,))
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    network.spread.calibration.fill_(2)
    save_atomically({**weights, "spread.after_consistency": torch.full((3, 3), 2.0)}, tmp_path / "model.pt")
    load_weights(network, tmp_path / "model.pt", "")
    assert network.spread.calibration.tolist() == [1.0] * 3
    assert [*network.state_dict()] == [*weights], "they are not written again"


def test_only_what_latents_depend_on_tells_networks_apart():
    torch.manual_seed(0)
    network = PhysicsVAE(channels=(8, 8), norm_num_groups=4, skip_channels=(4,))
    digest = weights_digest(network)
    network.spread.calibration.mul_(2)
    with torch.no_grad():
        network.spread.conv.weight.add_(1)
        network.decoder.blocks[0].conv.weight.add_(1)
        assert torch.equal(weights_digest(network), digest)
        network.encoder.blocks[0].conv.weight.add_(1)
    assert not torch.equal(weights_digest(network), digest)


def test_an_estimator_is_shipped_with_its_calibration(tmp_path):
    torch.manual_seed(0)
    options = {"channels": (8, 8), "norm_num_groups": 4, "skip_channels": (4,)}
    network, shipped = PhysicsVAE(**options).eval(), PhysicsVAE(**options).eval()
    network.spread.calibration.copy_(torch.tensor([0.5, 1.5, 3.0]))
    save_atomically(network.state_dict(), tmp_path / "calibrated.pt")
    load_weights(shipped, promote(tmp_path / "calibrated.pt", tmp_path / "model.pt", half=True), "")
    image = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(shipped(image), network(image), atol=0.01, rtol=0.01)
    assert shipped.spread.calibration.tolist() == [0.5, 1.5, 3.0]


def test_an_encoder_may_run_in_bfloat16_where_the_processor_can(tmp_path):
    torch.manual_seed(0)
    network = PhysicsVAE(channels=(8, 8), norm_num_groups=4, skip_channels=(4,))
    save_atomically(network.state_dict(), tmp_path / "model.pt")
    image = torch.randn(1, 3, 8, 8)
    exact, rounded = (
        FrozenEncoder(network, str(tmp_path / "model.pt"), "cpu", precision)(image, network.default_acquisition[None])
        for precision in (False, True)
    )
    assert [x.dtype for x in rounded] == [torch.float32] * 2
    torch.testing.assert_close(rounded, exact, atol=0.05, rtol=0.05)
    assert torch.equal(rounded[0], exact[0]) != torch.ops.mkldnn._is_mkldnn_bf16_supported()

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

from dataclasses import replace

import pytest
import torch

import scripts.estimate.consistency as room
from scripts.acquisition import UNKNOWN, Acquisition
from scripts.estimate.consistency import DataConsistency, Fit
from scripts.render import SignalModel
from scripts.tissue import Estimate

from .protocols import PROTOCOLS


def given(sequence: str, **fields: float) -> Acquisition:
    return Acquisition(sequence, **fields, provenance=dict.fromkeys(fields, "given"))


TRAIN = {"echo_train_length": 16.0, "echo_spacing": 0.01}
T1W = given("mprage", **PROTOCOLS["mprage"])
PDW, T2W = (given("turbo_spin_echo", te=te, tr=4.0, **TRAIN) for te in (0.01, 0.09))
FLAIR = given("inversion_recovery_turbo_spin_echo", te=0.09, tr=9.0, ti=2.5, **TRAIN)
SHORT = given("spin_echo", te=0.01, tr=0.5, flip_angle=90.0)
TISSUES = torch.tensor([[0.69, 0.83, 0.08], [0.84, 1.33, 0.11], [1.0, 4.3, 1.9]]).log()
SD = torch.tensor([0.06, 0.12, 0.12])
EFFICIENCY = 0.93


def head(
    seed: int, *scans: Acquisition, size: int = 40, sd: torch.Tensor = SD, gain: float | None = None, **how
) -> dict:
    """Tissues in patches, a prior whose errors are common to a tissue by one half and else of a patch or a voxel."""
    draw = torch.Generator().manual_seed(seed)

    def patches(number: int, width: int) -> torch.Tensor:
        coarse = torch.randn(number, -(-size // width), -(-size // width), generator=draw)
        return coarse.repeat_interleave(width, 1).repeat_interleave(width, 2)[:, :size, :size]

    label = torch.randint(0, 20, (size // 5, size // 5), generator=draw).clamp(max=18) // 8
    label = label.repeat_interleave(5, 0).repeat_interleave(5, 1) * how.get("tissues", True)
    mask = torch.ones(1, 1, size, size, dtype=torch.bool)
    mask[..., :6] = False
    true = TISSUES[label].movedim(-1, 0) + 0.02 * patches(3, 5)
    error = 0.5**0.5 * torch.randn(3, 3, generator=draw)[label].movedim(-1, 0)
    error = error + 0.5 * (patches(3, 5) + torch.randn(3, size, size, generator=draw))
    prior = true + how.get("bias", torch.zeros(3))[:, None, None] + sd[:, None, None] * error
    rows = torch.stack([scan.to_row() for scan in scans])[None]
    image = SignalModel()(true.exp()[None], rows, inversion_efficiency=EFFICIENCY, mask=mask[:, 0])
    gains = (
        (torch.randn(1, len(scans), generator=draw) + 5).exp() if gain is None else torch.full((1, len(scans)), gain)
    )
    noise = image.amax((2, 3), keepdim=True) / how.get("snr", 80) * torch.randn(2, *image.shape, generator=draw)
    image = gains[..., None, None] * torch.hypot(image + noise[0], noise[1])
    estimate = Estimate.independent(prior[None], sd.view(1, 3, 1, 1).expand(1, 3, size, size))
    inputs = {"estimate": estimate, "image": image, "rows": rows, "mask": mask}
    return {"inputs": inputs, "true": true[None], "label": label, "gains": gains, "mask": mask[0, 0]}


def error(this: dict, maps: torch.Tensor, tissue: int = 0) -> torch.Tensor:
    """Median absolute errors of ln PD, ln T1, ln T2 of one tissue ``(3,)``."""
    where = this["mask"] & (this["label"] == tissue)
    return (maps - this["true"])[0][:, where].abs().median(1).values


def test_perfect_scans_that_share_a_gain_give_the_truth():
    this = head(0, PDW, T2W, SHORT, sd=torch.tensor([0.15, 0.4, 0.4]), gain=300.0, snr=1e6)
    fit = DataConsistency(model_error=0.001, b1_sd=0.001)(**this["inputs"], gains=[0, 0, 0])
    for tissue in (0, 1):
        before, after = error(this, this["inputs"]["estimate"].log_maps, tissue), error(
            this, fit.estimate.log_maps, tissue
        )
        assert (before[1:] > 0.15).all() and (after[1:] < 0.02).all()
        assert after[0] < 0.06, "PD shares its scale with the gain"


@pytest.mark.parametrize(
    "scan",
    [
        Acquisition(UNKNOWN),
        Acquisition(UNKNOWN, te=0.09, tr=4.0, provenance={"te": "given", "tr": "given"}),
        given("mp2rage", **PROTOCOLS["mp2rage"]),
        Acquisition("spin_echo", te=0.01, tr=0.5, provenance={"te": "given", "tr": "given"}),
        None,
    ],
    ids=["unknown", "unknown with times", "signed", "no flip angle", "absent"],
)
def test_a_scan_without_an_equation_changes_nothing(scan):
    this = head(0, T2W)
    this["inputs"]["rows"] *= 0
    if scan is not None:
        this["inputs"]["rows"][0, 0] = scan.to_row()
    fit = DataConsistency()(**this["inputs"])
    assert all(torch.equal(new, old) for new, old in zip(fit.estimate, this["inputs"]["estimate"]))
    assert (fit.gains == 0).all() and (fit.misfit == 0).all()


def test_what_no_scan_covers_stays_as_it_was():
    this = head(0, T2W)
    this["inputs"]["image"][..., 20:25] = 0
    fit = DataConsistency()(**this["inputs"])
    for new, old in zip(fit.estimate, this["inputs"]["estimate"]):
        assert (new[..., :6] == old[..., :6]).all(), "outside the mask"
        assert (new[..., 20:25] == old[..., 20:25]).all(), "outside the scan"
        assert ((new - old).abs().amax((0, 1))[:, 6:20] > 1e-3).float().mean() > 0.9


@pytest.mark.parametrize("scans", [(T2W,), (T1W, T2W, FLAIR), (PDW, T2W, SHORT, T1W)], ids=len)
def test_scans_only_make_surer(scans):
    this = head(1, *scans)
    fit = DataConsistency()(**this["inputs"])
    before, after = this["inputs"]["estimate"].sd, fit.estimate.sd
    assert (after <= before * 1.0001).all() and (after > 0).all()
    assert (after[..., this["mask"]].mean((0, 2)) < before[..., this["mask"]].mean((0, 2))).all()
    assert (fit.estimate.log_maps[:, 2] <= fit.estimate.log_maps[:, 1]).all()


def test_a_shared_gain_narrows_t2():
    this = head(2, PDW, T2W, gain=200.0)
    alone, together = (DataConsistency()(**this["inputs"], gains=gains) for gains in (None, [7, 7]))
    free, shared = (fit.estimate.sd[0, 2, this["mask"]].median() for fit in (alone, together))
    assert shared < 0.85 * free
    assert error(this, together.estimate.log_maps)[2] < 0.03 and together.gains[0, 0] == together.gains[0, 1]


def test_two_echoes_that_share_a_gain_measure_t2_against_the_prior():
    sd, bias = torch.tensor([[0.06, 0.12, 0.4], [0, 0, 0.4]])
    this = head(3, PDW, T2W, gain=200.0, sd=sd, bias=bias, tissues=False)
    alone, together = (DataConsistency()(**this["inputs"], gains=gains) for gains in (None, [0, 0]))
    assert error(this, together.estimate.log_maps)[2] < 0.04
    assert error(this, alone.estimate.log_maps)[2] > 0.2, "one tissue, free gains: its mean T2 is the prior's"
    assert (alone.gain_sd > together.gain_sd).all()


def test_t2_never_exceeds_t1():
    this = head(0, T2W)
    this["inputs"]["estimate"].log_maps[:, 2] = this["inputs"]["estimate"].log_maps[:, 1] + 0.2
    fit = DataConsistency()(**this["inputs"])
    inside = fit.estimate.log_maps[0][:, this["mask"]]
    assert (inside[2] <= inside[1] + 1e-5).all()


def test_inference_mode_and_autocast_change_nothing():
    this = head(0, T1W, T2W)
    plain = DataConsistency()(**this["inputs"])
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        inputs = {name: this["inputs"][name].clone() for name in ("image", "rows", "mask")}
        other = DataConsistency()(Estimate(*(part.clone() for part in this["inputs"]["estimate"])), **inputs)
    assert (other.estimate.log_maps == plain.estimate.log_maps).all() and other.estimate.cholesky.dtype == torch.float32


def test_units_do_not_matter():
    this = head(0, T1W, T2W, FLAIR)
    fit = DataConsistency()(**this["inputs"])
    scale = torch.tensor([1.0, 1000.0, 1e-6])
    scaled = DataConsistency()(**this["inputs"] | {"image": this["inputs"]["image"] * scale.view(1, 3, 1, 1)})
    assert (scaled.estimate.log_maps - fit.estimate.log_maps).abs().quantile(0.99) < 1e-3
    torch.testing.assert_close(scaled.gains, fit.gains * scale, rtol=1e-3, atol=0)


def test_the_order_of_contrasts_does_not_matter():
    this, order = head(0, T1W, T2W, PDW), [2, 0, 1]
    fit = DataConsistency()(**this["inputs"])
    this["inputs"] |= {name: this["inputs"][name][:, order] for name in ("image", "rows")}
    other = DataConsistency()(**this["inputs"])
    assert (other.estimate.log_maps - fit.estimate.log_maps).abs().quantile(0.99) < 1e-3
    torch.testing.assert_close(other.gains, fit.gains[:, order], rtol=1e-3, atol=0)


def test_subjects_do_not_see_each_other():
    one, two = head(0, T1W, T2W), head(1, T2W, FLAIR)
    inputs = {name: torch.cat([one["inputs"][name], two["inputs"][name]]) for name in ("image", "rows", "mask")}
    estimates = zip(one["inputs"]["estimate"], two["inputs"]["estimate"])
    (log_maps, cholesky), *both = DataConsistency()(Estimate(*map(torch.cat, estimates)), **inputs)
    for b, this in enumerate((one, two)):
        estimate, *alone = DataConsistency()(**this["inputs"])
        for together, own in zip((log_maps, cholesky, *both), (*estimate, *alone)):
            assert (together[b] == own[0]).all()


def test_a_volume_in_parts_is_the_volume(monkeypatch):
    this = head(0, T1W, T2W)
    volume = {name: this["inputs"][name].unflatten(-1, (10, 4)) for name in ("image", "mask")}
    volume["estimate"] = Estimate(*(part.unflatten(-1, (10, 4)) for part in this["inputs"]["estimate"]))
    whole = DataConsistency()(**volume, rows=this["inputs"]["rows"])
    monkeypatch.setattr(room, "CHUNK", 300)
    parts = DataConsistency()(**volume, rows=this["inputs"]["rows"])
    assert isinstance(parts, Fit) and parts.estimate.log_maps.shape == (1, 3, 40, 10, 4)
    torch.testing.assert_close(parts.estimate.log_maps, whole.estimate.log_maps, atol=1e-4, rtol=0)


def test_gains_are_not_dragged_along_by_what_the_prior_does_not_know():
    """White matter is known well, the rest is twice off; a gain from all signal would follow the rest."""
    ratios = []
    for seed in (3, 4, 5):
        this = head(seed, T1W, T2W, PDW)
        rest = (this["label"] > 0) & this["mask"]
        this["inputs"]["estimate"].log_maps[:, 1:, rest] += 0.7
        this["inputs"]["estimate"].cholesky[..., rest] *= 6
        maps, image = this["inputs"]["estimate"].log_maps, this["inputs"]["image"]
        signal = SignalModel()(maps.exp(), this["inputs"]["rows"], mask=this["inputs"]["mask"][:, 0])
        naive = ((signal * image).sum((2, 3)) / signal.square().sum((2, 3)) / this["gains"]).log()
        fit = DataConsistency()(**this["inputs"])
        off = (fit.gains / this["gains"]).log().abs()
        assert off.max() < 0.6 * naive.abs().max() and (off < 2 * fit.gain_sd).all()
        ratios.append([error(this, fit.estimate.log_maps, tissue) / error(this, maps, tissue) for tissue in (0, 1)])
    white, grey = (torch.stack(tissue) for tissue in zip(*ratios))
    assert (grey[:, 1:] < 0.3).all() and (white.mean(0) < 1).all(), "what was known well stays so"


def test_t1w_is_read_where_only_typical_tissue_is_known():
    """The prior of a fit without network, wide enough for linear steps past a null; but MPRAGE has none."""
    this = head(0, T1W, T2W, PDW, sd=torch.tensor([0.15, 0.45, 0.6]))
    this["inputs"]["estimate"].log_maps[:] = torch.tensor([0.8, 1.0, 0.1]).log().view(3, 1, 1)
    maps = DataConsistency()(**this["inputs"]).estimate.log_maps
    white, grey = (this["mask"] & (this["label"] == tissue) for tissue in (0, 1))
    found, true = ((x[0, 1, grey].median() - x[0, 1, white].median()).item() for x in (maps, this["true"]))
    assert found == pytest.approx(true, rel=0.3)


def test_an_artefact_does_not_carry_the_maps_away():
    this = head(0, T1W, T2W, PDW)
    clean = DataConsistency()(**this["inputs"]).estimate.log_maps
    this["inputs"]["image"][0, 1, 20:22, 20:22] *= 6
    changes = [DataConsistency(freedom=freedom)(**this["inputs"]).estimate.log_maps - clean for freedom in (4, 1e6)]
    moved = [change[..., 20:22, 20:22].abs().amax() for change in changes]
    assert moved[0] < 0.5 < moved[1]


def test_an_assumed_parameter_weakens_its_scan():
    this = head(0, PDW, T2W, gain=200.0)
    sure = DataConsistency()(**this["inputs"], gains=[0, 0])
    this["inputs"]["rows"][0, 1] = replace(T2W, provenance=T2W.provenance | {"te": "assumed"}).to_row()
    unsure = DataConsistency()(**this["inputs"], gains=[0, 0])
    sd = [fit.estimate.sd[0, 2, this["mask"]].median() for fit in (sure, unsure)]
    assert sd[1] > 1.2 * sd[0]


def test_a_misstated_echo_time_moves_t2_less_where_it_is_assumed():
    errors = []
    for origin in ("given", "assumed"):
        this = head(0, PDW, T2W, gain=200.0)
        stated = replace(T2W, te=0.11, provenance=T2W.provenance | {"te": origin})
        this["inputs"]["rows"][0, 1] = stated.to_row()
        errors.append(error(this, DataConsistency()(**this["inputs"], gains=[0, 0]).estimate.log_maps, 0)[2])
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.parametrize("scans", [(T1W, T2W, FLAIR), (T1W, T2W), (T2W,), (PDW, T2W, T1W, SHORT)], ids=len)
def test_intervals_cover_the_truth_where_no_gain_is_known(scans):
    inside, count = torch.zeros(3), 0
    for seed in range(6):
        this = head(10 + seed, *scans)
        fit = DataConsistency()(**this["inputs"])
        z = (fit.estimate.log_maps - this["true"]) / fit.estimate.sd
        inside, count = inside + (z[0, :, this["mask"]].abs() < 1.645).sum(1), count + int(this["mask"].sum())
    assert ((0.8 <= inside / count) & (inside / count <= 0.97)).all()

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

import pytest
import torch

from scripts.acquisition import ROW_SIZE, Acquisition, values
from scripts.render import SignalModel, profile_gain
from scripts.signal import SEQUENCES, Sequence

T1W = Acquisition("paper_mprage", te=0.003, tr=2.4, ti=1.0)
T1W_SHORT = Acquisition("paper_mprage", te=0.003, tr=2.4, ti=0.25)
T2W = Acquisition("paper_spin_echo", te=0.09, tr=4.0)
FLAIR = Acquisition("paper_flair", te=0.09, tr=9.0, ti=2.5)
MIXED = [[T1W, T2W, FLAIR, None], [FLAIR, None, T1W_SHORT, T2W], [T2W, FLAIR, T2W, T1W]]


def rows(*batch: list[Acquisition | None]) -> torch.Tensor:
    """Acquisition rows ``(B, M, A)``; None is an absent contrast."""
    return torch.stack([torch.stack([a.to_row() if a else torch.zeros(ROW_SIZE) for a in one]) for one in batch])


@pytest.fixture(params=[(6, 5), (3, 4, 5)], ids=["2d", "3d"])
def maps(request) -> torch.Tensor:
    """Maps ``(3, 3, ...)`` of three subjects, from short to long relaxation times."""
    unit = torch.rand(*request.param, 3, 3, generator=torch.Generator().manual_seed(0))
    low, high = torch.tensor([0.5, 0.3, 0.05]), torch.tensor([1.0, 4.0, 2.0])
    return (low + unit * (high - low)).movedim((-2, -1), (0, 1))


def test_mixed_batch_equals_row_by_row(maps):
    together = SignalModel(signed=True)(maps, rows(*MIXED))
    assert together.shape == (3, 4, *maps.shape[2:]) and together.dtype == torch.float32
    for b, acquisitions in enumerate(MIXED):
        for m, acquisition in enumerate(acquisitions):
            alone = torch.zeros(maps.shape[2:])
            if acquisition:
                sequence = SEQUENCES[acquisition.sequence]
                fields = {name: torch.tensor(getattr(acquisition, name)) for name in sequence.fields}
                alone = sequence.signal(*maps[b], **fields)
            torch.testing.assert_close(together[b, m], alone)


def test_permuting_contrasts_and_subjects_permutes_signals(maps):
    acquisition, model = rows(*MIXED), SignalModel()
    signal = model(maps, acquisition)
    assert torch.equal(model(maps, acquisition[:, [2, 0, 3, 1]]), signal[:, [2, 0, 3, 1]])
    assert torch.equal(model(maps[[1, 2, 0]], acquisition[[1, 2, 0]]), signal[[1, 2, 0]])


@pytest.mark.parametrize("gradients", [False, True])
def test_each_equation_sees_its_own_rows_only(maps, monkeypatch, gradients):
    seen = {}

    def spy_on(name: str, sequence: Sequence) -> Sequence:
        def spy(pd, t1, t2, **fields):
            seen.setdefault(name, []).extend(fields["tr"].flatten().tolist())
            return sequence.signal(pd, t1, t2, **fields)

        return sequence._replace(signal=spy)

    for name in {acquisition.sequence for one in MIXED for acquisition in one if acquisition}:
        monkeypatch.setitem(SEQUENCES, name, spy_on(name, SEQUENCES[name]))
    maps.requires_grad_(gradients)
    SignalModel()(maps, rows(*MIXED))
    expected = {}
    for acquisition in (acquisition for one in MIXED for acquisition in one if acquisition):
        expected.setdefault(acquisition.sequence, []).append(float(values(acquisition.to_row(), "tr")))
    assert {name: sorted(trs) for name, trs in seen.items()} == {n: sorted(trs) for n, trs in expected.items()}

    seen.clear()
    SignalModel()(maps, rows([T2W], [None], [T2W]))
    assert set(seen) == {"paper_spin_echo"}


def test_absent_contrasts_are_zero(maps):
    signal = SignalModel()(maps, rows(*MIXED))
    absent = torch.tensor([[acquisition is None for acquisition in one] for one in MIXED])
    assert signal[absent].abs().max() == 0 and signal[~absent].flatten(1).amax(1).min() > 0
    assert SignalModel()(maps, rows(*[[None]] * 3)).abs().max() == 0


def test_magnitude_unless_signed(maps):
    signed, magnitude = SignalModel(signed=True)(maps, rows(*MIXED)), SignalModel()(maps, rows(*MIXED))
    assert signed[1, 2].min() < -0.1, "a short inversion time leaves long T1 inverted"
    assert torch.equal(magnitude, signed.abs())


def test_air_is_dark_and_its_gradient_finite(maps):
    air = torch.zeros_like(maps[:, :1], dtype=torch.bool)
    air[:, :, 0] = True
    maps = maps.masked_fill(air, 0.0)
    maps[:, 0, 0] = 1.0  # A proton density without relaxation times is no tissue either.
    maps.requires_grad_()
    signal = SignalModel()(maps, rows(*MIXED))
    assert signal[:, :, 0].abs().max() == 0 and signal[0, :3, 1:].min() > 0
    signal.square().sum().backward()
    assert maps.grad.isfinite().all() and maps.grad[:, :, 1:].abs().amax() > 0
    assert maps.grad[:, :, 0].abs().max() == 0


def test_signals_are_float32_under_autocast(maps):
    plain = SignalModel()(maps, rows(*MIXED))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(SignalModel()(maps, rows(*MIXED)), plain)


@pytest.fixture
def scans(maps) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rendered contrasts, the same times a gain of their own, rows, and the gains ``(B, M)``."""
    acquisition = rows(*MIXED)
    signal = SignalModel()(maps, acquisition)
    gain = torch.rand(3, 4, generator=torch.Generator().manual_seed(1)) * 1000 + 1
    gain = gain * (acquisition[..., 0] > 0)
    return signal, gain.view(3, 4, *[1] * (signal.ndim - 2)) * signal, acquisition, gain


def test_known_gain_is_recovered_and_absent_gain_is_zero(scans):
    signal, target, acquisition, gain = scans
    absent = (gain == 0).view(3, 4, *[1] * (signal.ndim - 2))
    found = profile_gain(target.masked_fill(absent, 5.0), signal.masked_fill(absent, 1.0), acquisition)
    torch.testing.assert_close(found, gain)
    assert (found == 0).tolist() == [[acquisition is None for acquisition in one] for one in MIXED]


def test_gain_follows_its_contrast(scans):
    signal, target, acquisition, _ = scans
    order = [3, 1, 0, 2]
    permuted = profile_gain(target[:, order], signal[:, order], acquisition[:, order])
    torch.testing.assert_close(permuted, profile_gain(target, signal, acquisition)[:, order])


def test_gain_minimises_the_squared_error(scans):
    signal, target, acquisition, gain = scans
    target = target + 50 * torch.rand(target.shape, generator=torch.Generator().manual_seed(2))
    found = profile_gain(target, signal, acquisition).view(*gain.shape, *[1] * (signal.ndim - 2))

    def error(scale):
        return (scale * found * signal - target).double().square().flatten(2).sum(2)

    worse = torch.minimum(error(0.99), error(1.01))
    assert (error(1.0) < worse)[gain > 0].all()


def test_gain_is_never_negative(scans):
    signal, target, acquisition, _ = scans
    assert profile_gain(-target, signal, acquisition).abs().max() == 0


def test_gain_of_a_black_signal_is_finite(scans):
    signal, target, acquisition, _ = scans
    assert profile_gain(target, torch.zeros_like(signal), acquisition).abs().max() == 0

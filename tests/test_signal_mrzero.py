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

"""A second opinion: the same timing diagrams on MRzero-Core, a phase distribution graph simulator written by others.

MRzero-Core (AGPL) is no requirement of the bundle; ``pip install MRzeroCore==1.2.0`` after torch makes these tests run.
"""

from itertools import islice

import numpy as np
import pytest
import torch

from benchmarks.accuracy.compare import equation, percent
from tests.simulators import TISSUES, Configurations, sequences

TRAIN = {"echo_train_length": 4, "echo_spacing": 0.0225}

mr0 = pytest.importorskip("MRzeroCore", reason="MRzero-Core is not installed (pip install MRzeroCore==1.2.0)")


class Recorder:
    """Takes the events of :mod:`tests.simulators` and plays them on MRzero-Core, one tissue after the other.

    Two settings decide whether it agrees: ``normalized_grads=False``, because gradients normalised to the size of the
    phantom vanish where that is one voxel, of size 0; and no pruning of weak states, which long T2 cannot spare.
    """

    def __init__(self) -> None:
        self.repetitions: list[tuple[float, float, list[tuple[float, float, bool]]]] = []
        self.spoiler = 50

    def pulse(self, angle: float, phase: float = 0.0) -> None:
        self.repetitions.append((angle, phase % 360, []))

    def event(self, seconds: float = 0.0, cycles: float = 0.0, sampled: bool = False) -> None:
        self.repetitions[-1][2].append((seconds, cycles, sampled))

    def wait(self, seconds: float) -> None:
        self.event(seconds=seconds)

    def dephase(self, cycles: int = 1) -> None:
        self.event(cycles=cycles)

    def spoil(self) -> None:
        """A gradient longer than all before together, so that nothing it dephases comes back."""
        self.event(cycles=self.spoiler)
        self.spoiler *= 2

    def invert(self, efficiency: float = 1.0) -> None:
        assert efficiency == 1.0
        self.pulse(180.0)
        self.spoil()

    def transverse(self) -> np.ndarray:
        """Marks a sample; its value is known only when everything is played."""
        self.event(sampled=True)
        return np.zeros(len(TISSUES.pd))

    def play(self) -> np.ndarray:
        """All samples, complex, shape (samples, tissues)."""
        sequence = mr0.Sequence(normalized_grads=False)
        for angle, phase, events in self.repetitions:
            repetition = sequence.new_rep(len(events))
            repetition.pulse.angle = torch.deg2rad(torch.tensor(angle, dtype=torch.float32))
            repetition.pulse.phase = torch.deg2rad(torch.tensor(phase, dtype=torch.float32))
            times, cycles, sampled = (torch.tensor(values, dtype=torch.float32) for values in zip(*events, strict=True))
            repetition.event_time[:], repetition.gradm[:, 0], repetition.adc_usage[:] = times, cycles, sampled.int()
        return np.stack([self.samples(sequence, *map(float, tissue)) for tissue in zip(*TISSUES[:3], strict=True)], 1)

    @staticmethod
    def samples(sequence, pd: float, t1: float, t2: float) -> np.ndarray:
        phantom = mr0.CustomVoxelPhantom(
            [[0.0, 0.0, 0.0]], PD=pd, T1=t1, T2=t2, T2dash=1e9, D=0.0, voxel_size=1.0, voxel_shape="box"
        )
        data = phantom.build()
        graph = mr0.compute_graph(sequence, data, max_state_count=1000, min_state_mag=0.0)
        return mr0.execute_graph(graph, sequence, data, 0.0, 0.0, print_progress=False)[:, 0].numpy()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("spin_echo", {"te": 0.1, "tr": 2.0, "flip_angle": 90.0}),
        ("turbo_spin_echo", {"te": 0.09, "tr": 4.0, **TRAIN}),
        ("inversion_recovery", {"te": 0.02, "tr": 2.0, "ti": 0.3}),
        ("inversion_recovery_turbo_spin_echo", {"te": 0.09, "tr": 9.0, "ti": 2.5, **TRAIN}),
        ("double_inversion_recovery", {"te": 0.02, "tr": 5.0, "ti": 2.5, "ti2": 0.3}),
    ],
)
def test_refocused_sequences_agree(name, settings):
    recorder = Recorder()
    getattr(sequences, name)(recorder, **settings)  # two shots: after 90 degrees the second is the steady state
    samples = recorder.play()
    kept = round(settings["te"] / settings.get("echo_spacing", settings["te"])) - 1
    echo = samples[len(samples) // 2 + kept].real
    assert np.abs(percent(equation(name, **settings), echo)).max() < 0.1


def test_a_train_of_120_degrees_agrees():
    recorder = Recorder()
    sequences.echo_train(recorder, [120.0] * 8, 0.01)
    truth = np.array(sequences.echo_train(Configurations(TISSUES, 8), [120.0] * 8, 0.01))
    np.testing.assert_allclose(recorder.play().real, truth, rtol=1e-3)


def test_rf_spoiled_pulses_agree():
    recorder, spins, pulses = Recorder(), Configurations(TISSUES, 60), 60
    truth = []
    for phase in islice(sequences.rf_phases(50.0), pulses):
        for simulator in (recorder, spins):
            signal = sequences.excite(simulator, 20.0, phase)
            simulator.wait(0.018)
            simulator.dephase()
        truth.append(signal)
    np.testing.assert_allclose(np.abs(recorder.play()), np.abs(truth), rtol=1e-4, atol=1e-6)

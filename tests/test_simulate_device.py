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

"""The stream on a device other than the CPU, pretended: memory of the CPU under another device's name."""

from contextlib import nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from scripts.simulate import Scanner, SimulatedSlices, Slices

from .test_simulate_slices import ball_heads

DEVICE = torch.device("meta")
aten = torch.ops.aten


class Elsewhere(torch.Tensor):
    """A tensor that says it is on :data:`DEVICE`, and holds its numbers on the CPU."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def tolist(self) -> list:
        """Its numbers, which PyTorch gives of no subclass."""
        return self.held.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        with Pretend():
            return function(*args, **(kwargs or {}))


class Pretend(TorchDispatchMode):
    """Runs on the CPU what belongs there or on :data:`DEVICE`, and refuses to mix the two, as a GPU does."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        elsewhere = any(isinstance(x, Elsewhere) for x in inputs)
        if function is aten._local_scalar_dense.default:
            return function(args[0].held if elsewhere else args[0])
        if kwargs.get("device") is not None:
            elsewhere, kwargs["device"] = torch.device(kwargs["device"]) == DEVICE, torch.device("cpu")
        elif elsewhere and function is not aten.copy_.default:
            must = inputs[:1] if function in (aten.index.Tensor, aten.index_put_.default) else inputs
            strangers = [x for x in must if not isinstance(x, Elsewhere) and x.ndim]
            assert not strangers, f"{function} mixes devices: {[tuple(x.shape) for x in strangers]}"
        made = function(*_held(args), **_held(kwargs))
        if function.__name__.split(".")[0].endswith("_") and args and isinstance(args[0], Elsewhere):
            return args[0]
        return tree_map(lambda x: Elsewhere(x) if elsewhere and isinstance(x, torch.Tensor) else x, made)


def _held(x):
    return tree_map(lambda one: one.held if isinstance(one, Elsewhere) else one, x)


@pytest.fixture
def pretend(monkeypatch):
    tensor, as_tensor = torch.tensor, torch.as_tensor
    # What reaches PyTorch's kernels without a dispatch that could be seen here.
    monkeypatch.setattr(torch, "tensor", lambda data, device="cpu", **kwargs: tensor(data, **kwargs).to(device))
    monkeypatch.setattr(torch, "as_tensor", lambda data, device="cpu", **kwargs: as_tensor(data, **kwargs).to(device))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    with Pretend():
        yield


def test_mixing_devices_is_noticed(pretend):
    there = torch.ones(3, device=DEVICE)
    assert (there + torch.tensor(1.0)).sum().item() == 6
    with pytest.raises(AssertionError, match="mixes devices"):
        there + torch.ones(3)


@pytest.mark.parametrize("index", [0, 2])
def test_the_device_changes_where_a_sample_is_and_not_what_it_is(tmp_path_factory, pretend, index):
    options = {"anatomies": ball_heads(tmp_path_factory), "size": (48, 40), "thick": 1.0, "lesions": 1.0, "masses": 1.0}
    here, there = (
        SimulatedSlices(Slices(**options, device=device), Scanner(crop_size=(40, 32)), None, length=3)
        for device in ("cpu", DEVICE)
    )
    for epoch in range(4):
        here.epoch = there.epoch = epoch
        expected, sample = here[index], there[index]
        for key in set(expected) - {"index"}:
            assert sample[key].device == DEVICE, key
            torch.testing.assert_close(sample[key].cpu(), expected[key])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same_slices(tmp_path_factory):
    options = {"anatomies": ball_heads(tmp_path_factory), "size": (48, 40)}
    expected, made = Slices(**options)[1], Slices(**options, device="cuda")[1]
    for key in ("maps", "signal"):
        different = (made[key].cpu() - expected[key]).abs() > 1e-4 * expected[key].abs().max()
        # A point on a border may change sides by rounding.
        assert different.float().mean() < 1e-3

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

"""What the iterations of both stages share."""

from collections.abc import Sequence

import torch
from ignite.engine import Engine
from torch import Tensor, nn

from ..errors import UserError


def to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch on the device."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


def freeze(network: nn.Module, names: Sequence[str]) -> nn.Module:
    """The network, whose parameters that start with one of the names get no gradient and stay as they are.

    Raises:
        UserError: for a name that no parameter starts with.
    """
    parameters = dict(network.named_parameters())
    for start in names:
        if not any(name.startswith(start) for name in parameters):
            known = ", ".join(dict.fromkeys(name.split(".")[0] for name in parameters))
            raise UserError("frozen", repr(start), f"use names of {known}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(not name.startswith(tuple(names)))
    return network


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, network: nn.Module, max_norm: float) -> None:
    """One optimiser step down the loss, gradients clipped to ``max_norm``; none where they are not finite."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    # The norm of averaged gradients is the same on every rank, so all ranks leave out the same steps.
    if torch.nn.utils.clip_grad_norm_(network.parameters(), max_norm).isfinite():
        optimizer.step()


class Handlers:
    """Several handlers as one, attached in their order.

    MONAI's property check reads the ``_target_`` of every entry of a config's list of handlers. An object that other
    nodes refer to as well therefore cannot stand in that list by its name. It can stand in this one.

    Args:
        handlers: whatever has ``attach``; None, as a disabled node gives, is left out.
    """

    def __init__(self, handlers: Sequence[object]) -> None:
        self.handlers = [handler for handler in handlers if handler is not None]

    def attach(self, engine: Engine) -> None:
        """Attaches them."""
        for handler in self.handlers:
            handler.attach(engine)

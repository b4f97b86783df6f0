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

"""The optimiser of the transformer."""

from collections.abc import Iterable

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices of a transformer's blocks, AdamW for everything else; both with one learning rate.

    Muon makes each update of a matrix orthogonal (Jordan et al. 2024), scaled so that a learning rate for AdamW fits
    (Liu et al. 2025, arXiv:2502.16982). ``docs/training_log.md`` says what it was worth to the generator.

    Args:
        params: names and parameters, as ``named_parameters`` gives them.
        lr: learning rate.
        blocks: what stands in the names of the blocks' parameters.
    """

    def __init__(self, params: Iterable[tuple[str, nn.Parameter]], lr: float, blocks: str = "blocks.") -> None:
        named = list(params)
        super().__init__([parameter for _, parameter in named], {"lr": lr})
        inside = [blocks in name and parameter.ndim == 2 for name, parameter in named]
        matrices = [parameter for (_, parameter), is_inside in zip(named, inside) if is_inside]
        others = [parameter for (_, parameter), is_inside in zip(named, inside) if not is_inside]
        self.parts = (
            torch.optim.Muon(matrices, lr, weight_decay=1e-2, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr, betas=(0.9, 0.99), weight_decay=1e-3),
        )

    def step(self, closure=None) -> None:
        """One step of both, with the learning rate of this optimiser, which a scheduler may change."""
        for part in self.parts:
            part.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            part.step(closure)

    def state_dict(self) -> dict:
        """The state of both, and the learning rate."""
        return {**super().state_dict(), "parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict) -> None:
        """Takes over what :meth:`state_dict` gave."""
        own = {name: value for name, value in state_dict.items() if name != "parts"}
        super().load_state_dict(own)
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)

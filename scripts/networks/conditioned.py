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

"""What a diffusion network is told: numbers by name, any of which may be missing."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ..errors import UserError

NAMES = "column_names"
SEPARATOR = "\t"
"""Stands between names of columns; the header of a ``participants.tsv`` has it there too."""


class Conditioned(nn.Module):
    """A diffusion network that is told numbers by name: conditions of its own, then columns of ``participants.tsv``.

    Conditions are in the units of the training data, NaN where nothing is asked. Weights say what they were trained on:
    ``scale_factor`` multiplies latents before diffusion, and samples are divided by it before decoding. ``vae_digest``
    is the :func:`scripts.networks.weights.weights_digest` of what encoded them, zeros where that is not known.
    ``condition_mean`` and ``condition_sd`` standardise the conditions. Where there are columns, ``column_names`` and
    ``column_range``, their lowest and highest value in training, stand beside them.
    """

    FIXED: Mapping[str, tuple[float, float]] = MappingProxyType({})
    """Name of a condition that is not measured -> what stands for its mean and standard deviation."""

    def register_conditions(self, own: Sequence[str], columns: Sequence[str]) -> None:
        """Makes room for the conditions in the weights; call it once, after the constructor of the network.

        Args:
            own: names of the conditions that the bundle measures itself.
            columns: names of columns.

        Raises:
            UserError: for a name that stands twice.
        """
        self.conditions, self.columns = (*own, *columns), tuple(columns)
        twice = next((name for name in self.conditions if self.conditions.count(name) > 1), None)
        if twice is not None:
            raise UserError("columns", f"two conditions named {twice!r}", "rename the column, or name it once")
        mean, sd = zip(*(self.FIXED.get(name, (0.0, 1.0)) for name in self.conditions)) if self.conditions else ((), ())
        measured = any(name not in self.FIXED for name in self.conditions)
        self.register_buffer("condition_mean", torch.tensor(mean), persistent=measured)
        self.register_buffer("condition_sd", torch.tensor(sd), persistent=measured)
        self.register_buffer("scale_factor", torch.tensor(1.0))
        self.register_buffer("vae_digest", torch.zeros(32, dtype=torch.uint8))
        if columns:
            self.register_buffer(NAMES, torch.tensor([*SEPARATOR.join(columns).encode()], dtype=torch.uint8))
            self.register_buffer("column_range", torch.zeros(len(columns), 2))

    def measure(self, values: Mapping[str, Tensor]) -> None:
        """Takes over what standardises conditions from training samples.

        Args:
            values: name of a condition -> its values ``(N,)``, NaN where unknown, at least one of them known.
        """
        for name in values.keys() - self.FIXED.keys():
            known = values[name][~values[name].isnan()].double()
            number, varies = self.conditions.index(name), known.min() < known.max()
            self.condition_mean[number] = known.mean()
            self.condition_sd[number] = known.std(correction=0) if varies else 1.0
            if name in self.columns:
                self.column_range[self.columns.index(name)] = torch.stack(known.aminmax())

    @property
    def column_ranges(self) -> dict[str, tuple[float, float]]:
        """Name of a column -> its lowest and highest value in training."""
        return dict(zip(self.columns, map(tuple, self.column_range.tolist()))) if self.columns else {}

    def standardise(self, asked: Tensor) -> Tensor:
        """Standardised conditions, 0 where nothing is asked, then whether something is: ``(B, C)`` -> ``(B, 2C)``."""
        known = ~asked.isnan()
        values = torch.where(known, (asked - self.condition_mean) / self.condition_sd, 0)
        return torch.cat([values, known], 1)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *others) -> None:
        """As torch has it, but says in a line that weights were trained with other columns."""
        names = state_dict.get(prefix + NAMES)
        trained = () if names is None else tuple(bytes(names.tolist()).decode(errors="replace").split(SEPARATOR))
        if trained != self.columns:
            found = f"{_listed(self.columns)} with weights trained with {_listed(trained)}"
            do = f"name {_listed(trained)} in this order" if trained else "leave it out"
            raise UserError("columns", found, f"{do}, or use other weights")
        super()._load_from_state_dict(state_dict, prefix, *others)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"

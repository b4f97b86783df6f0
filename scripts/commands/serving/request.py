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

"""What a request asks for: which output, of which acquisition, the estimate or a draw."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import NamedTuple

from ...acquisition import SIDECAR_KEYS, RenderRequest, load_render
from ...acquisition.protocols import suggest
from ...bids.names import SUFFIXES
from ...errors import UserError
from ...tissue import MAPS

WANTED = ("te", "tr", "ti", "flip_angle")
"""Parameters of the contrast to render, beside ``sequence`` [s, degrees]."""
PARAMETERS = ("output", "sequence", *WANTED, "seed", "protocol", "acquisitions", "files")
OUTPUTS = (*map(str.lower, MAPS), *(f"{name.lower()}_sd" for name in MAPS), "signal")


class Request(NamedTuple):
    """A request whose parameters were checked.

    Attributes:
        output: one of :data:`OUTPUTS`.
        contrast: what to render; None unless the output is ``signal``.
        seed: of a draw from the posterior of the maps; None for the estimate itself.
    """

    output: str
    contrast: RenderRequest | None
    seed: int | None


def read_request(parameters: Mapping) -> Request:
    """The request in the parameters of a call; what belongs to the server itself is passed over.

    Forms of user interfaces send text for numbers and empty text for nothing; both are read as they are meant.

    Args:
        parameters: those of :data:`PARAMETERS` that were given, among others; of a list, as an interface's choice has
            for its default, the first counts.

    Raises:
        UserError: for a mistyped name, an unknown output, and a contrast that cannot be rendered.
    """
    for name in parameters:
        near = get_close_matches(name.lower(), PARAMETERS, 1, cutoff=0.75)
        if near and name not in PARAMETERS:
            raise UserError(name, "a parameter of no such name", f"use {near[0]}")
    output = parameters.get("output")
    output = output[0] if isinstance(output, list) and output else output
    if output not in OUTPUTS:
        raise UserError("output", repr(output), suggest(str(output), OUTPUTS))
    return Request(output, _contrast(parameters) if output == "signal" else None, _seed(stated(parameters, "seed")))


def stated(parameters: Mapping, name: str) -> object:
    """A parameter's value; None where it is absent or empty."""
    value = parameters.get(name)
    return None if value == "" else value


def number(value: object) -> object:
    """The number that a text stands for; anything else as it is, to be refused where numbers are checked."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _contrast(parameters: Mapping) -> RenderRequest:
    """The contrast to render; its equation is named, or follows from a suffix and the times."""
    sequence = stated(parameters, "sequence")
    if sequence is None:
        raise UserError("sequence", "nothing", f"name a signal equation, or one of {', '.join(_suffixes())}")
    wanted = {SIDECAR_KEYS[name]: number(stated(parameters, name)) for name in WANTED}
    # A named equation leaves nothing for the suffix to tell.
    kind = {"suffix": sequence} if sequence in _suffixes() else {"suffix": "T1w", "sequence": sequence}
    keys = {key: value for key, value in wanted.items() if value is not None}
    return load_render([{"name": "signal", **kind, **keys}])[0]


def _suffixes() -> tuple[str, ...]:
    return tuple(dict.fromkeys(SUFFIXES.values()))


def _seed(value: object) -> int | None:
    value = int(value) if isinstance(value, str) and value.isdecimal() else value
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise UserError("seed", repr(value), "use a whole number of at least 0, or none for the estimate itself")
    return value

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

"""The contrasts a user asks for: a preset, a list in the config, or a JSON file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from .keys import READ_KEYS
from .protocols import FOLDER, NAMES, REMARKS, check_keys, load_protocol, read_json, suggest
from .record import UNKNOWN, Acquisition
from .sidecar import from_sidecar


class RenderRequest(NamedTuple):
    """One contrast to render: ``name`` is its BIDS ``acq-`` label."""

    name: str
    suffix: str
    acquisition: Acquisition


def load_render(render: str | Path | Sequence[Mapping], equations: str = "exact") -> list[RenderRequest]:
    """The contrasts to render, checked.

    Args:
        render: name of a preset in ``presets.json`` or of a protocol (all its contrasts), a JSON file, or the list
            itself: objects with ``name`` (letters and digits, each once), BIDS ``suffix``, BIDS keys (``EchoTime``,
            ...) and, where these do not tell, ``sequence``.
        equations: as in :func:`from_sidecar`.

    Raises:
        UserError: for unknown names, broken files, incomplete or physically impossible requests.
    """
    where, requests = "render", render
    if isinstance(render, (str, Path)):
        presets, where = read_json(FOLDER / "presets.json"), str(render)
        if where in presets:
            requests = presets[where]
        elif where in NAMES:
            name = re.sub("[^A-Za-z0-9]", "", where)
            entries = load_protocol(where).items()
            requests = [{**keys, "name": name + suffix, "suffix": suffix} for suffix, keys in entries]
        elif Path(where).suffix == ".json":
            requests = read_json(where, (dict, list))
        else:
            raise UserError(
                "render", repr(where), suggest(where, (*presets, *NAMES), "or a list of requests, or a JSON file")
            )
        requests = requests.get("render") if isinstance(requests, dict) else requests
    if not isinstance(requests, Sequence) or isinstance(requests, str):
        raise UserError(where, repr(requests), "give a list of requests")
    loaded = [_request(request, f"{where}: {i}", equations) for i, request in enumerate(requests)]
    names = [request.name.lower() for request in loaded]
    for request in loaded:
        if names.count(request.name.lower()) > 1:
            raise UserError(where, f"the name {request.name} twice", "give every request a name of its own")
    return loaded


def _request(request: object, where: str, equations: str) -> RenderRequest:
    if not isinstance(request, Mapping):
        raise UserError(where, repr(request), "give an object with name, suffix and BIDS keys")
    check_keys(request, ("name", "suffix", *READ_KEYS, *REMARKS), where)
    for key in ("name", "suffix"):
        if not isinstance(request.get(key), str) or not re.fullmatch("[A-Za-z0-9]{1,64}", request[key]):
            found = repr(request[key]) if key in request else "nothing"
            raise UserError(f"{where}: {key}", found, "give letters and digits only, at most 64")
    where = f"render {request['name']}"
    acquisition = from_sidecar(request["suffix"], request, where, {}, equations)
    if acquisition.sequence == UNKNOWN:
        do = "name a sequence, or leave it out where suffix and times tell it"
        raise UserError(where, f"the sequence {UNKNOWN}, which no signal equation renders", do)
    return RenderRequest(request["name"], request["suffix"], acquisition)

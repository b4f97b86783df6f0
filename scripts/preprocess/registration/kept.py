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

"""Motions that are kept on disk: two scans are registered once, whatever their files are called."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
from monai.data import MetaTensor

from ...files import write_atomically
from .alignment import SOFTWARE
from .rigid import Motion, Refused

VERSION = 1
"""Counts the changes after which two scans are registered otherwise."""


def kept_motion(
    folder: Path, register: Callable[[MetaTensor, MetaTensor], Motion], moving: MetaTensor, reference: MetaTensor
) -> Motion:
    """What ``register(moving, reference)`` returns, from a file named by the content of both scans where there is one.

    Raises:
        Refused: as ``register`` does; that is kept too.
        UserError: when the folder cannot be written.
    """
    path = folder / f"{_digest(moving, reference)}.json"
    found = _read(path)
    if found is None:
        try:
            motion = register(moving, reference)
            found = {**motion._asdict(), "matrix": motion.matrix.tolist()}
        except Refused as error:
            found = {"refused": str(error)}
        write_atomically(path, json.dumps(found))
    if "refused" in found:
        raise Refused(found["refused"])
    return Motion(**{**found, "matrix": np.array(found["matrix"])})


def _read(path: Path) -> dict | None:
    """What is kept; None where it is missing or damaged."""
    try:
        found = json.loads(path.read_text())
        return found if found.keys() in ({"refused"}, {*Motion._fields}) else None
    except (OSError, ValueError, AttributeError):
        return None


def _digest(*images: MetaTensor) -> str:
    content = sha256(
        f"{VERSION} {SOFTWARE} {[(*image.shape, *image.affine.ravel().tolist()) for image in images]}".encode()
    )
    for image in images:
        content.update(np.ascontiguousarray(image.as_tensor().numpy()))
    return content.hexdigest()

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

"""Weights on disk: loading, their sha256, and the frozen encoder of stage 2."""

import hashlib
import json
import logging
import os
import zipfile
from pathlib import Path

import ignite.distributed as idist
import torch
from torch import Tensor, nn

from ..errors import UserError

logger = logging.getLogger(__name__)
RECORD = "sha256.json"
"""Beside weights that are shipped: name of each file -> its sha256."""
BEHIND_THE_LATENT = ("decoder.", "post_quant_conv.", "sharpness", "skips.", "spread.")
"""Prefixes of the weights of a VAE or codec that its latents do not depend on."""


def load_file(path: str | os.PathLike, how_to_make: str) -> dict:
    """Loads a torch file with ``weights_only=True``, once the checksums in it are right.

    Args:
        path: the file.
        how_to_make: what a user does to get it, as an imperative.

    Raises:
        UserError: when it is missing, damaged or no torch file.
    """
    if not Path(path).is_file():
        raise UserError(path, "no such file", how_to_make)
    try:
        damaged = zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip()
        if not damaged:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(path, f"no readable weights ({type(error).__name__})", how_to_make) from error
    raise UserError(path, f"a damaged file (the checksum of {damaged} is wrong)", f"copy it anew, or {how_to_make}")


def first_existing(paths: list[str]) -> str:
    """The first of these files that exists; the last where none does."""
    return next((path for path in paths if Path(path).is_file()), paths[-1])


def load_weights(network: nn.Module, path: str | os.PathLike, how_to_make: str) -> str:
    """Loads a raw state dict strictly, prints its path and sha256, and returns the sha256 of the file.

    Weights beside :data:`RECORD` that are not those recorded are somebody's own, since the file is undamaged: a warning
    names both. ``models/model.pt`` is where MONAI Label and the model zoo look for weights, whoever trained them.

    Raises:
        UserError: when the file is missing, broken, made for another architecture or has weights that are not finite.
    """
    state = load_file(path, how_to_make)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[-1].strip()
        do = f"match the widths, or {how_to_make}"
        raise UserError(path, f"weights of another network ({reason})", do) from error
    broken = [name for name, weight in network.state_dict().items() if not weight.isfinite().all()]
    if broken:
        raise UserError(path, f"weights that are not finite, such as {broken[0]}", f"use others, or {how_to_make}")
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if idist.get_rank() == 0:
        print(f"weights {path} sha256 {sha256}", flush=True)
        recorded = read_record(Path(path).parent).get(Path(path).name, sha256)
        if recorded != sha256:
            do = "if they are yours, record them with configs/convert.json (run promote); else copy the file anew"
            logger.warning(f"{path}: not the weights with sha256 {recorded} that were shipped; {do}")
    return sha256


def read_record(folder: Path) -> dict[str, str]:
    """The sha256 of each file of weights in this folder that was put there by ``promote``; empty without a record.

    Raises:
        UserError: for a damaged record.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()).items())
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(path, f"no list of checksums ({type(error).__name__})", "remove it, or copy it anew") from error


def weights_digest(network: nn.Module) -> Tensor:
    """sha256 of a network's weights rounded to float16 ``(32,)`` uint8: the same however they are stored.

    Weights behind the latent are left out, so a decoder can be trained further without new latents.
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if not name.startswith(BEHIND_THE_LATENT):
            digest.update(name.encode() + value.detach().cpu().half().contiguous().numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)

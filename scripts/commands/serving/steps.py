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

"""The three steps of a server's answer, as MONAI Label runs them: read the request, estimate maps, make the image.

MONAI Label imports ``scripts`` anew for each of them, so only plain values and tensors pass from one to the next.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten

import numpy as np
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms.utils import Transform
from monai.utils import optional_import
from torch import nn

from ...acquisition import to_sidecar
from ...bids import resolve, session_record
from ...errors import UserError, find_user_error
from ...estimate import Estimator
from ...estimate.grids import on_grid
from ...preprocess import log_sd_of
from .answer import answer, pack, unpack
from .request import read_request
from .scans import read_scans
from .server import check_server_keys, request_files

HTTPException, SERVED = optional_import("starlette.exceptions", name="HTTPException")
"""The one exception whose text a web server hands on to who asked."""
WRONG_REQUEST, LONGEST_ANSWER = 400, 1000
"""Status of a refusal, and its letters."""


class ReadRequestd(Transform):
    """Reads a request: checks all of it, loads its scans and prepares them as the scans of a folder are.

    Takes ``image`` (the path of a file) and the parameters of :data:`.request.PARAMETERS`. Replaces
    ``image`` by the aligned, scaled contrasts ``(M, X, Y, Z)``, which carry the rest of their record in their metadata;
    adds ``request``, and ``grid``: shape and affine of the answer, and its affine where the contrasts are aligned.

    Args:
        preprocessing: record of a session -> ``image``, ``mask``, ``acquisition``, ``alignment``,
            ``bias_sd``, see :mod:`scripts.preprocess`.

    Raises:
        UserError: for whatever is wrong with a request; where a web server runs, as its exception of status 400.
    """

    def __init__(self, preprocessing: Callable[[dict], dict]) -> None:
        self.preprocessing = preprocessing

    def __call__(self, data: dict) -> dict:
        with told_to_client():
            check_server_keys(data)
            request = read_request(data)
            files = request_files(data["image"], request.files)
            prepared = prepare(self.preprocessing, files, request.acquisitions, request.protocol)
        return {**data, **prepared, "request": request}


def prepare(
    preprocessing: Callable[[dict], dict],
    files: Sequence[Path],
    acquisitions: Sequence[Mapping] | None,
    protocol: str | None,
) -> dict:
    """``image`` and ``grid`` as :class:`ReadRequestd` describes them, of the scans of :func:`.scans.read_scans`.

    Raises:
        UserError: for scans that cannot be used.
    """
    with TemporaryDirectory() as folder, _named_by_files((Path(folder), *(file.parent for file in files))):
        session, first = read_scans(files, acquisitions, protocol, Path(folder))
        volume = preprocessing(session_record(session, resolve(session, protocol)))
    motion = volume["alignment"].motions.get(0)
    placed = first.affine if motion is None else np.linalg.inv(motion.matrix) @ first.affine
    scans = volume.pop("image")
    image_of = MetaTensor(scans.as_tensor(), affine=scans.affine, meta={"volume": volume})
    return {"image": image_of, "grid": (first.shape[:3], first.affine, placed)}


class MapsInferer(Inferer):
    """Maps of the volume that :class:`ReadRequestd` prepared, by the same estimator as those of a folder.

    Args:
        inferer: a :class:`scripts.networks.inferers.MapInferer`.
        posterior: a :class:`scripts.estimate.Posterior`.
        data_consistency: whether it is used.
    """

    def __init__(self, inferer: Callable, posterior: Callable, data_consistency: bool | str = True) -> None:
        self.inferer, self.posterior, self.data_consistency = inferer, posterior, data_consistency

    def __call__(self, inputs: MetaTensor, network: nn.Module) -> MetaTensor:
        """Packed maps ``(1, 10, X, Y, Z)``, see :func:`.answer.pack`, and in their metadata ``about``.

        Args:
            inputs: the contrasts ``(1, M, X, Y, Z)`` on any device.
            network: a physics VAE on its device.
        """
        volume = {**inputs.meta["volume"], "image": inputs[0].cpu()}
        names = [f"contrast {number + 1}" for number in range(len(volume["acquisitions"]))]
        estimate = Estimator(network, self.inferer, self.posterior, self.data_consistency, correlations=True)
        with told_to_client():
            maps, about = estimate(volume, names)
        packed = pack(maps)[None]
        acquisitions = dict(zip(names, map(to_sidecar, volume["acquisitions"])))
        packed.meta["about"] = {
            "Acquisitions": acquisitions,
            "Alignment": {name: volume["alignment"].caption(number) for number, name in enumerate(names)},
            "BiasFieldLogSD": log_sd_of(names, volume["bias_sd"]),
            **about,
            "StandardDeviations": estimate.sd_note,
        }
        return packed


class AnswerRequestd(Transform):
    """Makes the image that was asked for, ``pred (1, X, Y, Z)`` on the grid of the request's image.

    ``image``, whose grid a server writes results on, becomes it too; ``result`` says how the maps came about.
    """

    def __call__(self, data: dict) -> dict:
        shape, affine, placed = data["grid"]
        maps = on_grid(unpack(data["pred"]), shape, placed)
        meta = {"spatial_shape": shape, "original_affine": affine}
        pred = MetaTensor(answer(data["request"], maps)[None], affine=affine, meta=meta)
        return {**data, "pred": pred, "image": pred, "result": data["pred"].meta["about"]}


@contextmanager
def told_to_client() -> Iterator[None]:
    """Hands a user error on to who sent the request, where a web server would only say that it failed."""
    try:
        yield
    except UserError as error:
        if not SERVED:
            raise
        raise HTTPException(WRONG_REQUEST, shorten(str(error), LONGEST_ANSWER, placeholder=" …")) from error


@contextmanager
def _named_by_files(folders: Sequence[Path]) -> Iterator[None]:
    """Takes the user error out of others, and the server's folders out of it: a client knows its files by name."""
    try:
        yield
    except (RuntimeError, UserError) as error:
        # MONAI's Compose wraps whatever its transforms raise.
        if (found := find_user_error(error)) is None:
            raise
        within = re.compile("|".join(rf"{re.escape(str(folder))}/(?:\d+/)?" for folder in folders))
        raise UserError(*(within.sub("", str(part)) for part in (found.where, found.found, found.do))) from None

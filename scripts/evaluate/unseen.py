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


"""Scans that were left out, predicted from the others of their session, and scans that are reconstructed.

Every contrast, or every protocol, of a session is left out in turn. Maps are estimated from the remaining scans, the
left-out ones are rendered from them and compared with what was measured.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from monai.data import MetaTensor
from torch import Tensor, nn
from tqdm import tqdm

from ..acquisition import UNKNOWN, to_sidecar
from ..bids import resolve
from ..errors import UserError, log_failure
from ..estimate import Posterior
from ..estimate.posterior import CLASSES
from ..files import check_writable, lock_folder, write_atomically
from ..networks.weights import load_weights
from ..preprocess import ScaleContrastsd
from ..tissue import region_numbers
from ..train import VAEObjective
from .contrasts import closest_rescaled, correlation, nrmse, render, ssim, with_gain
from .estimators import BOTH, FLAT, NETWORK, Found, NetworkEstimator, Scans, refine, subset
from .page import write_page
from .reconstruction import published_metrics, scan_names
from .unseen_tables import NOTHING, draw, parts

RESCALED, MONOTONE, PAPER = "closest input, rescaled", "closest input, best monotone curve", "published equations"
"""Ways to predict a scan besides those of :mod:`.estimators`."""
TISSUES = region_numbers("WM", "GM", "CSF")
GAINS = ("profiled", "unit")
BATCH = 4
logger = logging.getLogger(__name__)
FEWEST = 20
"""Voxels of a tissue that an error is given for."""


class Sliced(NamedTuple):
    """Axial slices of one session.

    Attributes:
        scans: what is measured.
        paper: rows of the same scans by the published equations ``(1, M, A)``; None where these have none.
        labels: of tissues ``(X, Y, S)``, see :data:`TISSUES`; None where they are not known.
        names: of the scans.
    """

    scans: Scans
    paper: Tensor | None
    labels: Tensor | None
    names: list[str]


@dataclass(eq=False)
class UnseenContrasts:
    """Evaluates weights on the sessions of a folder: reconstruction, and prediction of scans that are left out.

    The result of each session is kept in ``sub-XX.json`` (or ``sub-XX_ses-YY.json``), and sessions that have one are
    not evaluated again. Building this object reads nothing.

    Args:
        sessions: records, see :func:`scripts.bids.session_record`.
        preprocessing: record -> volume, see :mod:`scripts.preprocess`.
        network: the physics VAE.
        weights: its state dict's file.
        posterior: for data consistency.
        output_dir: folder of the results.
        slices: axial slices of each session, evenly spread over the head.
        left_out: name of a protocol -> ends of the BIDS names of its scans, left out together; None leaves out each
            contrast by itself.
        gain: ``profiled`` or ``unit``, for the published definitions of reconstruction.
        protocol: for scans without a sidecar.
        seed: of samples of the posterior.
        register: which scans the preprocessing registers, for the record.
        correct_bias: whether the preprocessing corrects bias fields, for the record.
        overwrite: evaluate all sessions anew.

    Attributes:
        failures: why sessions have no result, by name.
    """

    sessions: Sequence[dict]
    preprocessing: Callable[[dict], dict]
    network: nn.Module
    weights: str | Path
    posterior: Posterior
    output_dir: str | Path
    slices: int = 4
    left_out: Mapping[str, Sequence[str]] | None = None
    gain: str = "profiled"
    protocol: str | None = None
    seed: int = 0
    register: bool | str = "auto"
    correct_bias: bool = True
    overwrite: bool = False
    failures: dict[str, Exception] = field(default_factory=dict, init=False)

    @torch.no_grad()
    def run(self) -> Path:
        """Evaluates what is missing and writes the page.

        Raises:
            UserError: for unusable weights, a gain that a scan left out cannot have, scans to leave out that no session
                has or that are all of one, and where no session can be evaluated. What is wrong with one session only
                stands in ``failures``, and on the page.
        """
        if self.gain not in GAINS:
            do = f"use one of {', '.join(GAINS)}; a network regresses gains of scans that it is shown"
            raise UserError("gain", repr(self.gain), do)
        records, root = [*self.sessions], check_writable(self.output_dir)
        sha256 = load_weights(self.network, self.weights, "name weights of the physics VAE with --weights")
        self.network.eval()
        self._check_groups([scan_names(record["session"]) for record in records])
        settings = {"slices": self.slices, "left_out": self.left_out, "seed": self.seed, "gain": self.gain}
        settings |= {"register": self.register, "correct_bias": self.correct_bias, "weights": sha256}
        content, picture, drawn = [], root / "predictions.png", not self.overwrite
        self.failures = {}
        for name, error in getattr(self.sessions, "failures", {}).items():
            self.failures[name] = log_failure(logger, name, error)
        with lock_folder(root):
            # All of them before any work: what was made with other settings is refused at once.
            known = [self._known(root, record, settings) for record in records]
            for record, (facts, found) in zip(tqdm(records, "sessions", unit="session"), known):
                name = record["session"].name
                try:
                    if found is None:
                        _refuse_unknown(record)
                        sliced = slices_of(self.preprocessing(record), record, self.slices, self.protocol)
                        rows, shown = self.evaluate(sliced)
                        found = {"settings": facts, "rows": rows, "published": self._published(sliced.scans)}
                        write_atomically(root / f"{name}.json", json.dumps(found, indent=2) + "\n")
                        if not (drawn and picture.exists()):
                            write_atomically(picture, draw(sliced.scans, sliced.names, shown))
                            drawn = True
                except Exception as error:
                    self.failures[name] = log_failure(logger, name, error)
                else:
                    content.append(found)
            if not content:
                raise UserError(root, "no session that could be evaluated", "see the reasons above")
            found = parts(content, picture.read_bytes() if picture.exists() else None, self.failures)
            # A folder's place is nobody's business.
            settings["weights"] = f"{Path(self.weights).name}, sha256 {sha256}"
            facts = {key: value if key == "weights" else json.dumps(value) for key, value in settings.items()}
            page = write_page(root, "evaluation", "Reconstruction and prediction of scans", found, facts)
        print(page, flush=True)
        return page

    def _check_groups(self, sessions: Sequence[Sequence[str]]) -> None:
        """Refuses groups of scans to leave out that no session has, or that are all scans of one."""
        found = {group for names in sessions for group in self.groups(names)}
        for group in self.left_out or {}:
            if group not in found:
                do = f"use ends of {', '.join(dict.fromkeys(name for names in sessions for name in names))}"
                raise UserError("left_out", f"{group!r}, whose scans no session has", do)

    def _known(self, root: Path, record: dict, settings: Mapping) -> tuple[dict, dict | None]:
        """What the results of a session depend on, and these results where they are there."""
        facts = json.loads(json.dumps({**settings, "acquisitions": [*map(to_sidecar, record["acquisitions"])]}))
        path = root / f"{record['session'].name}.json"
        if self.overwrite or not path.exists():
            return facts, None
        known = json.loads(path.read_text(encoding="utf-8"))
        if known.get("settings") != facts:
            raise UserError(path, "results of other settings", "choose another --output_dir, or give --overwrite true")
        return facts, known

    def evaluate(self, sliced: Sliced) -> tuple[list[dict], dict[str, dict[str, Tensor]]]:
        """One row per left-out group, way and contrast; and images to show: contrast -> way -> ``(X, Y, S)``."""
        scans, names, rows = sliced.scans, sliced.names, []
        shown: dict[str, dict[str, Tensor]] = {name: {} for name in names}
        whole = dict(self.ways(sliced, list(range(len(names)))))
        labels = sliced.labels
        if labels is None:
            shares = whole[BOTH].shares
            labels = torch.zeros(shares.shape[1:], dtype=torch.int64)
            for name, number in TISSUES.items():
                labels[shares[CLASSES.index(name)] > 0.5] = number
        for group, out in {NOTHING: [], **self.groups(names)}.items():
            given = [number for number in range(len(names)) if number not in out]
            if not given:
                continue
            targets = out or given
            found = whole if group == NOTHING else dict(self.ways(sliced, given))
            for number in targets:
                target = scans.image[0, number]
                scores: dict[str, dict[str, float]] = {}
                # Fat sets the unit of a head; inside the brain it is that of the brain.
                for mask in (scans.mask[0], scans.mask[0] & (labels > 0)):
                    images = {way: self.rendered(one, way, sliced, number, mask) for way, one in found.items()}
                    if out:
                        _, line, curve = closest_rescaled(target, scans.image[0, given], mask)
                        images = {RESCALED: line, MONOTONE: curve} | images
                    for way, image in images.items():
                        if way not in scores:
                            scores[way] = in_head(target, image, mask)
                            shown[names[number]] |= {way: image} if out else {}
                        else:
                            scores[way] |= in_tissues(target, image, labels * mask)
                rows += [
                    {"left out": group, "contrast": names[number], "way": way} | one for way, one in scores.items()
                ]
        return rows, shown

    def groups(self, names: Sequence[str]) -> dict[str, list[int]]:
        """Name of what is left out -> numbers of its scans."""
        if self.left_out is None:
            return {name: [number] for number, name in enumerate(names)} if len(names) > 1 else {}
        chosen = {
            group: [number for number, name in enumerate(names) if name.endswith(tuple(ends))]
            for group, ends in self.left_out.items()
        }
        for group, numbers in chosen.items():
            if len(numbers) == len(names):
                raise UserError("left_out", f"all scans of a session in {group!r}", "name a part of them")
        return {group: numbers for group, numbers in chosen.items() if numbers}

    def ways(self, sliced: Sliced, given: Sequence[int]) -> Iterator[tuple[str, Found]]:
        """What each way to estimate finds in some of the scans."""
        scans = subset(sliced.scans, given)
        alone = NetworkEstimator(self.network)(scans)
        yield NETWORK, alone
        yield FLAT, refine(alone, scans, Posterior(network=0.0, tissues=["other"]))
        if sliced.paper is not None:
            yield PAPER, refine(alone, scans._replace(acquisition=sliced.paper[:, list(given)]), self.posterior)
        yield BOTH, refine(alone, scans, self.posterior)

    @staticmethod
    def rendered(found: Found, way: str, sliced: Sliced, number: int, mask: Tensor) -> Tensor:
        """One scan ``(X, Y, S)`` from what was found, in the unit that fits the measured one inside a mask."""
        rows = sliced.paper if way == PAPER else sliced.scans.acquisition
        target, row = sliced.scans.image[0, [number]], rows[0, [number]]
        # The published equations know one tissue in a voxel.
        fluid = None if way == PAPER else found.fluid
        return with_gain(target, render(found.estimate.log_maps[0], row, sliced.scans.mask[0], fluid), row, mask)[0]

    def _published(self, scans: Scans) -> dict[str, float]:
        objective = VAEObjective(dict.fromkeys(VAEObjective.NAMES, 0.0), None, "contrasts", 1.0, self.gain)
        volume = ScaleContrastsd()({"image": MetaTensor(scans.image[0]), "mask": scans.mask.float()})
        image, count = volume["image"].as_tensor().movedim(-1, 0), scans.image.shape[-1]
        batch = {"image": image, "acquisition": scans.acquisition.expand(count, -1, -1), "index": torch.arange(count)}
        batch["window"] = volume["window"].expand(count, -1, -1)
        batches = [{key: value[i : i + BATCH] for key, value in batch.items()} for i in range(0, count, BATCH)]
        return published_metrics(self.network, objective, batches, self.seed)


def in_head(target: Tensor, image: Tensor, mask: Tensor) -> dict[str, float]:
    """Measures of an image inside the head."""
    return {
        "SSIM": ssim(target, image, mask),
        "NRMSE": nrmse(target, image, mask),
        "r": correlation(target, image, mask),
    }


def in_tissues(target: Tensor, image: Tensor, labels: Tensor) -> dict[str, float]:
    """Error of an image in each tissue that fills some voxels."""
    where = {f"NRMSE {tissue}": labels == label for tissue, label in TISSUES.items()}
    return {
        name: nrmse(target, image, inside)
        for name, inside in where.items()
        if inside.sum() >= FEWEST and target[inside].any()
    }


def slices_of(volume: dict, record: dict, count: int, protocol: str | None) -> Sliced:
    """Evenly spread axial slices of a session that show the head.

    Args:
        volume: the record as preprocessing left it.
        record: the record.
        count: of slices.
        protocol: for scans without a sidecar.
    """
    mask = volume["mask"][0] > 0
    area = mask.sum((0, 1))
    usable = (area > area.max() / 3).nonzero().squeeze(1)
    chosen = usable[torch.linspace(0, len(usable) - 1, count + 2).round().long()[1:-1]]
    low, high = volume["window"].view(-1, 2, 1, 1, 1).unbind(1)
    image = ((volume["image"].as_tensor()[..., chosen] + 1) / 2 * (high - low) + low).clamp_min(0)
    # Between the convolutions of a skull-stripped brain a filled mask holds what is 0 in every scan.
    head = mask[..., chosen] & (image > 0).any(0)
    x, y = (slice(int(where.min()), int(where.max()) + 1) for where in head.nonzero().T[:2])
    session = record["session"]
    try:
        rows = torch.stack([one.to_row() for one in resolve(session, protocol, "paper")])[None]
    except UserError:
        rows = None
    labels = volume["labels"][0].as_tensor() if hasattr(volume.get("labels"), "as_tensor") else volume.get("labels")
    if labels is not None:
        labels = (labels[0] if labels.ndim == 4 else labels)[..., chosen].long()[x, y]
    gains = torch.tensor(record["gains"])[None]
    scans = Scans(image[:, x, y][None], volume["acquisition"][None], head[x, y][None], gains)
    return Sliced(scans, rows, labels, scan_names(session))


def _refuse_unknown(record: dict) -> None:
    """Stops where no signal equation is known: what would be measured then is not the weights."""
    scans = zip(record["session"].contrasts, record["acquisitions"])
    names = [scan.path.name for scan, one in scans if one.alternatives or one.sequence == UNKNOWN]
    if names:
        do = "state it in their sidecars, or name the protocol with --protocol"
        raise UserError(record["session"].name, f"no known acquisition of {', '.join(names)}", do)

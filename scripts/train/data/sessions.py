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

"""Sessions of a folder, and the slices or volumes of them that training sees.

Nothing here touches the disk before its first item is asked for, so every config can be built without data.
"""

from pathlib import Path

import ignite.distributed as idist
from torch.utils.data import Dataset
from tqdm import tqdm

from ...bids import check_image, find_sessions, resolve, session_record
from ...errors import UserError
from ...randomness import rng

SPLITS = ("all", "train", "validation")
HELD_OUT = ("subjects", "sessions")


class SessionDataset(Dataset):
    """The sessions of a folder as records, see :func:`scripts.bids.session_record`, in a fixed order.

    Args:
        dataset_dir: BIDS folder, or one sub-folder per subject.
        protocol: named protocol or file for images without a sidecar.
        split: ``all``, ``train`` or ``validation``.
        validation_fraction: share of the subjects held out, at least one.
        seed: seed of the split.
        equations: ``exact``, or ``paper`` for the published ones.
        held_out: what is split: ``subjects``, or ``sessions`` as published. The latter leaks: other sessions of a
            subject of validation are trained on.

    Raises:
        UserError: for something else to hold out, or a negative seed.
    """

    def __init__(
        self,
        dataset_dir: str | None,
        protocol: str | None = None,
        split: str = "all",
        validation_fraction: float = 0.1,
        seed: int = 0,
        equations: str = "exact",
        held_out: str = "subjects",
    ) -> None:
        if held_out not in HELD_OUT:
            raise UserError("held_out", repr(held_out), f"use one of {', '.join(HELD_OUT)}")
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        if seed < 0:
            raise UserError("seed", str(seed), "use a whole number of at least 0")
        self.dataset_dir, self.protocol, self.equations, self.split = dataset_dir, protocol, equations, split
        self.validation_fraction, self.seed, self.held_out = validation_fraction, seed, held_out
        self._records: list[dict] | None = None

    @property
    def records(self) -> list[dict]:
        """All records of the split.

        Raises:
            UserError: for a missing or empty folder, unusable acquisitions or headers, or too few subjects to split.
        """
        if self._records is None:
            if self.dataset_dir is None:
                raise UserError("dataset_dir", "no folder", "name one with --dataset_dir")
            sessions = find_sessions(self.dataset_dir)
            if self.split != "all":
                sessions = self._choose(sessions)
            records = [
                session_record(session, resolve(session, self.protocol, self.equations), i)
                for i, session in enumerate(sessions)
            ]
            for record in records:
                for contrast in record["session"].contrasts:
                    check_image(contrast.path)
            self._records = records
        return self._records

    def _choose(self, sessions: list) -> list:
        names = {session.name: session.subject if self.held_out == "subjects" else session.name for session in sessions}
        units = sorted(set(names.values()))
        if len(units) < 2:
            one = self.held_out.removesuffix("s")
            raise UserError(self.dataset_dir, f"one {one}", "give two or more, one is held out for validation")
        count = max(1, round(self.validation_fraction * len(units)))
        validation = set(rng(self.seed).permutation(units)[:count])
        return [s for s in sessions if (names[s.name] in validation) == (self.split == "validation")]

    def __len__(self) -> int:
        if self.dataset_dir is None or not Path(self.dataset_dir).exists():
            # A TypeError is Python's word for "no length": engines then ask again when they run.
            raise TypeError(f"{self.dataset_dir} does not exist yet")
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        return self.records[index]


class TrainingDataset(Dataset):
    """Training samples, cached in memory after their session's first use: axial slices (2D) or volumes (3D).

    A sample has ``image (M, H, W[, D])``, ``acquisition``, ``window``, ``mask``, ``position`` (mm above the centre of
    the foreground; 0 in 3D), ``index`` and, for simulated subjects, ``maps`` and ``labels``.

    Args:
        data: the sessions.
        transform: record -> volume, see :mod:`scripts.preprocess`.
        spatial_dims: 2 for slices, 3 for whole volumes.
        num_slices: axial slices per session.
        slice_step: distance between them [voxels]; they are centred on the foreground's centre.
    """

    def __init__(
        self, data: SessionDataset, transform, spatial_dims: int = 2, num_slices: int = 8, slice_step: int = 1
    ) -> None:
        self.data, self.transform, self.spatial_dims = data, transform, spatial_dims
        self.num_slices, self.slice_step = (num_slices if spatial_dims == 2 else 1), slice_step
        self._cache: dict[int, list[dict]] = {}

    def __len__(self) -> int:
        return len(self.data) * self.num_slices

    def __getitem__(self, index: int) -> dict:
        session, slice_index = divmod(index, self.num_slices)
        if session not in self._cache:
            self._cache[session] = self._load(session)
        return {**self._cache[session][slice_index], "index": index}

    @property
    def participants_dir(self) -> Path:
        """Folder of ``participants.tsv``."""
        return Path(self.data.dataset_dir)

    def participants(self, index: int) -> dict[str, float]:
        """The subject of a sample, whose share is 1."""
        return {self.record(index)["session"].subject: 1.0}

    def record(self, index: int) -> dict:
        """The record of the session of a sample."""
        return self.data[index // self.num_slices]

    def preload(self) -> None:
        """Reads every session now, with a progress bar."""
        for session in tqdm(range(len(self.data)), desc="reading sessions", disable=idist.get_rank() > 0):
            self[session * self.num_slices]

    def _load(self, session: int) -> list[dict]:
        volume = self.transform(self.data[session])
        spacing = float(volume["image"].pixdim[-1])
        # Plain tensors: MetaTensor slows every later operation.
        volume = {k: v.as_tensor() if hasattr(v, "as_tensor") else v for k, v in volume.items()}
        shared = {key: volume[key] for key in ("acquisition", "window")}
        spatial = {key: volume[key] for key in ("image", "mask", "maps", "labels") if key in volume}
        if self.spatial_dims == 3:
            return [{**shared, **spatial, "position": 0.0}]
        depth = volume["image"].shape[-1]
        first = -((self.num_slices - 1) * self.slice_step // 2)
        offsets = [first + i * self.slice_step for i in range(self.num_slices)]
        rows = [min(max(volume["centre"] + offset, 0), depth - 1) for offset in offsets]
        return [
            {
                **shared,
                **{k: v[..., row].clone() for k, v in spatial.items()},
                "position": (row - volume["centre"]) * spacing,
            }
            for row in rows
        ]

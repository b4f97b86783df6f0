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

"""The folder that a run writes. Results of a session appear all at once, with a manifest of their inputs."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import monai
import torch

from ...acquisition import RenderRequest, to_sidecar
from ...bids import Session, dataset_description, output_path
from ...errors import UserError, log_failure
from ...files import check_writable, lock_folder, scratch_folder, sync, uninterrupted, writable, write_atomically

METADATA = Path(__file__).parents[3] / "configs" / "metadata.json"
NO_BIDS = (
    *("*_manifest.json", "*.png", "*_desc-corr*", "*_volumes.tsv", "*_xfm.*", "*_console.html", "*_intensities.tsv"),
    "harmonised*",
)
"""Files that BIDS has no names for."""
logger = logging.getLogger(__name__)


class Plan(NamedTuple):
    """What is still to be made of one session: its maps, and these contrasts."""

    maps: bool
    render: list[RenderRequest]


class Study:
    """A BIDS derivative that grows by one session (a subject's or a sample's) after the other.

    Files are written into a hidden folder and renamed when the session is complete, its manifest last; what a killed
    run left behind goes when the next one starts. The manifest holds whatever the files depend on. Building this
    object reads and writes nothing.

    Args:
        output_dir: the folder.
        name: what it holds, for its dataset description.
        settings: everything in the config that changes results.
        overwrite: replace results that were made from something else.
        rank: number of this process, of those that share the work, of all ranks and shards.
    """

    def __init__(self, output_dir: str, name: str, settings: dict, overwrite: bool = False, rank: int = 0) -> None:
        self.root, self.name, self.overwrite, self.rank = Path(output_dir), name, overwrite, rank
        versions = {"bundle": bundle_version(), "torch": torch.__version__, "monai": monai.__version__}
        self.facts = {"settings": settings, "versions": versions}
        self.done: list[str] = []
        self.failures: dict[str, Exception] = {}

    def open(self, sources: str | Path | None = None) -> None:
        """Makes the folder ready: describes it, removes what killed runs left.

        Args:
            sources: folder of the scans, which the sidecars call ``bids:raw:``.

        Raises:
            UserError: when it cannot be written, another run is writing there, or it holds something else.
        """
        description = dataset_description(self.name, self.facts["versions"]["bundle"])
        self._check_owner(description["GeneratedBy"], sources)
        if sources is not None:
            description["DatasetLinks"] = {"raw": Path(sources).resolve().as_uri()}
        check_writable(self.root)
        # Until this process ends.
        self.lock = lock_folder(self.root, f".lock-{self.rank}")
        self.write("dataset_description.json", json.dumps(description, indent=4) + "\n")
        self.write(".bidsignore", "\n".join([*NO_BIDS, ""]))

    def _check_owner(self, generated_by: list, sources: str | Path | None) -> None:
        """Refuses a folder that belongs to something else."""
        do = "choose another --output_dir"
        if sources is not None and self.root.resolve().is_relative_to(Path(sources).resolve()):
            inside = self.root.resolve().relative_to(Path(sources).resolve()).parts
            if inside[:1] != ("derivatives",):
                raise UserError(self.root, "the folder of the scans, or one inside it", f"{do}, or use its derivatives")
        path = self.root / "dataset_description.json"
        try:
            names = [tool.get("Name") for tool in json.loads(path.read_text()).get("GeneratedBy", [{}])]
        except (FileNotFoundError, NotADirectoryError):
            return
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            otherwise = "or remove this file if all that is in its folder was made here"
            raise UserError(path, "a damaged description of a data set", f"{do}, {otherwise}") from None
        if names != [tool["Name"] for tool in generated_by]:
            raise UserError(self.root, "a data set that was not made here", do)

    def write(self, name: str, content: str | bytes) -> None:
        """A small file at the top of the study."""
        write_atomically(self.root / name, content)

    def holds(self, session: Session) -> bool:
        """Whether there are complete results of a session."""
        return bool(self._manifest(session))

    def plan(self, session: Session, facts: dict, render: list[RenderRequest]) -> Plan:
        """What is to be made of a session: all, nothing, or contrasts that were not asked for before.

        Raises:
            UserError: naming what differs, when results exist that were made from something else; when what is there
                is damaged.
        """
        manifest = self._manifest(session)
        if not manifest:
            return Plan(True, render)
        there = manifest["render"]
        wanted = {request.name: request_facts(request) for request in render if request.name in there}
        new = _flat(json.loads(json.dumps({**self.facts, **facts, "render": wanted})))
        old = _flat({**manifest["made_from"], "render": {name: there[name] for name in wanted}})
        differs = [key for key in sorted(new.keys() | old.keys()) if new.get(key) != old.get(key)]
        if differs and not self.overwrite:
            found = "; ".join(f"{key} {old.get(key, 'absent')} (now {new.get(key, 'absent')})" for key in differs[:3])
            found += f" and {len(differs) - 3} more differences" if len(differs) > 3 else ""
            do = "choose another --output_dir, or replace what is there with --overwrite"
            raise UserError(self._path(session), f"results made from {found}", do)
        if differs or not all((self.root / file).is_file() for file in manifest["files"]):
            return Plan(True, render)
        return Plan(False, [request for request in render if request.name not in there])

    @contextmanager
    def publish(self, session: Session, facts: dict, plan: Plan) -> Iterator[Path]:
        """Files written into this folder, laid out like the study, appear in the study when the block ends well.

        Raises:
            UserError: when they cannot be written.
        """
        path, old = self._path(session), self._manifest(session)
        with writable(self.root), scratch_folder(self.root, session.name) as scratch:
            yield scratch
            files = sorted(str(p.relative_to(scratch)) for p in scratch.rglob("*") if p.is_file())
            sync(scratch / file for file in files)
            render = {request.name: request_facts(request) for request in plan.render}
            if not plan.maps:
                render, files = {**old["render"], **render}, sorted({*old["files"], *files})
            manifest = {"made_from": {**self.facts, **facts}, "render": render, "files": files}
            path.parent.mkdir(parents=True, exist_ok=True)
            with uninterrupted():
                if plan.maps:
                    # The old manifest would be wrong about the first file that is replaced.
                    path.unlink(missing_ok=True)
                for file in files:
                    if (scratch / file).exists():
                        os.replace(scratch / file, self.root / file)
                for file in set(old.get("files", [])) - set(files):
                    (self.root / file).unlink(missing_ok=True)
                write_atomically(path, json.dumps(manifest, indent=4) + "\n", durable=True)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Notes how the work on one session in this block ends; the next one follows in any case."""
        try:
            yield
        except Exception as error:
            self.fail(name, error)
        else:
            self.done.append(name)

    def fail(self, name: str, error: Exception) -> None:
        """Notes why a session has no result; with a traceback when it is not the user's doing."""
        self.failures[name] = log_failure(logger, name, error)

    def finish(self) -> int:
        """Prints what failed and why; returns how many sessions did."""
        total = len(self.done) + len(self.failures)
        print(f"{self.root}: {len(self.done)} of {total} complete", flush=True)
        if self.failures:
            width = max(map(len, self.failures))
            for name, error in self.failures.items():
                reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                print(f"  {name:{width}}  {reason}", file=sys.stderr)
            do = "see the reasons above, put them right and run the same command again"
            error = UserError(f"{len(self.failures)} of {total}", "no result", do)
            print(f"error: {error}", file=sys.stderr, flush=True)
        return len(self.failures)

    def _path(self, session: Session) -> Path:
        """The file of a session's manifest.

        Raises:
            UserError: where its folder is elsewhere: results of others would be replaced there.
        """
        path = output_path(self.root, session, "manifest", ".json")
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            found = f"a link to {path.parent.resolve()}"
            raise UserError(path.parent, found, "remove the link, or choose another --output_dir")
        return path

    def _manifest(self, session: Session) -> dict:
        """The manifest of a session; empty where there is none, or half of one, which a power failure leaves.

        Raises:
            UserError: when it is none that was written here.
        """
        path = self._path(session)
        try:
            manifest = json.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        except (OSError, RecursionError) as error:
            manifest = type(error)
        if _is_manifest(manifest, path.parent.relative_to(self.root)):
            return manifest
        if self.overwrite:
            return {}
        do = "remove it or give --overwrite, and this session is made anew; or choose another --output_dir"
        raise UserError(path, "a damaged list of results", do)


def _is_manifest(content: object, folder: Path) -> bool:
    """Whether this was written by :meth:`Study.publish`: it names files of this folder of its session only."""
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ("made_from", "render")):
        return False
    files = content.get("files")
    return isinstance(files, list) and all(
        isinstance(file, str) and Path(file).parent == folder and Path(file).name not in ("", "..") for file in files
    )


def request_facts(request: RenderRequest) -> dict:
    """What a rendered contrast depends on besides the maps."""
    return {"suffix": request.suffix, **to_sidecar(request.acquisition)}


def bundle_version() -> str:
    """Version of this bundle, from its metadata."""
    return json.loads(METADATA.read_text())["version"]


def _flat(content: object, key: str = "") -> dict:
    """Nested dictionaries as one, with dotted keys."""
    if not isinstance(content, dict):
        return {key: content}
    parts = [_flat(part, f"{key}.{name}" if key else name) for name, part in content.items()]
    return {name: value for part in parts for name, value in part.items()}

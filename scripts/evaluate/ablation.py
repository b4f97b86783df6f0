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


"""Table 1 of Luepke et al. 2024: the 16 variants of the published VAE, trained and evaluated row after row.

The training is that of ``configs/train_vae.json`` under ``configs/paper.json``; a row is some of its options.
"""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from tqdm import tqdm

from ..errors import UserError, log_failure
from ..files import check_writable, lock_folder, make_folder, replacing, write_atomically
from ..networks.device import unwrap
from ..networks.weights import load_weights
from ..train.checkpoints import BEST, LAST
from . import relaxation
from .ablation_tables import parts
from .page import Part, Picture, Table, text_table, write_page
from .reconstruction import posterior_samples, published_metrics, sound_metrics

TABLE = json.loads(Path(__file__).with_name("ablation.json").read_text(encoding="utf-8"))
OPTIONS = tuple(TABLE["options"])
"""What a row has or has not."""
PUBLISHED = {row["row"]: row for row in TABLE["rows"]}
"""Number of a row -> its options and published values."""
DONE, VALUES = "result.json", "maps.npz"
FIGURE4 = {"without the prior (row 2)": 2, "with the prior (row 4)": 4}
"""Source of maps -> row of the paper's Figure 4; its generated brains are draws from the posterior of scans here."""
TRUE = "true maps"
logger = logging.getLogger(__name__)


def row_options(row: int) -> dict[str, object]:
    """Options of the training config that make a row of the table."""
    chosen = {}
    for name, values in TABLE["options"].items():
        chosen |= {option: both[PUBLISHED[row][name]] for option, both in values.items()}
    return chosen


@dataclass(eq=False)
class Ablation:
    """Trains and evaluates the rows of the table, the first seed of all rows first.

    Each row and seed has a folder ``row-04_seed-0`` with its training and, when it is evaluated, ``result.json``.
    Finished ones are not trained again; one that was stopped in the middle goes on after its last epoch. One that
    fails, such as a training that diverges, does not stop the others. Building this object reads and writes nothing.

    Args:
        training: config files of the training.
        dataset_dir: folder of the scans; None for those that the training simulates.
        output_dir: folder of the results.
        rows: numbers of the rows, 1 to 16; None for all.
        seeds: how many trainings of each row, with the seeds 0, 1, ...
        sizes: options of the training that all rows share, such as its length; none for the size of the paper.
        overwrite: train finished rows anew.

    Attributes:
        failures: why rows have no result, by the name of their folder.
    """

    training: Sequence[str | Path]
    output_dir: str | Path
    dataset_dir: str | Path | None = None
    rows: Sequence[int] | None = None
    seeds: int = 3
    sizes: Mapping[str, object] = field(default_factory=dict)
    overwrite: bool = False
    failures: dict[str, Exception] = field(default_factory=dict, init=False)

    @property
    def root(self) -> Path:
        """Folder of the results."""
        return Path(self.output_dir)

    @cached_property
    def digest(self) -> str:
        """Of the sizes, of what the options mean, and of the name of the scans' folder; all of them may be moved."""
        settings = [{key: value for key, value in self.sizes.items() if not key.endswith("_dir")}, TABLE["options"]]
        settings += [] if self.dataset_dir is None else [Path(self.dataset_dir).resolve().name]
        return sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def run(self) -> Path:
        """Trains and evaluates what is missing, prints the table, and writes the page.

        Returns:
            The page.

        Raises:
            UserError: for a row that is none, a folder with results of other settings, and where every row fails. What
                is wrong with one row only stands in ``failures``, and on the page.
        """
        rows, self.failures = self._rows(), {}
        with lock_folder(check_writable(self.root)):
            runs = [(row, seed) for seed in range(self.seeds) for row in rows]
            results = {run: self._result(*run) for run in runs}
            missing = [run for run in runs if results[run] is None]
            for row, seed in tqdm(missing, "rows of the table", unit="row", disable=not missing):
                try:
                    results[row, seed] = self._train(row, seed)
                    tqdm.write(f"row {row}, seed {seed}: {_line(results[row, seed])}")
                except Exception as error:
                    folder = self._folder(row, seed).name
                    self.failures[folder] = log_failure(logger, folder, error)
            known = {run: result for run, result in results.items() if result is not None}
            if not known:
                raise UserError(self.root, "no row that could be evaluated", "see the reasons above")
            found = [*parts(list(known.values()), PUBLISHED, OPTIONS), *self._figure4([r for r, s in known if s == 0])]
            if self.failures:
                reasons = [{"row": name, "reason": str(error)} for name, error in self.failures.items()]
                found.append(Table("failures", "Rows without a result", reasons))
            about = {"seeds": self.seeds, "settings": self.digest, "data": next(iter(known.values()))["data"]}
            page = write_page(self.root, "ablation", "Ablation of the published VAE", found, about)
        for part in found:
            if isinstance(part, Table):
                print(f"\n{part.title}\n{text_table(part)}\n{part.note}", flush=True)
        print(f"\n{page}", flush=True)
        return page

    def _rows(self) -> list[int]:
        rows = sorted(PUBLISHED) if self.rows is None else [*self.rows]
        for row in rows:
            if row not in PUBLISHED:
                raise UserError("rows", repr(row), f"use numbers from 1 to {len(PUBLISHED)}")
        if not rows:
            raise UserError("rows", "none", f"name some from 1 to {len(PUBLISHED)}")
        return rows

    def _shared(self) -> dict[str, object]:
        data = {} if self.dataset_dir is None else {"dataset_dir": str(self.dataset_dir)}
        return {**self.sizes, **data}

    def _folder(self, row: int, seed: int) -> Path:
        return self.root / f"row-{row:02d}_seed-{seed}"

    def _result(self, row: int, seed: int) -> dict | None:
        """What is known of a row; None where it is not finished or is to be trained anew."""
        path = self._folder(row, seed) / DONE
        if self.overwrite or not path.exists():
            return None
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(path, "no JSON", "remove the file, and the row is evaluated again") from error
        if result.get("settings") != self.digest:
            raise UserError(path, "results of other settings", "choose another --output_dir, or give --overwrite true")
        return result

    def _train(self, row: int, seed: int) -> dict:
        folder, start = make_folder(self._folder(row, seed)), time.perf_counter()
        workflow = self._workflow(row, seed)
        workflow.run()
        network, objective, batches, dataset = (
            workflow.parser.get_parsed_content(name)
            for name in ("network", "objective", "validate#dataloader", "validate#dataset")
        )
        # Those that Figure 4 shows; after the last epoch alone where only that is validated, as in the small ablation.
        load_weights(unwrap(network), folder / BEST, "train the row anew with --overwrite true")
        result = {"row": row, "seed": seed, "settings": self.digest, "options": row_options(row)}
        result["data"] = f"{len(workflow.parser.get_parsed_content('train#dataset'))} slices to train on, "
        result["data"] += f"{len(dataset)} to evaluate"
        result["published"] = published_metrics(network, objective, batches, seed)
        if not math.isfinite(result["published"].get("MSE", math.nan)):
            raise UserError(folder, "a training that diverged", "lower --sizes::learning_rate, for all rows alike")
        result["sound"] = sound_metrics(network, objective, dataset)
        result["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        result["seconds"] = round(time.perf_counter() - start, 1)
        workflow.finalize()
        write_atomically(folder / DONE, json.dumps(result, indent=2) + "\n")
        return result

    def _workflow(self, row: int, seed: int) -> ConfigWorkflow:
        """The training of a row, which goes on where it was stopped."""
        folder = self._folder(row, seed)
        resume = (folder / LAST).exists() and not self.overwrite
        options = {"output_dir": str(folder), "seed": seed, "resume": resume, "overwrite": self.overwrite}
        files = [str(file) for file in self.training]
        options |= self._shared() | row_options(row)
        workflow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **options)
        workflow.initialize()
        return workflow

    def _figure4(self, rows: Sequence[int]) -> list[Part]:
        """T1 and T2 with and without the prior, where these rows are there and the validation data have true maps."""
        if not set(FIGURE4.values()) <= set(rows):
            return []
        values = {source: self._values(row) for source, row in FIGURE4.items()}
        one = next(iter(values.values()))
        if "truth" not in one:
            return []
        values[TRUE] = {"maps": one["truth"], "labels": one["labels"]}
        named = {source: relaxation.tissue_values(both["maps"], both["labels"]) for source, both in values.items()}
        inside = one["truth"][0] > 0
        drawn = {source: [both["maps"][n][inside] for n in (1, 2)] for source, both in values.items()}
        table = relaxation.rows(named, truth=TRUE)
        return [
            Picture("figure4", "T1 and T2 with and without the prior", relaxation.histogram(drawn), relaxation.FIGURE4),
            Table("relaxation", "T1 and T2 of each tissue", table, note=relaxation.TABLE4),
        ]

    @torch.no_grad()
    def _values(self, row: int) -> dict[str, np.ndarray]:
        """Maps ``(3, N, ...)`` of the validation data by the first seed of a row, with labels and true maps."""
        path = self._folder(row, 0) / VALUES
        if not path.exists() or self.overwrite:
            workflow = self._workflow(row, 0)
            network, batches = (workflow.parser.get_parsed_content(name) for name in ("network", "validate#dataloader"))
            load_weights(network, self._folder(row, 0) / BEST, "train the row anew with --overwrite true")
            kept: dict[str, list] = {}
            for batch, sample in posterior_samples(network, batches, 0):
                found = {"maps": sample.estimate.log_maps.exp()}
                found |= {"truth": batch["maps"], "labels": batch["labels"]} if "maps" in batch else {}
                for name, one in found.items():
                    kept.setdefault(name, []).append(one.cpu().numpy().swapaxes(0, 1))
            arrays = {name: np.concatenate(found, 1) for name, found in kept.items()}
            with replacing(path) as file:
                np.savez_compressed(file, **{name: one[0] if name == "labels" else one for name, one in arrays.items()})
        with np.load(path) as file:
            return dict(file)


def _line(result: Mapping) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in result["published"].items())

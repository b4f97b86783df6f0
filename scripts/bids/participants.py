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

"""``participants.tsv``: numbers of each subject, such as age."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from .names import bids_label

FILE, KEY = "participants.tsv", "participant_id"
UNKNOWN = ("n/a", "")


def volume_column(region: str, unit: str = "ml") -> str:
    """Name of the column of a region's volume: ``deep_grey_matter_ml``."""
    return "_".join([*region.split(), unit]).strip("_")


class Participants:
    """Numeric columns of the ``participants.tsv`` of a folder. Making it reads the file.

    Args:
        folder: where the file lies.
        columns: names of the columns.

    Raises:
        UserError: for a missing or unreadable file, one without such columns or with two rows of one subject, a column
            that is not numeric, and one of which all values are unknown.
    """

    def __init__(self, folder: str | Path, columns: Sequence[str]) -> None:
        self.path, self.columns = Path(folder) / FILE, tuple(columns)
        rows = self._rows()
        numbers = [self._numbers(rows, name) for name in self.columns]
        self.values: dict[str, Tensor] = {}
        for row, of_columns in zip(rows, zip(*numbers)):
            subject = bids_label(row[KEY] or "")
            if subject in self.values:
                raise UserError(self.path, f"two rows of {row[KEY]!r}", "keep one")
            self.values[subject] = torch.tensor(of_columns)

    def __getitem__(self, subject: str) -> Tensor:
        """Values of a subject, with or without ``sub-``, in the order of the columns; NaN where unknown."""
        return self.values.get(bids_label(subject), torch.full((len(self.columns),), math.nan))

    def _rows(self) -> list[dict[str, str]]:
        do = f"write one with the columns {', '.join((KEY, *self.columns))}, separated by tabs, as BIDS has it"
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, delimiter="\t")
                rows, names = [*reader], [name for name in reader.fieldnames or () if name != KEY]
        except FileNotFoundError:
            raise UserError(self.path, "no such file", do) from None
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(self.path, f"no readable table ({error})", do) from error
        if KEY not in (reader.fieldnames or ()):
            raise UserError(self.path, f"no column {KEY}", do)
        missing = next((name for name in self.columns if name not in names), None)
        if missing is not None:
            offered = f"use one of {', '.join(names)}" if names else do
            raise UserError(self.path, f"no column {missing!r}", offered)
        return rows

    def _numbers(self, rows: Sequence[dict], name: str) -> list[float]:
        """A column; NaN where unknown."""
        numbers = [self._number(row[name], name, row[KEY]) for row in rows]
        if all(map(math.isnan, numbers)):
            raise UserError(self.path, f"no known value in the column {name!r}", "fill it in, or leave the column out")
        return numbers

    def _number(self, text: str | None, name: str, subject: str) -> float:
        if text is None or text.strip().lower() in UNKNOWN:
            return math.nan
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            do = "code it as numbers in a column of its own, such as 0 and 1, and n/a where it is unknown"
            raise UserError(self.path, f"{text!r} in the column {name!r} of {subject}", do)
        return number

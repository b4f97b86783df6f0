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

"""The tables as Markdown."""

from collections.abc import Iterable, Sequence

import numpy as np

from tests.simulators.tissues import NAMES

from . import agreement, contrast, limits


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def describe(settings: dict) -> str:
    """``{"te": 0.015, "tr": 0.5}`` -> ``te 0.015, tr 0.5``; maps are those of the simulated tissues."""
    words = {key: "per tissue" if isinstance(value, np.ndarray) else f"{value:g}" for key, value in settings.items()}
    return ", ".join(f"{key} {value}" for key, value in words.items())


def small(error: float) -> str:
    return f"{error:+.4f}" if abs(error) >= 1e-4 else "< 0.0001"


def agreement_table() -> str:
    rows = ((f"`{name}`", describe(settings), *map(small, errors)) for name, settings, errors in agreement.rows())
    return table(("Equation", "Settings", *NAMES), rows)


def limits_table() -> str:
    rows = ((f"`{name}`", what, *(f"{error:+.1f}" for error in errors)) for name, what, errors in limits.rows())
    return table(("Equation", "What happens", *NAMES), rows)


def contrast_table() -> str:
    heads = ("Model", "GM/WM", "CSF/WM", "fat/WM", "(WM-GM)/(WM+GM)")
    return table(heads, ((model, *(f"{ratio:.3f}" for ratio in ratios)) for model, ratios in contrast.rows()))


def markdown() -> str:
    """The three tables under their headings."""
    return (
        f"## Where the assumptions hold\n\n{agreement_table()}\n"
        f"## Where an assumption breaks\n\n{limits_table()}\n"
        f"## What this does to contrast\n\n{contrast_table()}"
    )

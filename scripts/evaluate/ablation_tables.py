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


"""Tables of the ablation: its rows beside the published ones, sound measures, and what each option does."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import exp, log
from statistics import fmean, stdev

from .contrasts import PUBLISHED
from .page import Part, Table, Text

DEFINITIONS = (
    "Published definitions: maps from a sample of the posterior; MSE and MAE in raw units over the tensor padded with "
    "absent contrasts; PSNR with the range of each batch of 4; MS-SSIM with a kernel of 4 after scaling each batch by "
    "its extremes. Small numbers below ours: the paper, on OASIS-3. Raw units differ between data sets, so only "
    "differences between rows can be compared."
)
SOUND = (
    "Means over slices, inside the head, each contrast by itself, maps from the mean of the posterior. Subjects of "
    "validation are in no training slice. T1 and T2 errors: median relative error against the true maps."
)
EFFECTS = (
    "Each option on against off in otherwise equal rows: the geometric mean of the ratio of MSE, less one; in how many "
    "of the pairs MSE falls; and the lowest and highest change of a seed. Below ours: the same from the published "
    "rows. A negative number is better."
)


def parts(results: Sequence[Mapping], published: Mapping[int, Mapping], options: Sequence[str]) -> list[Part]:
    """Everything of the page.

    Args:
        results: of rows and seeds, as :class:`.ablation.Ablation` keeps them.
        published: number of a row -> its options and published values.
        options: names of the options.
    """
    rows: dict[int, list[Mapping]] = defaultdict(list)
    for result in results:
        rows[result["row"]].append(result)
    table, sound = [], []
    for number, found in sorted(rows.items()):
        has = {name: "x" if published[number][name] else "–" for name in options}
        start = {"row": number, **has, "seeds": len(found)}
        table.append(start | dict(_columns(found, "published", PUBLISHED)))
        sound.append(start | dict(_columns(found, "sound", list(found[0]["sound"]))))
    known = {number: {name: published[number][name] for name in PUBLISHED} for number in rows}
    content: list[Part] = [
        Table("table1", "Table 1: published definitions", table, known, DEFINITIONS),
        Table("sound", "The same networks, sound definitions", sound, note=SOUND),
    ]
    changes = [one for name in options if (one := _effect(name, rows, published, options))]
    if changes:
        beside = {one["option"]: _published_effect(one["option"], published, options) for one in changes}
        content.append(Table("effects", "What each option does to MSE", changes, beside, EFFECTS))
    else:
        content.append(Text("No two rows differ in one option alone, so no effect of an option can be told."))
    return content


def _columns(found: Sequence[Mapping], kind: str, names: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Mean over seeds, and the standard deviation where there are several."""
    for name in names:
        values = [result[kind][name] for result in found if name in result[kind]]
        if values:
            yield name, fmean(values)
            if len(values) > 1:
                yield f"{name} sd", stdev(values)


def pairs(option: str, published: Mapping[int, Mapping], options: Sequence[str]) -> list[tuple[int, int]]:
    """Numbers of the rows that differ in one option alone: without it, with it."""
    others = [name for name in options if name != option]
    return [
        (one, two)
        for one, off in published.items()
        for two, on in published.items()
        if on[option] and not off[option] and all(on[name] == off[name] for name in others)
    ]


def _effect(option: str, rows: Mapping[int, list], published: Mapping[int, Mapping], options: Sequence[str]) -> dict:
    """Change of MSE; empty where no pair of rows is there."""
    errors = {(result["row"], result["seed"]): result["published"]["MSE"] for one in rows.values() for result in one}
    seeds = sorted({seed for _, seed in errors})
    ratios: dict[int, list[float]] = defaultdict(list)
    for off, on in pairs(option, published, options):
        for seed in seeds:
            if (off, seed) in errors and (on, seed) in errors:
                ratios[seed].append(log(errors[on, seed] / errors[off, seed]))
    every = [ratio for one in ratios.values() for ratio in one]
    if not every:
        return {}
    by_seed = [exp(fmean(one)) - 1 for one in ratios.values()]
    return {
        "option": option,
        "MSE change [%]": 100 * (exp(fmean(every)) - 1),
        "pairs better": f"{sum(ratio < 0 for ratio in every)} of {len(every)}",
        "lowest of a seed [%]": 100 * min(by_seed),
        "highest of a seed [%]": 100 * max(by_seed),
    }


def _published_effect(option: str, published: Mapping[int, Mapping], options: Sequence[str]) -> dict:
    ratios = [log(published[on]["MSE"] / published[off]["MSE"]) for off, on in pairs(option, published, options)]
    better = f"{sum(ratio < 0 for ratio in ratios)} of {len(ratios)}"
    return {"MSE change [%]": 100 * (exp(fmean(ratios)) - 1), "pairs better": better}

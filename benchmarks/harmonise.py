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
"""Harmonisation of subjects whose truth is known: ``python -m benchmarks.harmonise``.

Simulates heads of different shape and tissue, each scanned by several named protocols with nuisances of its own, runs
``configs/harmonise.json`` on the folder, and prints how much the spread of intensities shrinks and how near the images
are to the true contrast of each head. ``--pictures docs`` copies the pictures of the report.
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from monai.bundle import create_workflow
from pandas import DataFrame, read_csv
from torch import Tensor
from tqdm import tqdm

from scripts.acquisition import RenderRequest, load_render, to_sidecar
from scripts.bids import Session, load_image, output_path, write_image
from scripts.commands.study.harmonise.harmonisation import CHART, PICTURE, REPORT, SESSIONS
from scripts.commands.study.harmonise.intensities import TISSUES, scaled
from scripts.commands.study.harmonise.page import spread_table, table
from scripts.commands.study.harmonise.spread import overall, per_session, spreads
from scripts.evaluate.contrasts import ssim
from scripts.nuisance import apply_nuisances, slice_profiles, thick_slices
from scripts.randomness import rng
from scripts.simulate import Heads
from scripts.simulate.contrasts import Hidden, at_field, draw_hidden
from scripts.simulate.head import FIELD_OF_VIEW, NUISANCES
from scripts.simulate.nuisances import draw_nuisances
from scripts.simulate.population import Tissue, draw_tissue
from scripts.simulate.shape import Shape, draw_shape
from scripts.simulate.volume import Volume, clean_volume
from scripts.tissue import REGIONS

ROOT = Path(__file__).resolve().parents[1]
PROTOCOLS = ("oasis3", "ixi", "hcp_ya", "adni3", "clinical_2d")
LOWEST = -14.0
"""Where the stack of slices begins [mm from the centre of the cerebrum]."""
THICKNESS = 3


class Subject(NamedTuple):
    """A head that is scanned several times.

    Attributes:
        shape: where which tissue is.
        tissue: its values.
        grid: voxels of 1 mm of the stack.
        corner: centre of the first [mm].
        truth: its clean contrasts at the common protocol, by ideal pulses.
    """

    shape: Shape
    tissue: Tissue
    grid: tuple[int, int, int]
    corner: tuple[float, float, float]
    truth: Volume


def rows_of(requests: Sequence[RenderRequest]) -> Tensor:
    """Acquisition rows ``(K, A)``."""
    return torch.stack([request.acquisition.to_row() for request in requests])


def draw_subject(heads: Heads, requests: Sequence[RenderRequest], slices: int, seed: int, number: int) -> Subject:
    """A head of its own shape and tissue, with the truth of what harmonisation is to find."""
    random = rng(seed, number)
    anatomy = heads.anatomies[int(random.integers(len(heads.anatomies)))]
    shape, tissue = draw_shape(random, anatomy), draw_tissue(random, field_strengths=(3.0,))
    x, y = (round(high - low) for low, high in FIELD_OF_VIEW[:2])
    grid = (x, y, THICKNESS * slices)
    corner = (-(x - 1) / 2, -(y - 1) / 2, LOWEST)
    count = len(requests)
    ideal = Hidden(torch.ones(grid), 1.0, [1.0] * count, [0.0] * count)
    truth = clean_volume(shape, tissue, ideal, rows_of(requests), corner, 1)
    return Subject(shape, tissue, grid, corner, truth)


def scan_all(subject: Subject, protocol: str, seed: int, number: int, place: int) -> dict[str, tuple]:
    """Suffix -> image ``(X, Y, S)`` and acquisition of the scans of one protocol, with nuisances of their own."""
    requests = load_render(protocol)
    requests = [request._replace(acquisition=at_field(request.acquisition, 3.0)) for request in requests]
    hidden = draw_hidden(rng(seed, number, 1, place), subject.grid, [request.acquisition for request in requests])
    head = clean_volume(subject.shape, subject.tissue, hidden, rows_of(requests), subject.corner, 1)
    white, scans = head.labels == REGIONS.index("WM"), {}
    for scan, (request, signal) in enumerate(zip(requests, head.signal)):
        nuisances = draw_nuisances(rng(seed, number, 2, place, scan), NUISANCES, axes=3)
        nuisances = replace(nuisances, thickness=THICKNESS, regrid=False)
        image = apply_nuisances(signal, nuisances, [1.0] * 3, head.brain, white)
        scans[request.suffix] = image.round().clamp_max(32767).to(torch.int16).numpy(), request.acquisition
    return scans


def affine_of(subject: Subject) -> np.ndarray:
    """Voxel to mm of the thick slices."""
    affine = np.diag([1.0, 1.0, THICKNESS, 1.0])
    affine[:2, 3] = subject.corner[:2]
    affine[2, 3] = subject.corner[2] + float(slice_profiles(subject.grid[2], THICKNESS, 1)[1][0])
    return affine


def sliced(volume: Tensor) -> Tensor:
    """A volume of 1 mm as thick slices."""
    return thick_slices(volume.float(), THICKNESS, 1.0, 0.0, -1, "boxcar", False)


def session(number: int, protocol: str) -> Session:
    """``sub-01_ses-hcpya``."""
    return Session(f"{number + 1:02d}", protocol.replace("_", ""), ())


def has_t2w(protocol: str) -> bool:
    """Whether a protocol has a scan that tells T2."""
    return any(request.suffix == "T2w" for request in load_render(protocol))


def write(folder: Path, requests: Sequence[RenderRequest], count: int, slices: int, seed: int) -> list[Subject]:
    """Writes the scans of all subjects as a BIDS folder, one session a protocol."""
    heads, subjects = Heads(), []
    for number in tqdm(range(count), "simulating", unit="subject"):
        subject = draw_subject(heads, requests, slices, seed, number)
        for place, protocol in enumerate(PROTOCOLS):
            there = [output_path(folder, session(number, protocol), one.suffix) for one in load_render(protocol)]
            if all(path.with_name(path.name.replace(".nii.gz", ".json")).exists() for path in there):
                continue  # of a run that was stopped
            for suffix, (image, acquisition) in scan_all(subject, protocol, seed, number, place).items():
                path = output_path(folder, session(number, protocol), suffix)
                write_image(path, image, affine_of(subject), to_sidecar(acquisition))
        subjects.append(subject)
    return subjects


def similarities(
    folder: Path, output: Path, subjects: Sequence[Subject], requests: Sequence[RenderRequest]
) -> DataFrame:
    """SSIM in the brain to the true contrast of a head, of its scans and of its harmonised images."""
    rows = []
    for number, subject in enumerate(subjects):
        brain = sliced(subject.truth.brain) > 0.5
        affine = affine_of(subject)
        for request, signal in zip(requests, subject.truth.signal):
            target = scaled(sliced(signal).abs().numpy(), brain.numpy(), affine)[0]
            for protocol in PROTOCOLS:
                one = session(number, protocol)
                found = {
                    "acquired": output_path(folder, one, request.suffix),
                    "harmonised": output_path(output, one, request.suffix, acq=request.name),
                }
                for stage, path in found.items():
                    if path.exists():
                        image = scaled(load_image(path)[0], brain.numpy(), affine)[0]
                        value = ssim(torch.from_numpy(target), torch.from_numpy(image), brain)
                        rows.append((protocol, request.suffix, stage, value))
    return DataFrame(rows, columns=["protocol", "suffix", "stage", "ssim"])


def similarity_table(found: DataFrame, suffixes: Sequence[str]) -> list[str]:
    """Lines of the table of SSIM: acquired and harmonised, the mean over subjects."""
    means = found.groupby(["protocol", "suffix", "stage"])["ssim"].mean()

    def cell(*key: str) -> str:
        return f"{means[key]:.3f}".lstrip("0") if key in means.index else "not scanned"

    rows = [[name, *(f"{cell(name, suffix, 'acquired')} / {cell(name, suffix, 'harmonised')}" for suffix in suffixes)]
            for name in PROTOCOLS]  # fmt: skip
    return table(["scanned by", *(f"{suffix}, scan / harmonised" for suffix in suffixes)], rows)


def all_tissues(spread: DataFrame) -> list[str]:
    """Lines of a table of the root mean square over WM, GM and CSF of the spreads within subjects."""
    rows = []
    for suffix, group in spread[spread["tissue"].isin(TISSUES)].groupby("suffix", sort=False):
        before, after = (float(np.sqrt((group[f"within_{stage}"] ** 2).mean())) for stage in ("acquired", "harmonised"))
        rows.append([suffix, f"{100 * before:.1f}", f"{100 * after:.1f}", f"{before / after:.1f}-fold"])
    return table(["contrast", "all tissues, acquired [%]", "harmonised [%]", "shrinks"], rows)


def main() -> None:
    """Simulates, harmonises, measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harmonise", description=__doc__.splitlines()[0])
    parser.add_argument("--to", default="oasis3", help="the common protocol")
    parser.add_argument("--subjects", type=int, default=3, help="how many heads")
    parser.add_argument("--slices", type=int, default=10, help="slices of 3 mm of each")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers")
    parser.add_argument("--folder", help="where scans and results stay; without it they are removed")
    parser.add_argument("--pictures", help="folder that the pictures of the report are copied to")
    options = parser.parse_args()
    requests = load_render(options.to)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.folder or scratch)
        subjects = write(folder / "scans", requests, options.subjects, options.slices, options.seed)
        output = folder / "harmonised"
        configs = [str(ROOT / f"configs/{name}.json") for name in ("inference", "harmonise")]
        workflow = create_workflow(
            config_file=configs,
            workflow_type="infer",
            dataset_dir=str(folder / "scans"),
            output_dir=str(output),
            to=options.to,
        )
        workflow.run()
        medians = per_session(read_csv(output / SESSIONS, sep="\t", na_values="n/a"))
        told = "|".join(session(0, name).session for name in PROTOCOLS if has_t2w(name))
        for which, some in (("all", medians), ("those with a T2w", medians[medians["session"].str.contains(told)])):
            spread = spreads(some)
            within = spread.assign(shrinks=spread["within_acquired"] / spread["within_harmonised"])
            print(f"sessions: {which}", *spread_table(spread, within=True), sep="\n")
            print("\n".join(["", *all_tissues(spread)]))
            print(f"\nbetween sessions {overall(spread):.1f}-fold, within subjects {overall(within):.1f}-fold\n")
        found = similarities(folder / "scans", output, subjects, requests)
        print("\n".join(similarity_table(found, [request.suffix for request in requests])))
        print(f"report: {output / REPORT}")
        for name in (PICTURE, CHART) if options.pictures else ():
            shutil.copy(output / name, Path(options.pictures) / name)


if __name__ == "__main__":
    main()

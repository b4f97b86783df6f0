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

"""``python -m benchmarks.utility --generated SAMPLES --shared DATA``"""

import argparse
import sys
import time
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from matplotlib.figure import Figure
from monai.transforms import ResizeWithPadOrCrop
from torch import Tensor

from benchmarks.results.page import ROOT
from scripts.bids import Session, load_image, output_path
from scripts.commands.study.brains import label_of
from scripts.errors import UserError
from scripts.evaluate import Picture, Table, Text, png_of, text_table, write_page
from scripts.simulate import CachedSlices, LabelledSlices, LabelMaps, LesionMasks
from scripts.simulate.drawn import scale_contrast
from scripts.tissue import FRACTIONS
from scripts.tissue.fractions import count_fractions

from . import __doc__ as about
from .network import dice, lesion_scores, shares, train
from .samples import LESION, TISSUES, make_samples, with_lesions_of

TRAINED, HELD_OUT = (0, 11), (11, 2)
SIZE, LEVELS = (176, 224), (-20.0, 40.0)
SUFFIXES = ("T1w", "T2w", "FLAIR")
REAL = "real/open_ms/sub-26/anat/sub-26_space-MNI_{}.nii.gz"
STEP, FEWEST = 3, 4000
"""Every third slice of the patient, and voxels of brain in it."""
POOL = 4
"""Slices of heads for each generated one; those with as much lesion are taken."""
WAYS = {
    "random intensities, as SynthSeg": ("heads", "random"),
    "physics": ("heads", "physics"),
    "generated brains, physics": ("generated", "physics"),
}
"""Name -> where shapes come from, how contrasts are made."""


def head_slices(data: Path, heads: tuple[int, int], count: int, seed: int, cache: Path) -> list[Tensor]:
    """Fractions of slices of random heads."""
    anatomies, masks = LabelMaps(data / "label_maps", *heads), LesionMasks(data / "lesions")
    slices = LabelledSlices(anatomies, seed, SIZE, lesion_masks=masks, positions=LEVELS)
    cached = CachedSlices(slices, cache, count)
    return [count_fractions(cached[index]["numbers"][None])[0] for index in range(count)]


def generated_slices(folders: list[Path]) -> list[Tensor]:
    """Fractions of the samples of folders that ``configs/generate.json`` wrote.

    Raises:
        UserError: for a folder without any.
    """
    found = []
    for folder in folders:
        names = sorted(path.name.removeprefix("sub-") for path in folder.glob("sub-*") if path.is_dir())
        if not names:
            raise UserError(folder, "no samples", "make some: monai.bundle run --config_file configs/generate.json")
        for name in names:
            paths = [output_path(folder, Session(name, None, ()), "probseg", label=label_of(one)) for one in FRACTIONS]
            shares_ = np.stack([load_image(path, uniform=True)[0][..., 0] for path in paths])
            found.append(torch.from_numpy(shares_).float())
    return found


def patient(data: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Scans ``(N, 3, H, W)`` from 0 to 1, lesions and brain ``(N, H, W)`` of the slices of a real patient."""

    def volume(name: str) -> np.ndarray:
        return np.asarray(nib.as_closest_canonical(nib.load(data / REAL.format(name))).dataobj, np.float32)

    scans, mask = np.stack([volume(one).clip(0) for one in SUFFIXES]), volume("label-lesion_mask") > 0
    brain = (scans > 0).all(0)
    chosen = [z for z in range(0, brain.shape[2], STEP) if brain[..., z].sum() >= FEWEST]
    fit = ResizeWithPadOrCrop(SIZE)
    scaled = np.stack([scale_contrast(one) for one in scans])
    images = torch.stack([torch.as_tensor(fit(scaled[..., z])) for z in chosen])
    masks = [torch.stack([torch.as_tensor(fit(one[None, ..., z]))[0] > 0 for z in chosen]) for one in (mask, brain)]
    return images.float(), *masks


def run(options: argparse.Namespace) -> Path:
    """Trains, tests and writes the page."""
    data = options.shared / "data"
    if not (data / REAL.format("FLAIR")).is_file():
        raise UserError(options.shared, "no data/real/open_ms", "name the folder that holds data/ with --shared")
    generated = generated_slices(options.generated)
    heads = head_slices(data, TRAINED, POOL * len(generated), options.seed, options.cache)
    shapes = {"generated": generated, "heads": with_lesions_of(generated, heads)}
    held_out = head_slices(data, HELD_OUT, options.held_out, options.seed + 1, options.cache)
    tests = make_samples(held_out, "physics", options.seed + 1, 1)
    scans, lesions, brain = patient(data)
    rows, tissues, pictures = [], [], {}
    # Seed by seed: what is printed can be compared before all networks are trained.
    for seed, way in product(range(options.seed, options.seed + options.seeds), WAYS):
        source, contrasts = WAYS[way]
        print(f"{way}, seed {seed}", flush=True)
        started = time.process_time()
        images, labels = make_samples(shapes[source], contrasts, seed, options.draws)
        network = train(images, labels, options.iterations, seed)
        minutes = (time.process_time() - started) / 60
        probability = shares(network, scans)
        shown = 100 * float((labels == LESION).sum() / (labels > 0).sum())
        rows.append({"training data": way, "seed": seed, "CPU minutes": minutes, "lesion shown [%]": shown})
        rows[-1] |= lesion_scores(probability, lesions, brain)
        found = shares(network, tests[0]).argmax(1)
        every = {tissue: dice(found == n, tests[1] == n) for n, tissue in enumerate(TISSUES) if n}
        tissues.append({"training data": way, "seed": seed} | every)
        pictures.setdefault(way, probability[:, LESION])
        print(rows[-1], tissues[-1], flush=True)
    parts = report(rows, tissues, pictures, scans, lesions, options)
    for part in parts:
        if isinstance(part, Table):
            print(f"\n{part.title}\n{text_table(part)}")
    return write_page(options.output, "utility", "What training data are worth", parts, {"seed": options.seed})


def report(
    rows: list, tissues: list, pictures: dict, scans: Tensor, lesions: Tensor, options: argparse.Namespace
) -> list:
    """Texts, tables and the picture."""
    text = f"{about.splitlines()[0]} {options.iterations} iterations each, of {options.draws} draws of each slice."
    own_note = "These images are of the same physics, which favours the networks that learned from it."
    real_note = (
        "Lesion shown: its share of the brain in the training data. One patient: differences between networks say "
        "little about other patients. No tissue truth is known."
    )
    return [
        Text(text),
        Table("lesions", f"Lesions of a real patient, {len(scans)} slices", rows, note=real_note),
        Table(
            "tissues",
            "Dice of tissues of simulated heads of anatomies that no network has seen",
            tissues,
            note=own_note,
        ),
        Picture(
            "patient",
            "Probability of a lesion",
            _picture(pictures, scans, lesions),
            "Patient 26 of Lesjak et al. 2017 (CC BY).",
        ),
    ]


def _picture(pictures: dict, scans: Tensor, lesions: Tensor) -> bytes:
    shown = lesions.flatten(1).sum(1).argsort(descending=True)[:2]
    columns = {"FLAIR": scans[:, 2], "true lesions": lesions.float(), **pictures}
    figure = Figure((2.4 * len(columns), 3 * len(shown)), layout="constrained")
    for axes, z in zip(figure.subplots(len(shown), len(columns), squeeze=False), shown):
        for axis, (name, images) in zip(axes, columns.items()):
            axis.imshow(np.rot90(images[z].numpy())[:, ::-1], cmap="gray", vmin=0, vmax=1)
            axis.set_title(name, fontsize=8)
            axis.axis("off")
    return png_of(figure)


def main() -> None:
    """Reads the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.utility", description=about.splitlines()[0])
    parser.add_argument("--generated", type=Path, nargs="+", required=True, help="folders of generated slices")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="folder of the development data")
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "utility", help="folder of the page")
    parser.add_argument("--cache", type=Path, default=ROOT / "data" / "slices", help="folder of simulated slices")
    parser.add_argument("--iterations", type=int, default=600, help="of each training, 8 slices each")
    parser.add_argument("--draws", type=int, default=4, help="contrasts that are made of each slice")
    parser.add_argument("--held_out", type=int, default=56, help="slices of held-out heads")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers")
    parser.add_argument("--seeds", type=int, default=1, help="networks of each kind")
    options = parser.parse_args()
    try:
        print(f"written to {run(options)}")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

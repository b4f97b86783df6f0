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
"""Heads of known tissue as folders of maps: ``python -m benchmarks.phantom SOURCE... OUT``.

A source is a quantitative head of the package asldro (MIT licence): one NIfTI of 197 x 233 x 189 x 1 x 7 voxels with
perfusion, transit time, T1 [s], T2 [s], T2* [s], M0 and label (1 grey matter, 2 white matter, 3 CSF). It is written as
one subject of a BIDS derivative that ``configs/render.json`` reads. PD is M0 relative to that of CSF, which in these
heads is less than that of grey matter.
"""

import argparse
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.bids import Session, dataset_description, output_path, write_image
from scripts.bids.names import stem

T1, T2, T2_STAR, M0, LABEL = range(2, 7)
CSF = 3
UNITS = {"PDmap": "arbitrary", "T1map": "s", "T2map": "s", "T2starmap": "s"}


def write_phantom(source: Path, out: Path) -> Session:
    """Writes the maps and labels of one head below ``out``; returns the session they belong to."""
    image = nib.load(source)
    head = np.asarray(image.dataobj, np.float32)[..., 0, :]
    pd = head[..., M0] / head[head[..., LABEL] == CSF, M0].mean()
    session = Session(re.sub("[^A-Za-z0-9]", "", stem(source)), None, ())
    for (suffix, unit), values in zip(UNITS.items(), (pd, head[..., T1], head[..., T2], head[..., T2_STAR])):
        write_image(output_path(out, session, suffix), values, image.affine, {"Units": unit})
    labels = head[..., LABEL].astype(np.uint8)
    write_image(output_path(out, session, "dseg"), labels, image.affine)
    return session


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, nargs="+", help="NIfTI file of asldro")
    parser.add_argument("out", type=Path, help="folder to write")
    options = parser.parse_args()
    for source in options.source:
        print(output_path(options.out, write_phantom(source, options.out), "T1map"))
    description = dataset_description("Quantitative heads of asldro", "1")
    (options.out / "dataset_description.json").write_text(json.dumps(description, indent=4) + "\n")


if __name__ == "__main__":
    main()

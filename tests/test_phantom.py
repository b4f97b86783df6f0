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

"""A head of known tissue as a folder of maps, rendered with the exact and with the published equations."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest

from benchmarks import phantom
from scripts.bids import find_maps

from .studies import workflow

# Perfusion, transit time, T1, T2, T2*, M0, label of grey matter, white matter and CSF.
VALUES = np.array([[60, 0.8, 1.33, 0.11, 0.066, 82, 1], [20, 1.2, 0.83, 0.08, 0.053, 70, 2], [0, 0, 4.3, 2, 1, 100, 3]])


@pytest.fixture()
def render(tmp_path, monkeypatch):
    """Turns a quantitative head into a folder of maps and renders it; returns ratios to white matter of GM and CSF."""

    def run(head: nib.Nifti1Image, equations: str) -> dict[str, tuple[float, float]]:
        nib.save(head, tmp_path / "a_head.nii.gz")
        monkeypatch.setattr(sys, "argv", ["phantom", str(tmp_path / "a_head.nii.gz"), str(tmp_path / "maps")])
        phantom.main()
        options = {"dataset_dir": str(tmp_path / "maps"), "output_dir": str(tmp_path / equations), "render": "oasis3"}
        workflow("render", equations=equations, **options).run()
        ratios = {}
        labels = nib.load(*tmp_path.glob("maps/sub-ahead/anat/*_dseg.nii.gz")).get_fdata()
        for path in (tmp_path / equations).rglob("*.nii.gz"):
            image = nib.load(path).get_fdata()
            gm, wm, csf = (np.median(image[labels == label]) for label in (1, 2, 3))
            sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
            ratios[sidecar["SignalModel"]] = (gm / wm, csf / wm)
        return ratios

    return run


def test_maps_have_their_units_and_water_has_a_proton_density_of_one(render, tmp_path):
    labels = np.arange(24).reshape(4, 6, 1) // 6
    head = np.concatenate([np.zeros((1, 7)), VALUES])[labels][..., None, :]
    ratios = render(nib.Nifti1Image(head, np.diag([2.0, 1, 1, 1])), "exact")
    [session] = find_maps(tmp_path / "maps")
    assert session.problem is None and set(session.maps) == {"PDmap", "T1map", "T2map", "T2starmap"}
    for suffix, column, scale in (("PDmap", 5, 100), ("T1map", 2, 1), ("T2map", 3, 1), ("T2starmap", 4, 1)):
        image = nib.load(session.maps[suffix])
        np.testing.assert_allclose(image.get_fdata(), head[..., 0, column] / scale, rtol=1e-6)
        np.testing.assert_allclose(image.affine, np.diag([2.0, 1, 1, 1]))
    # A readout train of 176 excitations every 6.3 ms; the published form has .52 and .03.
    assert ratios["mprage"] == pytest.approx((0.68, 0.15), abs=0.01)


def test_a_quantitative_head_at_oasis_settings(render, shared):
    source = nib.load(shared / "data/phantom/asldro/hrgt_icbm_2009a_nls_3t.nii.gz").slicer[:, :, 88:90]
    exact, paper = render(source, "exact"), render(source, "paper")
    assert exact["mprage"] == pytest.approx((0.67, 0.19), abs=0.03)
    assert paper["paper_mprage"] == pytest.approx((0.51, 0.03), abs=0.01), "CSF is nulled"
    assert exact["vfa_turbo_spin_echo"][1] < 2 < 5 < paper["paper_spin_echo"][1], "brain is nearly black"

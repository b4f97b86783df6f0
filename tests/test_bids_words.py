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

"""What plain file names tell, as vendors, converters, pipelines and people write them."""

import json
from pathlib import Path

import pytest

from scripts.bids import find_scans, find_sessions
from scripts.bids.words import strangers, told_suffix


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.nii.gz").touch()
    return folder


@pytest.mark.parametrize(
    "suffix, names",
    [
        ("T1w", "T1 t1w 3dt1 x_mprage mp-rage t1n t1c T1ce T1_Gd t1_post IXI002-Guys-0828-T1 OAS1_0001_MR1_mpr_n4"),
        ("T1w", "T1-FLAIR Ax_T1_FLAIR t1_tirm_sag_dark-fluid t1_to_flair T1_biascorr_brain PD-012_t1 BRAVO c1_t1"),
        ("T2w", "T2 brain_t2 t2w t2_space_sag t2_tse_tra t2_reg_t1 t2_spc_mpr_tra t2_in_flair_space"),
        ("PDw", "PD PDw pd_tse"),
        ("FLAIR", "flair T2-FLAIR t2f t2_tirm_tra_dark-fluid t2_spc_da-fl_sag tirm darkfluid flair_to_t1 flair2t1"),
        ("FLAIR", "flair_t2space 3D_FLAIR"),
        ("T2starw", "T2star T2_star t2* T2*-GRE T2-GRE t2_fl2d_tra_hemo gre_t2 T2_FFE SWI swan"),
        ("T1map", "T1map t1_map T1-mapping qt1_map r1map t1_mp2rage_sag_T1_Images"),
        ("T2map", "T2map t2_map r2_map"),
        ("T2starmap", "t2star_map T2*_map r2s_map"),
        ("UNIT1", "t1_mp2rage_sag_UNI_Images mp2rage"),
        ("MP2RAGE", "t1_mp2rage_sag_INV1"),
        ("dce", "t1_dce"),
        ("stir", "t2_stir_cor"),
        ("localizer", "t1_localizer"),
        ("mask", "t1_mask T1_fast_pve_1 t1_pve T1_fast_pveseg t1_seg1 t1_segmentation t2_parcellation flair_lesions"),
        ("mask", "c1t1 mwc2t1 y_t1 t1_wm t1_prob_2 flair_gt t1_warp brainmask_t1 T1_bias_field manual_mask t1_wmparc"),
        ("", "scan image_003 patient7"),
    ],
)
def test_the_suffix_of_plain_names(suffix, names):
    assert {name: told_suffix(name) for name in names.split()} == dict.fromkeys(names.split(), suffix)


@pytest.mark.parametrize("year, names", [(2021, "t1 t1ce t2 flair"), (2023, "t1n t1c t2w t2f")])
def test_brats_of_any_year(tmp_path, year, names):
    case = touch(tmp_path / "BraTS-GLI-00001-000", *(f"BraTS-GLI-00001-000-{name}" for name in names.split()))
    touch(case, "BraTS-GLI-00001-000-seg")
    scans = find_scans(tmp_path)
    found = {scan.path.name.removesuffix(".nii.gz").split("-")[-1]: scan for scan in scans}
    assert [found[name].suffix for name in names.split()] == ["T1w", "T1w", "T2w", "FLAIR"] and len(found) == 4
    assert not any(scan.unused or scan.problem for scan in scans)
    assert [name for name, scan in found.items() if scan.post_contrast] == [names.split()[1]]


@pytest.mark.parametrize(
    "name, agent",
    [
        *((name, True) for name in ("t1c", "t1ce", "T1_Gd", "T1GD", "t1_post", "t1_KM", "T1+C", "t1_c+", "t1_gad")),
        *((name, False) for name in ("t1", "t1n", "t1_pre", "t1_posterior", "t1_postproc", "t1_postop", "t1_cor")),
    ],
)
def test_post_contrast_by_name(tmp_path, name, agent):
    touch(tmp_path / "p1", name)
    assert [scan.post_contrast for scan in find_scans(tmp_path)] == [agent]


def test_post_contrast_by_what_the_operator_typed(tmp_path):
    touch(tmp_path / "p1", "t1")
    (tmp_path / "p1" / "t1.json").write_text(json.dumps({"SeriesDescription": "t1_mprage_tra_KM"}))
    assert find_scans(tmp_path)[0].post_contrast


@pytest.mark.parametrize(
    "names, counts",
    [
        (["t1", "t1_brain"], ["t1"]),
        (["t1_brain"], ["t1_brain"]),
        (["T1", "T1_biascorr", "T1_biascorr_brain", "T1_orig", "T1_to_MNI_lin"], ["T1"]),
        (["flair", "flair_to_t1", "t1"], ["flair", "t1"]),
        (["t1_pre", "t1_post", "t1_sag"], ["t1_pre", "t1_post", "t1_sag"]),
        (["sub-1_T1w", "sub-1_rec-norm_T1w"], ["sub-1_T1w"]),
        (["sub-1_rec-a_T1w", "sub-1_rec-b_T1w"], ["sub-1_rec-a_T1w"]),
        (["sub-1_T1w", "sub-1_space-MNI_T1w", "sub-1_acq-brain_T1w"], ["sub-1_T1w"]),
        (["sub-1_run-1_T1w", "sub-1_run-2_T1w", "sub-1_acq-a_T1w"], None),
    ],
)
def test_a_scan_that_is_stored_twice_counts_once(tmp_path, names, counts):
    bids = names[0].startswith("sub-")
    touch(tmp_path / "sub-1" / "anat" if bids else tmp_path / "p1", *names)
    (session,) = find_sessions(tmp_path)
    stems = {contrast.path.name[:-7] for contrast in session.contrasts}
    assert stems == set(counts or names)
    told = [scan.unused for scan in find_scans(tmp_path) if scan.path.name[:-7] not in stems]
    assert all("the same scan as" in reason for reason in told) and len(told) == len(names) - len(stems)


def test_two_reconstructions_of_one_acquisition_count_once(tmp_path):
    anat = touch(tmp_path / "sub-1" / "anat", "sub-1_run-1_T1w", "sub-1_run-2_T1w", "sub-1_run-3_T1w")
    times = ("10:11:12.5", "10:11:12.5", "10:20:00.0")
    for number, time in enumerate(times, start=1):
        sidecar = {"EchoTime": 0.003, "RepetitionTime": 2.3, "InversionTime": 0.9, "AcquisitionTime": time}
        (anat / f"sub-1_run-{number}_T1w.json").write_text(json.dumps(sidecar))
    (session,) = find_sessions(tmp_path)
    assert [contrast.entities["run"] for contrast in session.contrasts] == ["1", "3"]


@pytest.mark.parametrize(
    "names, several",
    [
        (["IXI002-Guys-0828-T1", "IXI012-HH-1211-T1"], True),
        (["patient7_t1", "patient8_t1"], True),
        (["sub-01_T1w", "sub-02_T1w"], True),
        (["p1_20180101_t1", "p1_20190101_t1"], True),
        (["anna_t1", "ben_t1", "clara_t1"], True),
        (["BraTS_001_t1", "BraTS_002_t1", "BraTS_003_t1"], True),
        (["IXI002-Guys-0828-T1", "IXI002-Guys-0828-T2"], False),
        (["3_t1_mprage", "12_t1_mprage_km", "8_t2_tse"], False),
        (["ax_t2", "sag_t2", "cor_t2"], False),
        (["s003_t1", "s012_t2"], False),
        (["t1_1", "t1_2", "t1_3"], False),
        (["p1_20180101_t1", "p1_20180101_flair"], False),
    ],
)
def test_strangers_are_told_by_their_names(names, several):
    assert bool(strangers(names)) == several

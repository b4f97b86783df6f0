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

"""Inference: volumes through the network, and folders of scans through the whole line."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.acquisition import load_render
from scripts.commands.study.products import render
from scripts.errors import UserError
from scripts.estimate.maps import Maps
from scripts.networks import PhysicsVAE
from scripts.networks.inferers import MapInferer

from .studies import RENDER, SHAPE, files, tiny_vae, workflow, write_study, write_weights

ROWS = torch.stack([request.acquisition.to_row() for request in load_render(RENDER)])[None]


def user_error(caught) -> str:
    error = caught.value
    while not isinstance(error, UserError):
        error = error.__cause__
    return str(error)


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_2d_network_sees_each_slice_alone_and_none_that_is_empty(calibrated):
    plain = PhysicsVAE(channels=(8, 8), norm_num_groups=4, skip_channels=(), covariance=False).eval()
    network = tiny_vae() if calibrated else plain
    image, mask = torch.randn(1, 2, 13, 18, 4), torch.zeros(1, 1, 13, 18, 4)
    mask[..., 1:3] = 1
    found = MapInferer()(image, network, ROWS, mask)
    assert found.log_maps.shape == (1, 3, 13, 18, 4) and found.cholesky.shape == (1, 6, 13, 18, 4)
    for z in (1, 2):
        with torch.no_grad():
            expected = network.estimate(image[..., z], ROWS)
        assert all(torch.equal(part[..., z], own) for part, own in zip(found, expected))
    assert not any(part[..., [0, 3]].any() for part in found)


def test_between_slices_2_mm_apart_a_2d_network_is_interpolated():
    network, image, mask = tiny_vae(), torch.randn(1, 2, 13, 18, 6), torch.zeros(1, 1, 13, 18, 6)
    every = MapInferer()(image, network, ROWS)
    assert all(torch.equal(*parts) for parts in zip(every, MapInferer()(image, network, ROWS, spacing=1.1)))
    thin = MapInferer()(image, network, ROWS, spacing=1.0)
    for whole, part in zip(every, thin):
        expected = whole.clone()
        expected[..., [1, 3]] = (whole[..., [0, 2]] + whole[..., [2, 4]]) / 2
        torch.testing.assert_close(part, expected, rtol=0, atol=1e-6)
    # The only slice of the foreground is none that the network sees.
    mask[..., 3] = 1
    near = MapInferer()(image, network, ROWS, mask, spacing=1.0)
    assert all(torch.equal(part[..., 3], own[..., 3]) for part, own in zip(near, thin))
    assert not any(part[..., [0, 5]].any() for part in near)


@pytest.mark.parametrize("distance", [0, -1.0, float("nan"), "2"])
def test_a_distance_that_is_none_is_refused(distance):
    with pytest.raises(UserError, match="distance: found .*give millimetres"):
        MapInferer(distance=distance)


def test_a_3d_network_sees_the_volume():
    network, image = tiny_vae(3), torch.randn(1, 2, 9, 10, 6)
    with torch.no_grad():
        expected = network.estimate(image, ROWS)
    torch.testing.assert_close(MapInferer(spatial_dims=3)(image, network, ROWS), expected, rtol=0, atol=0)


def test_maps_contrasts_and_what_they_say_about_themselves(infer, scans):
    anat = infer() / "sub-01" / "anat"
    reference = nib.load(scans / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    mask = nib.load(anat / "sub-01_desc-foreground_mask.nii.gz").get_fdata() > 0
    assert 0.1 < mask.mean() < 0.9
    for name, unit in (("PDmap", "arbitrary"), ("T1map", "s"), ("T2map", "s"), ("acq-one_T1w", "arbitrary")):
        image, sidecar = nib.load(anat / f"sub-01_{name}.nii.gz"), json.loads(
            (anat / f"sub-01_{name}.json").read_text()
        )
        assert image.shape == SHAPE and image.get_data_dtype() == np.float32
        np.testing.assert_allclose(image.affine, reference.affine)
        data = image.get_fdata()
        assert not data[~mask].any() and (data[mask] > 0).all()
        assert sidecar["Units"] == unit
    sidecar = json.loads((anat / "sub-01_desc-sd_T1map.json").read_text())
    assert "exp(1.645 sd)" in sidecar["Description"] and "what all voxels share" in sidecar["Description"]
    given = sidecar["Acquisitions"]["bids:raw:sub-01/anat/sub-01_T2w.nii.gz"]
    assert given["EchoTime"] == 0.09 and given["ParameterProvenance"]["EchoTime"] == "given"
    assert (anat / "sub-01_overview.png").stat().st_size > 10_000
    assert json.loads((anat.parents[1] / "dataset_description.json").read_text())["DatasetType"] == "derivative"


def test_a_rendered_contrast_is_the_signal_equation_of_the_exported_maps(infer):
    anat = infer() / "sub-02" / "anat"
    names = ("PDmap", "T1map", "T2map")
    maps = np.stack([nib.load(anat / f"sub-02_{name}.nii.gz").get_fdata(dtype=np.float32) for name in names])
    expected = render(Maps(maps, None, maps[0] > 0, np.eye(4)), load_render(RENDER)[1:2])[0]
    found = nib.load(anat / "sub-02_acq-two_T2w.nii.gz").get_fdata(dtype=np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_rerun_does_only_what_is_missing(infer, estimates):
    undisturbed, out = files(infer("undisturbed")), infer()
    estimates.clear()
    # What a kill may leave behind: files without a manifest, and a hidden file or folder.
    (out / "sub-02" / "anat" / "sub-02_manifest.json").unlink()
    (out / "sub-02" / "anat" / "sub-02_T1map.nii.gz").unlink()
    (out / ".sub-02.0123456789abcdef.partial").touch()
    kept = (out / "sub-01" / "anat" / "sub-01_T1map.nii.gz").stat().st_mtime_ns
    infer()
    assert len(estimates) == 1
    assert files(out) == undisturbed
    assert (out / "sub-01" / "anat" / "sub-01_T1map.nii.gz").stat().st_mtime_ns == kept


def test_more_contrasts_are_added_without_the_network(infer, estimates):
    at_once, out = files(infer("at_once")), infer(render=RENDER[:1])
    estimates.clear()
    infer()
    assert not estimates
    assert files(out) == at_once


def test_other_weights_are_refused_unless_overwritten(infer, tmp_path):
    out = infer()
    before, other = files(out), write_weights(tmp_path / "other", seed=1)["vae"]
    with pytest.raises(RuntimeError) as caught:
        infer(weights=other)
    assert "sub-01_manifest.json: found results made from weights" in user_error(caught)
    assert files(out) == before
    infer(weights=other, overwrite=True)
    assert files(out)["sub-01/anat/sub-01_T1map.nii.gz"] != before["sub-01/anat/sub-01_T1map.nii.gz"]


def test_a_changed_scan_is_noticed(infer, scans):
    infer()
    (scans / "sub-01" / "anat" / "sub-01_T1w.json").write_text(
        json.dumps({"EchoTime": 0.003, "RepetitionTime": 2.4, "InversionTime": 0.9})
    )
    with pytest.raises(RuntimeError) as caught:
        infer()
    assert "sub-01_T1w.nii.gz.InversionTime 1.0 (now 0.9)" in user_error(caught)


def test_without_any_acquisition_nothing_is_written_and_all_files_are_named(infer, tmp_path):
    bare = write_study(tmp_path / "bare", subjects=2, sidecars=False)
    with pytest.raises(RuntimeError) as caught:
        infer("refused", dataset_dir=str(bare))
    message = user_error(caught)
    for subject in ("sub-01", "sub-02"):
        for suffix in ("T1w", "T2w", "FLAIR"):
            assert f"{subject}_{suffix}" in message
    assert "EchoTime" in message and "--protocol" in message
    assert not (tmp_path / "refused").exists()
    assert len(files(infer("named", dataset_dir=str(bare), protocol="oasis3"))) > 20


@pytest.mark.parametrize("break_it", ["sidecar", "header", "voxels"])
def test_a_subject_that_fails_is_reported_and_the_others_finish(infer, scans, break_it):
    image = scans / "sub-01" / "anat" / "sub-01_T2w.nii.gz"
    if break_it == "sidecar":
        image.with_name("sub-01_T2w.json").write_text('{"EchoTime": 90, "RepetitionTime": 4.5}')
    elif break_it == "header":
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 2), np.float32), np.eye(4)), image)
    else:
        data = np.ones(SHAPE, np.float32)
        data[0, 0, 0] = np.nan
        nib.save(nib.Nifti1Image(data, np.eye(4)), image)
    out = infer()
    assert list(infer.failures) == ["sub-01"] and isinstance(infer.failures["sub-01"], UserError)
    assert not (out / "sub-01").exists()
    assert (out / "sub-02" / "anat" / "sub-02_manifest.json").exists()


def test_weights_stored_in_half_precision_are_cast_up(infer, tmp_path):
    state = torch.load(tmp_path / "weights" / "model.pt", weights_only=True)
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pt")
    full = infer("full", data_consistency=False)
    half = infer("half", weights=str(tmp_path / "half.pt"), data_consistency=False)
    maps = [nib.load(out / "sub-01" / "anat" / "sub-01_T1map.nii.gz") for out in (full, half)]
    assert maps[1].get_data_dtype() == np.float32
    np.testing.assert_allclose(maps[0].get_fdata(), maps[1].get_fdata(), rtol=0.02)


@pytest.mark.parametrize(
    "overrides,message",
    [
        ({"weights": "absent.pt"}, "absent.pt: found no such file; train one with configs/train_vae.json"),
        ({"render": "fig4"}, "render"),
        ({"dataset_dir": "absent"}, "absent: found no such folder"),
        ({"dataset_dir": None}, "name one with --dataset_dir"),
    ],
)
def test_what_is_wrong_as_a_whole_is_refused_before_anything_is_written(infer, tmp_path, overrides, message):
    with pytest.raises(RuntimeError) as caught:
        infer(**overrides)
    assert message in user_error(caught)
    assert not (tmp_path / "out").exists()


def test_a_contrast_agent_is_warned_about(infer, scans, caplog):
    for path in [*(scans / "sub-01" / "anat").glob("*_T1w.*")]:
        path.rename(path.with_name(path.name.replace("_T1w", "_ce-gado_T1w")))
    infer()
    assert "sub-01_ce-gado_T1w.nii.gz looks as if taken after a contrast agent" in caplog.text


def test_the_config_is_complete_before_there_are_data_or_weights():
    assert workflow("inference").check_properties() == []
    assert workflow("inference", dataset_dir="absent").check_properties() == []

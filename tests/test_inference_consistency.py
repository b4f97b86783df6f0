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

"""From a session's volume to maps: data consistency with the user's own scans, uncertainty, unknown acquisitions."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from torch import nn

from scripts.bids import find_sessions, resolve, session_record
from scripts.commands.study import subjects
from scripts.estimate import Estimator, Posterior, Scans
from scripts.estimate.anchoring import reference
from scripts.networks.inferers import MapInferer
from scripts.preprocess import AlignContrastsd, ForegroundMaskd, LoadSessiond, ScaleContrastsd
from scripts.tissue import Estimate

from .studies import INFER, RENDER, tiny_vae, true_maps, workflow, write_study, write_weights

NAMES = ["FLAIR", "T1w", "T2w"]
BEFORE = Compose([LoadSessiond(), AlignContrastsd(), ForegroundMaskd()])


class Recorder(Posterior):
    def __call__(self, *asked):
        self.asked = asked
        return super().__call__(*asked)


class Guess(MapInferer):
    """Stands for an estimate: each voxel is wrong by a fifth, as it says itself."""

    def __call__(self, *asked):
        log_maps = torch.from_numpy(true_maps())[None].clamp_min(0.05).log()
        log_maps += 0.2 * torch.randn(log_maps.shape, generator=torch.Generator().manual_seed(0))
        return Estimate.independent(log_maps, torch.full_like(log_maps, 0.2))


@pytest.fixture(scope="module")
def aligned(tmp_path_factory) -> dict:
    [session] = find_sessions(write_study(tmp_path_factory.mktemp("study")))
    return BEFORE(session_record(session, resolve(session)))


@pytest.fixture(scope="module")
def volume(aligned) -> dict:
    return ScaleContrastsd()(aligned)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return tiny_vae()


def quick() -> Posterior:
    """What the voxels of a head share is found roughly, but soon."""
    return Posterior(voxels=100, steps=4)


def estimator(network: nn.Module, **options) -> Estimator:
    return Estimator(network, MapInferer(), quick(), **options)


def padded(volume: dict, size: int) -> dict:
    """The same head in a larger field of view."""
    image, around = volume["image"], [0, 0, size, size, size, size]
    larger = MetaTensor(nn.functional.pad(image.as_tensor(), around), affine=image.affine)
    return {**volume, "image": larger, "mask": nn.functional.pad(volume["mask"], around)}


def test_scaling_is_undone_exactly_where_there_is_nothing_and_to_rounding_elsewhere(aligned, volume):
    keys = ("image", "window", "acquisition", "mask")
    image, window, acquisitions, mask = (volume[key][None] for key in keys)
    raw = Scans(image.as_tensor(), window, acquisitions, volume["gains"], mask > 0).intensities[0]
    expected = aligned["image"].as_tensor()
    torch.testing.assert_close(raw, expected, rtol=1e-5, atol=1e-4)
    assert torch.equal(raw == 0, expected == 0)


def test_without_data_consistency_the_maps_are_those_of_the_network(network, volume):
    maps, about = estimator(network, data_consistency=False)(volume, NAMES)
    image, mask, rows = volume["image"].as_tensor()[None], volume["mask"][None], volume["acquisition"][None]
    found = MapInferer()(image, network, rows, mask, spacing=1.0)
    # Relative to white matter: a factor common to all voxels of PD.
    ratio = maps.values / found.maps[0].numpy()
    inside = mask[0, 0].numpy() > 0
    np.testing.assert_allclose(ratio[1:, inside], 1, rtol=1e-5)
    np.testing.assert_allclose(ratio[0, inside], np.median(ratio[0, inside]), rtol=1e-5)
    np.testing.assert_allclose(maps.sd, (found.sd[0] * mask[0]).numpy(), rtol=1e-5)
    assert not maps.values[:, ~inside].any() and maps.correlations is None
    assert about["DataConsistency"] == {"Applied": False}


def test_data_consistency_sees_the_scans_as_they_were(network, aligned, volume):
    recorder = Recorder(voxels=100, steps=4)
    Estimator(network, MapInferer(), recorder)(volume, NAMES)
    estimate, image, rows, mask, gains = recorder.asked
    assert isinstance(estimate, Estimate)
    torch.testing.assert_close(image, aligned["image"].as_tensor(), rtol=1e-5, atol=1e-4)
    assert torch.equal(rows, volume["acquisition"]) and torch.equal(mask, volume["mask"][0] > 0)
    assert gains == [0, 1, 2]
    Estimator(network, MapInferer(), recorder)(volume | {"gains": [0, 1, 1]}, NAMES)
    assert recorder.asked[-1] == [0, 1, 1], "which scans share a gain is read from the record"


def test_data_consistency_brings_a_wrong_estimate_nearer_to_the_truth(network, volume):
    truth = true_maps()
    inside, errors, sds = truth[0] > 0, [], []
    for switch in (False, True):
        guess = Estimator(network, Guess(), Posterior(), data_consistency=switch)
        maps, about = guess(volume, NAMES)
        errors.append(np.median(np.abs(np.log(maps.values[:, inside] / truth[:, inside])), axis=1))
        sds.append(np.median(maps.sd[:, inside], axis=1))
    assert (errors[1][1:] < 0.6 * errors[0][1:]).all() and (sds[1] < sds[0]).all()
    told = about["DataConsistency"]
    assert told["Applied"] and told["NotUsed"] == [] and list(told["GainsLogSD"]) == NAMES
    assert about["Anchoring"]["Anchored"] and about["Accuracy"].endswith("PD is relative to white matter.")
    # The gains belong to the exported maps: signals of these times the gain are the scans, made with a gain of 1000.
    assert [*told["Gains"].values()] == pytest.approx([1000] * 3, rel=0.1)
    white_matter = np.isclose(truth[1], 0.83)
    assert np.median(maps.values[0][white_matter]) == pytest.approx(reference(), rel=0.02)


def test_a_head_without_white_matter_is_not_anchored(network, volume):
    maps, about = estimator(network)(volume, NAMES)
    assert about["Anchoring"]["Reason"] and about["Anchoring"]["ScaleOfPD"] == 1
    assert about["Accuracy"].endswith("PD is relative to what the network expects.")


def test_the_field_of_view_changes_nothing(network, volume):
    one, other = (estimator(network)(padded(volume, size), NAMES)[0] for size in (16, 24))
    np.testing.assert_array_equal(one.values[:, 16:-16, 16:-16], other.values[:, 24:-24, 24:-24])
    np.testing.assert_array_equal(one.sd[:, 16:-16, 16:-16], other.sd[:, 24:-24, 24:-24])
    assert one.values.shape[1:] == one.mask.shape == (64, 72, 6)


def test_correlations_on_request(network, volume):
    maps, _ = estimator(network, data_consistency=False, correlations=True)(volume, NAMES)
    mask = volume["mask"][None]
    found = MapInferer()(volume["image"].as_tensor()[None], network, volume["acquisition"][None], mask, 1.0)
    np.testing.assert_allclose(maps.correlations, (found.correlations[0] * mask[0]).numpy(), atol=1e-5)
    assert (np.abs(maps.correlations) <= 1 + 1e-5).all() and maps.correlations.any()


@pytest.mark.parametrize("part", [0, 1])
def test_an_estimate_that_is_not_finite_is_an_error(network, volume, part):
    class Broken(MapInferer):
        def __call__(self, *asked):
            estimate = super().__call__(*asked)
            estimate[part][0, 0, 16, 20, 3] = torch.nan
            return estimate

    with pytest.raises(ValueError, match="not finite"):
        Estimator(network, Broken(), quick())(volume, NAMES)


@pytest.fixture()
def infer(tmp_path):
    """Runs inference on a study and returns the folder and the sidecars of its one subject."""
    weights = write_weights(tmp_path / "weights")["vae"]

    def run(scans: Path, output: str = "out", **overrides) -> tuple[Path, dict[str, dict]]:
        options = {"weights": weights, "render": RENDER[:1], "threads": 1, **INFER, **overrides}
        options |= {"dataset_dir": str(scans), "output_dir": str(tmp_path / output), "device": "$torch.device('cpu')"}
        workflow("inference", **options).run()
        anat = tmp_path / output / "sub-01" / "anat"
        return anat, {path.name: json.loads(path.read_text()) for path in anat.glob("*map.json")}

    return run


def test_a_scan_of_unknown_acquisition_is_used_and_named(infer, tmp_path, caplog, monkeypatch):
    scans, shown = write_study(tmp_path / "in"), []
    (scans / "sub-01" / "anat" / "sub-01_T2w.json").unlink()
    draw = subjects.overview
    monkeypatch.setattr(subjects, "overview", lambda *given, **more: shown.append(given[5]) or draw(*given, **more))
    _, sidecars = infer(scans, protocol="unknown")
    assert "sub-01: acquisition unknown of sub-01_T2w.nii.gz: intervals will be wider" in caplog.text
    first_lines = [title.split("\n")[0] for title in shown[0]]
    assert first_lines == ["FLAIR", "T1w", "T2w"] and [*shown[0]][2] == "T2w\nacquisition unknown"
    uri = "bids:raw:sub-01/anat/sub-01_T2w.nii.gz"
    for sidecar in sidecars.values():
        assert sidecar["UnknownAcquisitions"] == sidecar["DataConsistency"]["NotUsed"] == [uri]
        assert sidecar["Acquisitions"][uri]["SignalModel"] == "unknown"
        assert len(sidecar["DataConsistency"]["Gains"]) == 2


def test_without_any_known_acquisition_the_network_alone_estimates(infer, tmp_path):
    bare = write_study(tmp_path / "in", sidecars=False)
    anat, sidecars = infer(bare, protocol="unknown")
    for sidecar in sidecars.values():
        assert len(sidecar["UnknownAcquisitions"]) == 3
        assert not sidecar["DataConsistency"]["Applied"] and sidecar["DataConsistency"]["Gains"] == {}
    alone, _ = infer(bare, "alone", protocol="unknown", data_consistency=False)
    for name in ("T1map", "desc-sd_T2map"):
        maps = [nib.load(folder / f"sub-01_{name}.nii.gz").get_fdata() for folder in (anat, alone)]
        np.testing.assert_array_equal(*maps)


def test_what_was_done_stands_in_sidecars_and_manifest(infer, tmp_path):
    scans = write_study(tmp_path / "in")
    _, sidecars = infer(scans, correlations="true")
    assert {name for name in sidecars if "corr" in name} == {
        f"sub-01_desc-corr{pair}_map.json" for pair in ("PDT1", "PDT2", "T1T2")
    }
    assert len(sidecars) == 9
    for sidecar in sidecars.values():
        assert sidecar["DataConsistency"]["Applied"] and sidecar["Anchoring"]["ReferencePD"] == reference()
        assert sidecar["Accuracy"].startswith("The standard deviations of desc-sd hold on simulated heads")
    for change, named in (
        ({"data_consistency": False}, "settings.estimator.data_consistency"),
        ({"posterior::steps": 3}, "settings.estimator.data_consistency.steps 4 (now 3)"),
        ({"correlations": False}, "settings.estimator.correlations True (now False)"),
    ):
        with pytest.raises(RuntimeError) as caught:
            infer(scans, **{"correlations": "true", **change})
        assert named in str(caught.value.__cause__)


def test_scans_that_now_share_a_gain_make_other_maps(infer, tmp_path):
    scans = write_study(tmp_path / "in")
    anat = scans / "sub-01" / "anat"
    for suffix, number in (("T2w", 1), ("PDw", 2)):
        sidecar = {"EchoTime": 0.09 / number, "RepetitionTime": 4.5, "SeriesNumber": 3, "EchoNumber": number}
        (anat / f"sub-01_{suffix}.json").write_text(json.dumps(sidecar))
    echo = nib.load(anat / "sub-01_T2w.nii.gz")
    nib.save(nib.Nifti1Image(1.5 * echo.get_fdata(dtype=np.float32), echo.affine), anat / "sub-01_PDw.nii.gz")
    _, sidecars = infer(scans)
    told = sidecars["sub-01_T1map.json"]["DataConsistency"]["Gains"]
    gains = {name.split("_")[-1].split(".")[0]: gain for name, gain in told.items()}
    assert gains["PDw"] == gains["T2w"] and len({*gains.values()}) == 3
    (anat / "sub-01_PDw.json").write_text((anat / "sub-01_PDw.json").read_text().replace(": 3", ": 4"))
    with pytest.raises(RuntimeError) as caught:
        infer(scans)
    assert "gains.bids:raw:sub-01/anat/sub-01_T2w.nii.gz 1 (now 3)" in str(caught.value.__cause__)

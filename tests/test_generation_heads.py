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

"""Whole heads through the config: functions of their address, resumed, measured in mL."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.errors import UserError
from scripts.networks import CoarseCodec, CoarseTransformer, FractionCodec, HeadSampler, RefiningTransformer
from scripts.networks.levels import CENTRE_MM

from .studies import RENDER, TINY_CODEC, files, workflow

WIDTHS = {"width": 16, "depth": 1, "heads": 2, "latent_channels": 4}
SLICES = 9


@pytest.fixture
def generate(tmp_path):
    """Runs generation with tiny networks and returns the output folder."""
    torch.manual_seed(0)
    codec, coarse = FractionCodec(**TINY_CODEC), CoarseCodec(4)
    networks = CoarseTransformer((4, 4, 2), **WIDTHS), RefiningTransformer((4, 6), **WIDTHS)
    for one in (codec, coarse):
        torch.nn.init.normal_(one.basis), one.mean.fill_(1 / 16)
    for network in networks:
        for name, weight in network.named_parameters():
            if "adapt" in name or name.startswith(("out", "surroundings")):
                torch.nn.init.normal_(weight, std=0.2)
    names = {"codec_weights": codec, "coarse_weights": coarse, "weights": networks[0], "refining_weights": networks[1]}
    for name, network in names.items():
        torch.save(network.state_dict(), tmp_path / f"{name}.pt")

    def run(output: str, **overrides):
        options = {name: str(tmp_path / f"{name}.pt") for name in names}
        options |= {f"network_def::{name}": value for name, value in TINY_CODEC.items()}
        options |= {f"{node}::{k}": v for node in ("diffusion_def", "refining_def") for k, v in WIDTHS.items()}
        options |= {"coarse_def::latent_channels": 4, "inferer::slices": SLICES, "latent_size": [4, 4, 2]}
        options |= {"slice_size": [4, 6], "num_inference_steps": 2, "refining_steps": [2, 1, 1, 1, 1], "render": RENDER}
        options |= {"count": 2, "threads": 1, "output_dir": str(tmp_path / output), **overrides}
        workflow("generate", "heads", device="$torch.device('cpu')", **options).run()
        return tmp_path / output

    return run


def test_heads_are_functions_of_their_address_on_any_number_of_processes(generate, monkeypatch):
    whole = generate("whole", batch_size=2)
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        shared = generate("shared")
    assert files(shared) == files(whole)


def test_a_rerun_makes_what_is_missing_and_adds_what_is_new(generate, monkeypatch):
    whole, out = files(generate("whole", count=3)), generate("out", count=2, render=RENDER[:1])
    (out / "sub-0001" / "anat" / "sub-0001_manifest.json").unlink()
    drawn, original = [], HeadSampler.latent
    monkeypatch.setattr(HeadSampler, "latent", lambda self, *a: drawn.append(a[0]) or original(self, *a))
    assert files(generate("out", count=3)) == whole
    assert drawn == [(0, 0), (0, 2)]


def test_sidecars_say_what_was_asked_and_what_came_out_in_ml(generate):
    anat = generate("out", count=1, ventricle="10:30", head=3000) / "sub-0001" / "anat"
    sidecar = json.loads((anat / "sub-0001_T1map.json").read_text())
    requested, measured = sidecar["GeneratedFrom"]["requested"], sidecar["Measured"]
    assert 10 <= requested["ventricle"] <= 30 and requested["head"] == 3000 and requested["grey"] is None
    assert sidecar["MeasuredUnits"] == "mL" and {"ventricle", "brain", "lesions", "grey", "white", "head"} == {
        *measured
    }
    image = nib.load(anat / "sub-0001_label-ventricle_probseg.nii.gz")
    assert image.shape == (32, 48, SLICES) and nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert measured["ventricle"] == pytest.approx(image.get_fdata().sum() / 1000, abs=0.01)
    middle = image.affine @ [*[(size - 1) / 2 for size in image.shape], 1]
    np.testing.assert_allclose(middle[:3], [0, 0, CENTRE_MM])
    assert (anat / "sub-0001_overview.png").exists()


@pytest.mark.parametrize(
    "overrides,message",
    [
        ({"position": 10}, "position: found a value, and a network that knows ventricle"),
        ({"white": -1}, "white: found -1 mL; use numbers from 0"),
        ({"refining_steps": [2, 1]}, "refining_steps: found 2 numbers for 9 slices; give 5"),
        (
            {"refining_weights": "absent.pt"},
            "absent.pt: found no such file; train one with configs/train_refining.json",
        ),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_written(generate, tmp_path, overrides, message):
    with pytest.raises(Exception) as caught:
        generate("out", **overrides)
    error = caught.value
    while not isinstance(error, UserError):
        error = error.__cause__
    assert message in str(error)
    assert not (tmp_path / "out").exists()


def test_networks_of_other_latents_are_refused(generate, tmp_path):
    path = tmp_path / "refining_weights.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "vae_digest": torch.ones(32, dtype=torch.uint8)}, path)
    with pytest.raises(RuntimeError) as caught:
        generate("out")
    assert f"made with other latents than those of {tmp_path / 'codec_weights.pt'}" in str(caught.value.__cause__)

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

"""Whole heads in the way of Pinaya et al.: conditions by planes and cross-attention, checkpointing, the overlay."""

import json
from pathlib import Path

import nibabel as nib
import torch
from monai.bundle import ConfigWorkflow

from scripts.networks import LatentDiffusionUNet, PhysicsVAE

from .studies import RENDER, TINY_VAE, UNET, workflow

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"network_def::channels": [8, 8, 8], "network_def::norm_num_groups": 4}


def test_conditions_reach_the_unet_by_attention_and_none_is_as_not_known():
    torch.manual_seed(0)
    options = {"condition_channels": 0, "columns": ("age", "sex"), "channels": (32, 32), "num_head_channels": (0, 32)}
    unet = LatentDiffusionUNet(attention_levels=(False, True), cross_attention=True, **options).eval()
    # A new network's output, and that of its attention, is zero.
    for name, weight in unet.named_parameters():
        if name.startswith("out.2") or "proj_out" in name:
            torch.nn.init.normal_(weight, std=0.1)
    x, time = torch.randn(2, 6, 8, 8), torch.tensor([500.0])
    nothing = torch.full((2, 2), torch.nan)
    told = unet.condition(torch.tensor([[1.0, torch.nan]] * 2), (8, 8))
    with torch.no_grad():
        free, also, asked = unet(x, time), unet(x, time, unet.condition(nothing, (8, 8))), unet(x, time, told)
        # Planes alone would leave the blocks of attention untouched.
        unet.conv_in.conv.weight[:, 6:] = 0
        by_attention = unet(x, time, told)
    torch.testing.assert_close(free, also)
    assert not torch.allclose(free, asked, atol=1e-4) and not torch.allclose(free, by_attention, atol=1e-4)


def test_checkpointing_changes_no_gradient_and_keeps_less():
    image, rows = torch.randn(1, 3, 32, 32), PhysicsVAE().default_acquisition[None]
    gradients, kept = [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        vae, saved = PhysicsVAE(**TINY_VAE, checkpointing=checkpointing), []

        def pack(x: torch.Tensor, saved: list = saved) -> torch.Tensor:
            saved.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            made = vae.sample_posterior(image, rows, torch.zeros(1, 6, 8, 8), torch.ones(1))
        made.estimate.log_maps.sum().backward()
        gradients.append([p.grad for p in vae.parameters() if p.grad is not None])
        kept.append(sum(saved))
    # Gradients are up to 1,600; in float32 the order of sums shows.
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-3)
    assert kept[1] < 0.7 * kept[0]


def test_from_training_to_samples(tiny_study, tmp_path):
    options = {"dataset_dir": str(tiny_study), "runs_dir": str(tmp_path), "crop_size": [32, 32, 32], "max_epochs": 1}
    options |= {"spacing": 4.0, "amp": False, "train::step::max_norm": 1.0, **SMALL}
    own = {"vae": {"loss_weights::perceptual": 0, "loss_weights::adversarial": 0}, "ldm": UNET}
    for stage in ("vae", "ldm"):
        files = [str(ROOT / f"configs/{name}.json") for name in (f"train_{stage}", "paper", "pinaya")]
        made = ConfigWorkflow(files, logging_file=False, workflow_type="train", **options, **own[stage])
        made.initialize()
        made.run()
    state = torch.load(tmp_path / "train_ldm/model.pt", weights_only=True)
    assert state["conv_in.conv.weight"].shape[1:] == (3 + 2 * 3, 3, 3, 3)
    weights = {"codec_weights": str(tmp_path / "train_vae/model.pt"), "weights": str(tmp_path / "train_ldm/model.pt")}
    asked = {"count": 1, "latent_size": [8, 8, 4], "columns": {"CSF_ml": 200, "GM_ml": None, "WM_ml": None}}
    options = {"render": RENDER[:1], "num_inference_steps": 2, "output_dir": str(tmp_path / "out"), **asked, **weights}
    workflow("generate", "published", "pinaya", device="$torch.device('cpu')", **options, **SMALL, **UNET).run()
    anat = tmp_path / "out" / "sub-0001" / "anat"
    assert nib.load(anat / "sub-0001_T1map.nii.gz").shape == (32, 32, 16)
    requested = json.loads((anat / "sub-0001_T1map.json").read_text())["GeneratedFrom"]["requested"]
    assert requested["CSF_ml"] == 200 and requested["WM_ml"] is None

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

"""Tiny studies, weights and workflows for the tests of inference and generation."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigWorkflow

from scripts.acquisition import load_render
from scripts.networks import DiffusionTransformer, FractionCodec, LatentDiffusionUNet, PhysicsVAE
from scripts.render import SignalModel

ROOT = Path(__file__).resolve().parents[1]
SHAPE = (32, 40, 6)
SIDECARS = {
    "T1w": {"EchoTime": 0.003, "RepetitionTime": 2.4, "InversionTime": 1.0},
    "T2w": {"EchoTime": 0.09, "RepetitionTime": 4.5},
    "FLAIR": {"EchoTime": 0.09, "RepetitionTime": 9.0, "InversionTime": 2.5},
}
RENDER = [{"name": "one", "suffix": "T1w", **SIDECARS["T1w"]}, {"name": "two", "suffix": "T2w", **SIDECARS["T2w"]}]
TINY_VAE = {"channels": [8, 8, 8], "norm_num_groups": 4, "skip_channels": [4, 4]}
TINY_UNET = {"channels": [32, 32, 32], "num_head_channels": [0, 32, 32]}
TINY_CODEC = {"latent_channels": 4, "channels": [16, 16, 16], "num_res_blocks": [1, 1, 1]}
TINY_TRANSFORMER = {"latent_size": [4, 6], "latent_channels": 4, "width": 16, "depth": 2, "heads": 2}
VAE = {f"network_def::{name}": value for name, value in TINY_VAE.items()}
CODEC = {
    **{f"network_def::{name}": value for name, value in TINY_CODEC.items()},
    **{f"diffusion_def::{name}": value for name, value in TINY_TRANSFORMER.items() if name != "latent_size"},
}
"""Of generation; its ``latent_size`` is [4, 6]."""
QUICK = {"posterior::voxels": 100, "posterior::steps": 4}
"""What the voxels of a head share is found roughly, but soon."""
INFER = {**VAE, **QUICK}
UNET = {f"diffusion_def::{name}": value for name, value in TINY_UNET.items()}


def true_maps() -> np.ndarray:
    """PD, T1 [s], T2 [s] of an ellipsoid of grey matter, with white matter in it and fluid in that ``(3, *SHAPE)``."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    radius = np.sqrt(x**2 + y**2 + (z / 2) ** 2)
    maps = np.zeros((3, *SHAPE), np.float32)
    for limit, tissue in ((0.8, (0.82, 1.33, 0.11)), (0.65, (0.70, 0.83, 0.08)), (0.2, (1.0, 4.3, 2.0))):
        maps[:, radius < limit] = np.array(tissue, np.float32)[:, None]
    return maps


def write_study(folder: Path, subjects: int = 1, sidecars: bool = True) -> Path:
    """A BIDS folder of :func:`true_maps`; the scans are those of the signal equations."""
    maps = true_maps()
    for number in range(subjects):
        anat = folder / f"sub-{number + 1:02d}" / "anat"
        anat.mkdir(parents=True)
        for suffix, sidecar in SIDECARS.items():
            [request] = load_render([{"name": "x", "suffix": suffix, **sidecar}])
            rows = request.acquisition.to_row()[None, None]
            image = SignalModel()(torch.from_numpy(maps)[None], rows)[0, 0].numpy() * (1000 + number)
            stem = f"sub-{number + 1:02d}_{suffix}"
            nib.save(nib.Nifti1Image(image, np.diag([1.0, 1, 1, 1])), anat / f"{stem}.nii.gz")
            if sidecars:
                (anat / f"{stem}.json").write_text(json.dumps(sidecar))
    return folder


def tiny_vae(spatial_dims: int = 2) -> PhysicsVAE:
    """A network of the shape :data:`VAE`, an estimator as the configs have it, with random weights."""
    vae = PhysicsVAE(spatial_dims, **TINY_VAE)
    # It starts with one standard deviation for all and no correlation.
    torch.nn.init.normal_(vae.spread.conv.weight, std=0.05)
    return vae.eval()


def write_weights(folder: Path, seed: int = 0) -> dict:
    """Random weights of tiny networks; returns the overrides that make a config use them."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    vae = tiny_vae()
    unet = LatentDiffusionUNet(**TINY_UNET)
    # An output of zero, as the network is initialised, would make all noise predictions alike.
    torch.nn.init.normal_(unet.out[2].conv.weight, std=0.05)
    torch.save(vae.state_dict(), folder / "model.pt")
    torch.save(unet.state_dict(), folder / "model_ldm.pt")
    codec, transformer = FractionCodec(**TINY_CODEC), DiffusionTransformer(**TINY_TRANSFORMER)
    with torch.no_grad():
        codec.basis.normal_(), codec.mean.fill_(1 / 16)
        for layer in (transformer.adapt, transformer.out, *(block.adapt for block in transformer.blocks)):
            layer.weight.normal_(0, 0.2)
    torch.save(codec.state_dict(), folder / "codec.pt")
    torch.save(transformer.state_dict(), folder / "transformer.pt")
    names = {"vae": "model.pt", "ldm": "model_ldm.pt", "codec": "codec.pt", "transformer": "transformer.pt"}
    return {name: str(folder / file) for name, file in names.items()}


def workflow(*configs: str, **overrides) -> ConfigWorkflow:
    """An initialised workflow of one of the bundle's inference configs, with its overlays."""
    files = [str(ROOT / "configs" / f"{config}.json") for config in configs]
    made = ConfigWorkflow(config_file=files, workflow_type="infer", logging_file=False, **overrides)
    made.initialize()
    return made


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder and their content; its locks, which stay, say nothing."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".lock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

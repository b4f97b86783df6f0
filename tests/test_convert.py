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

"""Conversion and promotion of weights.

The references are built from monai-generative 0.2.3 with random weights and wrapped in the documented layout of the
published files; adaptive normalisation and fusion are written anew from the paper's equations. No original file was
at hand: conversion is UNVERIFIED ON THE ORIGINAL FILES.
"""

import hashlib
import math
import warnings

import pytest
import torch
from monai.bundle import run
from torch import nn

from scripts.acquisition import Acquisition
from scripts.commands.convert import SHIPPED_AS, convert_files, convert_ldm, convert_vae, promote
from scripts.errors import UserError
from scripts.networks import LatentDiffusionUNet, PublishedVAE
from scripts.networks.weights import load_weights, weights_digest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    nets = pytest.importorskip("generative.networks.nets", reason="needs monai-generative 0.2.3")

PROTOCOL = (
    Acquisition("paper_mprage", te=0.00295, tr=2.3, ti=0.9),
    Acquisition("paper_spin_echo", te=0.455, tr=3.2),
    Acquisition("paper_flair", te=0.076, tr=9.0, ti=2.5),
)
PAPER = {"spatial_dims": 2, "channels": (64, 128, 128, 128), "num_res_blocks": 3, "latent_channels": 6}
TINY = {"spatial_dims": 3, "channels": (32, 64), "num_res_blocks": 1, "latent_channels": 4}
UNET = {"spatial_dims": 2, "attention_levels": (False, True, True), "num_head_channels": (0, 64, 96)}


def randomised(module: nn.Module) -> nn.Module:
    """No weight keeps a value, such as 0 or 1, behind which a confused name could hide."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return module.eval()


def published_vae(spatial_dims, channels, num_res_blocks, latent_channels):
    """Reference autoencoder, its MLP, and the checkpoint dictionary that holds both."""
    torch.manual_seed(0)
    autoencoder = nets.AutoencoderKL(
        spatial_dims=spatial_dims,
        in_channels=1,
        out_channels=3,
        num_channels=channels,
        num_res_blocks=num_res_blocks,
        latent_channels=latent_channels,
        norm_num_groups=32,
        attention_levels=(False,) * len(channels),
    )
    mlp = randomised(nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, 2)))
    mlp[2].bias.data += torch.tensor([1.0, 0.0])
    norms = [f"encoder.{n}." for n, m in randomised(autoencoder).encoder.named_modules() if isinstance(m, nn.GroupNorm)]
    weights = {}
    for name, weight in autoencoder.state_dict().items():
        layer = next((norm for norm in norms if name.startswith(norm)), None)
        weights[name.replace(layer, f"{layer}group_norm.") if layer else name] = weight
    checkpoint = {
        "autoencoder_model_state_dict": weights,
        "acq_param_encoder_model_state_dict": mlp.state_dict(),
        "scanner_gain_regressor_state_dict": {"0.weight": torch.zeros(1, 3)},
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 5e-5}]},
    }
    return autoencoder, mlp, checkpoint


def reference_encode(autoencoder, mlp, image):
    """Eq. 2-5: AdaGN(h) = s GroupNorm(h) + b after every norm of the encoder; the product of three Gaussians."""
    condition = []
    norms = [module for module in autoencoder.encoder.modules() if isinstance(module, nn.GroupNorm)]
    hooks = [norm.register_forward_hook(lambda _, __, out: condition[0] * out + condition[1]) for norm in norms]
    precision, weighted = 0.0, 0.0
    for contrast, scan in zip(image.unbind(1), PROTOCOL):
        te, tr, ti = scan.te, scan.tr, scan.ti or 0.0
        z_scores = [(te - 0.161980) / 0.203746, (tr - 4.125079) / 2.660667, (ti - 1.040729) / 0.895721]
        condition[:] = mlp(torch.tensor(z_scores)).tolist()
        mean, sd = autoencoder.encode(contrast[:, None])
        precision, weighted = precision + sd**-2, weighted + mean / sd**2
    for hook in hooks:
        hook.remove()
    return weighted / precision, precision**-0.5


def published_unet(channels, resblock_updown):
    """Reference diffusion network and the checkpoint dictionary that holds it."""
    torch.manual_seed(1)
    io = {"in_channels": 6, "out_channels": 6, "num_res_blocks": 2}
    unet = nets.DiffusionModelUNet(num_channels=channels, resblock_updown=resblock_updown, **io, **UNET)
    weights = randomised(unet).state_dict()
    return unet, {"unet_model_state_dict": weights, "latent_scale_factor": torch.tensor(0.37)}


def relative(found, expected):
    """Norm of the difference as a share of the norm."""
    assert found.dtype == expected.dtype == torch.float32 and expected.std() > 1e-3 * expected.abs().mean()
    return ((found - expected).norm() / expected.norm()).item()


@pytest.fixture(scope="module")
def checkpoint():
    return published_vae(**TINY)[2]


@torch.no_grad()
@pytest.mark.parametrize("architecture, size", [(PAPER, (48, 64)), (TINY, (8, 12, 4))], ids=["paper", "3d"])
def test_vae_gives_the_same_latents_and_maps_unverified_on_the_original_file(architecture, size):
    autoencoder, mlp, checkpoint = published_vae(**architecture)
    network = PublishedVAE(**architecture, adagn="shared_scalar").eval()
    network.load_state_dict(convert_vae(checkpoint))
    image = torch.randn(2, 3, *size)
    acquisition = torch.stack([scan.to_row() for scan in PROTOCOL]).expand(2, -1, -1)

    mean, sd = reference_encode(autoencoder, mlp, image)
    found_mean, found_sd = network.encode(image, acquisition)
    assert relative(found_mean, mean) < 1e-5
    assert relative(found_sd, sd) < 1e-5

    prior = torch.tensor([50.0, 1.0, 0.1]).log().view(3, *[1] * len(size))
    maps = (autoencoder.decode(mean) + prior).exp()
    for found, expected in zip(network(image, acquisition)[:, :3].exp().unbind(1), maps.unbind(1)):
        assert relative(found, expected) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("resblock_updown", [True, False])
def test_unet_predicts_the_same_noise_unverified_on_the_original_file(resblock_updown):
    channels = (32, 64, 96)
    unet, checkpoint = published_unet(channels, resblock_updown)
    network = LatentDiffusionUNet(condition_channels=0, channels=channels, resblock_updown=resblock_updown, **UNET)
    network.eval()
    network.load_state_dict(convert_ldm(checkpoint))
    latent, step = torch.randn(2, 6, 20, 28), torch.tensor([3, 812])
    assert relative(network(latent, step), unet(latent, step)) < 1e-5
    assert network.scale_factor.item() == pytest.approx(0.37)


def test_the_checkpoint_stays_as_it_is(checkpoint):
    before = {section: list(weights) for section, weights in checkpoint.items()}
    convert_vae(checkpoint)
    assert {section: list(weights) for section, weights in checkpoint.items()} == before


@pytest.mark.parametrize(
    "name, weight",
    [
        ("decoder.blocks.3.norm1.weight", None),
        ("encoder.blocks.0.conv.weight", None),
        ("quant_conv_mu.conv.bias", torch.zeros(7)),
        ("decoder.blocks.99.conv.bias", torch.zeros(3)),
    ],
    ids=["missing", "first missing", "shape", "unknown"],
)
def test_a_weight_that_does_not_fit_is_named(checkpoint, name, weight):
    weights = {**checkpoint["autoencoder_model_state_dict"], name: weight}
    if weight is None:
        del weights[name]
    with pytest.raises(UserError, match=f"vae.pth.*{name}"):
        convert_vae({**checkpoint, "autoencoder_model_state_dict": weights}, "vae.pth")


def test_a_diffusion_checkpoint_needs_its_scale_and_knows_no_condition():
    _, checkpoint = published_unet((32, 64, 96), True)
    with pytest.raises(UserError, match="latent_scale_factor"):
        convert_ldm({"unet_model_state_dict": checkpoint["unet_model_state_dict"]})
    conditional = {**checkpoint["unet_model_state_dict"], "class_embedding.weight": torch.zeros(2, 128)}
    with pytest.raises(UserError, match="class_embedding.weight"):
        convert_ldm({**checkpoint, "unet_model_state_dict": conditional})


def test_wrong_files_are_refused_before_anything_is_written(checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "vae.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "notes.txt").write_text("not weights")
    output = tmp_path / "out"
    for vae, ldm, reason in [
        (None, None, "found neither"),
        (tmp_path / "absent.pth", None, "absent.pth: found no such file"),
        (tmp_path / "notes.txt", None, "notes.txt: found no"),
        (tmp_path / "list.pth", None, "list.pth: found a list"),
        (tmp_path / "vae.pth", tmp_path / "vae.pth", "vae.pth: found no state dict unet_model_state_dict"),
    ]:
        with pytest.raises(UserError, match=reason):
            convert_files(vae, ldm, output)
        assert not output.exists()
    with pytest.raises(UserError, match="cannot be written"):
        convert_files(tmp_path / "vae.pth", None, tmp_path / "notes.txt" / "out")


def test_commands_convert_and_promote(checkpoint, bundle_root, tmp_path):
    torch.save(checkpoint, tmp_path / "vae.pth")
    torch.save(published_unet((32, 64, 96), True)[1], tmp_path / "ldm.pth")
    options = {"config_file": str(bundle_root / "configs" / "convert.json"), "bundle_root": str(bundle_root)}
    run(vae=str(tmp_path / "vae.pth"), ldm=str(tmp_path / "ldm.pth"), output_dir=str(tmp_path / "out"), **options)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.pt", "model_ldm.pt"]
    network = PublishedVAE(**TINY, adagn="shared_scalar")
    load_weights(network, tmp_path / "out" / "model.pt", "")

    source, target = tmp_path / "out" / "model_ldm.pt", tmp_path / "models" / "model_ldm.pt"
    run("promote", source=str(source), target=str(target), half=True, **options)
    full, half = (torch.load(path, weights_only=True) for path in (source, target))
    assert half["scale_factor"] == full["scale_factor"]
    assert torch.equal(half["vae_digest"], weights_digest(network))
    assert half["out.2.conv.weight"].dtype == torch.float16
    assert all(torch.allclose(full[name].float(), half[name].float(), rtol=1e-3, atol=1e-7) for name in full | half)
    LatentDiffusionUNet(condition_channels=0, channels=(32, 64, 96), **UNET).load_state_dict(half)


def test_promotion_says_what_it_wrote(tmp_path, capsys):
    torch.save({"weight": torch.tensor([1.0, 2.5])}, tmp_path / "model.pt")
    written = promote(tmp_path / "model.pt", tmp_path / "new" / "model.pt")
    assert torch.load(written, weights_only=True)["weight"].tolist() == [1.0, 2.5]
    assert capsys.readouterr().out == f"{written} sha256 {hashlib.sha256(written.read_bytes()).hexdigest()}\n"


@pytest.mark.parametrize(
    "content, half, reason",
    [
        ({"model": {"weight": torch.zeros(1)}, "epoch": 3}, False, "else than a raw state dict"),
        ({}, False, "else than a raw state dict"),
        ({"weight": torch.tensor([math.nan])}, False, "weight not finite"),
        ({"weight": torch.tensor([1e6])}, True, "weight not finite in float16"),
    ],
)
def test_promotion_refuses_what_cannot_be_shipped(content, half, reason, tmp_path):
    torch.save(content, tmp_path / "last.pt")
    (tmp_path / "model.pt").write_text("the weights shipped so far")
    with pytest.raises(UserError, match=reason):
        promote(tmp_path / "last.pt", tmp_path / "model.pt", half)
    assert (tmp_path / "model.pt").read_text() == "the weights shipped so far"
    with pytest.raises(UserError, match="source: found nothing"):
        promote(None, tmp_path / "model.pt", half)


def test_promotion_replaces_nothing_unless_told_to(tmp_path):
    trained, shipped = tmp_path / "trained.pt", tmp_path / "models" / "model.pt"
    torch.save({"weight": torch.ones(2)}, trained)
    shipped.parent.mkdir()
    shipped.write_text("the weights shipped so far")
    for target in (shipped, shipped.parent):
        with pytest.raises(UserError, match="model.pt: found weights that exist; .*--overwrite true"):
            promote(str(trained), str(target))
    assert shipped.read_text() == "the weights shipped so far"
    promote(str(trained), str(shipped), overwrite=True)
    assert torch.load(shipped, weights_only=True)["weight"].tolist() == [1, 1]


def test_promotion_into_a_folder_names_the_file_after_the_network(tmp_path):
    for mark, name in {"encoder": "model.pt", **SHIPPED_AS}.items():
        torch.save({"weight": torch.ones(2), mark: torch.tensor(1.5)}, tmp_path / "trained.pt")
        assert promote(str(tmp_path / "trained.pt"), str(tmp_path / "models")).name == name

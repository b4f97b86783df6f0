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

"""Weights from elsewhere: published checkpoints become ours, a trained checkpoint becomes a shipped one.

The released VAE is ``PublishedVAE(adagn="shared_scalar")``, the diffusion network ``PublishedDiffusionUNet()``. Both
were built from monai-generative 0.2.3; only names differ. MONAI's own ``load_old_state_dict`` is not used: it keeps
random values for weights that the old file lacks, and says nothing of those it does not know. The layout read here is
the documented one; no original file has been converted yet.
"""

import hashlib
import json
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files import save_atomically, write_atomically
from ..networks import LatentDiffusionUNet, PublishedVAE
from ..networks.weights import RECORD, load_file, read_record, weights_digest

VAE, ACQUISITION = "autoencoder_model_state_dict", "acq_param_encoder_model_state_dict"
UNET, SCALE = "unet_model_state_dict", "latent_scale_factor"
RENAMED = (
    (r"\.group_norm\.", "."),
    (r"\.(to_[qkv])\.", r".attn.\1."),
    (r"^(decoder\.blocks\.\d+|up_blocks\.\d+\.upsampler)\.conv\.conv\.", r"\1.postconv.conv."),
)
UNUSED = ".proj_attn."
"""The attention blocks' output projection: in the file, but never applied."""
SHIPPED_AS = {
    "surroundings.weight": "model_refining.pt",
    "through.weight": "model_heads.pt",
    "scale_factor": "model_ldm.pt",
    "sharpness": "codec.pt",
    "basis": "coarse.pt",
}
"""A weight, the first that is there -> name of the file among the weights of the bundle."""


def convert_vae(checkpoint: dict, where: object = "VAE checkpoint") -> dict[str, Tensor]:
    """Published VAE checkpoint -> state dict of :class:`PublishedVAE` with one scale and shift for all layers.

    Encoder, decoder and the MLP from TE, TR, TI to one scale and one shift. Gain regressor and optimisers are left out.

    Args:
        checkpoint: the published dictionary; stays as it is.
        where: its name in error messages.

    Raises:
        UserError: when it is not such a checkpoint, or a weight is missing, unknown or of another shape.
    """
    weights = _rename(_section(checkpoint, VAE, where))
    weights |= {f"conditioning.mlp.{name}": weight for name, weight in _section(checkpoint, ACQUISITION, where).items()}
    return _matched(weights, _vae(weights, where), where)


def convert_ldm(checkpoint: dict, where: object = "diffusion checkpoint") -> dict[str, Tensor]:
    """Published diffusion checkpoint -> state dict of :class:`LatentDiffusionUNet`, ``scale_factor`` included.

    ``vae_digest`` is zero: the file does not tell which VAE it was trained with.

    Args:
        checkpoint: the published dictionary; stays as it is.
        where: its name in error messages.

    Raises:
        UserError: when it is not such a checkpoint, or a weight is missing, unknown or of another shape.
    """
    weights = _rename(_section(checkpoint, UNET, where))
    if not isinstance(checkpoint.get(SCALE), Tensor):
        raise UserError(where, f"no tensor {SCALE}", "give the published diffusion checkpoint")
    weights["scale_factor"] = checkpoint[SCALE].float()
    weights["vae_digest"] = torch.zeros(32, dtype=torch.uint8)
    first, last = "conv_in.conv.weight", "out.2.conv.weight"
    _require(weights, [first, last, "down_blocks.0.resnets.0.conv1.conv.weight"], where)
    channels = [w.shape[0] for w in _find(weights, r"down_blocks\.\d+\.resnets\.0\.conv1\.conv\.weight")]
    levels = [f"down_blocks.{level}" for level in range(len(channels))]
    with torch.device("meta"):
        network = LatentDiffusionUNet(
            spatial_dims=weights[first].ndim - 2,
            latent_channels=weights[last].shape[0],
            condition_channels=weights[first].shape[1] - weights[last].shape[0],
            channels=channels,
            num_res_blocks=[len(_find(weights, rf"{level}\.resnets\.\d+\.conv1\.conv\.weight")) for level in levels],
            attention_levels=[f"{level}.attentions.0.norm.weight" in weights for level in levels],
            resblock_updown="down_blocks.0.downsampler.norm1.weight" in weights,
            norm_num_groups=1,  # any number of groups and of heads has the same weights
            num_head_channels=channels,
        )
    return _matched(weights, network, where)


def convert_files(vae: str | None, ldm: str | None, output_dir: str) -> list[Path]:
    """Converts published files to ``model.pt`` and ``model_ldm.pt`` in ``output_dir``; both are read before any write.

    Given together they are taken for a pair: the diffusion weights then name the VAE by its digest.

    Args:
        vae: file of the published VAE.
        ldm: file of the published diffusion network.
        output_dir: folder to write to, made where it is absent.

    Returns:
        The files written.

    Raises:
        UserError: for a wrong file, or when nothing is given or the folder cannot be written.
    """
    if vae is None and ldm is None:
        raise UserError("vae, ldm", "neither", "name a published checkpoint, for example --vae vae.pth")
    converted = {}
    if vae is not None:
        converted["model.pt"] = convert_vae(_load(vae), vae)
    if ldm is not None:
        converted["model_ldm.pt"] = convert_ldm(_load(ldm), ldm)
    if len(converted) == 2:
        network = _vae(converted["model.pt"], vae)
        network.load_state_dict(converted["model.pt"], assign=True)
        converted["model_ldm.pt"]["vae_digest"] = weights_digest(network)
    return [_save(weights, Path(output_dir) / name) for name, weights in converted.items()]


def promote(source: str | None, target: str, half: bool = False, overwrite: bool = False) -> Path:
    """Puts a trained checkpoint where the bundle ships it, checked, and in half precision where asked to.

    Args:
        source: file with a raw state dict, as training writes it.
        target: file to write, its folder made where it is absent. A folder gets ``model.pt``, or what
            :data:`SHIPPED_AS` says.
        half: store float weights as float16, half the size; scalars, such as the latents' scale, stay as they are.
        overwrite: replace a file that exists.

    Raises:
        UserError: when source is no raw state dict or has weights that are not finite (in float16), or target exists
            or cannot be written.
    """
    if source is None:
        raise UserError("source", "nothing", "name a trained checkpoint, for example --source runs/train_vae/model.pt")
    weights = _load(source)
    if not weights or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise UserError(source, "something else than a raw state dict", "give the model.pt that training wrote")
    if half:
        weights = {k: w.half() if w.is_floating_point() and w.ndim else w for k, w in weights.items()}
    broken = [name for name, weight in weights.items() if not weight.isfinite().all()]
    if broken:
        precision = " in float16" if half else ""
        raise UserError(source, f"{broken[0]} not finite{precision}", "give a checkpoint with finite weights")
    path = Path(target)
    if not path.suffix:
        path /= next((name for key, name in SHIPPED_AS.items() if key in weights), "model.pt")
    if path.exists() and not overwrite:
        raise UserError(path, "weights that exist", "replace them with --overwrite true, or name another --target")
    return _save(weights, path)


def _load(path: str) -> dict:
    """The dictionary in a file, loaded as plain weights: no code in it is run."""
    checkpoint = load_file(path, "give the path of an undamaged checkpoint")
    if not isinstance(checkpoint, dict):
        raise UserError(path, f"a {type(checkpoint).__name__}", "give a checkpoint dictionary")
    return checkpoint


def _section(checkpoint: dict, name: str, where: object) -> dict[str, Tensor]:
    """One state dict of a published checkpoint."""
    section = checkpoint.get(name)
    if not isinstance(section, dict) or not all(isinstance(weight, Tensor) for weight in section.values()):
        keys = ", ".join(str(key) for key in list(checkpoint)[:4]) or "nothing"
        raise UserError(where, f"no state dict {name} (only {keys})", "give the published checkpoint of that network")
    return section


def _vae(weights: dict[str, Tensor], where: object) -> PublishedVAE:
    """The network of converted weights, without values: levels and blocks are counted."""
    _require(weights, ["encoder.blocks.0.conv.weight"], where)
    last = _find(weights, r"encoder\.blocks\.\d+\.conv\.weight")[-1]
    channels = [w.shape[0] for w in _find(weights, r"encoder\.blocks\.\d+\.conv\.conv\.weight")] + [last.shape[1]]
    blocks = len(_find(weights, r"encoder\.blocks\.\d+\.norm1\.weight"))
    with torch.device("meta"):
        return PublishedVAE(
            spatial_dims=last.ndim - 2,
            channels=channels,
            num_res_blocks=(blocks - 2) // len(channels),  # two more stand around the attention
            latent_channels=last.shape[0],
            norm_num_groups=1,  # any number has the same weights
            adagn="shared_scalar",
        )


def _rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of monai-generative -> names of MONAI."""
    renamed = {}
    for name, weight in weights.items():
        for old, new in RENAMED:
            name = re.sub(old, new, name)
        if UNUSED not in name:
            renamed[name] = weight
    return renamed


def _find(weights: dict[str, Tensor], pattern: str) -> list[Tensor]:
    """Weights whose whole name matches, in the file's order, which is the network's."""
    return [weight for name, weight in weights.items() if re.fullmatch(pattern, name)]


def _require(weights: dict[str, Tensor], names: list[str], where: object) -> None:
    missing = [name for name in names if name not in weights]
    if missing:
        raise UserError(where, f"no weight {missing[0]}", "give an undamaged published checkpoint")


def _matched(weights: dict[str, Tensor], network: nn.Module, where: object) -> dict[str, Tensor]:
    """The weights, after every name and shape was compared with the network's."""
    expected = {name: weight.shape for name, weight in network.state_dict().items()}
    found = {name: weight.shape for name, weight in weights.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        listed = ", ".join(wrong[:3]) + (", …" if len(wrong) > 3 else "")
        raise UserError(
            where,
            f"{len(wrong)} weights missing, unknown or of another shape ({listed})",
            "give an undamaged published checkpoint",
        )
    return weights


def _save(weights: dict[str, Tensor], path: Path) -> Path:
    """Writes a state dict, prints path and sha256, and records the sha256 where the folder has such a record."""
    save_atomically(weights, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path} sha256 {sha256}", flush=True)
    if record := read_record(path.parent):
        text = json.dumps(dict(sorted({**record, path.name: sha256}.items())), indent=4) + "\n"
        write_atomically(path.parent / RECORD, text, durable=True)
    return path

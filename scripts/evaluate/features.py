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

"""Features of contrasts: what distances between sets of images are computed from."""

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..acquisition import Acquisition
from ..errors import UserError
from ..networks import PhysicsVAE
from ..networks.encoder import encode_contrasts
from ..networks.weights import load_weights

OWN = "own encoder"
BATCH = 8


class Features:
    """Contrasts -> feature vectors, by a network from a file, or by the encoder of the physics VAE.

    The encoder needs no download. It was trained on simulated heads of the population that also the generator learned
    from, so its distances are no FID, and not comparable with published ones.

    Args:
        network: the physics VAE.
        weights: its state dict.
        extractor: file of another network: TorchScript, or a state dict of ``extractor_network``; None for the encoder.
            It maps images ``(B, C, H, W)`` from 0 to 1 to features ``(B, D)`` or ``(B, D, h, w)``, which are averaged
            over space. TorchScript is a program that torch runs.
        extractor_network: the network of the state dict.
        channels: C; a contrast is repeated.
        device: where to compute.
    """

    def __init__(
        self,
        network: PhysicsVAE,
        weights: str | Path,
        extractor: str | Path | None = None,
        extractor_network: nn.Module | None = None,
        channels: int = 3,
        device: torch.device | str = "cpu",
    ) -> None:
        self.network, self.weights, self.extractor = network, weights, extractor
        self.extractor_network, self.channels, self.device = extractor_network, channels, torch.device(device)

    @property
    def own(self) -> bool:
        """Whether features are those of the encoder of the physics VAE."""
        return self.extractor is None

    @property
    def name(self) -> str:
        """What tables call it."""
        return OWN if self.own else Path(self.extractor).name

    def load(self) -> None:
        """Reads the file.

        Raises:
            UserError: for a missing or damaged file, or weights of another network.
        """
        if self.own:
            self.sha256 = load_weights(self.network, self.weights, "train it with configs/train_vae.json")
            self.network.eval()
        elif is_torchscript(self.extractor):
            try:
                self.extractor_network = torch.jit.load(str(self.extractor), map_location=self.device).eval()
            except RuntimeError as error:
                do = "give a file that torch.jit.save wrote, for this version of torch"
                raise UserError(self.extractor, "TorchScript that cannot be read", do) from error
        else:
            do = "give TorchScript, or define the network with --extractor_def"
            load_weights(self.extractor_network, self.extractor, do)
            self.extractor_network.to(self.device).eval()

    @torch.no_grad()
    def __call__(self, images: np.ndarray, acquisition: Acquisition) -> np.ndarray:
        """Features ``(N, D)`` of images ``(N, X, Y)`` of one contrast, from 0 to 1.

        Raises:
            UserError: where the network cannot read such images.
        """
        batches = torch.from_numpy(images).float()[:, None].to(self.device).split(BATCH)
        if self.own:
            row = acquisition.to_row().to(self.device)
            return torch.cat([self._encode(one, row) for one in batches]).cpu().numpy()
        try:
            outputs = [self.extractor_network(one.expand(-1, self.channels, -1, -1)) for one in batches]
        except RuntimeError as error:
            found = f"a network that cannot read {self.channels} channels of {images.shape[1:]}"
            raise UserError(self.extractor, found, "set --features::channels, or use another network") from error
        if not all(isinstance(one, Tensor) and one.ndim >= 2 for one in outputs):
            raise UserError(self.extractor, "outputs that are no (B, D) or (B, D, h, w)", "use another network")
        return torch.cat([one.flatten(2).mean(2) if one.ndim > 2 else one for one in outputs]).cpu().numpy()

    def _encode(self, images: Tensor, row: Tensor) -> Tensor:
        """Means over space of what the encoder sees at its coarser levels, and of the latent."""
        conditioning = self.network.conditioning
        conditions = conditioning(conditioning.features(row.expand(len(images), -1)))
        latent, levels = encode_contrasts(self.network.encoder, 2 * images - 1, conditions)
        return torch.cat([one.flatten(2).mean(2) for one in (*levels.values(), latent)], 1)


def is_torchscript(path: str | Path) -> bool:
    """Whether a file is TorchScript: an archive with code.

    Raises:
        UserError: for a missing file.
    """
    if not Path(path).is_file():
        raise UserError(path, "no such file", "name a TorchScript file or a state dict with --extractor")
    return zipfile.is_zipfile(path) and any("/code/" in name for name in zipfile.ZipFile(path).namelist())

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

"""Latent posteriors of training samples: what the diffusion model learns from."""

import logging
from hashlib import sha256
from pathlib import Path

import ignite.distributed as idist
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...errors import UserError
from ...files import save_atomically
from ...networks import FractionCodec, bf16, on_device
from ...networks.weights import load_file, load_weights, weights_digest

logger = logging.getLogger(__name__)
KEPT = ("mean", "sd", "position")


class LatentDataset(Dataset):
    """Latent posteriors of training samples: ``mean``, ``sd`` (L, ...), ``position``, ``index``.

    Each is encoded when it is first asked for. Those of simulated slices are kept in a file beside them, named after
    the weights that encoded them, so that a run that starts again need not encode again.

    Args:
        data: the samples, :class:`TrainingDataset` or :class:`scripts.simulate.SimulatedSlices`.
        encoder: a :class:`FrozenEncoder`, called with (image, acquisition) of one sample.
        drawn: whether latents are to be drawn from the posteriors; else ``sd`` is 0, and the means are the latents:
            what a posterior does not know is then no part of what the diffusion must learn.
    """

    SAVE_EVERY = 400

    def __init__(self, data: Dataset, encoder, drawn: bool = True) -> None:
        self.data, self.encoder, self.drawn = data, encoder, drawn
        self._cache: dict[int, dict] = {}
        self._unsaved = 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict:
        if index not in self._cache:
            sample = self.data[index]
            mean, sd = self.encoder(sample["image"][None], sample["acquisition"][None])
            position = torch.as_tensor(sample["position"], dtype=torch.float32)
            self._cache[index] = {"mean": mean[0], "sd": sd[0], "position": position, "index": index}
            self._unsaved += 1
            if self._unsaved == self.SAVE_EVERY or len(self._cache) >= len(self):
                self._save()
        item = self._cache[index]
        return item if self.drawn else item | {"sd": torch.zeros_like(item["sd"])}

    @property
    def path(self) -> Path | None:
        """The file: a function of the slices, of what the scanner makes of them and of the VAE; None for others."""
        if getattr(self.data, "folder", None) is None:
            return None
        made = f"{self.data.scanner} from {self.data.first} by {self.encoder.digest().tolist()}"
        return self.data.folder / f"latents-{sha256(made.encode()).hexdigest()[:12]}.pt"

    def preload(self) -> None:
        """Reads the file, and prepares the samples if it lacks some of their latents."""
        path = self.path
        if path is not None and path.exists():
            try:
                kept = load_file(path, "encode anew")
                rows = zip(*(kept[name] for name in KEPT))
                self._cache |= {i: {**dict(zip(KEPT, row)), "index": i} for i, row in zip(kept["index"].tolist(), rows)}
            except (UserError, LookupError, TypeError, AttributeError):
                logger.warning(f"{path}: damaged, encoded anew")
        if any(index not in self._cache for index in range(len(self))):
            self.data.preload()

    def _save(self) -> None:
        """Writes what is encoded by now under a hidden name, then renames it."""
        self._unsaved, path = 0, self.path
        if path is None or idist.get_rank() > 0:
            return
        content = {name: torch.stack([item[name] for item in self._cache.values()]) for name in KEPT}
        save_atomically(content | {"index": torch.tensor(list(self._cache))}, path)


class FrozenEncoder:
    """The encoder of a trained VAE or codec for stage 2; its weights load at the first call.

    Args:
        network: the VAE or codec.
        weights: its state dict's file.
        device: where it runs.
        amp: bfloat16 autocast.
    """

    def __init__(self, network: nn.Module, weights: str, device: torch.device | str, amp: bool = False) -> None:
        self.network, self.weights, self.device, self.amp = network, weights, device, amp
        self._loaded = False
        self._digest: Tensor | None = None

    def load(self) -> nn.Module:
        """The network with its weights, in eval mode."""
        if not self._loaded:
            kind = "codec" if isinstance(self.network, FractionCodec) else "VAE"
            name = kind.lower()
            do = f"train the {kind} first with configs/train_{name}.json, or name its weights with --{name}_weights"
            load_weights(self.network, self.weights, do)
            on_device(self.network, self.device).eval().requires_grad_(False)
            self._loaded = True
        return self.network

    def digest(self) -> Tensor:
        """:func:`weights_digest` of the loaded network."""
        if self._digest is None:
            self._digest = weights_digest(self.load())
        return self._digest

    @torch.no_grad()
    def __call__(self, image: Tensor, acquisition: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and sd ``(B, L, ...)`` on the CPU."""
        network = self.load()
        with bf16(self.device, self.amp):
            mean, sd = network.encode(image.to(self.device), acquisition.to(self.device))
        return mean.cpu(), sd.cpu()

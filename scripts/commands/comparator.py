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

"""Samples of DLDM, the comparator without physics: contrasts alone, of the acquisitions it was trained on."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.networks.schedulers import RFlowScheduler
from monai.networks.utils import eval_mode

from ..acquisition import load_render, to_sidecar
from ..bids import Session, output_path, write_image
from ..errors import UserError
from ..networks.disentangled import DisentangledLDM
from ..networks.weights import load_file, load_weights
from ..randomness import generator
from .study import Study

logger = logging.getLogger(__name__)
HOW_TO_TRAIN = "train it with configs/train_dldm.json"
ABOUT = "Magnitude image by DLDM (Na et al. 2023), a generator without physics: no tissue maps belong to it."


class DisentangledSamples:
    """Writes samples as a BIDS folder. The k-th sample is a function of (seed, k) alone; what is there is kept.

    Args:
        study: where results go.
        network: the DLDM on its device.
        weights: its state dict.
        scheduler: the flow of the training.
        num_inference_steps: its steps.
        latent_size: of the latents, an eighth of the image's.
        render: the contrasts, which have to be those of the training.
        count: number of samples.
        seed: of all random numbers.
    """

    def __init__(
        self,
        study: Study,
        network: DisentangledLDM,
        weights: str | Path,
        scheduler: RFlowScheduler,
        num_inference_steps: int,
        latent_size: Sequence[int],
        render: object,
        count: int,
        seed: int,
    ) -> None:
        self.study, self.network, self.weights, self.scheduler = study, network, weights, scheduler
        self.num_inference_steps, self.latent_size = num_inference_steps, tuple(latent_size)
        self.render, self.count, self.seed = render, count, seed

    def run(self) -> None:
        """Makes all samples that are missing.

        Raises:
            UserError: for unusable weights, or contrasts that these were not trained on.
        """
        self.requests = load_render(self.render)
        self._check_contrasts()
        self.sha256 = load_weights(self.network, self.weights, HOW_TO_TRAIN)
        self.study.open()
        self.scheduler.set_timesteps(self.num_inference_steps)
        for index in range(self.count):
            session = Session(f"{index + 1:04d}", None, ())
            with self.study.attempt(session.name):
                self._write(session, index)

    def _check_contrasts(self) -> None:
        trained = load_file(self.weights, HOW_TO_TRAIN).get("acquisitions")
        asked = torch.stack([one.acquisition.to_row() for one in self.requests])
        # NaN stands for a parameter that is not known.
        if trained is not None and not torch.equal(trained.nan_to_num(-1), asked.nan_to_num(-1)):
            found = f"{len(asked)} contrasts that are not those of the training ({len(trained)})"
            do = "name these; a contrast that DLDM has not seen cannot be made: use configs/generate.json"
            raise UserError("render", found, do)

    def _write(self, session: Session, index: int) -> None:
        facts = {"sample": {"seed": self.seed, "index": index}, "weights": self.sha256}
        plan = self.study.plan(session, facts, self.requests)
        if not plan.render:
            return
        logger.info(f"{session.name}: {index + 1} of {self.count}")
        size = (len(self.requests), len(self.network.mean), *self.latent_size)
        noise = torch.randn(size, generator=generator(self.seed, index)).to(self.network.mean.device)
        with eval_mode(self.network):
            images = self.network.sample(noise, self.scheduler).cpu().numpy()
        if not np.isfinite(images).all():
            raise ValueError("the network's images are not finite")
        with self.study.publish(session, facts, plan) as folder:
            for request, image in zip(self.requests, images):
                sidecar = {**to_sidecar(request.acquisition), "Units": "arbitrary", "Description": ABOUT}
                path = output_path(folder, session, request.suffix, acq=request.name)
                write_image(path, image[..., None], np.eye(4), {**sidecar, "GeneratedFrom": facts["sample"]})

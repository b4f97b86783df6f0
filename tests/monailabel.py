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

"""MONAI Label without its package: how ``monailabel/tasks/infer`` of version 0.8.5 runs a bundle on a request.

:class:`Server` takes the steps of ``BundleInferTask`` and ``BasicInferTask`` in their order, with their faults: what
``displayable_configs`` names is copied from the request into the config, which is then parsed, and so is the device
of the request before. Left out are the writer and that modules named ``scripts`` are imported anew for each step;
tests/test_monailabel.py has both, with the package.
"""

import copy
import json
from pathlib import Path

import torch
from monai.bundle import ConfigItem, ConfigParser

from scripts.networks import on_device
from tests.studies import INFER, ROOT


class ServerError(Exception):
    """The server fails before it comes to the bundle: status 500, without a word on why."""


class Server:
    """Answers requests: a parser of its own, a network loaded once, no evaluator.

    Args:
        weights: of the network; None for a server of which only the first step is used.
        changes: of the config.
    """

    def __init__(self, weights: str | None = None, changes: dict | None = None) -> None:
        self.config = ConfigParser()
        self.config.read_config(str(ROOT / "configs/inference.json"))
        self.config.config["bundle_root"] = str(ROOT)
        self.config.update({**INFER, **(changes or {})})
        network = self.config.get_parsed_content("network_def")
        models = sorted((path.name for path in (ROOT / "models").glob("*.pt")), key=len)
        self.defaults = {"device": ["cpu"], "model_filename": models}
        self.displayed = self.config.get_parsed_content("displayable_configs", default={})
        self.displayed = dict(getattr(self.displayed, "config", self.displayed) or {})
        self.defaults.update(self.displayed)
        if weights is not None:
            network.load_state_dict(torch.load(weights, weights_only=True))
            # Another layout changes the last digits, which data consistency can magnify in single voxels.
            self.network = on_device(network, "cpu")

    def request(self, image: str | Path, params: str) -> dict:
        """What the endpoint and the task make of a request: all parameters in one object, also those of the server."""
        given = {"model": "name", "image": str(image), **json.loads(params), "description": "of the model"}
        data = {**copy.deepcopy(self.defaults), **given}
        device = data.get("device") or "cpu"
        try:
            data["device"] = device if isinstance(device, str) else device[0]
            data["device"].startswith("cuda")
        except (AttributeError, IndexError, KeyError, TypeError):
            raise ServerError from None
        return {**data, "image_path": data["image"]}

    def pre_transforms(self, data: dict) -> list:
        """The transforms of the request, from a config that the request has changed."""
        if self.config.get("displayable_configs"):
            self.config["displayable_configs"].update({name: data[name] for name in self.displayed})
            self.config.parse()
        self._update_device(data)
        return self.config.get_parsed_content("pre_transforms")

    def _update_device(self, data: dict) -> None:
        self.config.config["device"] = data["device"]
        if self.config.ref_resolver.items.get("device"):
            self.config.ref_resolver.items["device"] = ConfigItem(config=data["device"], id="device")

    def __call__(self, image: str | Path, **parameters: object) -> dict:
        """The data at the end of a request."""
        data = self.request(image, json.dumps(parameters))
        for step in self.pre_transforms(data):
            data = step(data)
        self._update_device(data)
        data["pred"] = self.config.get_parsed_content("inferer")(data["image"][None], self.network)[0]
        self._update_device(data)
        for step in self.config.get_parsed_content("post_transforms"):
            data = step(data)
        return data

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


"""The estimator that is measured: network and posterior as a config of inference sets them up."""

from pathlib import Path

from monai.bundle import ConfigParser
from torch import nn

from scripts.estimate import Posterior
from scripts.networks import on_device
from scripts.networks.weights import load_weights

from .page import ROOT

CONFIG = ROOT / "configs" / "inference.json"
WEIGHTS = ROOT / "models" / "model.pt"
HOW_TO_TRAIN = "train it with configs/train_vae.json, or name other weights"


def load_network(weights: str | Path = WEIGHTS, config: str | Path = CONFIG) -> nn.Module:
    """The network that a config of inference describes, with weights, on the CPU, in eval mode."""
    network = on_device(_read(config).get_parsed_content("network_def"), "cpu")
    load_weights(network, weights, HOW_TO_TRAIN)
    return network.eval()


def load_posterior(config: str | Path = CONFIG) -> Posterior:
    """The posterior as a config of inference sets it up."""
    return _read(config).get_parsed_content("posterior")


def _read(config: str | Path) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(config))
    return parser

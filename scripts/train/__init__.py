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

"""Training: what one iteration does, its losses and data, how it is watched and kept; MONAI's engines call it."""

from .checkpoints import InitialWeights, TrainingState
from .codec import CodecStep, CodecTransform, CodecValidationStep
from .common import Handlers, freeze
from .diffusion import ColumnScale, DiffusionStep, DiffusionValidationStep, LatentScale, MovingAverage
from .early_stop import EarlyStop
from .finishing import FinishingStep
from .metrics import MeanOf, vae_metrics
from .monitor import History, Progress
from .objective import VAEObjective
from .optimizer import MuonAdamW
from .ranks import part_ranks
from .refining import BeginningScale, RefiningStep
from .samples import SamplePictures
from .vae import TrainingForward, VAEStep, VAEValidationStep

__all__ = [
    "BeginningScale",
    "CodecStep",
    "CodecTransform",
    "CodecValidationStep",
    "ColumnScale",
    "DiffusionStep",
    "DiffusionValidationStep",
    "EarlyStop",
    "FinishingStep",
    "Handlers",
    "History",
    "InitialWeights",
    "LatentScale",
    "MeanOf",
    "MovingAverage",
    "MuonAdamW",
    "Progress",
    "RefiningStep",
    "SamplePictures",
    "TrainingForward",
    "TrainingState",
    "VAEObjective",
    "VAEStep",
    "VAEValidationStep",
    "freeze",
    "part_ranks",
    "vae_metrics",
]

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

"""The networks: physics VAE and diffusion network, how they are conditioned, sampled, run and loaded.

Shapes: B batch, M contrasts, A acquisition fields, L latent channels, N contrasts that exist in the batch.
"""

from .codec import CoarseCodec, FractionCodec
from .device import bf16, on_device, unwrap
from .diffusion import LatentDiffusionUNet, PinayaDiffusionUNet, PublishedDiffusionUNet
from .gain import GainRegressor
from .heads import HeadSampler
from .inferers import MapInferer
from .levels import at_levels, halving_order
from .physics_vae import DEFAULT_PROTOCOL, PhysicsVAE, PosteriorSample, PublishedVAE
from .refining import RefiningTransformer, Surroundings
from .samplers import MapSampler
from .skips import PrecisionSkip
from .transformer import CoarseTransformer, DiffusionTransformer

__all__ = [
    "CoarseCodec",
    "CoarseTransformer",
    "DEFAULT_PROTOCOL",
    "DiffusionTransformer",
    "FractionCodec",
    "GainRegressor",
    "HeadSampler",
    "LatentDiffusionUNet",
    "MapInferer",
    "MapSampler",
    "PhysicsVAE",
    "PinayaDiffusionUNet",
    "PosteriorSample",
    "PrecisionSkip",
    "PublishedDiffusionUNet",
    "PublishedVAE",
    "RefiningTransformer",
    "Surroundings",
    "at_levels",
    "bf16",
    "halving_order",
    "on_device",
    "unwrap",
]

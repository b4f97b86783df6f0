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

"""Datasets: sessions of a folder, slices for training, cached latents, ragged batches.

Nothing here touches the disk before its first item is asked for, so every config can be built without data.
"""

from .batches import RAGGED, EpochSampler, Preload, collate
from .columns import ColumnLatents, latents
from .fractions import FractionLatents, FractionSlices
from .heads import FittedEncoder, HeadSections, HeadVolumes, RefiningLatents
from .latents import FrozenEncoder, LatentDataset
from .population import Population
from .sessions import SPLITS, SessionDataset, TrainingDataset
from .source import Scans, Stream, loader
from .tars import TarSamples

__all__ = [
    "ColumnLatents",
    "EpochSampler",
    "FittedEncoder",
    "FractionLatents",
    "FractionSlices",
    "FrozenEncoder",
    "HeadSections",
    "HeadVolumes",
    "LatentDataset",
    "Population",
    "Preload",
    "RAGGED",
    "RefiningLatents",
    "SPLITS",
    "Scans",
    "SessionDataset",
    "Stream",
    "TarSamples",
    "TrainingDataset",
    "collate",
    "latents",
    "loader",
]

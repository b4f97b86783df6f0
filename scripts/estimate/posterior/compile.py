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

"""Compiles the sums of the posterior, once for all later runs: ``python -m scripts.estimate.posterior.compile``.

Otherwise the first inference does so, which takes most of a minute of one core.
"""

import torch

from ...acquisition import Acquisition
from ...tissue import Estimate
from . import Posterior

if __name__ == "__main__":
    rows = Acquisition("spin_echo", te=0.01, tr=4.0, flip_angle=90.0).to_row()[None]
    estimate = Estimate.independent(torch.zeros(1, 3, 8), torch.full((1, 3, 8), 0.1))
    Posterior(steps=1).explain(estimate, torch.ones(1, 8), rows, torch.ones(8))

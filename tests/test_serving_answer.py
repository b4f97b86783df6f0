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

"""What becomes of the maps of a request: packed between the steps of a server, drawn from their posterior."""

import numpy as np

from scripts.commands.serving.answer import pack, sample_posterior, unpack
from scripts.estimate.maps import Maps


def test_draws_have_the_errors_of_the_maps():
    sd, pairs = (0.05, 0.2, 0.1), (0.5, -0.3, 0.6)
    size = (40, 40, 40)
    layers = [np.broadcast_to(np.float32(value), size) for value in (0.7, 0.8, 0.09, *sd, *pairs)]
    maps = Maps(np.stack(layers[:3]), np.stack(layers[3:6]), np.ones(size, bool), np.eye(4), {}, np.stack(layers[6:]))
    errors = np.log(sample_posterior(maps, 3).values / maps.values).reshape(3, -1)
    np.testing.assert_allclose(errors.std(1), sd, rtol=0.02)
    np.testing.assert_allclose(np.corrcoef(errors)[np.triu_indices(3, 1)], pairs, atol=0.02)
    np.testing.assert_allclose(errors.mean(1), 0, atol=5e-3)


def test_packed_maps_are_the_same_maps():
    mask = np.arange(24).reshape(2, 3, 4) > 5
    parts = [np.where(mask, np.float32(number + 1), 0) for number in range(9)]
    maps = Maps(np.stack(parts[:3]), np.stack(parts[3:6]), mask, np.diag([1.0, 2, 3, 1]), {}, np.stack(parts[6:]))
    for name, kept in unpack(pack(maps))._asdict().items():
        np.testing.assert_array_equal(kept, getattr(maps, name))

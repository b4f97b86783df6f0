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

"""The foreground of a session: the whole head, also where fluid is dark and where the field of view ends."""

import numpy as np
import pytest

from scripts.preprocess import filled_foreground

SIZE = (48, 48, 40)


def bright(ventricle: float = 5, gap: bool = True) -> np.ndarray:
    """A brain with a dark ventricle in a scalp, dark fluid and bone between them."""
    x, y, z = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in SIZE), indexing="ij")
    across, radius = np.hypot(x, y), np.sqrt(x**2 + y**2 + (z * 1.2) ** 2)
    head = radius < 23
    return head & ~((radius > 16) & (radius < 20) & gap) & ~((across < ventricle) & (np.abs(z) < 10))


def whole() -> np.ndarray:
    return bright(0, False)


def test_ventricles_and_dark_fluid_belong_to_the_head():
    assert (filled_foreground(bright()) == whole()).all()


@pytest.mark.parametrize("region", [np.s_[:, :, 16:24], np.s_[:, :, 16:17], np.s_[:, 6:42, 12:28], np.s_[:, :, :20]])
def test_so_they_do_where_the_field_of_view_ends(region):
    assert (filled_foreground(bright()[region]) == whole()[region]).all()


def test_specks_and_air_do_not():
    mask = bright()
    mask[:3, :3, :3] = True
    assert (filled_foreground(mask) == whole()).all()
    assert not filled_foreground(np.zeros(SIZE, bool)).any()

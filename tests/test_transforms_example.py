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

"""The documented example of docs/augmentation.md runs as it stands there."""

import json
import re

import pytest

from scripts.acquisition.families import FAMILIES
from scripts.augment import __all__ as EXPORTED


@pytest.fixture(scope="module")
def text(bundle_root) -> str:
    return (bundle_root / "docs" / "augmentation.md").read_text(encoding="utf-8")


def test_example_runs_and_draws_its_picture(text, tiny_study, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "simulated").symlink_to(tiny_study)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(block, names)  # noqa: S102
    image = names["data"]["image"]
    assert image.shape[0] == 1 and image.ndim == 4 and 0 <= image.min() < image.max() <= 1
    assert image.affine.shape == (4, 4) and not image.is_complex()
    first, second = (names["augment"].set_random_state(1)(names["head"])["image"] for _ in range(2))
    assert (first == second).all() and not (first == names["augment"](names["head"])["image"]).all()
    assert (tmp_path / "augmentation.jpg").stat().st_size > 10_000


def test_names_of_the_text_exist(text, bundle_root):
    assert set(re.findall(r"mr\.(\w+)", text)) <= set(EXPORTED)
    listed = re.search(r"families\.json\): ([^.]*)\.", text).group(1).split(", ")
    assert (
        listed
        == list(FAMILIES)
        == list(json.loads((bundle_root / "scripts" / "acquisition" / "families.json").read_text()))
    )
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (bundle_root / "docs" / link).is_file(), link

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

"""The examples of docs/augmentation.md run as they stand there, those that train with less work."""

import json
import re

import pytest

from scripts.acquisition.families import FAMILIES
from scripts.augment import __all__ as EXPORTED
from scripts.tissue import REGIONS


@pytest.fixture(scope="module")
def text(bundle_root) -> str:
    return (bundle_root / "docs" / "augmentation.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names(text, tiny_study, tmp_path_factory) -> dict:
    """What the examples have made, those of TorchIO apart; the segmenter trains for one epoch of small crops."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "data").mkdir()
    (folder / "data" / "simulated").symlink_to(tiny_study)
    found: dict = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in blocks(text):
            if "torchio" not in block:
                exec(block.replace("range(100)", "range(1)").replace("64", "32"), found)  # noqa: S102
        yield found


def blocks(text: str) -> list[str]:
    """The examples of the page."""
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_example_runs_and_draws_its_picture(names):
    image = names["augment"](names["head"])["image"]
    assert image.shape[0] == 1 and image.ndim == 4 and 0 <= image.min() < image.max() <= 1
    assert image.affine.shape == (4, 4) and not image.is_complex()
    first, second = (names["augment"].set_random_state(1)(names["head"])["image"] for _ in range(2))
    assert (first == second).all() and not (first == names["augment"](names["head"])["image"]).all()
    assert (names["folder"] / "augmentation.jpg").stat().st_size > 10_000


def test_a_segmenter_learns_from_rendered_contrasts(names):
    batch = next(iter(names["loader"]))
    assert batch["image"].shape == batch["labels"].shape == (2, 1, 32, 32, 32)
    assert names["network"](batch["image"]).shape == (2, len(REGIONS), 32, 32, 32)
    assert names["loss"].isfinite() and all(one.grad.any() for one in names["network"].parameters() if one.ndim > 1)


def test_plain_pytorch_needs_no_monai(names):
    assert names["image"].shape[1:] == names["labels"].shape and names["labels"].max() < len(REGIONS)
    again = names["Contrasts"](names["paths"])[1][0]
    assert names["image"].shape == again.shape and (again >= 0).all() and again.isfinite().all()


def test_torchio_renders_between_its_own_transforms(text, names):
    pytest.importorskip("torchio", reason="needs torchio, which is not installed")
    [block] = [block for block in blocks(text) if "torchio" in block]
    exec(block, names)  # noqa: S102
    image, labels = names["subject"].image.data, names["subject"].labels.data
    assert image.shape == labels.shape and image.shape[0] == 1 and 0 <= image.min() < image.max() <= 1
    assert set(labels.unique().tolist()) <= set(range(len(REGIONS)))


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

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

"""Small pages for the tests of the console."""

import json
import re
from html.parser import HTMLParser

import numpy as np

from scripts.commands.study.products import image_note
from scripts.console import About, Volume
from scripts.signal import SEQUENCES

from .maps import TISSUES

AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])
SHAPE = (24, 20, 12)
HOSTILE = "sub-</script><script>document.body.innerHTML='broken'</script><img src=x onerror=alert(1)>\u2028@@volume@@"


def head(
    shape: tuple[int, int, int] = SHAPE, sd: bool = True, options: tuple[str, ...] = ("fluid",), scans: bool = True
) -> Volume:
    """Boxes of grey matter, white matter and fluid inside each other, their values varied from voxel to voxel."""
    random = np.random.default_rng(0)
    labels = np.zeros(shape, int)
    labels[1:-1, 1:-1], labels[5:-5, 5:-5], labels[9:-9, 8:-8] = 1, 2, 3
    mask = labels > 0
    values = [
        np.where(mask, TISSUES[labels][..., i] * np.exp(0.1 * random.standard_normal(shape)), 0) for i in range(3)
    ]
    maps = dict(zip(("pd", "t1", "t2"), np.float32(values)))
    if sd:
        maps |= {f"sd_{name}": np.float32(mask * (0.02 + 0.03 * random.random(shape))) for name in ("pd", "t1", "t2")}
    given = {
        "fluid": np.where(labels == 3, 1.0, np.where(random.random(shape) < 0.1, 0.4, 0.0)),
        "t2_star": maps["t2"] * (0.5 + 0.3 * random.random(shape)),
        "b1": 0.7 + 0.6 * random.random(shape),
    }
    maps |= {name: np.float32(mask * given[name]) for name in options}
    images = {"T1w": np.float32(1000 * maps["pd"] / (0.1 + maps["t1"]))} if scans else {}
    return Volume(maps, mask, AFFINE, images)


def about(name: str = "sub-01", options: tuple[str, ...] = ("fluid",), **more: object) -> About:
    """What a page says of this head."""
    return About(
        name=name,
        version="0.0.0",
        command="python -m monai.bundle run --config_file configs/render.json --dataset_dir MAPS --output_dir OUT",
        sidecar={"SkullStripped": False},
        sources={"pd": "bids:raw:PD", "t1": "bids:raw:T1", "t2": "bids:raw:T2", "fluid": "bids:raw:CSF"},
        notes={key: image_note(sequence, options) for key, sequence in SEQUENCES.items()},
        **more,
    )


class Elements(HTMLParser):
    """What a browser finds in a page: elements with their attributes, and the text of scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.scripts: dict[str | None, str] = {}
        self.title = ""
        self._inside = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.found.append((tag, dict(attributes)))
        self._inside = (tag, dict(attributes).get("id"))

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None and self._inside[0] == "script":
            self.scripts[self._inside[1]] = self.scripts.get(self._inside[1], "") + data
        elif self._inside is not None and self._inside[0] == "title":
            self.title += data

    def json(self, name: str) -> dict:
        """Content of one of its data blocks."""
        return json.loads(self.scripts[name])


def request_of(command: str) -> str:
    """The value of ``--render`` in an exported command."""
    return re.search(r'--render "(.*)"', command)[1]

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

"""The tour: page and notebook are one, every command of the notebook runs, every picture of the page comes of them."""

import json
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
from monai.bundle import ConfigWorkflow

from scripts.commands.tour import NOTEBOOK, PAGE, ROOT, Command, Picture, notebook, parts

from .studies import CODEC, INFER, write_weights

COMMAND = "```bash\npython -m monai.bundle run \\\n    --seed 1\n```\n"
WORKFLOWS = {"simulate": None, "acquisitions": None, "protocol_report": None}


def test_a_page_is_text_commands_and_pictures_in_their_order():
    page = f"# Title\n\nText.\n\n{COMMAND}\n<!-- out/a.png -->\n![What it shows](a.jpg)\n\n*Caption.*\n"
    command = Command("python -m monai.bundle run      --seed 1")
    assert [*parts(page)] == ["# Title\n\nText.", command, Picture("out/a.png", "What it shows", "a.jpg"), "*Caption.*"]
    cells = notebook(page)["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "code", "code", "markdown"]
    assert cells[2]["source"] == ["!{sys.executable} -m monai.bundle run      --seed 1"]
    assert cells[3]["source"] == ["Image('out/a.png')"]


def test_the_notebook_is_that_of_the_page():
    made = notebook(PAGE.read_text(encoding="utf-8"))
    assert json.loads(NOTEBOOK.read_text(encoding="utf-8")) == made, "docs/tour.ipynb is stale: run make options"
    assert len({cell["id"] for cell in made["cells"]}) == len(made["cells"])


def test_every_picture_of_the_page_exists_and_comes_of_its_commands():
    found = [*parts(PAGE.read_text(encoding="utf-8"))]
    folders = [part.line.split("--output_dir ")[1].split()[0] for part in found if "--output_dir" in str(part)]
    for part in found:
        if isinstance(part, Picture):
            assert (PAGE.parent / part.target).is_file() and part.source.startswith(tuple(folders))
    assert not any(
        "![" in part for part in found if isinstance(part, str)
    ), "a picture without the file it is made from"


@pytest.fixture
def small(tmp_path, monkeypatch) -> dict[str, dict]:
    """Options that make each command of the tour small: config -> options. The head is a part of the brain."""
    monkeypatch.setattr("scripts.simulate.head.FIELD_OF_VIEW", ((-40, 40), (-40, 40), (-20, 40)))
    weights = write_weights(tmp_path / "weights")
    cpu = {"device": "$torch.device('cpu')", "threads": 1}
    sampling = {"count": 1, "latent_size": [4, 6], "num_inference_steps": 2, "render": "fig3"}
    return {
        "simulate": {"simulator::resolution": 4, "slice_thickness": 20, "skull": False},
        "inference": {**INFER, **cpu, "weights": weights["vae"]},
        "generate": {**CODEC, **cpu, **sampling, "codec_weights": weights["codec"], "weights": weights["transformer"]},
    }


def execute(line: str, small: dict[str, dict]) -> None:
    """Runs a command of the notebook in this process, with small sizes."""
    words = shlex.split(line)
    assert words[:4] == ["{sys.executable}", "-m", "monai.bundle", "run"]
    options = {name.removeprefix("--"): value for name, value in zip(words[4::2], words[5::2])}
    options = {name: int(value) if value.isdigit() else value for name, value in options.items()}
    config = Path(options.pop("config_file"))
    kind = WORKFLOWS.get(config.stem, "infer")
    given = options | small.get(config.stem, {})
    made = ConfigWorkflow(str(config), logging_file=False, workflow_type=kind, **given)
    made.initialize()
    made.run()


def test_the_notebook_runs(tmp_path, monkeypatch, small):
    shown, ipython, display = [], ModuleType("IPython"), ModuleType("IPython.display")
    display.Image = lambda file: shown.append(Path(file).stat().st_size)
    ipython.version_info, ipython.get_ipython = (9, 0, 0), lambda: None  # matplotlib looks at them
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    names: dict = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.startswith("!"):
            execute(source.removeprefix("!"), small)
        elif cell["cell_type"] == "code":
            exec(source, names)
    assert Path.cwd() == tmp_path and len(shown) == 4 and min(shown) > 1000
    assert Path("tour/listing/acquisitions.tsv").is_file()
    assert Path("tour/console/sub-01/anat/sub-01_console.html").stat().st_size > 10_000

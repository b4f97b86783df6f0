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

"""The report on generated brains: from folders to a page, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.acquisition import load_render
from scripts.bids import Session, output_path, write_image
from scripts.commands.generation_report import GenerationReport, images
from scripts.commands.generation_report.groups import Group, read_group
from scripts.commands.study.brains import Brain, write_fractions
from scripts.commands.study.products import write_maps
from scripts.errors import UserError
from scripts.estimate.maps import Maps
from scripts.evaluate import anatomy
from scripts.networks import PhysicsVAE
from scripts.tissue import FRACTIONS

from .test_inference import user_error
from .test_training import ROOT

SIZE = (64, 72)
WAVES = {"channels": [8, 8, 8], "norm_num_groups": 4, "skip_channels": []}


def write_maps_of_discs(folder, count: int, first: int) -> None:
    """Samples: a ventricle in white matter in cortex, of several sizes."""
    x, y = np.meshgrid(*[np.arange(n) - n / 2 for n in SIZE], indexing="ij")
    for number in range(count):
        numbers = np.zeros(SIZE, int)
        for radius, name in (
            (29 + 0.3 * number, "cortex"),
            (24, "white matter"),
            (5 + first + 0.5 * number, "ventricle"),
        ):
            numbers[np.hypot(x + first, y) < radius] = FRACTIONS.index(name)
        fractions = np.moveaxis(np.eye(len(FRACTIONS), dtype=np.float32)[numbers], -1, 0)[..., None]
        values = np.array([[0, 0, 0], [0.8, 1.3, 0.1], [0.7, 0.8, 0.08], [1, 4, 2]], np.float32)
        place = {FRACTIONS.index(name): n for n, name in enumerate(("air", "cortex", "white matter", "ventricle"))}
        maps = np.moveaxis(values[np.vectorize(place.get)(numbers)], -1, 0)[..., None]
        session, measured = (
            Session(f"{number:04d}", None, ()),
            float((numbers == FRACTIONS.index("ventricle")).sum()) / 100,
        )
        about = {
            "GeneratedFrom": {"requested": {"position": 5.0 * number, "ventricle": measured + 0.1 * (number % 2)}},
            "Measured": {"ventricle": measured, "brain": 150.0},
            "MeasuredUnits": "cm²",
        }
        write_maps(folder, session, Maps(maps, None, maps[0] > 0, np.eye(4)), about)
        write_fractions(folder, session, Brain(maps, fractions), np.eye(4), about)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("report")
    torch.save(PhysicsVAE(**WAVES).state_dict(), made / "model.pt")
    for first, (name, count) in enumerate((("samples", 8), ("reference", 14), ("training", 14))):
        write_maps_of_discs(made / name, count, first)
    return made


def run(folder, **options):
    given = {
        "dataset_dir": str(folder / "samples"),
        "reference_dir": str(folder / "reference"),
        "training_dir": str(folder / "training"),
        "output_dir": str(folder / "out"),
        "weights": str(folder / "model.pt"),
        "pairs": 3,
        **{f"network_def::{name}": value for name, value in WAVES.items()},
        **options,
    }
    file = str(ROOT / "configs/evaluate_generation.json")
    workflow = ConfigWorkflow(file, logging_file=False, workflow_type="infer", **given)
    workflow.initialize()
    workflow.run()


def test_folders_become_a_page(folder, monkeypatch):
    monkeypatch.setattr(anatomy, "COMPONENTS", {"layout": 3, "contacts": 3})
    run(folder)
    content = json.loads((folder / "out" / "generation.json").read_text(encoding="utf-8"))["tables"]
    assert {
        "distances",
        "distances_training",
        "memorisation",
        "diversity",
        "structure",
        "layout",
        "areas",
        "conditions",
        "published",
    } == {*content}
    likeness = {row[""]: row for row in content["distances"]["rows"]}
    assert {row["slices"] for row in likeness.values()} == {7}
    assert (
        likeness["held-out heads, other half, blocks shuffled"]["Fréchet distance"]
        > likeness["held-out heads, other half"]["Fréchet distance"]
    )
    (ventricle,) = content["conditions"]["rows"]
    assert ventricle["condition"] == "ventricle [cm²]" and ventricle["r from"] < ventricle["r"] <= ventricle["r to"]
    assert ventricle["mean error"] == pytest.approx(0.05)
    assert len(content["published"]["rows"]) == 7
    for name in ("generation.html", "distances.tsv", "samples.png", "sensitivity.png", "asked.png"):
        assert (folder / "out" / name).stat().st_size > 0


def test_contrasts_alone_are_measured_too_and_a_missing_one_is_named(folder):
    requests = load_render("oasis3")
    session, image = Session("0000", None, ()), np.random.default_rng(0).random((*SIZE, 1), np.float32)
    for request in requests[:2]:
        write_image(output_path(folder / "dldm", session, request.suffix, acq=request.name), image, np.eye(4), {})
    group = read_group("images", folder / "dldm", requests[:2])
    assert group.numbers is None and group.images.shape == (1, 2, *SIZE)
    with pytest.raises(Exception, match="acq-oasis3FLAIR_FLAIR"):
        read_group("images", folder / "dldm", requests)
    with pytest.raises(Exception, match="no samples"):
        read_group("images", folder / "absent", requests)


def test_what_is_no_axial_slice_is_refused(folder, tmp_path):
    [request], session = load_render("oasis3")[:1], Session("0000", None, ())
    path = output_path(tmp_path, session, request.suffix, acq=request.name)
    write_image(path, np.random.default_rng(0).random((*SIZE, 3), np.float32), np.eye(4), {})
    with pytest.raises(UserError, match="found 3 slices; give images of one slice, or folders of maps"):
        read_group("images", tmp_path, [request])
    write_image(path, np.random.default_rng(0).random((*SIZE, 1), np.float32), np.diag([-1.0, 1, 1, 1]), {})
    with pytest.raises(UserError, match="found the axes LAS; give RAS"):
        read_group("images", tmp_path, [request])


def test_too_few_samples_are_refused_before_heads_are_simulated(folder, tmp_path):
    write_maps_of_discs(tmp_path / "one", 1, 0)
    with pytest.raises((RuntimeError, UserError)) as caught:
        run(folder, dataset_dir=str(tmp_path / "one"), reference_dir=None, training_dir=None, cache_dir=str(tmp_path))
    assert "one: found 1 slices; give at least 7" in user_error(caught)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_areas_of_slices_and_volumes_of_heads_are_not_correlated_together():
    slices = [({"ventricle": 1.0 * n}, {"ventricle": 1.0 * n}, "cm²") for n in range(5)]
    heads = [({"ventricle": 10.0 * n}, {"ventricle": 50.0 - n}, "mL") for n in range(5)]
    table, _ = GenerationReport("x", None, "y")._asked_parts(slices + heads)
    assert [(row["condition"], row["samples"]) for row in table.rows] == [("ventricle [cm²]", 5), ("ventricle [mL]", 5)]
    assert table.rows[0]["r"] == pytest.approx(1) and table.rows[1]["r"] == pytest.approx(-1)


def test_structure_is_shared_by_contrasts_of_one_brain_and_not_by_those_of_two(folder):
    requests = load_render("oasis3")
    group = read_group("samples", folder / "samples", requests)
    mixed = Group("mixed", group.images.copy(), None, group.positions, group.heads)
    mixed.images[:, 1] = np.roll(group.images[:, 1], 20, 1)
    one, two = (images.structure_row(each, requests) for each in (group, mixed))
    assert one["T2w from the others"] > 0.99 > 0.9 > two["T2w from the others"]
    assert one["mutual information"] > two["mutual information"]


def test_the_same_slice_twice_is_not_diverse():
    picture = np.random.default_rng(0).random((1, 3, 176, 176), np.float32)
    group = Group("copies", np.repeat(picture, 2, 0), None, [0.0, 0.0], ["a", "b"])
    row = images.diversity_row(group, load_render("oasis3"), 3, 0)
    assert row["MS-SSIM"] == pytest.approx(1, abs=1e-4) and row["4-G-R-SSIM"] == pytest.approx(1)
    small = Group("small", group.images[..., :175], None, group.positions, group.heads)
    assert "MS-SSIM" not in images.diversity_row(small, load_render("oasis3"), 1, 0)


def test_distortions_are_what_they_are_called():
    picture = np.random.default_rng(0).random((2, 16, 24), np.float32)
    changed = {name: distort(picture, 0) for name, distort in images.distorted(0).items()}
    assert np.array_equal(changed["mirrored"][:, ::-1], picture)
    assert np.array_equal(np.sort(changed["blocks shuffled"].ravel()), np.sort(picture.ravel()))
    assert changed["blurred"].std() < picture.std()
    assert not np.array_equal(changed["with noise"], picture)

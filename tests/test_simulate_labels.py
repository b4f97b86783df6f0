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

"""Label maps: the table of classes, what is read of a file, what is refused; the embedded head."""

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, label

from scripts.errors import UserError
from scripts.simulate import CLASSES, REGIONS, LabelMaps
from scripts.simulate.anatomy import BRAIN, INDEX, MIXED
from scripts.simulate.embedded import embedded_head
from scripts.simulate.population import POPULATION
from scripts.tissue import class_values, region_numbers

from .test_simulate_slices import ball, write_ball

NUMBERS = [label for entry in CLASSES.values() for label in entry.labels]


def test_the_table_is_complete():
    assert set(POPULATION) < set(CLASSES) and region_numbers("CSF", "GM", "WM") == {"CSF": 1, "GM": 2, "WM": 3}
    assert len(NUMBERS) == len(set(NUMBERS)) and list(CLASSES)[0] == "air" and len(CLASSES) < MIXED
    for name, entry in CLASSES.items():
        assert entry.region in REGIONS
        mine = POPULATION.get(name, {})
        assert 0 <= mine.get("transfer", 0) <= 1 and (name in POPULATION) == (name not in ("air", "bone"))
        if "spread" in mine:
            assert len(mine["spread"]) == 3, name
            values = [class_values(name, field) for field in (1.5, 3.0, 7.0)]
            assert all(0 < pd <= 1 and 0 < t2 <= t1 for pd, t1, t2 in values), name


FREESURFER = {
    "aseg": {31: "choroid plexus", 63: "choroid plexus", 77: "lesion", 80: "caudate and putamen", 85: "white matter"}
    | dict.fromkeys(range(251, 256), "white matter"),
    "aparc+aseg": {1000: "cortex", 1024: "cortex", 2035: "cortex", 11101: "cortex", 12175: "cortex"},
    "wmparc": {3001: "white matter", 4035: "white matter", 5001: "white matter", 5002: "white matter"},
    "SynthSeg": {24: "CSF", 26: "caudate and putamen", 28: "brain stem", 1035: "cortex", 77: "lesion"},
    "SAMSEG": {165: "bone", 258: "other soft tissue", 259: "eye", 30: "vessel", 62: "vessel", 99: "lesion"},
    "apas+head": {130: "air", 257: "CSF", 172: "cerebellar cortex", 174: "brain stem"},
}


@pytest.mark.parametrize("tool", FREESURFER)
def test_what_freesurfer_writes_is_read(tmp_path, tool):
    labels = ball()
    places = [tuple(np.argwhere(labels == 2)[40 * number]) for number in range(len(FREESURFER[tool]))]
    for place, number in zip(places, FREESURFER[tool]):
        labels[place] = number
    nib.save(nib.MGHImage(labels.astype(np.int32), np.eye(4)), tmp_path / "aseg.mgz")
    anatomy = LabelMaps(tmp_path)[0]
    inverse = np.linalg.inv(anatomy.affine)
    for place, name in zip(places, FREESURFER[tool].values()):
        x, y, z = np.round(nib.affines.apply_affine(inverse, place)).astype(int)
        assert list(INDEX)[anatomy.classes[x, y, z]] == name


def test_all_unknown_labels_are_listed_with_their_counts(tmp_path):
    labels = ball()
    places = np.argwhere(labels == 2)
    for number in range(14):
        labels[tuple(places[3 * number : 3 * number + number + 1].T)] = 700 + number
    write_ball(tmp_path / "a.nii.gz", labels)
    with pytest.raises(UserError, match="unknown labels 700 .*, 711 .* and 2 more"):
        LabelMaps(tmp_path)[0]


def test_every_shared_label_map_has_known_labels(shared):
    paths = sorted((shared / "data" / "label_maps").glob("*.nii.gz"))
    assert len(paths) == len(LabelMaps(shared / "data" / "label_maps")) == 16
    for path in paths:
        present = np.flatnonzero(np.bincount(np.asanyarray(nib.load(path).dataobj).astype(np.int16).ravel()))
        assert set(present.tolist()) <= set(NUMBERS), path.name


def test_orientation_and_voxel_size_do_not_matter(tmp_path):
    labels = ball()
    labels[:20, 40:, 30:] = 0
    write_ball(tmp_path / "a.nii.gz", labels)
    turned = nib.Nifti1Image(labels, np.eye(4)).as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))
    nib.save(turned, tmp_path / "b.nii")
    finer = np.kron(labels, np.ones((2, 2, 2), np.int16))
    write_ball(tmp_path / "c.nii.gz", finer, np.diag([0.5, 0.5, 0.5, 1]))
    maps = LabelMaps(tmp_path)
    assert maps.names == ["a.nii.gz", "b.nii", "c.nii.gz"] and len(maps) == 3
    assert torch.equal(maps[0].classes, maps[1].classes) and np.allclose(maps[0].affine, maps[1].affine)
    counts = [maps[number].classes.flatten().bincount(minlength=len(INDEX)) for number in (0, 2)]
    assert (counts[1] / counts[0].clamp_min(1) - 1)[1:].abs()[counts[0][1:] > 500].max() < 0.1


def test_blocks_say_where_one_class_is_all_around(tmp_path):
    write_ball(tmp_path / "a.nii.gz")
    anatomy = LabelMaps(tmp_path)[0]
    eight = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    x, y, z = anatomy.classes.shape
    corners = torch.stack([anatomy.classes[i : x - 1 + i, j : y - 1 + j, k : z - 1 + k] for i, j, k in eight])
    inner, alike = anatomy.blocks[2:-2, 2:-2, 2:-2], (corners == corners[0]).all(0)
    assert torch.equal(inner == MIXED, ~alike) and torch.equal(inner[alike], corners[0][alike])
    assert not anatomy.blocks[0].any() and not anatomy.blocks[:, :, -1].any()


def test_a_part_of_a_folder(tmp_path):
    for name in "abc":
        write_ball(tmp_path / f"{name}.nii.gz")
    assert LabelMaps(tmp_path, 1).names == ["b.nii.gz", "c.nii.gz"]
    assert LabelMaps(tmp_path, 1, 1).names == ["b.nii.gz"]
    with pytest.raises(UserError, match="3 label maps; give at least 5"):
        LabelMaps(tmp_path, 1, 4).names
    for first, count in ((-1, None), (0, 0)):
        with pytest.raises(UserError, match="heads"):
            LabelMaps(tmp_path, first, count)


def broken(folder, case: str) -> None:
    if case == "text":
        (folder / "a.nii.gz").write_text("no image")
    elif case == "truncated":
        whole = write_ball(folder / "b.nii.gz").read_bytes()
        (folder / "b.nii.gz").unlink()
        (folder / "a.nii.gz").write_bytes(whole[: len(whole) // 2])
    else:
        labels = {
            "unknown": np.where(ball() == 3, 999, ball()),
            "not whole": ball() + np.float32(0.5),
            "4D": np.stack([ball()] * 2, -1),
            "no brain": np.where(ball() > 500, ball(), 0),
        }[case]
        write_ball(folder / "a.nii.gz", labels)


@pytest.mark.parametrize(
    "case, words",
    [
        ("text", "no readable image"),
        ("truncated", "truncated"),
        ("unknown", r"unknown labels 999 \(\d+ voxels\)"),
        ("not whole", "labels 0.5"),
        ("4D", "4 dimensions"),
        ("no brain", "no label of the cerebrum"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path, case, words):
    broken(tmp_path, case)
    with pytest.raises(UserError, match=words) as error:
        LabelMaps(tmp_path)[0]
    assert "a.nii.gz" in str(error.value)


def test_folders_without_label_maps_are_refused(tmp_path):
    with pytest.raises(UserError, match="0 label maps"):
        LabelMaps(tmp_path)[0]
    with pytest.raises(UserError, match="no such folder"):
        LabelMaps(tmp_path / "absent").names


def test_the_embedded_head_is_a_head():
    """From the middle of the brain outwards: brain, fluid, bone, soft tissue, air; as much of each as usual [ml]."""
    head = embedded_head()
    assert embedded_head() is head and len(LabelMaps()) == 1 and LabelMaps()[0] is head
    volume = dict(zip(INDEX, (head.classes.flatten().bincount(minlength=len(INDEX)) / 1000).tolist()))
    volume["skull"] = volume["bone"] + volume["marrow"]
    usual = {
        "cortex": (500, 900),
        "white matter": (350, 800),
        "ventricle": (10, 50),
        "CSF": (150, 500),
        "thalamus": (8, 25),
        "caudate and putamen": (10, 35),
        "brain stem": (15, 50),
        "skull": (500, 1200),
        "scalp": (200, 1000),
        "eye": (10, 25),
    }
    assert {name: volume[name] for name, (low, high) in usual.items() if not low < volume[name] < high} == {}
    x, y, z = (round(c) for c in head.centre)
    order = [CLASSES[list(INDEX)[c]].region for c in head.classes[x, y, z + 20 :].tolist()]
    steps = [now for now, before in zip(order, [None, *order]) if now != before]
    assert steps[-4:] == ["CSF", "bone", "soft tissue", "air"]


def test_the_embedded_head_has_layers_as_thick_as_usual():
    """Along lines from the middle of the brain through the vault: fluid, two tables around marrow, fat under skin."""
    head = embedded_head()
    distance, layers = torch.arange(30, 130, 0.25), []
    for azimuth in np.deg2rad(np.arange(0, 360, 15)):
        for elevation in np.deg2rad([40, 60, 80]):
            across = np.cos(elevation)
            way = [across * np.cos(azimuth), across * np.sin(azimuth), np.sin(elevation)]
            points = (torch.tensor(head.centre) + distance[:, None] * torch.tensor(way)).round().long()
            inside = ((points >= 0) & (points < torch.tensor(head.classes.shape))).all(1)
            classes = head.classes[tuple(points[inside].T)]
            layers.append([0.25 * int((classes == INDEX[name]).sum()) for name in ("bone", "marrow", "scalp")])
            names = [list(INDEX)[c] for c in classes.tolist()]
            outside = names[max(i for i, name in enumerate(names) if CLASSES[name].region in ("CSF", "GM")) :]
            # The galea is thinner than some steps of a slanting line.
            outside = [name for name in outside if name != "muscle"]
            order = [now for now, before in zip(outside, [None, *outside]) if now != before]
            assert order == ["CSF", "bone", "marrow", "bone", "scalp", "other soft tissue", "air"]
    bone, marrow, fat = np.median(layers, 0)
    assert 3 < bone < 5 and 2 < marrow < 5 and 3 < fat < 6


def test_the_fluid_of_the_embedded_head_is_one_and_the_skull_has_no_hole():
    head = embedded_head()
    classes = head.classes.numpy()
    fluid, _ = label(np.isin(classes, (INDEX["CSF"], INDEX["ventricle"])))
    sizes = np.bincount(fluid.ravel())[1:]
    assert sizes.max() > 0.97 * sizes.sum()
    # Above the skull base nothing gets from the fluid to the scalp without bone between.
    vault = classes[:, :, round(head.centre[2]) - 10 :]
    brain = BRAIN.numpy()[vault]
    assert not (binary_dilation(brain) & ~brain & ~np.isin(vault, (INDEX["bone"], INDEX["marrow"]))).any()

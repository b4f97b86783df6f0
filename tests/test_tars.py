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


"""Tars of subjects: what is packed comes back, and training sees the samples that it would see of the files."""

import io
import json
import shutil
import tarfile

import ignite.distributed as idist
import pandas as pd
import pytest
import torch
from monai.transforms import Compose
from torch.utils.data import DataLoader

from scripts.bids.tars import PATH, find_tars, read_tar, write_tar
from scripts.commands.pack import Packer
from scripts.errors import UserError
from scripts.preprocess import AlignContrastsd, CropAroundForegroundd, ForegroundMaskd, LoadSessiond, ScaleContrastsd
from scripts.shard import Part
from scripts.train.data import SessionDataset, TarSamples, TrainingDataset, collate

from .studies import files, workflow
from .test_training import train

SLICES = {"num_slices": 2, "slice_step": 2}


@pytest.fixture(scope="module")
def tars(tiny_study, tmp_path_factory):
    """The four subjects of the small study, two in a tar."""
    folder = tmp_path_factory.mktemp("tars")
    for shard in ("1/2", "0/2"):
        options = {"dataset_dir": str(tiny_study), "output_dir": str(folder), "subjects_per_tar": 2, "shard": shard}
        workflow("pack", **options).run()
    return folder


@pytest.fixture(scope="module")
def transform():
    steps = [LoadSessiond(truth=True), AlignContrastsd(4.0), ForegroundMaskd(), ScaleContrastsd()]
    return Compose([*steps, CropAroundForegroundd([32, 48, -1])])


def test_what_is_packed_comes_back(tiny_study, tars, tmp_path):
    found = {}
    for tar in find_tars(tars):
        subjects = dict(read_tar(tar.path))
        assert tuple(subjects) == tar.subjects
        for content in subjects.values():
            found |= content
    of_study = files(tiny_study)
    expected = {name: of_study[name] for name in of_study if "sub-" in name or name == "dataset_description.json"}
    assert found == expected
    # Another reader of this layout takes what stands before the first dot for the sample, and neighbours for its parts.
    with tarfile.open(find_tars(tars)[1].path) as tar:
        names = [member.name for member in tar]
    assert names[0] == "dataset.dataset_description.json" and "sub-03.anat.sub-03_T1w.nii.gz" in names
    assert [*dict.fromkeys(name.split(".")[0] for name in names)] == ["dataset", "sub-03", "sub-04"]
    assert "/" not in "".join(names)


def test_a_tar_is_written_again_only_for_other_files(tiny_study, tmp_path):
    study = shutil.copytree(tiny_study, tmp_path / "study")
    path = tmp_path / "a.tar"
    assert write_tar(path, study, ["sub-01"], 0)
    before = path.read_bytes()
    assert not write_tar(path, study, ["sub-01"], 0)
    (study / "sub-01/anat/sub-01_T1w.json").write_text("{}")
    assert write_tar(path, study, ["sub-01"], 0) and path.read_bytes() != before
    assert write_tar(path, study, ["sub-01", "sub-02"], 0)


@pytest.mark.parametrize("inside", ["../x", "/etc/x", "sub-01/../../x", ""])
def test_a_member_that_leads_elsewhere_is_refused(tmp_path, inside):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("sub-01.x")
        member.pax_headers = {PATH: inside} if inside else {}
        tar.addfile(member, io.BytesIO(b""))
    with pytest.raises(UserError, match="a.tar: found the member 'sub-01.x'; write the tar with configs/pack.json"):
        [*read_tar(tmp_path / "a.tar")]


def test_what_is_no_tar_is_named(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_tars(tmp_path / "absent")
    (tmp_path / "a.tar").write_bytes(b"none")
    with pytest.raises(UserError, match="no tar with its list"):
        find_tars(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"subjects": ["sub-01"], "first": 0}))
    with pytest.raises(UserError, match="a.tar: found no readable tar"):
        [*read_tar(find_tars(tmp_path)[0].path)]


def test_tars_of_two_packings_are_not_mixed(tiny_study, tars, tmp_path):
    folder = shutil.copytree(tars, tmp_path / "tars")
    with pytest.raises(UserError, match="tars: found subjects-000001.tar, which is none of the 1 tars"):
        Packer(str(tiny_study), str(folder), 4, Part()).run()
    assert files(folder) == files(tars)
    write_tar(folder / "subjects-000000.tar", tiny_study, ["sub-01", "sub-02", "sub-03"], 0)
    with pytest.raises(UserError, match="found subjects of subjects-000000.tar again in subjects-000001.tar"):
        find_tars(folder)


def test_samples_are_those_of_the_files(tiny_study, tars, transform):
    expected = TrainingDataset(SessionDataset(str(tiny_study)), transform, **SLICES)
    data = TarSamples(str(tars), transform, **SLICES, buffer=3)
    samples = [*data]
    assert len(samples) == len(data) == len(expected) == 8
    assert sorted(sample["index"] for sample in samples) == [*range(8)]
    for sample in samples:
        other = expected[sample["index"]]
        assert sample.keys() == other.keys() and "labels" in sample
        assert all(torch.equal(torch.as_tensor(sample[key]), torch.as_tensor(other[key])) for key in other)
    again, data.epoch = [sample["index"] for sample in data], 1
    assert again == [sample["index"] for sample in samples] != [sample["index"] for sample in data]
    assert len([*DataLoader(data, batch_size=4, collate_fn=collate)]) == 2


def test_a_subject_without_files_is_told(transform, tmp_path):
    (tmp_path / "study" / "sub-09").mkdir(parents=True)
    Packer(str(tmp_path / "study"), str(tmp_path / "tars"), 4, Part()).run()
    with pytest.raises(UserError, match="found files of 0 subjects, where its list names 1; look for empty folders"):
        next(iter(TarSamples(str(tmp_path / "tars"), transform, **SLICES)))


def test_ranks_share_the_tars(tars, transform, monkeypatch):
    data = TarSamples(str(tars), transform, **SLICES)
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    indices = []
    for rank in range(2):
        monkeypatch.setattr(idist, "get_rank", lambda: rank)
        indices += [sample["index"] for sample in data]
    assert len(data) == 4 and sorted(indices) == [*range(8)]
    monkeypatch.setattr(idist, "get_world_size", lambda: 3)
    with pytest.raises(UserError, match="2 tars for 3 ranks and workers"):
        [*data]


def test_training_reads_tars(tiny_study, tars, tmp_path):
    run = train("vae", tiny_study, tmp_path, "tars", max_epochs=1, tar_dir=str(tars))
    assert len(pd.read_csv(run / "history.tsv", sep="\t")) == 1 and (run / "model.pt").exists()

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

from pathlib import Path

import ignite.distributed as idist
import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.transforms import Compose
from torch.utils.data import DataLoader

from scripts.acquisition import ROW_SIZE, present
from scripts.errors import UserError
from scripts.preprocess import AlignContrastsd, CropAroundForegroundd, ForegroundMaskd, LoadSessiond, ScaleContrastsd
from scripts.train.data import EpochSampler, LatentDataset, SessionDataset, TrainingDataset, collate, sessions
from scripts.train.data.batches import STRETCH

DEPTH = 11


@pytest.fixture
def folder(tmp_path) -> Path:
    """Ten subjects; every third one has two sessions. The images are constant: good headers, no use as a scan."""
    (tmp_path / "T2w.json").write_text('{"EchoTime": 0.09, "RepetitionTime": 4.0}')
    image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_bytes()
    for subject in range(10):
        for session in ("1", "2") if subject % 3 == 0 else ("1",):
            anat = tmp_path / f"sub-{subject}" / f"ses-{session}" / "anat"
            anat.mkdir(parents=True)
            (anat / f"sub-{subject}_ses-{session}_T2w.nii").write_bytes(image)
    return tmp_path


def names(dataset: SessionDataset) -> list[str]:
    return [record["session"].name for record in dataset.records]


def subjects(dataset: SessionDataset) -> set[str]:
    return {record["session"].subject for record in dataset.records}


def test_building_touches_no_disk(monkeypatch):
    monkeypatch.setattr(sessions, "find_sessions", lambda _: pytest.fail("looked at the disk"))
    samples = TrainingDataset(SessionDataset("absent", split="train"), lambda _: pytest.fail("read a session"))
    latents = LatentDataset(samples, lambda *_: pytest.fail("encoded"))
    for dataset in (samples, latents):
        DataLoader(dataset, sampler=EpochSampler(dataset), collate_fn=collate)


@pytest.mark.parametrize("absent", [None, "absent"])
def test_an_absent_folder_has_no_length_yet(absent, tmp_path):
    folder = SessionDataset(absent and str(tmp_path / absent))
    for dataset in (folder, TrainingDataset(folder, None), LatentDataset(TrainingDataset(folder, None), None)):
        with pytest.raises(TypeError, match="does not exist yet"):
            len(dataset)
    with pytest.raises(UserError, match="dataset_dir|absent"):
        folder.records


def test_the_folder_may_appear_later(folder):
    hidden = folder.rename(folder.with_name("hidden"))
    dataset = SessionDataset(str(folder))
    with pytest.raises(TypeError):
        len(dataset)
    hidden.rename(folder)
    assert len(dataset) == 14


def test_records_are_in_a_fixed_order_with_their_acquisitions(folder):
    dataset = SessionDataset(str(folder))
    assert len(dataset) == 14 and names(dataset) == sorted(names(dataset))
    assert [dataset[i]["index"] for i in range(14)] == list(range(14))
    assert [acquisition.te for acquisition in dataset[3]["acquisitions"]] == [0.09]


@pytest.mark.parametrize("fraction, held_out", [(0.1, 1), (0.3, 3), (0.01, 1)])
def test_split_is_by_subject_disjoint_and_complete(folder, fraction, held_out):
    for seed in range(5):
        train, validation = (SessionDataset(str(folder), None, s, fraction, seed) for s in ("train", "validation"))
        assert not subjects(train) & subjects(validation)
        assert len(subjects(validation)) == held_out
        assert sorted(names(train) + names(validation)) == names(SessionDataset(str(folder)))


def test_split_is_a_function_of_the_seed(folder):
    splits = [SessionDataset(str(folder), None, "validation", 0.3, seed) for seed in (0, 1, 2, 3, 4, 5, 0)]
    held_out = [frozenset(subjects(split)) for split in splits]
    assert held_out[0] == held_out[-1] and len(set(held_out)) > 3


def test_one_subject_cannot_be_split(folder):
    for place in list(folder.glob("sub-[1-9]")):
        place.rename(folder / f".{place.name}")
    with pytest.raises(UserError, match="one subject; give two or more"):
        SessionDataset(str(folder), split="train").records


def test_bad_folders_and_options(folder):
    with pytest.raises(ValueError, match="all, train, validation.*'test'"):
        SessionDataset(str(folder), split="test")
    image = folder / "sub-4/ses-1/anat/sub-4_ses-1_T2w.nii"
    image.write_bytes(image.read_bytes()[:100])
    with pytest.raises(UserError, match="sub-4_ses-1_T2w.nii: found no readable image"):
        len(SessionDataset(str(folder)))
    (folder / "T2w.json").write_text("{}")
    with pytest.raises(UserError, match="EchoTime, RepetitionTime"):
        len(SessionDataset(str(folder)))


VOXEL = torch.tensor([1.0, 1.0, 2.0, 1.0])


class Volumes:
    """Stands for the transform: a volume whose voxels are their slice's number, and how often it was asked."""

    def __init__(self, centre: int = 4) -> None:
        self.centre, self.calls = centre, []

    def __call__(self, record: dict) -> dict:
        self.calls.append(record["index"])
        image = MetaTensor(torch.arange(float(DEPTH)).expand(1, 4, 5, DEPTH), affine=torch.diag(VOXEL))
        rows = torch.stack([acquisition.to_row() for acquisition in record["acquisitions"]])
        window = torch.tensor([[0.0, 1.0]])
        return {"image": image, "mask": image > 2, "acquisition": rows, "window": window, "centre": self.centre}


EDGES = [(4, 3, 1, [3, 4, 5]), (4, 3, 2, [2, 4, 6]), (4, 1, 1, [4]), (0, 3, 2, [0, 0, 2]), (10, 3, 1, [9, 10, 10])]


@pytest.mark.parametrize("centre, count, step, expected", EDGES)
def test_slices_are_centred_and_clamped(folder, centre, count, step, expected):
    samples = TrainingDataset(SessionDataset(str(folder)), Volumes(centre), num_slices=count, slice_step=step)
    assert len(samples) == 14 * count
    found = [samples[2 * count + i] for i in range(count)]
    assert [sample["image"].unique().tolist() for sample in found] == [[row] for row in expected]
    assert [sample["position"] for sample in found] == [2.0 * (row - centre) for row in expected]
    assert [sample["index"] for sample in found] == [2 * count + i for i in range(count)]


@pytest.mark.parametrize("count, step", [(8, 1), (7, 1), (4, 2), (2, 3)])
def test_slices_are_evenly_spaced_about_the_centre(folder, count, step):
    samples = TrainingDataset(SessionDataset(str(folder)), Volumes(), num_slices=count, slice_step=step)
    positions = [samples[i]["position"] for i in range(count)]
    assert {after - before for before, after in zip(positions, positions[1:])} == {2.0 * step}
    assert abs(sum(positions)) <= count


def test_volumes_come_whole(folder):
    samples = TrainingDataset(SessionDataset(str(folder)), Volumes(), spatial_dims=3)
    assert len(samples) == 14 and samples[5]["image"].shape == (1, 4, 5, DEPTH)
    assert samples[5]["position"] == 0 and samples[5]["index"] == 5


def test_each_session_is_read_once(folder):
    volumes = Volumes()
    samples = TrainingDataset(SessionDataset(str(folder)), volumes, num_slices=3)
    assert [samples[i]["index"] for i in (7, 6, 8)] == [7, 6, 8]
    assert volumes.calls == [2]
    samples.preload()
    assert sorted(volumes.calls) == list(range(14))


def test_each_latent_is_encoded_once(folder):
    calls = []

    def encoder(image, acquisition):
        calls.append((image.shape, acquisition.shape))
        return image[:, :, ::2, ::2], image[:, :, ::2, ::2] + 1

    latents = LatentDataset(TrainingDataset(SessionDataset(str(folder)), Volumes(), num_slices=2), encoder)
    first = latents[5]
    assert latents[5] is first and calls == [((1, 1, 4, 5), (1, 1, ROW_SIZE))]
    assert first["mean"].shape == (1, 2, 3) and torch.equal(first["sd"], first["mean"] + 1)
    assert first["index"] == 5 and first["position"] == latents.data[5]["position"]
    latents.preload()
    assert len(calls) == 1, "encoded when they are asked for"
    assert len([latents[i] for i in range(28)]) == len(calls) == 28
    means = LatentDataset(latents.data, encoder, drawn=False)
    assert torch.equal(means[5]["mean"], first["mean"]) and not means[5]["sd"].any()


class CachedSamples:
    """Samples with a folder for their latents, as simulated slices have."""

    scanner, first = "scanner", 0

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict:
        image = torch.full((1, 2, 2), float(index))
        return {"image": image, "acquisition": torch.zeros(1, ROW_SIZE), "position": 0.0, "index": index}

    def preload(self) -> None:
        """Nothing is to be simulated."""


class CountingEncoder:
    """Encodes by doing nothing, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def digest(self) -> torch.Tensor:
        return torch.zeros(32)

    def __call__(self, image, acquisition):
        self.calls += 1
        return image, image


def test_kept_latents_are_read_again_and_damaged_ones_made_anew(tmp_path, caplog):
    def encoded() -> tuple[int, list[float]]:
        latents = LatentDataset(CachedSamples(tmp_path), CountingEncoder())
        latents.preload()
        means = [float(latents[i]["mean"].mean()) for i in range(3)]
        return latents.encoder.calls, means

    assert encoded() == (3, [0, 1, 2])
    assert encoded() == (0, [0, 1, 2]) and not caplog.records
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    values = torch.arange(3.0).repeat_interleave(4).numpy().tobytes()
    place = whole.index(values) + 6
    for damaged in (whole[:place] + b"\x42" + whole[place + 1 :], whole[:-300], b""):
        path.write_bytes(damaged)
        assert encoded() == (3, [0, 1, 2])
        assert caplog.messages == [f"{path}: damaged, encoded anew"]
        caplog.clear()
        assert path.read_bytes() == whole


def order(sampler: EpochSampler, epoch: int = 1) -> list[int]:
    sampler.epoch = epoch
    return list(sampler)


def test_order_is_a_function_of_seed_and_epoch():
    first = order(EpochSampler(range(20), seed=3), 2)
    sampler = EpochSampler(range(20), seed=3)
    assert order(sampler, 1) != first and order(sampler, 2) == first
    assert order(EpochSampler(range(20), seed=4), 2) != first
    assert sorted(first) == list(range(20)) and len(sampler) == 20
    assert order(EpochSampler(range(20), shuffle=False), 5) == list(range(20))


def test_the_first_epoch_goes_through_the_samples_about_in_their_order():
    count = 2 * STRETCH + 10
    first, second = (order(EpochSampler(range(count)), epoch) for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(count))
    for start in range(0, count, STRETCH):
        stretch = list(range(start, min(start + STRETCH, count)))
        assert sorted(first[start : start + STRETCH]) == stretch != first[start : start + STRETCH]
    assert max(second[:STRETCH]) > STRETCH


def test_order_changes_with_the_epoch_of_the_trainer_it_is_attached_to():
    sampler, seen = EpochSampler(range(20)), {}
    trainer = Engine(lambda engine, index: seen.setdefault(engine.state.epoch, []).append(int(index)))
    sampler.attach(trainer)
    trainer.run(DataLoader(range(20), sampler=sampler, batch_size=None), max_epochs=3)
    assert all(sorted(indices) == list(range(20)) for indices in seen.values())
    assert len({tuple(indices) for indices in seen.values()}) == 3
    assert seen[2] == order(EpochSampler(range(20)), 2), "a resumed run goes on with the same order"


@pytest.mark.parametrize("samples, ranks", [(8, 2), (7, 2), (9, 4), (1, 3)])
def test_ranks_share_the_samples_equally(samples, ranks, monkeypatch):
    monkeypatch.setattr(idist, "get_world_size", lambda: ranks)
    shares = []
    for rank in range(ranks):
        monkeypatch.setattr(idist, "get_rank", lambda rank=rank: rank)
        shares.append(order(EpochSampler(range(samples), seed=1)))
    assert [len(share) for share in shares] == [-(-samples // ranks)] * ranks
    assert set().union(*shares) == set(range(samples))


def test_collate_pads_contrasts_and_missing_truth_with_zeros():
    def sample(contrasts: int, index: int, **more) -> dict:
        rows = torch.ones(contrasts, ROW_SIZE)
        image, window = torch.full((contrasts, 4, 5), float(index)), torch.ones(contrasts, 2)
        return {"image": image, "acquisition": rows, "window": window, "index": index, "position": 0.5, **more}

    truth = {"maps": torch.ones(3, 4, 5), "labels": torch.ones(1, 4, 5)}
    batch = collate([sample(1, 7), sample(3, 8, **truth)])
    assert batch["image"].shape == (2, 3, 4, 5) and batch["window"].shape == (2, 3, 2)
    assert present(batch["acquisition"]).tolist() == [[True, False, False], [True, True, True]]
    assert batch["image"][0, 1:].abs().max() == 0 and batch["image"][0, 0].unique() == 7
    assert batch["index"].tolist() == [7, 8] and batch["position"].tolist() == [0.5, 0.5]
    assert batch["maps"][0].abs().max() == 0 and batch["maps"][1].min() == 1 and batch["labels"][0].abs().max() == 0
    assert "maps" not in collate([sample(1, 7), sample(3, 8)])
    batch = collate([sample(2, 1, **truth), sample(2, 2, **truth)])
    assert batch["maps"].shape == (2, 3, 4, 5) and batch["labels"].shape == (2, 1, 4, 5)


def test_simulated_study_becomes_batches(tiny_study):
    steps = [LoadSessiond(True), AlignContrastsd(4.0), ForegroundMaskd(), ScaleContrastsd()]
    transform = Compose([*steps, CropAroundForegroundd((40, 56, -1))])
    samples = TrainingDataset(SessionDataset(str(tiny_study), split="train"), transform, num_slices=2)
    batch = next(iter(DataLoader(samples, sampler=EpochSampler(samples), batch_size=4, collate_fn=collate)))
    assert batch["image"].shape == (4, 3, 40, 56) and batch["maps"].shape == (4, 3, 40, 56)
    assert type(batch["image"]) is torch.Tensor and batch["image"].dtype == torch.float32
    assert present(batch["acquisition"]).all() and (batch["window"][..., 1] > batch["window"][..., 0]).all()
    assert (batch["labels"] > 0).float().mean() > 0.2 and batch["mask"][batch["labels"] > 0].float().mean() > 0.95

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

"""The stream of samples: a cache that is whole or absent, resumable, silent when complete, and changes no number."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
import torch
from ignite.engine import Engine

from scripts.errors import UserError
from scripts.simulate import LabelMaps, Scanner, SimulatedSlices, Slices, stream

from .test_simulate_slices import ball_heads

SIZE, LENGTH = (48, 40), 5


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> LabelMaps:
    return ball_heads(tmp_path_factory)


@pytest.fixture
def make(heads, tmp_path):
    """A stream with its cache in a folder of this test; options go to it, those of ``slices`` to these."""

    def make(slices: dict | None = None, **options) -> SimulatedSlices:
        source = Slices(**({"anatomies": heads, "size": SIZE, "per_head": 2} | (slices or {})))
        options = {"cache_dir": tmp_path / "cache", "length": LENGTH, "workers": 0} | options
        return SimulatedSlices(source, Scanner(crop_size=(40, 32)), **options)

    return make


def equal(a: dict, b: dict) -> bool:
    return set(a) == set(b) and all(torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key])) for key in a)


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[0-9]*")} if folder.exists() else {}


def test_a_sample_depends_on_seed_epoch_and_index_alone(make):
    cached, fresh, memory = make(), make(), make(cache_dir=None)
    cached.preload()
    memory.preload()
    for epoch, index in ((2, 3), (1, 3), (2, 0)):
        for one in (cached, fresh, memory):
            one.epoch = epoch
        assert equal(cached[index], fresh[index]) and equal(cached[index], memory[index])
    later = make(first=3, length=2)
    later.epoch = 2
    assert torch.equal(later[0]["image"], cached[3]["image"]), "the place in the stream shows"
    assert not torch.equal(make({"seed": 1})[0]["image"], cached[0]["image"])


def test_it_follows_the_epochs(make):
    one, seen = make(cache_dir=None, length=1), []
    engine = Engine(lambda *_: seen.append(one[0]["image"]))
    one.attach(engine)
    engine.run([0], max_epochs=2)
    assert one.epoch == 2 and not torch.equal(*seen)


def test_building_and_reading_write_nothing(make, tmp_path):
    one = make()
    assert len(one) == LENGTH and one[1]["index"] == 1
    assert not (tmp_path / "cache").exists()
    with pytest.raises(IndexError):
        one[LENGTH]


def test_a_complete_cache_is_silent_and_only_read(make, monkeypatch, capsys):
    make().preload()
    assert "simulating 5 slices" in capsys.readouterr().err
    for name in ("ProcessPoolExecutor", "FileLock", "_write"):
        monkeypatch.setattr(stream, name, None)
    make(workers=2).preload()
    make(length=3).preload()
    assert capsys.readouterr() == ("", "")


def test_a_stopped_run_goes_on_with_the_same_bytes(make, monkeypatch):
    whole = make()
    whole.preload()
    expected = files(whole.folder)
    assert len(expected) == LENGTH
    for path in whole.folder.glob("[0-9]*"):
        path.unlink()
    calls, save = [], stream.np.savez

    def stop_in_the_middle(path, **content):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half a file")
            raise KeyboardInterrupt
        save(path, **content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stream.np, "savez", stop_in_the_middle)
        make().preload()
    assert list(whole.folder.glob(".*.npz")) == [calls[-1]] and len(files(whole.folder)) == 2
    kept = next(whole.folder.glob("[0-9]*"))
    before = kept.stat().st_mtime_ns
    make().preload()
    assert files(whole.folder) == expected and not list(whole.folder.glob(".*.npz"))
    assert kept.stat().st_mtime_ns == before


def test_damaged_files_are_simulated_again(make):
    one = make()
    one.preload()
    expected, good = [one[i] for i in range(2)], files(one.folder)
    first, second = (one.folder / name for name in sorted(good)[:2])
    first.write_bytes(good[first.name][:-400])
    content = bytearray(good[second.name])
    content[len(content) // 2] ^= 255
    second.write_bytes(content)
    assert all(equal(one[i], expected[i]) for i in range(2))
    make().preload()
    assert files(one.folder)[first.name] == good[first.name]


def test_other_settings_have_another_folder(make, heads):
    folder = make().folder
    others = [make({"seed": 1}), make({"wide": 0.1}), make({"anatomies": LabelMaps()})]
    assert len({folder, *(other.folder for other in others)}) == 4
    assert make({"device": "cuda"}).folder == make(length=2, first=1).folder == folder


def test_a_folder_that_cannot_be_written_is_refused(make, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written") as error:
        make(cache_dir=tmp_path / "file" / "cache").preload()
    assert error.value.where == tmp_path / "file" / "cache"

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="Permission denied"):
        patch.setattr(stream, "FileLock", refuse)
        make().preload()
    monkeypatch.setattr(stream, "disk_usage", lambda _: type("Usage", (), {"free": 1e5}))
    with pytest.raises(UserError, match="0.0 GB of room for 5 slices"):
        make().preload()


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_label_maps_end_it_in_this_process(make, tmp_path, workers):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.nii.gz").write_text("no image")
    one = make({"anatomies": LabelMaps(tmp_path / "maps")}, workers=workers)
    with pytest.raises(UserError, match="a.nii.gz: found no readable image"):
        one.preload()
    assert not files(one.folder)
    with pytest.raises(UserError, match="no such folder"):
        make({"anatomies": LabelMaps(tmp_path / "absent")}).preload()


def test_a_user_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(UserError("file", "nothing", "give one")))
    assert (str(error), error.do) == ("file: found nothing; do give one", "give one")


def test_an_ended_process_is_explained(make, monkeypatch):
    def broken(*_):
        raise BrokenProcessPool

    monkeypatch.setattr(stream, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    monkeypatch.setattr(stream, "_write", broken)
    with pytest.raises(UserError, match="workers"):
        make(workers=1).preload()


def test_who_waited_for_another_job_finds_the_work_done(make, monkeypatch):
    other, lock = make(), stream.FileLock

    def locked_by_another(path):
        monkeypatch.setattr(stream, "FileLock", lock)
        other.preload()
        monkeypatch.setattr(stream, "_write", None)
        return lock(path)

    monkeypatch.setattr(stream, "FileLock", locked_by_another)
    make().preload()
    assert len(files(other.folder)) == LENGTH


@pytest.mark.parametrize("rank", [0, 1])
def test_other_ranks_wait_for_the_first(make, monkeypatch, rank):
    one, waited = make(), []
    monkeypatch.setattr(stream.idist, "get_local_rank", lambda: rank)
    monkeypatch.setattr(stream.idist, "barrier", lambda: waited.append(len(files(one.folder))))
    one.preload()
    assert waited == [LENGTH if rank == 0 else 0]


@pytest.mark.parametrize("options", [{"length": 0}, {"length": 2.0}, {"first": -1}, {"workers": True}])
def test_impossible_options(make, options):
    with pytest.raises(UserError, match=next(iter(options))):
        make(**options)

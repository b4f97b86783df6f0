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

"""The stream of samples: its cache is whole or absent, and neither it nor who fills it changes a number."""

import os
import pickle
import signal
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine

from scripts.errors import UserError
from scripts.files import replacing
from scripts.simulate import LabelMaps, Scanner, SimulatedSlices, Slices, stream

from .processes import start
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
    cached, fresh, memory = make(), make(cache_dir=None), make(cache_dir=None)
    cached.preload()
    memory.preload()
    read(cached)
    read(memory)
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


def test_building_writes_nothing_and_reading_keeps_what_it_simulates(make, tmp_path):
    one = make()
    assert len(one) == LENGTH and one.folder and not (tmp_path / "cache").exists()
    assert one[1]["index"] == 1 and list(files(one.folder)) == ["0000001.npz"]
    with pytest.raises(IndexError):
        one[LENGTH]


def read(one: SimulatedSlices) -> list[dict]:
    return [one[index] for index in range(len(one))]


def wait_for(condition) -> None:
    deadline = time.time() + 300
    while not condition() and time.time() < deadline:
        time.sleep(0.05)
    assert condition()


def test_a_complete_cache_is_silent_and_only_read(make, monkeypatch, capsys):
    read(make())
    for name in ("forks", "_write"):
        monkeypatch.setattr(stream, name, None)
    one = make(workers=2)
    one.preload()
    assert len(read(one)) == LENGTH and capsys.readouterr() == ("", "")


def test_what_it_costs_is_said_beforehand(make, monkeypatch, capsys):
    monkeypatch.setattr(stream, "TIMED", 1)
    one = make()
    one.preload()
    said = capsys.readouterr().out
    assert said.startswith("simulating 3 of 5 slices while the training runs, when they are needed: about 1 min, ")
    assert said.endswith(f"0.00012 GB in {one.folder}\n") and said.count("\n") == 1
    assert len(files(one.folder)) == 2, "only what was timed is there"


@pytest.mark.parametrize("workers", [1, 2])
def test_others_simulate_ahead_what_is_the_same(make, monkeypatch, capsys, workers):
    expected = make()
    read(expected)
    contents = files(expected.folder)
    for path in expected.folder.glob("[0-9]*"):
        path.unlink()
    monkeypatch.setattr(stream, "TIMED", 1)
    one = make(workers=workers)
    one.preload()
    assert f"ahead in {workers} process" in capsys.readouterr().out
    samples = read(one)
    wait_for(lambda: files(one.folder) == contents)
    assert all(equal(a, b) for a, b in zip(samples, read(expected)))
    for process in one._processes:
        process.join(300)
    assert [process.exitcode for process in one._processes] == [0] * workers


def train_long(heads: LabelMaps, folder: Path) -> None:
    """What a training does that takes long."""
    one = SimulatedSlices(Slices(heads, size=SIZE), Scanner(), folder, 1000)
    with (folder / "said").open("w") as said, redirect_stdout(said):
        one.preload()
        print(one._processes[0].pid, one.folder, flush=True)
    time.sleep(300)


def test_who_simulates_ahead_ends_with_the_training(heads, tmp_path):
    training, said = start(train_long, heads, tmp_path), tmp_path / "said"
    wait_for(lambda: said.exists() and said.read_text().count("\n") == 2)
    first, second = said.read_text().splitlines()
    ahead, folder = second.split()
    assert "of 1000 slices while the training runs" in first
    wait_for(lambda: len(files(Path(folder))) > stream.TIMED + 2)
    training.kill()
    training.join()

    def ended() -> bool:
        try:
            os.kill(int(ahead), 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{ahead}/stat").read_text().split()[2] == "Z"

    wait_for(ended)
    assert stream.TIMED + 2 < len(files(Path(folder))) < 1000


def test_a_stopped_run_goes_on_with_the_same_bytes(make, monkeypatch):
    whole = make()
    read(whole)
    expected = files(whole.folder)
    assert len(expected) == LENGTH
    for path in whole.folder.glob("[0-9]*"):
        path.unlink()
    calls, save = [], stream.np.savez

    def stop_in_the_middle(file, **content):
        calls.append(file)
        if len(calls) == 3:
            file.write(b"half a file")
            raise KeyboardInterrupt
        save(file, **content)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stream.np, "savez", stop_in_the_middle)
        read(make())
    assert not list(whole.folder.glob(".*.partial")) and len(files(whole.folder)) == 2
    left = whole.folder / ".0000003.npz.0123456789abcdef.partial"
    left.write_bytes(b"half a file")  # as a killed run leaves it
    kept = next(whole.folder.glob("[0-9]*"))
    before = kept.stat().st_mtime_ns
    with replacing(whole.folder / "another.npz") as other:
        other.write(b"being written by another job")
        make().preload()
        assert Path(other.name).exists() and not left.exists()
    (whole.folder / "another.npz").unlink()
    assert files(whole.folder) == expected
    assert kept.stat().st_mtime_ns == before


def test_damaged_files_are_simulated_again_and_said(make, caplog):
    one = make()
    expected, good = read(one), files(one.folder)
    first, second = (one.folder / name for name in sorted(good)[:2])
    first.write_bytes(good[first.name][:-400])
    content = bytearray(good[second.name])
    content[len(content) // 2] ^= 255
    second.write_bytes(content)
    assert all(equal(one[i], expected[i]) for i in range(2))
    assert [record.message for record in caplog.records] == [f"{p}: damaged, simulated anew" for p in (first, second)]
    assert files(one.folder) == good


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
        patch.setattr(stream.np, "savez", refuse)
        make()[0]
    monkeypatch.setattr(stream, "disk_usage", lambda _: type("Usage", (), {"free": 1e5}))
    with pytest.raises(UserError, match="0.0 GB of room for 5 slices"):
        make().preload()


def test_bad_label_maps_end_it_in_this_process(make, tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.nii.gz").write_text("no image")
    one = make({"anatomies": LabelMaps(tmp_path / "maps")})
    with pytest.raises(UserError, match="a.nii.gz: found no readable image"):
        one.preload()
    with pytest.raises(UserError, match="no such folder"):
        make({"anatomies": LabelMaps(tmp_path / "absent")}).preload()


def test_an_error_of_a_process_ahead_is_met_where_the_slice_is_needed(make, tmp_path, capfd):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.nii.gz").write_text("no image")
    one = make({"anatomies": LabelMaps(tmp_path / "maps")}, workers=1)
    one.folder.mkdir(parents=True)
    one._start([1, 2, 3], 0.1)
    one._processes[0].join(120)
    assert one._processes[0].exitcode == 1 and "Traceback" not in capfd.readouterr().err
    with pytest.raises(UserError, match="a.nii.gz: found no readable image"):
        one[1]


def test_a_user_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(UserError("file", "nothing", "give one")))
    assert (str(error), error.do) == ("file: found nothing; give one", "give one")


def test_an_ended_process_is_explained(make):
    one = make()
    one._processes.append(type("Killed", (), {"exitcode": -signal.SIGKILL})())
    with pytest.raises(UserError, match="workers: found a process that the system ended"):
        one[0]


def test_a_second_job_waits_then_finds_the_work_done(make, monkeypatch):
    one = make()

    class LockOfAnotherJob:
        def __init__(self, folder, name, wait) -> None:
            assert (folder, name, wait) == (one.folder, ".lock-0", True)

        def __enter__(self) -> None:
            read(make())
            monkeypatch.setattr(stream, "_write", None)

        def __exit__(self, *_) -> None:
            pass

    monkeypatch.setattr(stream, "lock_folder", LockOfAnotherJob)
    monkeypatch.setattr(stream.signal, "signal", lambda *_: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    stream._simulate_ahead(one.slices, {n: one._path(n) for n in range(LENGTH)}, ".lock-0")
    assert len(files(one.folder)) == LENGTH


@pytest.mark.parametrize("rank", [0, 1])
def test_one_rank_of_a_machine_starts_the_processes(make, monkeypatch, rank):
    monkeypatch.setattr(stream.idist, "get_local_rank", lambda: rank)
    started = []
    monkeypatch.setattr(SimulatedSlices, "_start", lambda self, missing, seconds: started.append(missing))
    monkeypatch.setattr(stream, "TIMED", 1)
    make().preload()
    assert started == ([[2, 3, 4]] if rank == 0 else [])


def test_volumes_are_refused_before_anything_is_simulated(make, tmp_path):
    with pytest.raises(UserError, match="spatial_dims: found 3 without a folder of scans; .* --dataset_dir"):
        make(spatial_dims=3).preload()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("options", [{"length": 0}, {"length": 2.0}, {"first": -1}, {"workers": True}])
def test_impossible_options(make, options):
    with pytest.raises(UserError, match=next(iter(options))):
        make(**options)

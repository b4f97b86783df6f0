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

import os
import resource
import signal
import sys
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from scripts.errors import UserError
from scripts.files import (
    check_writable,
    lock_folder,
    make_folder,
    remove_leftovers,
    replacing,
    save_atomically,
    scratch_folder,
    uninterrupted,
    writable,
    write_atomically,
)

from .processes import FORKS, elsewhere, start

LEFT = ".model.pt.0123456789abcdef.partial"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_for_long(folder: Path, writing: Event) -> None:
    lock = lock_folder(folder)
    with lock, replacing(folder / "model.pt") as file, scratch_folder(folder, "sub-01") as scratch:
        file.write(b"half")
        file.flush()
        (scratch / "half.nii").write_bytes(b"half")
        writing.set()
        time.sleep(60)


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing a file and a folder."""
    writing = FORKS.Event()
    process = start(write_for_long, tmp_path, writing)
    assert writing.wait(60)
    yield process
    process.kill()
    process.join()


def full_disk(*arguments):
    raise OSError(28, "No space left on device")


def test_a_file_appears_whole_with_the_permissions_of_a_new_file(tmp_path):
    with replacing(tmp_path / "a") as file:
        file.write(b"content")
        assert not (tmp_path / "a").exists() and len(names(tmp_path)) == 1
    (tmp_path / "plain").touch()
    assert (tmp_path / "a").read_bytes() == b"content" and names(tmp_path) == ["a", "plain"]
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_text_is_utf8_and_folders_are_made(tmp_path):
    write_atomically(tmp_path / "new" / "a.tsv", "µ\t\udcff\n")
    assert (tmp_path / "new" / "a.tsv").read_bytes() == "µ\t\\udcff\n".encode()


def test_equal_weights_give_equal_bytes_under_any_name(tmp_path):
    for path in (tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "a.pt"):
        save_atomically({"x": torch.ones(3)}, path)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(28, "No space left on device")])
def test_whatever_stops_a_writer_the_old_file_stays_alone(tmp_path, error):
    write_atomically(tmp_path / "a", "old")
    with pytest.raises((KeyboardInterrupt, ValueError)), replacing(tmp_path / "a") as file:
        file.write(b"new")
        raise error
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, full_disk)
            with pytest.raises(UserError) as caught:
                save_atomically({"x": torch.ones(3)}, tmp_path / "model.pt")
        assert str(caught.value) == (
            f"{tmp_path}: found a folder that cannot be written (No space left on device); "
            "choose another folder, or make room there"
        )
    assert names(tmp_path) == []


def save_beyond_a_limit(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    save_atomically({"x": torch.ones(10000)}, path)


def test_a_limit_on_the_size_of_files_is_met_inside_torch_save_too(tmp_path):
    with pytest.raises(UserError, match=f"^{tmp_path}: found a folder that cannot"):
        elsewhere(save_beyond_a_limit, tmp_path / "x.pt")
    assert names(tmp_path) == []


def test_a_link_in_place_of_the_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "victim").read_text() == "mine" and not (tmp_path / "a").is_symlink()


def test_a_planted_link_is_never_written_through(tmp_path, monkeypatch):
    """Even where somebody guesses the hidden name."""
    monkeypatch.setattr("scripts.files._hidden_name", lambda name: LEFT)
    (tmp_path / "victim").write_text("mine")
    (tmp_path / LEFT).symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="File exists"), replacing(tmp_path / "model.pt"):
        pass
    (tmp_path / LEFT).unlink()
    (tmp_path / "folder").mkdir()
    (tmp_path / LEFT).symlink_to(tmp_path / "folder")
    with pytest.raises(UserError, match="File exists"), scratch_folder(tmp_path, "sub-01"):
        pass
    assert (tmp_path / "victim").read_text() == "mine" and names(tmp_path / "folder") == []


def test_a_scratch_folder_goes_with_all_that_is_in_it(tmp_path):
    with pytest.raises(KeyboardInterrupt), scratch_folder(tmp_path, "sub-01") as folder:
        (folder / "anat").mkdir()
        os.replace(folder / "anat", tmp_path / "anat")
        (folder / "rest").touch()
        raise KeyboardInterrupt
    assert names(tmp_path) == ["anat"]


def test_ctrl_c_waits_for_what_must_be_whole(tmp_path):
    with pytest.raises(KeyboardInterrupt), scratch_folder(tmp_path, "sub-01") as folder, uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        (folder / "half").touch()
        os.replace(folder / "half", tmp_path / "whole")
    assert names(tmp_path) == ["whole"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with uninterrupted():
        pass


def test_leftovers_of_killed_runs_go_and_those_of_living_ones_stay(tmp_path, writer):
    before = names(tmp_path)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == before and len(before) == 3
    writer.kill()
    writer.join()
    assert names(tmp_path) == before
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".lock"]


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_file_is_no_leftover_until_it_is_renamed(tmp_path, monkeypatch):
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (remove_leftovers(tmp_path), replace(*paths)))
    write_atomically(tmp_path / "kept.json", "{}")
    assert (tmp_path / "kept.json").read_text() == "{}"


def test_leftovers_are_nothing_else(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "lock").touch()
    (tmp_path / LEFT).symlink_to(tmp_path / "victim")
    for name in (".notes.partial", ".model.pt.tmp", ".a.0123456789ABCDEF.partial", "model.pt.0123456789abcdef.partial"):
        (tmp_path / name).touch()
    # A folder of such a name that was not made here has no lock.
    (tmp_path / f".x{LEFT}").mkdir()
    (tmp_path / f".x{LEFT}" / "mine").touch()
    os.mkfifo(tmp_path / f".fifo{LEFT}")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    remove_leftovers(tmp_path)
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_leftovers_go_when_anything_is_written_there(tmp_path):
    for write in (lambda: write_atomically(tmp_path / "a", ""), lambda: check_writable(tmp_path)):
        (tmp_path / LEFT).touch()
        write()
        assert names(tmp_path) == ["a"]


def test_the_longest_name_can_be_written(tmp_path):
    name = "é" * 127
    write_atomically(tmp_path / name, "x")
    assert names(tmp_path) == [name]


def test_a_second_run_is_refused_until_the_first_ends(tmp_path, writer):
    with pytest.raises(UserError, match="found another run that is writing here; wait until it has ended"):
        lock_folder(tmp_path)
    writer.kill()
    writer.join()
    with lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path, wait=True), lock_folder(tmp_path, "other"):
        pass


def test_a_lock_follows_no_link(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="cannot be written"):
        lock_folder(tmp_path)
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    for make in (make_folder, check_writable):
        with pytest.raises(UserError, match="run: found a folder that cannot be written .Not a directory."):
            make(tmp_path / "file" / "run")
    with pytest.raises(UserError, match="that cannot be written .gone"), writable(tmp_path):
        raise OSError("gone")

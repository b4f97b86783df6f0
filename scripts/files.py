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

"""Files on disk: written whole or not at all, by one run at a time, and one sentence when they cannot be.

Whatever is being written has a hidden, random name (``.model.pt.1f0c….partial``) in the folder of its target, made so
that it can be no link to elsewhere, and locked while its process lives. One that nobody locks was left by a killed
run: :func:`remove_leftovers` tells it by name and lock, and removes nothing else.
"""

import os
import re
import secrets
import signal
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import BinaryIO

import torch
from filelock import AcquireReturnProxy, FileLock, Timeout

from .errors import UserError

try:
    import fcntl
except ImportError:
    fcntl = None  # Windows has none, but does not remove a file that is open.

PARTIAL = re.compile(r"\..+\.[0-9a-f]{16}\.partial")
"""Names of what is being written."""
LOCK, CONTENT = "lock", "files"
"""What a hidden folder holds."""


def save_atomically(content: object, path: str | os.PathLike) -> None:
    """Writes a torch file, which is on the disk when this returns; equal content gives equal bytes.

    Raises:
        UserError: when it cannot be written.
    """
    path = make_folder(Path(path).parent) / Path(path).name
    remove_leftovers(path.parent)
    with replacing(path, durable=True) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # What torch says of a write that failed, "unexpected pos", hides why.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def write_atomically(path: str | os.PathLike, content: str | bytes, durable: bool = False) -> None:
    """Writes a small file; arguments and errors as :func:`replacing`, text in UTF-8."""
    path = make_folder(Path(path).parent) / Path(path).name
    remove_leftovers(path.parent)
    with replacing(path, durable) as file:
        # A file name in the text need not be UTF-8.
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[BinaryIO]:
    """A hidden file to write to, which becomes ``path`` when the block ends well and is removed when it does not.

    Args:
        path: the file to write or replace; its folder exists.
        durable: return only when the content is on the disk, so that not even a power failure leaves an empty file.

    Raises:
        UserError: when it cannot be written.
    """
    with writable(path.parent):
        file = _hidden_file(path)
        try:
            with file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                if fcntl is not None:
                    # Closed, it would be unlocked: another run could take it for a leftover before it is renamed.
                    os.replace(file.name, path)
            if fcntl is None:
                os.replace(file.name, path)
        except BaseException:
            with uninterrupted(), suppress(OSError):
                os.unlink(file.name)
            raise


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """An empty hidden folder below ``parent``, removed with all that is in it when the block ends.

    Args:
        parent: an existing folder; what is made here can be renamed to anywhere in it.
        name: what its hidden name begins with.

    Raises:
        UserError: when it cannot be written.
    """
    with writable(parent):
        folder, lock = _hidden_folder(parent, name)
        try:
            with lock:
                yield folder / CONTENT
        finally:
            with uninterrupted():
                rmtree(folder, ignore_errors=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block has ended: for what takes a moment and must not be left half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[tuple] = []
    before = signal.signal(signal.SIGINT, lambda *arguments: waiting.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting and callable(before):
            before(*waiting[0])


def remove_leftovers(folder: Path) -> None:
    """Removes from a folder the hidden files and folders of killed runs: those that no process is writing."""
    for entry in [*os.scandir(folder)]:
        if PARTIAL.fullmatch(entry.name):
            with suppress(OSError):
                _remove_left(Path(entry.path), entry.stat(follow_symlinks=False).st_mode)


def make_folder(folder: str | os.PathLike) -> Path:
    """Makes a folder with those above it where it does not exist.

    Raises:
        UserError: when it cannot be made.
    """
    folder = Path(folder)
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_writable(folder: str | os.PathLike) -> Path:
    """As :func:`make_folder`, and tries to write there; removes what killed runs left."""
    folder = make_folder(folder)
    with scratch_folder(folder, "check"):
        remove_leftovers(folder)
    return folder


def sync(paths: Iterable[Path]) -> None:
    """Returns when the content of these files is on the disk: renamed then, they never appear empty."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def lock_folder(folder: Path, name: str = ".lock", wait: bool = False) -> AcquireReturnProxy:
    """Keeps other runs out of a folder, until the ``with`` block of the result ends or the process does.

    Args:
        folder: an existing folder.
        name: of the lock's file, which stays.
        wait: wait until another run has ended; else refuse.

    Raises:
        UserError: when another run is writing there, or a lock cannot be made.
    """
    lock = FileLock(folder / name, is_singleton=True)
    try:
        with writable(folder):
            return lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        do = "wait until it has ended, or choose another --output_dir"
        raise UserError(folder, "another run that is writing here", do) from None
    except NotImplementedError:
        raise UserError(folder, "a file system that locks no files", "choose a folder on another") from None


@contextmanager
def writable(folder: str | os.PathLike) -> Iterator[None]:
    """Says in one sentence what the system says when something cannot be written.

    Raises:
        UserError: for any OSError in the block.
    """
    try:
        yield
    except Timeout:
        raise
    except OSError as error:
        found = f"a folder that cannot be written ({error.strerror or error})"
        raise UserError(folder, found, "choose another folder, or make room there") from error


def _hidden_name(name: str) -> str:
    """Not to be guessed; as short as file systems want it, however long the name is."""
    return f".{name[:40]}.{secrets.token_hex(8)}.partial"


def _hidden_file(path: Path) -> BinaryIO:
    while True:
        # "x" makes a new file, with the permissions that the user gives new files; it follows no link.
        file = open(path.with_name(_hidden_name(path.name)), "xb")
        if _hold(file):
            return file
        file.close()


def _hidden_folder(parent: Path, name: str) -> tuple[Path, BinaryIO]:
    while True:
        folder = parent / _hidden_name(name)
        folder.mkdir()
        try:
            lock = open(folder / LOCK, "xb")
            if _hold(lock):
                (folder / CONTENT).mkdir()
                return folder, lock
            lock.close()
        except FileNotFoundError:
            continue  # Another run has just taken it for a leftover.
        except BaseException:
            rmtree(folder, ignore_errors=True)
            raise


def _hold(file: BinaryIO) -> bool:
    """Locks a new file; False where another run has just taken it for a leftover."""
    if fcntl is not None:
        with suppress(OSError):  # Where files cannot be locked, leftovers stay.
            fcntl.flock(file, fcntl.LOCK_EX)
    return os.fstat(file.fileno()).st_nlink > 0


def _remove_left(path: Path, mode: int) -> None:
    """Removes a hidden file or folder; raises OSError where its process lives."""
    if stat.S_ISREG(mode):
        with _unheld(path):
            path.unlink()
    elif stat.S_ISDIR(mode) and (path / LOCK).exists():
        with _unheld(path / LOCK):
            rmtree(path)
    elif stat.S_ISDIR(mode):
        path.rmdir()


@contextmanager
def _unheld(path: Path) -> Iterator[None]:
    """Holds the lock of a leftover meanwhile; raises OSError where another process has it."""
    if fcntl is None:
        yield
        return
    number = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)

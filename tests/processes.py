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

"""Commands and functions in processes of their own, forked from one that has imported what takes seconds to import."""

import os
import runpy
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from scripts.parallel import forks

ROOT = Path(__file__).resolve().parents[1]
FORKS = forks()
FORKS.set_forkserver_preload(["monai.bundle", "scripts.commands.study", "scripts.train", "scripts.simulate"])


def start(function: Callable, *arguments: object) -> BaseProcess:
    """A process that calls a function of a module."""
    process = FORKS.Process(target=function, args=arguments)
    with chdir(ROOT):  # where the process that all are forked from finds the rooms
        process.start()
    return process


def elsewhere(function: Callable, *arguments: object) -> object:
    """What a function returns, or raises, in another process."""
    with chdir(ROOT), ProcessPoolExecutor(1, FORKS) as pool:
        return pool.submit(function, *arguments).result()


def bundle(*words: str, cwd: Path, output: Path | str = os.devnull, errors: Path | str = os.devnull) -> BaseProcess:
    """Starts ``python -m monai.bundle`` with these words; it writes to these files."""
    return start(run_bundle, words, cwd, output, errors)


def bundle_run(*words: str, cwd: Path) -> CompletedProcess:
    """The end of ``python -m monai.bundle run`` with these words."""
    return finished(run_bundle, ("run", *words), cwd)


def finished(function: Callable, *arguments: object) -> CompletedProcess:
    """The end of a process that calls a function with these arguments, and two files for what it prints."""
    with TemporaryDirectory() as folder:
        files = Path(folder, "output"), Path(folder, "errors")
        process = start(function, *arguments, *files)
        process.join(120)
        process.kill()
        process.join()
        return CompletedProcess(arguments, process.exitcode, *(file.read_text() for file in files))


def run_bundle(words: Sequence[str], cwd: Path, output: Path | str, errors: Path | str) -> None:
    """Is ``python -m monai.bundle`` with these words, in the process that calls it."""
    os.chdir(cwd)
    redirect(output, errors)
    sys.argv[1:] = words
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    except (Exception, KeyboardInterrupt):
        # As the interpreter does with what nobody caught.
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


def redirect(output: Path | str, errors: Path | str) -> None:
    """From now on, this process prints into these files."""
    for number, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)

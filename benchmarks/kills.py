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

"""kill -9 at random moments of a data set in the making: ``python -m benchmarks.kills [--kills 20] [--count 60]``.

Two shards of ``configs/factory.json`` work on one folder at once. One of them is killed after a random time and started
again, and so on. In the end the folder must equal, byte by byte, that of one undisturbed process.
"""

import argparse
import json
import os
import re
import signal
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
from monai.bundle import ConfigWorkflow

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "factory.json"
SHARDS = ("0/2", "1/2")


def start(output_dir: Path, shard: str | None, options: dict) -> int:
    """Makes a data set, or a shard of it, in another process; returns its number when it begins to write a subject."""
    log, before = output_dir.with_suffix(f".{shard[0] if shard else 'whole'}.log"), begun(output_dir, shard)
    process = os.fork()
    if process:
        while begun(output_dir, shard) <= before and not exited(process):
            time.sleep(0.002)
        return process
    status = 1
    try:
        for number in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        given = options | {"output_dir": str(output_dir), "shard": shard}
        workflow = ConfigWorkflow(str(CONFIG), workflow_type=None, logging_file=False, **given)
        workflow.initialize()
        workflow.run()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def begun(output_dir: Path, shard: str | None) -> set[str]:
    """Folders of a shard's subjects, the hidden ones of those that are being written or were left so among them."""
    job, jobs = map(int, (shard or "0/1").split("/"))
    found = {path.name: re.match(r"\.?sub-(\d+)", path.name) for path in output_dir.glob("*")}
    return {name for name, match in found.items() if match and (int(match[1]) - 1) % jobs == job}


def exited(process: int) -> bool:
    """Whether a process has ended; :func:`finish` is still to be called."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def finish(process: int) -> None:
    """Waits for a process, which must end well."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status:
        raise SystemExit(f"a process ended with {status}")


def kill_often(folder: Path, kills: int, longest: float, seed: int, options: dict) -> list[tuple[float, int]]:
    """Kills the two shards in turn until they end, or were killed so often and may end.

    Args:
        folder: of the data set.
        kills: how often at most.
        longest: after it begins to write, a process is killed before this time [s] is over.
        seed: of the moments.
        options: of the config.

    Returns:
        For each kill its moment [s] and how many subjects were complete.
    """
    draws, hits = np.random.default_rng(seed), []
    running = {shard: start(folder, shard, options) for shard in SHARDS}
    while running:
        shard = [*running][len(hits) % len(running)]
        process, wait = running.pop(shard), draws.uniform(0, longest)
        if len(hits) < kills:
            time.sleep(wait)
        if len(hits) == kills or exited(process):
            finish(process)
            continue
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        hits.append((round(wait, 3), len([*folder.glob("sub-*")])))
        running[shard] = start(folder, shard, options)
    return hits


def contents(folder: Path) -> dict[str, bytes]:
    """All files but locks. What shards noted of their own subjects differs with how the work was shared."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(".catalogue/")}


def main(arguments: argparse.Namespace) -> None:
    options = json.loads(arguments.options) | {"count": arguments.count}
    # What is imported here, processes need not import again.
    ConfigWorkflow(str(CONFIG), workflow_type=None, logging_file=False).parser.get_parsed_content("simulator")
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch, "whole")
        process = start(whole, None, options)
        began = time.monotonic()
        finish(process)
        seconds, expected = time.monotonic() - began, contents(whole)
        print(json.dumps({"subjects": arguments.count, "seconds undisturbed": round(seconds, 2)}), flush=True)
        hits, rounds = 0, 0
        while hits < arguments.kills:
            cut, seed, rounds = Path(scratch, f"cut-{rounds}"), arguments.seed + rounds, rounds + 1
            met = kill_often(cut, arguments.kills - hits, 3 * seconds / arguments.count, seed, options)
            found, hits = contents(cut), hits + len(met)
            print(json.dumps({"killed after [s], with subjects complete": met}), flush=True)
            differs = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            if differs:
                raise SystemExit(f"{len(differs)} files differ, such as {', '.join(differs[:3])}")
            if rounds > 10 * arguments.kills:
                raise SystemExit("processes end before they can be killed: take a larger --count")
        print(f"{hits} kills: all {len(expected)} files equal those of the undisturbed run")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--count", type=int, default=60, help="subjects")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--options", default='{"simulator::resolution": 8}', help="of configs/factory.json, as JSON")
    main(parser.parse_args())

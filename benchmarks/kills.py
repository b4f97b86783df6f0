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
    """Makes a data set, or a shard of it, in a process of its own; returns its number when its progress bar is there."""
    log = output_dir.with_suffix(f".{shard.split('/')[0] if shard else 'whole'}.log")
    log.unlink(missing_ok=True)
    process = os.fork()
    if process:
        while not (log.exists() and "simulating" in log.read_text()) and not exited(process):
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


def exited(process: int) -> bool:
    """Whether a process has ended; :func:`finish` is still to be called."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def finish(process: int) -> None:
    """Waits for a process, which must end well."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status:
        raise SystemExit(f"a process ended with {status}")


def kill_often(folder: Path, kills: int, longest: float, seed: int, options: dict) -> list[dict]:
    """Kills the two shards in turn until they were killed so often, then lets them end.

    Args:
        folder: of the data set.
        kills: how often.
        longest: after its first sign of life a process is killed before this time [s] is over.
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
        hits.append({"after": round(wait, 3), "complete": len([*folder.glob("sub-*")])})
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
        whole, cut = Path(scratch, "whole"), Path(scratch, "cut")
        process = start(whole, None, options)
        began = time.monotonic()
        finish(process)
        seconds = time.monotonic() - began
        # Two shards at once take at least half of it each, and every kill takes back the subject under way.
        longest = seconds / arguments.kills
        hits = kill_often(cut, arguments.kills, longest, arguments.seed, options)
        expected, found = contents(whole), contents(cut)
        differs = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        print(json.dumps({"kills": hits, "seconds_undisturbed": round(seconds, 2), "files": len(expected)}))
        if len(hits) < arguments.kills:
            raise SystemExit(f"{len(hits)} of {arguments.kills} kills met a process at work: take a larger --count")
        if differs:
            raise SystemExit(f"{len(differs)} files differ, such as {', '.join(differs[:3])}")
        print(f"{len(hits)} kills: all {len(expected)} files equal those of the undisturbed run")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--count", type=int, default=60, help="subjects")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--options", default='{"simulator::resolution": 8}', help="of configs/factory.json, as JSON")
    main(parser.parse_args())

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


"""Work for several machines: each process takes every N-th piece, and what it makes does not depend on N."""

import re
from collections.abc import Sequence
from typing import TypeVar

from .errors import UserError

Item = TypeVar("Item")
MOST = 1_000_000


class Part:
    """The part of the work of one process, of all those that share it.

    The jobs of an array (``--shard``) share the work, and the processes that torchrun starts in each job share the
    part of that job. Building this reads nothing.

    Args:
        shard: ``i/N`` for the i-th of N jobs, counted from 0 as SLURM and Kubernetes do; None for one job.
        rank: number of this process in its job.
        world_size: processes of a job.

    Raises:
        UserError: for a shard that is none.
    """

    def __init__(self, shard: str | None = None, rank: int = 0, world_size: int = 1) -> None:
        found = re.fullmatch(r"(\d{1,7})/(\d{1,7})", "0/1" if shard is None else str(shard))
        job, jobs = map(int, found.groups()) if found else (0, 0)
        if not job < jobs <= MOST:
            raise UserError("shard", repr(shard), f"use i/N with i from 0 to N - 1 and N up to {MOST}, such as 0/8")
        self.index, self.count = job * world_size + rank, jobs * world_size

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every ``count``-th of these items from the ``index``-th: not all the large ones to one process.

        Raises:
            UserError: when nothing is left for this process.
        """
        mine = items[self.index :: self.count]
        if items and not mine:
            found = f"part {self.index} of {self.count}, of {len(items)} pieces of work"
            raise UserError("shard", found, f"share the work among {len(items)} at most")
        return mine

    @property
    def alone(self) -> bool:
        """Whether this process does all of the work."""
        return self.count == 1

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

"""How the processes of one training part."""

import atexit
import gc

import ignite.distributed as idist
import torch.distributed as dist


def part_ranks() -> None:
    """Waits for all ranks, leaves their group, and sees to it that the group's threads end before the interpreter does.

    gloo's threads drop the tensors of a collective a moment after the collective is complete, and take the
    interpreter's lock for that. One that comes after the interpreter has begun to end is ended by it in a destructor,
    and the process dies of "terminate called without an active exception" (pytorch/pytorch#179291). To destroy the
    group joins its threads. DistributedDataParallel keeps the group, so the collector frees that first, when the
    training has returned. The last reference is the one here: it alone is dropped without holding that lock, which
    the threads may still need.

    :mod:`torch.distributed.nn` keeps a group that is there when it is imported, as default of its functions, so
    ``configs/multi_gpu.json`` imports it before.
    """
    groups = [dist.group.WORLD]
    idist.barrier()
    idist.finalize()

    def join_threads() -> None:
        gc.collect()
        groups.clear()

    atexit.register(join_threads)

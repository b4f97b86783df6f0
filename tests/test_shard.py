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


"""Shards of inference, rendering, generation and simulation together make what one process makes."""

import pytest

from scripts.errors import UserError
from scripts.shard import Part
from scripts.simulate import Heads, Simulator

from .studies import CODEC, RENDER, files, workflow, write_weights
from .test_simulate_slices import ball_heads

CPU = "$torch.device('cpu')"


@pytest.mark.parametrize("jobs, ranks", [(1, 1), (3, 1), (1, 2), (2, 3)])
def test_parts_share_all_work_and_none_twice(jobs, ranks):
    parts = [Part(f"{job}/{jobs}", rank, ranks) for job in range(jobs) for rank in range(ranks)]
    assert sorted(item for part in parts for item in part.of(range(20))) == [*range(20)]
    assert {part.index for part in parts} == {*range(jobs * ranks)} and parts[0].alone == (len(parts) == 1)


@pytest.mark.parametrize("shard", ["2/2", "1", "-1/2", "0/0", "a/b", "0/2/3", 0.5, "0/9999999"])
def test_what_is_no_shard_is_refused(shard):
    with pytest.raises(UserError, match="shard: found .*; use i/N"):
        Part(shard)


def test_more_shards_than_work_are_refused():
    assert Part("3/4").of([]) == []
    with pytest.raises(UserError, match="shard: found part 3 of 4, of 2 pieces of work; share the work among 2"):
        Part("3/4").of(range(2))


def generation(tmp_path) -> tuple[list[str], dict]:
    weights = write_weights(tmp_path / "weights")
    sampling = {"count": 2, "latent_size": [4, 6], "num_inference_steps": 2, "threads": 1, "device": CPU, **CODEC}
    return ["generate"], {"codec_weights": weights["codec"], "weights": weights["transformer"], **sampling}


def test_two_shards_generate_what_one_process_does(tmp_path):
    configs, options = generation(tmp_path)
    for folder, shards in (("whole", [None]), ("shared", ["1/2", "0/2"])):
        for shard in shards:
            workflow(*configs, output_dir=str(tmp_path / folder), render=RENDER, shard=shard, **options).run()
    assert files(tmp_path / "shared") == files(tmp_path / "whole")


def test_two_shards_infer_and_render_what_one_process_does(tmp_path, scans, infer):
    whole = infer(data_consistency=False)
    for shard in ("0/2", "1/2"):
        shared = infer("shared", shard=shard, data_consistency=False)
        assert len([*shared.glob("sub-*")]) == 1 + int(shard[0])
    assert files(shared) == files(whole)
    for folder, shards in (("all", [None]), ("parts", ["1/2", "0/2"])):
        for shard in shards:
            given = {"dataset_dir": str(whole), "output_dir": str(tmp_path / folder), "noise": 30}
            workflow("render", render=RENDER, shard=shard, **given).run()
    assert files(tmp_path / "parts") == files(tmp_path / "all")


def test_two_shards_simulate_what_one_process_does(tmp_path, tmp_path_factory):
    options = {"subjects": 3, "resolution": 8, "heads": Heads(ball_heads(tmp_path_factory))}
    Simulator(tmp_path / "whole", **options).run()
    for shard in ("1/2", "0/2"):
        Simulator(tmp_path / "shared", part=Part(shard), **options).run()
    assert files(tmp_path / "shared") == files(tmp_path / "whole")
    with pytest.raises(UserError, match="overwrite: found True for one of several shards"):
        Simulator(tmp_path / "shared", part=Part("0/2"), overwrite=True, **options).run()
    assert files(tmp_path / "shared") == files(tmp_path / "whole")

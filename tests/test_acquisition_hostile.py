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

"""What files can hold that no scanner wrote: refused in one line, or harmless."""

import math

import pytest

from scripts.acquisition import from_sidecar, load_protocol
from scripts.errors import UserError

HUGE = 10**400


@pytest.mark.parametrize(
    "keys, found",
    [
        ({"FlipAngle": HUGE}, "give one number in degrees"),
        ({"NumberShots": math.inf}, "NumberShots"),
        ({"EchoTime": 1e-12}, "EchoTime"),
        ({"EchoTrainLength": 80000}, "at most 1000"),
    ],
)
def test_numbers_that_cannot_be_are_refused(keys, found):
    sidecar = {"EchoTime": 0.003, "RepetitionTime": 2.4, "InversionTime": 1.0, **keys}
    with pytest.raises(UserError, match=found):
        from_sidecar("T1w", sidecar, "x.json")


def test_a_train_that_no_graph_can_be_made_of_is_refused_with_its_file():
    sidecar = {"EchoTime": 0.4, "RepetitionTime": 90.0, "EchoTrainLength": 1000, "EchoSpacing": 0.05}
    with pytest.raises(UserError, match="^x.json: "):
        from_sidecar("T2w", {**sidecar, "SequenceName": "*spc_1000"}, "x.json")


def test_unprintable_letters_stay_out_of_the_evidence():
    sidecar = {"EchoTime": 0.003, "RepetitionTime": 2.4, "InversionTime": 1.0, "SequenceName": "tfl\ud800\x1b[31m"}
    assert from_sidecar("T1w", sidecar, "x.json").evidence.isprintable()


@pytest.mark.parametrize("content, found", [("{}", "no scans"), ("[" * 100000, "broken JSON"), ("null", "a JSON null")])
def test_protocol_files_without_scans_are_refused(content, found, tmp_path):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(UserError, match=found):
        load_protocol(tmp_path / "mine.json")


def test_a_byte_order_mark_is_no_harm(tmp_path):
    (tmp_path / "mine.json").write_text('{"T2w": {"EchoTime": 0.1, "RepetitionTime": 4.0}}', encoding="utf-8-sig")
    assert load_protocol(tmp_path / "mine.json")["T2w"]["EchoTime"] == 0.1


def test_a_name_too_long_for_a_file_is_no_protocol():
    with pytest.raises(UserError, match="protocol"):
        load_protocol("x" * 5000)

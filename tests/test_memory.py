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

"""The memory that a session takes is known before it is taken."""

import nibabel as nib
import numpy as np
import pytest

from scripts.commands.study import UsableSessions
from scripts.commands.study.subjects import memory_needed

from .studies import write_study
from .test_bids_images import header_only

# Edge [mm], shape, scans and the peak that inference on such a head took [GB].
MEASURED = [(1.0, (200, 240, 176), 3, 3.69), (1.0, (256, 256, 300), 3, 3.92)]


@pytest.mark.parametrize("edge, shape, scans, peak", MEASURED)
def test_what_is_foreseen_is_what_was_measured_and_a_little_more(edge, shape, scans, peak):
    image = nib.Nifti1Image(np.broadcast_to(np.int16(0), shape), np.diag([edge, edge, edge, 1]))
    assert peak < memory_needed([image] * scans) < 1.2 * peak


def test_only_the_session_that_takes_too_much_is_refused_with_the_number(tmp_path):
    study = write_study(tmp_path, subjects=2)
    header_only(study / "sub-02" / "anat" / "sub-02_T1w.nii.gz", (500, 500, 400))
    dataset = UsableSessions(str(study))
    assert [record["session"].name for record in dataset.records] == ["sub-01"]
    assert str(dataset.failures["sub-02"]) == (
        "sub-02: found scans that take 15.4 GB of memory, of 8 that are allowed; "
        "resample them, or allow more with --memory_budget"
    )
    assert len(UsableSessions(str(study), memory_budget=16).records) == 2

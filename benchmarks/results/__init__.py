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

"""What the estimator and the generator achieve: ``python -m benchmarks.results PART [options]``.

A part measures, prints Markdown, and puts it with its pictures into ``docs/results.md``:

- ``heads``, ``phantom``: maps and unseen contrasts of heads whose truth is known, under the protocols of
  ``protocols.json``;
- ``object``: T2 of a real test object;
- ``real``: a contrast of a real patient predicted from two others;
- ``generation``: samples of the generator beside heads nobody trained on;
- ``time``: time and memory of one whole head, training throughput.

Truth is made here, not by the simulator that made the training data: what a head is worth as a test does not change
with it. Shapes: M scans, ``(X, Y, S)`` for S axial slices of one head, which are scaled and given gains together.
"""

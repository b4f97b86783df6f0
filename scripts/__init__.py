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

"""Brain MRI physics: scans to tissue maps (PD, T1, T2), tissue maps to any contrast, noise to new brains.

The code is in rooms. A room imports only what stands above it, and of that what its line names::

    errors       where, what was found, what to do             for all
    randomness   a random stream for every address             for all
    files        writing a file whole or not at all            for all
    parallel     pieces side by side, each on one thread       for all
    signal       the signal equations and their one table
    tissue       literature values, labels, prior, estimate
    nuisance     what lies between an equation and an image
    acquisition  what a scan is                                signal
    render       maps and acquisitions to contrasts            acquisition
    bids         where scans lie, read and written             acquisition
    networks     physics VAE, diffusion network, samplers      render, tissue
    estimate     scans to one estimate with its posterior      networks, bids
    simulate     label maps to heads, slices, studies          render, bids, nuisance, tissue
    preprocess   a session's files to one aligned volume       bids, render, tissue
    augment      random twins for anybody's pipeline           nuisance, render
    train        steps, losses, data, metrics, state           estimate, simulate, preprocess, augment
    commands     what the run of a config calls                all

``tests/test_architecture.py`` holds the code to this, CONTRIBUTING.md says how to add to it.
"""

from pathlib import Path

BUNDLE_ROOT = str(Path(__file__).resolve().parent.parent)
"""Where the bundle lies. Default inputs and outputs of the configs hang below it."""

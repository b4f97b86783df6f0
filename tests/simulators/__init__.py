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

"""Two independent simulators of a spin system and the sequences that run on either of them.

:class:`Isochromats` integrates the Bloch equation, :class:`Configurations` the extended phase graph; both offer the
same events (pulse, wait, dephase, spoil, invert). A sequence in :mod:`tests.simulators.sequences` is its timing diagram
written with these events, repeated until the echo no longer changes. Nothing here knows a closed form.
"""

from .bloch import Isochromats
from .epg import Configurations
from .tissues import TISSUES, Tissues

__all__ = ["Configurations", "Isochromats", "TISSUES", "Tissues"]

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

"""The three signal equations of Lüpke et al. 2024 (arXiv 2409.13532), Eq. 1, for unit gain.

All functions are signed and differentiable, take SI seconds and broadcast. They are the published forms, kept for
the faithful reproduction of the paper: none of them knows the readout train, the refocusing pulses or T2*.
"""

from torch import Tensor, exp


def paper_mprage(pd: Tensor, t1: Tensor, t2: Tensor, *, tr: Tensor, ti: Tensor) -> Tensor:
    """MPRAGE: ``S = PD (1 - 2 exp(-TI/T1) / (1 + exp(-TR/T1)))``.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s]; the published form does not depend on it.
        tr: time from inversion to inversion [s].
        ti: time from inversion to the centre of k-space [s].

    Known limits: no readout train, so WM-GM contrast is overstated about 1.75 times (Deichmann 2000 has the train).
    """
    return pd * (1 - 2 * exp(-ti / t1) / (1 + exp(-tr / t1)))


def paper_spin_echo(pd: Tensor, t1: Tensor, t2: Tensor, *, te: Tensor, tr: Tensor) -> Tensor:
    """Spin echo: ``S = PD (1 - exp(-TR/T1)) exp(-TE/T2)``.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: echo time [s].
        tr: repetition time [s].

    Known limits: valid for TE << TR only; wrong for 3D turbo spin echo with variable flip angles at its nominal TE.
    """
    return pd * (1 - exp(-tr / t1)) * exp(-te / t2)


def paper_flair(pd: Tensor, t1: Tensor, t2: Tensor, *, te: Tensor, tr: Tensor, ti: Tensor) -> Tensor:
    """FLAIR: ``S = PD (1 - 2 exp(-TI/T1) + exp(-TR/T1)) exp(-TE/T2)``.

    Args:
        pd: proton density, any unit.
        t1: longitudinal relaxation time [s].
        t2: transverse relaxation time [s].
        te: echo time [s].
        tr: repetition time [s].
        ti: inversion time [s].

    Known limits: valid for TE << TR only; near the null of a tissue its sign and size are off (CSF -34 % at TI 2.5 s).
    """
    return pd * (1 - 2 * exp(-ti / t1) + exp(-tr / t1)) * exp(-te / t2)

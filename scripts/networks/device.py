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
"""Where a network runs, and in what precision."""

import torch
from torch import nn


def bf16(device: torch.device | str, enabled: bool) -> torch.autocast:
    """bfloat16 autocast; without effect where it is not ``enabled`` or the device has no instructions for it."""
    kind = torch.device(device).type
    if kind == "cpu":
        enabled = enabled and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    elif kind == "cuda":
        enabled = enabled and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(kind, torch.bfloat16, enabled=enabled)


def on_device(network: nn.Module, device: torch.device | str) -> nn.Module:
    """The network on its device, channels last: the layout in which bfloat16 convolutions are fast."""
    volumes = any(parameter.ndim == 5 for parameter in network.parameters())
    layout = torch.channels_last_3d if volumes else torch.channels_last
    return network.to(device=device, memory_format=layout)


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself, also where it is wrapped for data-parallel training."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network

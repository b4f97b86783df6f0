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

"""Perturbed-attention guidance: diffusion is guided by the same network with its self-attention switched off."""

from collections.abc import Iterator
from contextlib import contextmanager

from monai.networks.blocks.selfattention import SABlock
from torch import Tensor, nn


class PerturbedAttentionGuidance(nn.Module):
    r"""A diffusion network whose prediction is moved away from that without self-attention: ``v + s (v - v')``.

    :math:`v` is the prediction of the network, and :math:`v'` that of the same network where each place attends to
    itself alone. :math:`v'` has the right textures but no global structure. The difference therefore strengthens the
    global structure: skulls close and hemispheres match. Samples become a little less diverse. No other weights are
    needed.

    Ahn et al. 2024, Self-rectifying diffusion sampling with perturbed-attention guidance, ECCV.

    Args:
        network: the diffusion network.
        scale: :math:`s`, at least 0; with 0 it is the network.
    """

    def __init__(self, network: nn.Module, scale: float) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, *args, **kwargs) -> Tensor:
        """The guided prediction; arguments are those of the network."""
        predicted = self.network(*args, **kwargs)
        if not self.scale:
            return predicted
        with _without_attention(self.network):
            worse = self.network(*args, **kwargs)
        return predicted + self.scale * (predicted - worse)


@contextmanager
def _without_attention(network: nn.Module) -> Iterator[None]:
    """Within this block, self-attention returns the values of each place unmixed."""
    blocks = [module for module in network.modules() if isinstance(module, SABlock)]
    hooks = [block.register_forward_hook(_own_values) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _own_values(block: SABlock, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
    values = block.out_rearrange(block.input_rearrange(block.to_v(inputs[0])))
    return block.out_proj(values) if block.include_fc else values

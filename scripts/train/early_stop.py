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

"""Stopping a training run that no longer gets better."""

from ignite.engine import Engine
from monai.handlers import EarlyStopHandler

from ..errors import UserError


class EarlyStop(EarlyStopHandler):
    """MONAI's handler on the validation's key metric, of which less is better; its count is part of a run's state.

    MONAI's has no state of its own to save, so that a resumed run would begin to count anew.

    Args:
        evaluator: the validation engine.
        patience: validations without a better metric after which training stops.

    Raises:
        UserError: for a patience that is no such number.
    """

    def __init__(self, evaluator: Engine, patience: int) -> None:
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 1:
            raise UserError("patience", repr(patience), "use a whole number of validations, or leave it out")
        super().__init__(patience, lambda engine: -engine.state.metrics[engine.state.key_metric_name])
        self.evaluator = evaluator

    def attach(self, engine: Engine) -> None:
        """Hooks into the trainer, to stop it, and into the evaluator."""
        self.set_trainer(engine)
        super().attach(self.evaluator)

    def state_dict(self) -> dict:
        """How long nothing was better, and than what."""
        return dict(self._handler.state_dict())

    def load_state_dict(self, state: dict) -> None:
        """Goes on counting from there."""
        self._handler.load_state_dict(state)

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

"""The one exception a user may cause, and how to find it again inside others."""

from collections.abc import Iterator
from logging import Logger


class UserError(ValueError):
    """Something the user can put right: bad input, a missing file, an impossible request.

    Args:
        where: the file, field or option at fault.
        found: what was found there.
        do: what to do about it, as an imperative.
    """

    def __init__(self, where: object, found: str, do: str) -> None:  # noqa: B042 (see __reduce__)
        super().__init__(f"{where}: found {found}; {do}")
        self.where, self.found, self.do = where, found, do

    def __reduce__(self) -> tuple:
        return type(self), (self.where, self.found, self.do)


def find_user_error(error: BaseException | None) -> UserError | None:
    """The user error behind an exception, however often it was wrapped; None where there is none."""
    return next((e for e in _chain(error) if isinstance(e, UserError)), None)


def log_failure(logger: Logger, name: str, error: Exception) -> Exception:
    """Logs why something has no result, with a traceback when it is not the user's doing; returns what is behind it."""
    user_error = find_user_error(error)
    logger.error(f"{name}: {user_error or error}", exc_info=None if user_error else error)
    return user_error or error


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an exception: torch makes another one of it while it writes a file."""
    return any(isinstance(e, KeyboardInterrupt) for e in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__

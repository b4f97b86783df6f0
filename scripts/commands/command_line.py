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

"""What a user of ``python -m monai.bundle run`` sees: log lines above progress bars, errors in a line, an exit code."""

import inspect
import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType, TracebackType

import monai.bundle
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import ensure_tuple
from tqdm.contrib.logging import logging_redirect_tqdm

from ..errors import find_user_error, was_interrupted
from .options import check_arguments, check_names, check_unused, check_value, check_values, help_text

WRONG_USE, INCOMPLETE, INTERRUPTED = 2, 1, 130
"""Exit codes: nothing was done because of a user error; some of what was asked for failed; Ctrl-C."""
HELP = {"help", "h"}
"""Ask for the options of a config instead of a run."""


class CommandLine:
    """How a config was started: from the command line, or by a workflow made in Python.

    Args:
        debug: show the traceback of user errors too.
    """

    def __init__(self, debug: bool | str = False) -> None:
        self.debug, self.active = debug, False
        self.redirected = ExitStack()

    def check(self) -> None:
        """Checks all options, before any work: values, names, and the arguments of nodes.

        From the command line, user errors end in one line on stderr and exit code 2, and ``--help`` shows the options
        instead. A workflow made in Python raises them.

        From here on, log lines are written above a progress bar, not into it.

        Raises:
            UserError: for a value that an option does not accept, and for a name that is none.
        """
        arguments = _arguments()
        if arguments is not None:
            self._start(arguments)
        frame = _frame(ConfigWorkflow._run_expr)
        if frame is not None:
            parser = frame.f_locals["self"].parser
            check_unused(parser)
            check_arguments(parser)
            check_values(parser)
            self.debug = parser.get_parsed_content("debug", default=self.debug)

    def _start(self, arguments: dict) -> None:
        self.active = True
        # A file name need not be UTF-8.
        sys.stdout.reconfigure(errors="backslashreplace")
        sys.excepthook = self._excepthook
        # It lasts as long as this object, which is as long as the process.
        self.redirected.enter_context(logging_redirect_tqdm(_console_loggers()))
        if not check_value("debug", self.debug):
            for handler in _log_handlers():
                handler.addFilter(_hides_user_errors)
        files = ensure_tuple(arguments.pop("config_file"))
        if HELP & arguments.keys():
            print(help_text(files), flush=True)
            raise SystemExit(0)
        check_names(arguments, files, inspect.signature(monai.bundle.run).parameters)

    def leave(self, failures: int) -> None:
        """Ends the process with exit code 1 when some of the work failed."""
        if self.active and failures:
            raise SystemExit(INCOMPLETE)

    def _excepthook(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if was_interrupted(error) and not self.debug:
            # A progress bar has left its line open.
            print("\ninterrupted: what is complete stays", file=sys.stderr, flush=True)
            raise SystemExit(INTERRUPTED)
        user_error = find_user_error(error)
        if self.debug or user_error is None:
            traceback.print_exception(kind, error, trace)
        if user_error is not None:
            if isinstance(user_error.__cause__, ExceptionGroup):
                for reason in user_error.__cause__.exceptions:
                    print(f"  {reason}", file=sys.stderr)
            print(f"error: {user_error}", file=sys.stderr, flush=True)
            # The interpreter turns a SystemExit of the hook into its exit code.
            raise SystemExit(WRONG_USE)


def _arguments() -> dict | None:
    """Overrides and ``config_file`` of ``python -m monai.bundle run``, alone or under torchrun; None elsewhere.

    They are read from the frame of MONAI's function, where the command line is parsed already.
    """
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    frame = _frame(monai.bundle.run)
    if main is None or main.name != "monai.bundle.__main__" or frame is None:
        return None
    given = frame.f_locals
    arguments = ConfigParser.load_config_file(given["args_file"]) if given["args_file"] else {}
    if given["config_file"] is not None:
        arguments["config_file"] = given["config_file"]
    return arguments | given["override"]


def _frame(function: Callable) -> FrameType | None:
    """The call of a function that is under way, None where there is none."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_code is not function.__code__:
        frame = frame.f_back
    return frame


def _loggers() -> list[logging.Logger]:
    # Names of which only a part was asked for are no loggers.
    named = logging.Logger.manager.loggerDict.values()
    return [logging.getLogger(), *(logger for logger in named if isinstance(logger, logging.Logger))]


def _console_loggers() -> list[logging.Logger]:
    consoles = (sys.stdout, sys.stderr)
    return [one for one in _loggers() if any(getattr(handler, "stream", None) in consoles for handler in one.handlers)]


def _log_handlers() -> set[logging.Handler]:
    return {handler for logger in _loggers() for handler in logger.handlers} | {logging.lastResort}


def _hides_user_errors(record: logging.LogRecord) -> bool:
    """Keeps out what engines log about an exception on its way up when the user is behind it."""
    from_engine = record.name.startswith(("ignite.", "monai.")) and record.levelno >= logging.ERROR
    error = sys.exc_info()[1]
    return not (from_engine and (was_interrupted(error) or find_user_error(error)))

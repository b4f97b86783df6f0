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

"""Values, names and arguments of a run, checked before any work starts."""

import inspect
import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from pydoc import locate

import torch
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from monai.bundle import ConfigComponent, ConfigParser

from ...errors import UserError, find_user_error
from .table import OPTIONS, accepted

WORDS = {"true": True, "false": False}
LONGEST = 60
"""Characters of a value that an error message shows."""
DEVICES = ("cpu", "cuda", "mps", "xpu")
FORMATS = FormatChecker(formats=())


def check_values(parser: ConfigParser) -> None:
    """Checks the options of a config, wherever their values come from, and puts in what words of a shell stand for.

    Expressions (``$``) are evaluated first, as MONAI would do later. Nodes with a ``_target_`` are no values.

    Raises:
        UserError: for the first value that the table refuses.
    """
    for name in filter(partial(_has, parser.config), OPTIONS):
        if ConfigComponent.is_instantiable(parser[name]):
            continue
        try:
            value = parser.get_parsed_content(name)
        except Exception as error:
            if find_user_error(error):
                raise
            found = f"{_short(parser[name])}, which cannot be evaluated ({error.__cause__ or error})"
            raise UserError(name, found, f"give {accepted(name)}") from error
        # Not by ``parser[name]``: that would make every object anew that was made already.
        parser.ref_resolver.resolved_content[name] = check_value(name, value)


def _has(config: object, name: str) -> bool:
    """As MONAI's ``name in parser``, which takes long over an absent name: it looks for similar ones."""
    for part in name.split("::"):
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return True


def check_value(name: str, value: object) -> object:
    """The value of an option, as it is meant: ``"true"`` is True where a truth value is expected, 2024 a folder's name.

    Raises:
        UserError: for a value that the table refuses.
    """
    row = OPTIONS[name]
    meant = _meant(_plain(value), row)
    if meant is None and "null" in row:
        return None
    error = best_match(_Validator(row, format_checker=FORMATS).iter_errors(meant))
    if error is not None:
        where = "::".join(map(str, (name, *error.absolute_path)))
        raise UserError(where, _short(error.instance), f"give {accepted(name)}")
    return meant


def check_names(given: Iterable[str], files: Sequence[str | Path], others: Iterable[str]) -> None:
    """Refuses overrides that no config file has.

    Args:
        given: their names, such as ``max_epochs`` or ``train::trainer::max_epochs``.
        files: the config files.
        others: names that are known besides.

    Raises:
        UserError: for a name that is in none of the files and is no argument of a node there either.
    """
    config = ConfigParser(ConfigParser.load_config_files(files))
    for name in given:
        *above, last = name.lstrip("+").replace("#", "::").split("::")
        parent = config.get("::".join(above)) if above else {**config.config, **dict.fromkeys(others)}
        # An argument of a node that the file leaves at its default is checked against the signature.
        if isinstance(parent, Mapping) and last not in parent and not ConfigComponent.is_instantiable(parent):
            for option in OPTIONS:
                if option.endswith(f"::{last}"):
                    raise UserError(f"--{name}", "no such option", f"do you mean --{option}?")
            _refuse(name, above, last, parent, f"look the options up with --help or in {', '.join(map(str, files))}")


def check_arguments(parser: ConfigParser) -> None:
    """Refuses arguments that a node's class or function does not have, before anything is made.

    Raises:
        UserError: for ``--step::thread`` where the argument is called ``threads``.
    """
    for path, node in _nodes((), parser.config):
        known = _arguments(node, parser)
        for name in node:
            if known is not None and not name.startswith("_") and name not in known:
                do = f"use one of {', '.join(known)}" if known else "leave it out"
                _refuse("::".join([*path, name]), path, name, known, do)


def check_unused(parser: ConfigParser) -> None:
    """Refuses a value that nothing uses and whose name is nearly that of an option, as in an overlay or in Python.

    Raises:
        UserError: for ``max_epoch`` beside ``max_epochs``.
    """
    config = json.dumps(parser.config, default=str)
    options = [name for name in parser.config if name in OPTIONS]
    for name in set(parser.config) - set(options):
        nearest = get_close_matches(name, options, n=1, cutoff=0.85)
        if nearest and not isinstance(parser.config[name], (dict, list)) and not re.search(rf"@{name}\b", config):
            _refuse(name, [], name, nearest, "")


def _plain(value: object) -> object:
    """A value as JSON has it."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (os.PathLike, torch.device)):
        return str(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, Integral) else float(value)
    return value


def _meant(value: object, row: Mapping) -> object:
    """What a shell's word stands for where the option is of another type."""
    if isinstance(value, str) and (row.get("type") == "boolean" or True in row.get("enum", ())):
        return WORDS.get(value.lower(), value)
    if value == "inf" and row.get("type") == "number":
        return math.inf
    if row.get("type") == "string" and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _nodes(path: tuple[str, ...], config: object) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    """All nodes with a ``_target_`` below a config, with their paths."""
    if ConfigComponent.is_instantiable(config):
        yield path, config
    inside = config.items() if isinstance(config, Mapping) else enumerate(config) if isinstance(config, list) else ()
    for key, value in inside:
        yield from _nodes((*path, str(key)), value)


def _arguments(node: Mapping, parser: ConfigParser) -> list[str] | None:
    """Names of the arguments that a node's class or function takes; None where that is anything, or not known."""
    target = ConfigComponent(config=node, locator=parser.locator).resolve_module_name()
    try:
        parameters = inspect.signature(locate(target) if isinstance(target, str) else target).parameters.values()
    except Exception:  # what cannot be found or imported is told by MONAI, where it is made
        return None
    names = [one.name for one in parameters if one.name != "self"]
    return None if any(one.kind is one.VAR_KEYWORD for one in parameters) else names


def _refuse(name: str, above: Sequence[str], last: str, known: Iterable[str], otherwise: str) -> None:
    nearest = get_close_matches(last, known, n=1)
    do = f"do you mean --{'::'.join([*above, nearest[0]])}?" if nearest else otherwise
    raise UserError(f"--{name}", "no such option", do)


@FORMATS.checks("finite")
def _finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


@FORMATS.checks("defined")
def _defined(value: object) -> bool:
    return not isinstance(value, float) or not math.isnan(value)


def _lies(path: str) -> str:
    """Whether a file or a folder lies there; raises where there can be none: a name too long, or with a zero byte."""
    try:
        return "folder" if stat.S_ISDIR(os.stat(path).st_mode) else "file"
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return "nothing"


@FORMATS.checks("path", raises=(OSError, ValueError))
def _path(value: object) -> bool:
    return not isinstance(value, str) or _lies(value) in ("file", "folder", "nothing")


@FORMATS.checks("folder", raises=(OSError, ValueError))
def _folder(value: object) -> bool:
    return not isinstance(value, str) or _lies(value) != "file"


@FORMATS.checks("file", raises=(OSError, ValueError))
def _file(value: object) -> bool:
    return not isinstance(value, str) or _lies(value) != "folder"


@FORMATS.checks("device", raises=Exception)
def _device(value: object) -> bool:
    return not isinstance(value, str) or torch.empty(0, device=value).device.type in DEVICES


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# JSON Schema takes 2.0 for an integer; Python's range() does not.
_Validator = extend(
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
)

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

"""The signal equations as GLSL and JavaScript, traced from the functions that Python renders with.

Nothing is written twice: :func:`scripts.render.contrast` runs once per sequence on symbols instead of tensors, and each
operation that it takes becomes one line of either language. So the page renders what Python renders, with its treatment
of air, of T2* that is not known, and of voxels with fluid.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import fx

from ..render import contrast
from ..signal import SEQUENCES

MAPS = ("pd", "t1", "t2")
"""Symbols of the tissue maps; those of fields and options have the names that they have in Python."""


class Term(NamedTuple):
    """What an operation becomes.

    Attributes:
        text: its name or number.
        truth: whether it is a truth value.
        voxel: whether it differs from voxel to voxel, and not only with the settings.
    """

    text: str
    truth: bool = False
    voxel: bool = False


class Source(NamedTuple):
    """A signal equation in both languages, in two steps, so that what all voxels share is computed once.

    Attributes:
        settings: JavaScript, ``(te, tr, ...) => [k0, k1, ...]``: the fields of the sequence to what voxels share.
        javascript: ``(pd, t1, t2, <options>, k) => signal``.
        glsl: ``float signal(float pd, float t1, float t2, <options>)``, which reads ``uniform float k[...]``.
        fields: arguments of ``settings``.
        options: optional maps that it reads.
    """

    settings: str
    javascript: str
    glsl: str
    fields: tuple[str, ...]
    options: tuple[str, ...]


def source(name: str, options: Sequence[str]) -> Source:
    """The signed signal of a sequence, in the unit of PD, 0 in air.

    Args:
        name: of the sequence.
        options: optional maps that there are, of ``t2_star``, ``b1`` and ``fluid``.
    """
    sequence = SEQUENCES[name]
    known = sequence.options if sequence.signed else (*sequence.options, "fluid")
    options = tuple(option for option in options if option in known)
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    symbols = {one: fx.Proxy(graph.placeholder(one), tracer) for one in (*MAPS, *options, *sequence.fields)}
    with torch.no_grad():
        result = contrast(
            sequence,
            [symbols[one] for one in MAPS],
            {field: symbols[field] for field in sequence.fields},
            {option: symbols[option] for option in options},
            signed=True,
        )
    shared, voxels, constants = _lines(graph, result.node, (*MAPS, *options), "javascript")
    settings = f"({', '.join(sequence.fields)}) => {{\n{shared}  return [{', '.join(constants)}];\n}}"
    javascript = f"({', '.join((*MAPS, *options))}, k) => {{\n{voxels}}}"
    voxels = _lines(graph, result.node, (*MAPS, *options), "glsl")[1]
    parameters = ", ".join(f"float {argument}" for argument in (*MAPS, *options))
    glsl = f"uniform float k[{max(1, len(constants))}];\nfloat signal({parameters}) {{\n{voxels}}}\n"
    return Source(settings, javascript, glsl, sequence.fields, options)


def function(graph: fx.Graph, result: fx.Node, arguments: Sequence[str]) -> str:
    """A graph of operations as a JavaScript function of its placeholders."""
    return f"({', '.join(arguments)}) => {{\n{_lines(graph, result, arguments, 'javascript')[1]}}}"


def _lines(
    graph: fx.Graph, result: fx.Node, of_voxels: Sequence[str], language: str
) -> tuple[str, str, tuple[str, ...]]:
    """Lines of what all voxels share, lines of a voxel, and what the former hand to the latter as ``k``."""
    terms: dict[fx.Node, Term] = {}
    shared, voxels, constants = [], [], {}
    for node in graph.nodes:
        if node.op == "placeholder":
            terms[node] = Term(node.name, voxel=node.name in of_voxels)
            continue
        inputs = {one: terms[one] for one in node.all_input_nodes if one in terms}
        voxel = any(term.voxel for term in inputs.values())
        if voxel:
            for one, term in inputs.items():
                if not (term.voxel or _is_number(term.text)):
                    inputs[one] = Term(f"k[{constants.setdefault(term.text, len(constants))}]")
        term = _term(node, {**terms, **inputs}, language)
        if term is None:
            continue
        if _is_number(term.text):
            terms[node] = term
            continue
        lines, name = (voxels, f"v{len(voxels)}") if voxel else (shared, f"s{len(shared)}")
        kind = "const" if language == "javascript" else "bool" if term.truth else "float"
        lines.append(f"  {kind} {name} = {term.text};\n")
        terms[node] = Term(name, term.truth, voxel)
    return "".join(shared), "".join(voxels) + f"  return {terms[result].text};\n", tuple(constants)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.strip("()")))
    except ValueError:
        return False


def _term(node: fx.Node, terms: dict[fx.Node, Term], language: str) -> Term | None:
    """The text of one operation; None of one that only asks what kind of number a symbol is."""
    if node.op == "call_function" and node.target is getattr:
        return None
    what = node.target if isinstance(node.target, str) else node.target.__name__
    if what == "to":
        # Only truth values are converted.
        return Term(f"({terms[node.args[0]].text} ? {_number(1.0)} : {_number(0.0)})")
    given = [_value(argument, terms) for argument in node.args]
    if what in ("new_full", "zeros_like"):
        return Term(given[2] if what == "new_full" else _number(0.0))
    if what in COMPARISONS:
        return Term(f"({given[0]} {COMPARISONS[what]} {given[1]})", True)
    if what in OPERATORS:
        return Term(f"({given[0]} {OPERATORS[what]} {given[1]})")
    if what == "pow":
        if node.args[1] not in (2, 3):
            raise NotImplementedError(f"the power {node.args[1]}")
        return Term("(" + " * ".join([given[0]] * node.args[1]) + ")")
    if what == "clamp":
        low, high = given[1:]
        return Term(f"{_call('min', language)}({_call('max', language)}({given[0]}, {low}), {high})")
    if what in WRITTEN:
        return Term(WRITTEN[what](*given, **{key: _value(value, terms) for key, value in node.kwargs.items()}))
    if what in FUNCTIONS:
        return Term(f"{_call(FUNCTIONS[what], language)}({', '.join(given)})")
    raise NotImplementedError(f"{what}: give it a row in scripts/console/equations.py")


def _call(function: str, language: str) -> str:
    if language == "javascript":
        return f"Math.{function}"
    return f"precise_{function}" if function in OWN else function


def _value(argument: object, terms: dict[fx.Node, Term]) -> str:
    if isinstance(argument, fx.Node):
        return terms[argument].text if argument in terms else ""
    return _number(argument) if isinstance(argument, (int, float)) else ""


def _number(value: float) -> str:
    """A literal of either language; GLSL tells numbers from integers by their point."""
    if not math.isfinite(value):
        raise NotImplementedError(f"the number {value}")
    text = repr(float(value))
    return f"({text})" if value < 0 else text


COMPARISONS = {"gt": ">", "lt": "<", "ge": ">=", "le": "<=", "ne": "!=", "eq": "=="}
OPERATORS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/"}
FUNCTIONS = {
    **{name: name for name in ("abs", "exp", "expm1", "log1p", "sin", "cos", "tanh")},
    **{"minimum": "min", "maximum": "max", "clamp_min": "max", "clamp_max": "min"},
}
OWN = ("expm1", "log1p", "tanh", "sin", "cos")
"""Functions that GLSL lacks, or whose digits it does not promise: ``precise_…`` in the template's shader."""
WRITTEN: dict[str, Callable[..., str]] = {
    "neg": lambda x: f"(-{x})",
    "square": lambda x: f"({x} * {x})",
    "deg2rad": lambda x: f"({x} * {_number(math.pi / 180)})",
    "where": lambda condition, x, y: f"({condition} ? {x} : {y})",
}

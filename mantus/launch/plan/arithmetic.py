"""Arithmetic that explains itself: formulas over named numbers, evaluated in order and shown with their inputs.

It knows names, units and operators, not what is computed.
"""

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MULTIPART = 8 << 20
"""Bytes from which boto3 writes and reads an object in parts, and bytes of a part."""


@dataclass(frozen=True, slots=True)
class Input:
    """A number that nothing here computes."""

    name: str
    value: float
    unit: str
    meaning: str
    origin: str
    """Where it comes from: measured, a flag, a constant of the code."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A number computed from earlier ones. expression: Python over their names and FUNCTIONS."""

    name: str
    expression: str
    unit: str
    meaning: str
    shown: bool = True
    """Whether the table has it; explanations have all."""

    @property
    def names(self) -> list[str]:
        """What the expression reads, in order, each once."""
        nodes = (node for node in ast.walk(ast.parse(self.expression, mode="eval")) if isinstance(node, ast.Name))
        ordered = sorted(nodes, key=lambda node: node.col_offset)
        return list(dict.fromkeys(node.id for node in ordered if node.id not in FUNCTIONS))


@dataclass(frozen=True, slots=True)
class Line:
    """A formula and what came of it."""

    formula: Formula
    read: tuple[tuple[str, float], ...]
    value: float

    def __str__(self) -> str:
        given = ", ".join(f"{name} = {plain(value)}" for name, value in self.read)
        head = f"{self.formula.meaning}\n    {self.formula.name} = {self.formula.expression}"
        return f"{head}\n    with {given}\n    = {plain(self.value)} {self.formula.unit}".rstrip()

    def row(self) -> dict[str, Any]:
        """For machines."""
        formula = self.formula
        head = {"name": formula.name, "value": self.value, "unit": formula.unit, "meaning": formula.meaning}
        return {**head, "expression": formula.expression, "inputs": dict(self.read)}


def puts(objects: float, num_bytes: float) -> float:
    """Requests that write so many objects of so many bytes in all: one each, or one a part and two around them."""
    parts = math.ceil(num_bytes / objects / MULTIPART)
    return objects * (1 if num_bytes / objects < MULTIPART else parts + 2)


def gets(objects: float, num_bytes: float) -> float:
    """Requests that read them whole: one that asks for the size, one a part."""
    return objects * (1 + max(1, math.ceil(num_bytes / objects / MULTIPART)))


FUNCTIONS: dict[str, Callable[..., float]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "sqrt": math.sqrt,
    "log": math.log,
    "exp": math.exp,
    "max": max,
    "min": min,
    "puts": puts,
    "gets": gets,
}


def evaluate(formulas: Sequence[Formula], given: Mapping[str, float]) -> list[Line]:
    """A line for each formula, in order. Names that nothing defines are a mistake in the formulas: an assertion."""
    values = dict(given)
    lines = []
    for formula in formulas:
        missing = [name for name in formula.names if name not in values]
        assert not missing, f"{formula.name} reads {missing}"
        read = tuple((name, values[name]) for name in formula.names)
        scope = {"__builtins__": {}, **FUNCTIONS}
        values[formula.name] = float(eval(formula.expression, scope, dict(read)))  # a constant of this package
        lines.append(Line(formula, read, values[formula.name]))
    return lines


def explain(inputs: Sequence[Input], lines: Sequence[Line]) -> Iterator[str]:
    """Every number as text: those given with their origin, then each formula with what it read."""
    for number in inputs:
        yield f"{number.name} = {plain(number.value)} {number.unit}".rstrip() + f"   {number.meaning} ({number.origin})"
    yield from map(str, lines)


MEASURES, COUNTS = ("B", "FLOP", "FLOP/s", "bit/s"), ("tokens", "documents", "parameters", "requests", "objects")
PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def show(value: float, unit: str) -> str:
    """A number for people, three digits: bytes and counts with a prefix, times and shares as they are."""
    factor, prefix = next(((f, p) for f, p in PREFIXES if abs(value) >= f), (1.0, ""))
    if unit in MEASURES:
        return f"{_three(value / factor)} {prefix}{unit}"
    return f"{_three(value / factor)}{prefix}" if unit in COUNTS else f"{_three(value)} {unit}".rstrip()


def _three(value: float) -> str:
    if float(value).is_integer() or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def plain(value: float) -> str:
    """A number to compute with: six digits."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"


def read_amount(text: str, where: str) -> float:
    """A count such as 1T, 300B, 2.5M, 1e12. ValueError names it."""
    scales = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
    scale = scales.get(text[-1:].lower(), 1.0)
    try:
        value = float(text[:-1] if scale != 1.0 else text) * scale
    except ValueError:
        value = math.nan
    if not 0 < value < 1e18:
        raise ValueError(f"{where} {text}: expected a count such as 1T, 300B or 1e9")
    return value

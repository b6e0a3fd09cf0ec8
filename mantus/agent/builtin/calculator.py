"""Compute an arithmetic expression by walking its syntax tree; nothing is ever evaluated as code.

It knows numbers and seven operators, with bounds on size, and no names, calls or attributes.
"""

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from mantus.agent.tools import ToolError, tool

MAX_CHARS = 200
MAX_BITS = 4096
USE = "use numbers and + - * / // % ** ( )"

Number = int | float

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}

FRIENDLY = (
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<=[\d)])\s*%\s+of\s+(?=[\d(])"), "/100*"),
    (re.compile(r"(?<=[\d)])\s*[xX\u00d7\u22c5]\s*(?=[\d(.-])"), "*"),
    (re.compile("\u00f7"), "/"),
    (re.compile("\u2212"), "-"),
    (re.compile(r"\^"), "**"),
    (re.compile(r"\s*=?\s*\??\s*$"), ""),
)
"""What people write -> what the grammar knows: 1,234  15% of 80  12 x 7  8 ^ 2  '= ?'."""


@tool(bounded=True)
def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression."""
    if len(expression) > MAX_CHARS:
        raise ToolError(f"expression is longer than {MAX_CHARS} characters")
    text = expression.strip()
    for pattern, replacement in FRIENDLY:
        text = pattern.sub(replacement, text)
    try:
        tree = ast.parse(text.lstrip(), mode="eval")
        return show(_value(tree.body))
    except ZeroDivisionError:
        raise ToolError("division by zero") from None
    except OverflowError:
        raise ToolError("number too large") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ToolError(f"cannot compute {expression[:40]!r}: {USE}") from None


def show(value: Number) -> str:
    """A number as text: whole numbers without a point, others with 12 significant digits."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OverflowError
        if not value.is_integer() or abs(value) >= 1e15:
            return format(value, ".12g")
    return str(int(value))


def _value(node: ast.expr) -> Number:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in BINARY:
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Pow):
            _check_power(left, right)
        return _bounded(BINARY[type(node.op)](left, right))
    raise ValueError("not arithmetic")


def _check_power(base: Number, exponent: Number) -> None:
    """Refuse a power before it is computed: 9**9**9 would take all memory."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > MAX_BITS:
        raise OverflowError


def _bounded(value: Any) -> Number:
    if isinstance(value, complex):
        raise ValueError("not a real number")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise OverflowError
    found: Number = value
    return found

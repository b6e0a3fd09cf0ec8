"""Calls written as Python: `[weather(city="Rome"), math.add(a=1, b=-2)]` -> calls, without running anything.

It knows the syntax, not tools. BFCL's prompts and ToolACE write calls so.
"""

import ast
import operator
from typing import Any

from mantus.text.calls import Call

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def read_calls(text: str) -> list[Call]:
    """The calls of a text that is nothing else; brackets around them may be missing. ValueError says what is wrong.

    Names become strings, calls inside arguments their source, or an object where they have named arguments; arguments
    without a name are not kept.
    """
    stripped = text.strip("`\n ")
    opened = stripped if stripped.startswith("[") else f"[{stripped}"
    closed = opened if opened.endswith("]") else f"{opened}]"
    try:
        body = ast.parse(closed.strip(), mode="eval").body
        items = body.elts if isinstance(body, ast.List | ast.Tuple | ast.Set) else [body]
        return [_call(item) for item in items]
    except (SyntaxError, MemoryError, RecursionError, ArithmeticError, TypeError) as error:
        raise ValueError(f"not calls: {error}") from None


def _call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call):
        raise ValueError(f"not a call: {ast.unparse(node)}")
    if any(keyword.arg is None for keyword in node.keywords):
        raise ValueError(f"not an argument: {ast.unparse(node)}")
    return Call(_name(node.func), {str(word.arg): _value(word.value) for word in node.keywords})


def _name(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join(reversed([*parts, node.id] if isinstance(node, ast.Name) else parts))


def _value(node: ast.expr | None) -> Any:
    if isinstance(node, ast.Constant):
        return "..." if node.value is Ellipsis else node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
        return -node.operand.value  # type: ignore[operator]
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        return {_value(key): _value(item) for key, item in zip(node.keys, node.values, strict=True)}
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.Call) and node.keywords:
        inner = _call(node)
        return {inner.name: inner.arguments}
    if isinstance(node, ast.Call | ast.Subscript):
        return ast.unparse(node)
    raise ValueError(f"not a value: {ast.unparse(node) if node else '**'}")

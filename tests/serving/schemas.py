"""JSON schemas made up at random, of everything that the grammar can hold."""

import random
from typing import Any

NAMES = ["a", "name", "zu viel", 'qu"ote', "back\\slash", "weiß", "x" * 20, "0", "été", "日本"]
KINDS = ("string", "integer", "number", "boolean", "null")


def schema(chance: random.Random, depth: int = 2) -> dict[str, Any]:
    """One schema, at most `depth` levels of objects and arrays deep."""
    kind = chance.choice(("scalar", "scalar", "enum", "const", "any", "several", "object", "array"))
    if kind == "enum":
        return {"enum": chance.sample([1, "one", None, True, "zwei\n", 2.5], chance.randint(1, 4))}
    if kind == "const":
        return {"const": chance.choice([0, "fixed", False, {"deep": [1]}])}
    if kind == "any" and depth:
        return {"anyOf": [schema(chance, depth - 1) for _ in range(chance.randint(1, 3))], "description": "one of"}
    if kind == "several":
        return {"type": chance.sample(KINDS, 2), "maxLength": 12} if chance.random() < 0.5 else {"type": ["integer"]}
    if kind == "object" and depth:
        return parameters(chance, depth - 1)
    if kind == "array" and depth:
        low = chance.randint(0, 2)
        bounds = {"minItems": low, "maxItems": low + chance.randint(0, 3)} if chance.random() < 0.7 else {}
        return {"type": "array", "items": schema(chance, depth - 1), **bounds}
    return scalar(chance)


def scalar(chance: random.Random) -> dict[str, Any]:
    """A string, a number, true or false, or null."""
    kind = chance.choice(KINDS)
    if kind != "string" or chance.random() < 0.3:
        return {"type": kind}
    low = chance.choice((0, 0, 1, 9))
    return {"type": "string", "minLength": low, "maxLength": low + chance.choice((0, 3, 40))}


def parameters(chance: random.Random, depth: int = 2) -> dict[str, Any]:
    """An object: what a tool takes."""
    names = chance.sample(NAMES, chance.randint(0, 4))
    inside = {name: schema(chance, depth) for name in names}
    found: dict[str, Any] = {"type": "object", "properties": inside}
    if chance.random() < 0.7:
        found["required"] = chance.sample(names, chance.randint(0, len(names)))
    if chance.random() < 0.5:
        found["additionalProperties"] = False
    return found


def tool(chance: random.Random, number: int) -> dict[str, Any]:
    """A tool; some of its parameters are defined elsewhere in its schema."""
    takes = parameters(chance)
    if chance.random() < 0.2:
        takes["$defs"] = {"shared": scalar(chance)}
        takes["properties"] = {**takes["properties"], "by reference": {"$ref": "#/$defs/shared"}}
    return {"type": "function", "function": {"name": f"tool_{number}", "parameters": takes}}

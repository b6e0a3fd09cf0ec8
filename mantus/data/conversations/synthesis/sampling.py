"""Draw values that fit a JSON Schema, and say them; what a schema does not tell, its argument's name does.

It knows JSON Schema's keywords and words in names, not tools. Bounds are drawn now and then, since models miss them.
"""

import random
import re
from typing import Any

from mantus.data.conversations.synthesis.kinds import Drawn, draw
from mantus.data.conversations.values import Values

FORMATS = {"date": "date", "email": "email", "uri": "url", "url": "url", "hostname": "host", "time": "time"}
HINTS = (
    ("e-?mail", "email"),
    ("url|uri|link", "url"),
    ("file|path", "path"),
    ("city|town|location|place", "city"),
    ("country|region", "country"),
    ("date|day", "date"),
    ("time|hour", "time"),
    ("language", "language"),
    ("address|street", "address"),
    ("user|person|recipient|author|artist|customer|sender|first name|last name", "person"),
    ("company|brand|organi[sz]ation", "company"),
    ("title|song|movie|book", "title"),
    ("code|symbol|ticker|currency", "code"),
    (r"\bid\b|identifier|number", "id"),
    ("host|server", "host"),
)
"""Words in a description, and the kind of values they speak of."""


def sample(schema: dict[str, Any], about: str, values: Values, chance: random.Random) -> Drawn:
    """A value of a schema, and how a request says it."""
    if "const" in schema:
        return schema["const"], str(schema["const"])
    if schema.get("enum"):
        value = chance.choice(schema["enum"])
        return value, str(value)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return sample(chance.choice(_said(schema[key])), about, values, chance)
    kind = schema.get("type") or "object"
    if isinstance(kind, list):
        return sample({**schema, "type": next(item for item in kind if item != "null")}, about, values, chance)
    return _DRAWS[kind](schema, about, values, chance)


def _said(options: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without null, which nobody says."""
    return [option for option in options if option.get("type") != "null"] or options


def _string(schema: dict[str, Any], about: str, values: Values, chance: random.Random) -> Drawn:
    kind = FORMATS.get(schema.get("format", ""))
    kind = kind or next((kind for words, kind in HINTS if re.search(words, about.lower())), "phrase")
    value, said = draw(kind, values, chance)
    longest, shortest = schema.get("maxLength"), schema.get("minLength", 0)
    if longest is not None and len(value) > longest:
        value = said = value[:longest].strip() or "a" * max(1, shortest)
    if len(value) < shortest:
        value = said = value + "x" * (shortest - len(value))
    return value, said


def _integer(schema: dict[str, Any], about: str, values: Values, chance: random.Random) -> Drawn:
    low, high = _bounds(schema, 1)
    if low is None and high is None:
        return draw(chance.choice(("small", "count")), values, chance)
    low, high = (low if low is not None else high - 100), (high if high is not None else low + 100)
    value = chance.choice((int(low), int(high), *(chance.randint(int(low), int(high)) for _ in range(6))))
    if step := schema.get("multipleOf"):
        value -= value % step
        value += step if value < low else 0
    return value, str(value)


def _number(schema: dict[str, Any], about: str, values: Values, chance: random.Random) -> Drawn:
    low, high = _bounds(schema, 0.01)
    if low is None and high is None:
        return draw(chance.choice(("measure", "count")), values, chance)
    low, high = (low if low is not None else high - 100), (high if high is not None else low + 100)
    value = chance.choice((low, high, *(round(chance.uniform(low, high), 2) for _ in range(6))))
    return value, str(value)


def _bounds(schema: dict[str, Any], step: float) -> tuple[Any, Any]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + step
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - step
    return low, high


def _boolean(schema: dict[str, Any], about: str, values: Values, chance: random.Random) -> Drawn:
    value = chance.random() < 0.5
    return value, "true" if value else "false"


def _array(schema: dict[str, Any], about: str, values: Values, chance: random.Random) -> Drawn:
    least = schema.get("minItems", 1)
    many = chance.randint(least, max(least, min(schema.get("maxItems", 4), least + 3)))
    drawn = [sample(schema.get("items") or {"type": "string"}, about, values, chance) for _ in range(many)]
    return [value for value, _ in drawn], ", ".join(said for _, said in drawn)


def _object(schema: dict[str, Any], about: str, values: Values, chance: random.Random) -> Drawn:
    found, words = {}, []
    for name, inner in schema.get("properties", {}).items():
        if name in schema.get("required", ()) or chance.random() < 0.5:
            found[name], said = sample(inner, f"{name} {inner.get('description', '')}", values, chance)
            words.append(f"{name.replace('_', ' ')} {said}")
    return found, ", ".join(words)


def _null(schema: dict[str, Any], about: str, values: Values, chance: random.Random) -> Drawn:
    return None, "nothing"


_DRAWS = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "array": _array,
    "object": _object,
    "null": _null,
}

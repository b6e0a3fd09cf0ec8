"""Tool schemas as grammars in EBNF whose bytes equal those of `format_call`, for constrained decoding.

It knows a subset of JSON Schema and refuses the rest by name; engines compile what it writes.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

RANGES = (
    r"\x20-\x21\x23-\x5b\x5d-\x7f\u0080-\u07ff\u0800-\u0fff\u1000-\ucfff\ud000-\ud7ff"
    r"\ue000-\uffff\U00010000-\U0010ffff"
)
LETTER = rf'[{RANGES}] | "\\" ["\\/bfnrt]'
"""Any character but controls, the quote and the backslash. Each range has UTF-8 sequences of one shape: of [^...], and
of wider ranges, xgrammar makes sequences that are no characters, and controls."""
SHORT = 64
"""Letters that are counted one by one in a rule of their own, of a whole grammar: xgrammar takes 8 ms for each when it
compiles (49,152 tokens), and none when it decodes."""
BLOCKS = {f"c{8**level}": 8**level for level in (3, 2, 1, 0)}
"""Rules for runs of 512, 64, 8 letters and one, each eight of the next, for longer bounds: they compile at once, but at
a rule's end xgrammar tries token after token, 40 ms for each that is decoded inside of the string."""
MAX_CHARS = 4096
"""Longest bound put into a grammar; a longer one is left to the validator."""
MAX_ITEMS = 256
"""The same for items of an array."""
MAX_DEPTH = 64
MAX_RULES = 2000
"""Rules of one schema; more come from definitions that refer to themselves."""
ANNOTATIONS = {"description", "title", "default", "examples", "$schema", "$defs", "format", "deprecated", "x-order"}
KNOWN: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "string": {"minLength", "maxLength"},
    "integer": set(),
    "number": set(),
    "boolean": set(),
    "null": set(),
    "array": {"items", "minItems", "maxItems"},
}


@dataclass(frozen=True, slots=True)
class Tag:
    """A call of one tool: fixed text, an EBNF grammar (rule `root`) for the arguments object, fixed text."""

    begin: str
    arguments: str
    end: str


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a reply must look like: free text with `tags` in it, or wholly the EBNF grammar `ebnf`."""

    tags: tuple[Tag, ...] = ()
    ebnf: str = ""


JSON_OBJECT = Constraint(
    ebnf="""root ::= object
object ::= "{" (pair (", " pair)*)? "}"
pair ::= string ": " value
value ::= object | array | string | number | "true" | "false" | "null"
array ::= "[" (value (", " value)*)? "]"
string ::= "\\"" letter* "\\""
letter ::= LETTER
number ::= "-"? ("0" | [1-9] [0-9]{0,17}) ("." [0-9]{1,17})?
""".replace("LETTER", LETTER)
)
"""A reply that is one JSON object of any kind."""


def tool_constraint(
    tools: Sequence[dict[str, Any]],
    choice: str = "auto",
    parallel: bool = True,
    max_chars: int = 0,
    loose: bool = False,
) -> Constraint:
    """The constraint for offered tools.

    choice: 'auto' (text, calls must be valid), 'required' (calls only), or a tool's name (that call only).
    max_chars: room for a call, so that it comes to its end before a limit of tokens cuts it: what the fixed text
    leaves of it is shared evenly by the strings whose schema has no bound of its own.  0: no bound.  (A token has a
    character at least, except in scripts that the vocabulary spells byte by byte.)
    loose: strings have no bounds at all, which engines decode fastest: who reads the calls checks them.
    ValueError names a tool or keyword that cannot be constrained.
    """
    functions = [tool["function"] for tool in tools]
    if choice not in ("auto", "required"):
        functions = [function for function in functions if function["name"] == choice]
        if not functions:
            raise ValueError(f"tool_choice: {choice!r} is not among the offered tools")
    if choice == "auto":
        return Constraint(tags=tuple(_tag(function, max_chars, loose) for function in functions))
    rules: dict[str, str] = {}
    options = []
    for index, function in enumerate(functions):
        begin, end = _frame(function["name"])
        root = _arguments(rules, f"t{index}", function, max_chars, loose)
        options.append(f"{_quote(begin)} {root} {_quote(end)}")
    rules["call"] = " | ".join(options)
    more = f"({_quote(chr(10))} call)*" if parallel and choice == "required" else ""
    return Constraint(ebnf=_print({"root": f"call {more}".strip(), **rules}))


def schema_constraint(schema: dict[str, Any]) -> Constraint:
    """The constraint for a reply that is one JSON value of this schema."""
    rules: dict[str, str] = {}
    root = _Rules(rules, "j", "response_format").whole(schema)
    return Constraint(ebnf=_print({"root": root, **rules}))


def check_tools(tools: Sequence[dict[str, Any]]) -> None:
    """ValueError names the tool, the place and the keyword that cannot be constrained."""
    for tool in tools:
        _Rules({}, "t", f"tool {tool['function']['name']}").whole(tool["function"].get("parameters") or {})


def check_schema(schema: Any, owner: str) -> None:
    """ValueError when `schema` is no JSON Schema."""
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"{owner}: {error.json_path[1:] or '/'}: {error.message}") from None
    except RecursionError:
        raise ValueError(f"{owner}: the schema is nested too deeply") from None


def _share(parameters: dict[str, Any], room: int) -> int:
    """Characters for each unbounded string of a call; a few at least."""
    open_strings, fixed = 0, 0
    todo: list[tuple[Any, int]] = [(parameters, 1)]
    while todo:
        schema, times = todo.pop()
        if not isinstance(schema, dict):
            continue
        inside = schema.get("properties", {})
        fixed += times * (sum(len(name) + 8 for name in inside) + int(schema.get("maxLength", 0)))
        open_strings += times * (schema.get("type") == "string" and not {"enum", "const", "maxLength"} & set(schema))
        todo += [*((item, times) for item in inside.values()), (schema.get("items"), 4 * times)]
    return max(8, (room - fixed) // max(1, open_strings))


def _frame(name: str) -> tuple[str, str]:
    return f'<tool_call>\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": ', "}\n</tool_call>"


def _arguments(rules: dict[str, str], prefix: str, function: dict[str, Any], max_chars: int, loose: bool) -> str:
    """The rule for a function's arguments, whose whole call has room for `max_chars`."""
    parameters = function.get("parameters") or {}
    check_schema(parameters, f"tool {function['name']}")
    room = max_chars - sum(map(len, _frame(function["name"])))
    longest = _share(parameters, room) if max_chars else None
    return _Rules(rules, prefix, f"tool {function['name']}", longest=longest, loose=loose).whole(parameters)


def _tag(function: dict[str, Any], max_chars: int, loose: bool) -> Tag:
    rules: dict[str, str] = {}
    root = _arguments(rules, "a", function, max_chars, loose)
    begin, end = _frame(function["name"])
    return Tag(begin, _print({"root": root, **rules}), end)


def _print(rules: dict[str, str]) -> str:
    return "".join(f"{name} ::= {body}\n" for name, body in rules.items())


def _quote(text: str) -> str:
    """A grammar literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _literal(value: Any) -> str:
    return _quote(json.dumps(value, ensure_ascii=False))


def _letters(low: int, high: int | None) -> str:
    """`low` to `high` letters of a string (None: without end)."""
    counts = ((name, low // size % 8 if size < 512 else low // size) for name, size in BLOCKS.items())
    least = "".join(f"{name}{{{count}}} " for name, count in counts if count)
    return least + ("c1*" if high is None else _up_to(max(0, high - low)))


def _up_to(num: int) -> str:
    """Any number of letters up to `num`: whole blocks but one, then what may be left over in smaller ones."""
    name, size = next((item for item in BLOCKS.items() if 2 * item[1] <= num), ("c1", 1))
    if size == 1:
        return f"c1{{0,{num}}}"
    whole, rest = divmod(num, size)
    return f"{name}{{0,{whole - 1}}} {_up_to(size + rest)}"


@dataclass
class _Rules:
    """Collects the rules of one schema; rule names start with `prefix`."""

    rules: dict[str, str]
    prefix: str
    owner: str
    definitions: Any = None
    longest: int | None = None
    """Characters of a string whose schema has no bound; None: any number."""
    loose: bool = False
    """Whether bounds of strings are left out."""

    def whole(self, schema: dict[str, Any]) -> str:
        """The name of the rule for a whole schema, once it is known to be one."""
        check_schema(schema, self.owner)
        self.definitions = schema.get("$defs", {})
        return self.add(schema, "")

    def add(self, schema: Any, place: str) -> str:
        """The name of the rule for `schema`, which stands at `place`."""
        if not isinstance(schema, dict):
            raise self._wrong(place, f"schema {schema!r} is not supported")
        if len(self.rules) > MAX_RULES or place.count("/") > MAX_DEPTH:
            raise self._wrong(place, "the schema is too large")
        schema = self._resolve(schema, place)
        name = f"{self.prefix}{len(self.rules)}"
        self.rules[name] = ""  # holds the place, so that nested rules get other names
        self.rules[name] = self._body(schema, place)
        return name

    def _resolve(self, schema: dict[str, Any], place: str) -> dict[str, Any]:
        if "$ref" not in schema:
            return schema
        target = schema["$ref"].removeprefix("#/$defs/")
        found = self.definitions.get(target)
        if not isinstance(found, dict) or place.count("/") > 16:
            raise self._wrong(place, f"$ref {schema['$ref']!r} cannot be followed")
        return self._resolve(found, place + "/$ref")

    def _wrong(self, place: str, what: str) -> ValueError:
        return ValueError(f"{self.owner}: {place or '/'}: {what}")

    def _body(self, schema: dict[str, Any], place: str) -> str:
        if "const" in schema:
            return _literal(schema["const"])
        if schema.get("enum"):
            return " | ".join(_literal(value) for value in schema["enum"])
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                self._know(set(schema) - {key}, place)
                return " | ".join(self.add(item, f"{place}/{key}") for item in schema[key])
        kind = schema.get("type") or "object"
        if isinstance(kind, list):
            return " | ".join(self.add({**schema, "type": item}, place) for item in kind)
        if kind not in KNOWN:
            raise self._wrong(place, f"type {kind!r} is unknown")
        self._know(set(schema).difference({"type"}, *KNOWN.values()), place)  # those of other types say nothing here
        body: str = getattr(self, f"_{kind}")(schema, place)
        return body

    def _know(self, keywords: set[str], place: str) -> None:
        unknown = sorted(keywords - ANNOTATIONS)
        if unknown:
            raise self._wrong(place, f"keyword {unknown[0]!r} is not supported")

    def _object(self, schema: dict[str, Any], place: str) -> str:
        """Properties in schema order; optional ones may be left out. No property, no key: `{}`."""
        required = set(schema.get("required", ()))
        if missing := sorted(required - set(schema.get("properties", {}))):
            raise self._wrong(place, f"required {missing[0]!r} is not among the properties")
        items = []
        for name, value in schema.get("properties", {}).items():
            rule = self.add(value, f"{place}/{name}")
            items.append((f"{_quote(json.dumps(name, ensure_ascii=False) + ': ')} {rule}", name in required))
        return f'"{{" {self._members(items)} "}}"' if items else '"{}"'

    def _members(self, items: list[tuple[str, bool]]) -> str:
        """Comma-separated members with optional ones: one alternative for each possible first member."""
        options = []
        for index, (body, needed) in enumerate(items):
            rest = "".join(f' (", " {b})' + ("" if r else "?") for b, r in items[index + 1 :])
            options.append(body + rest)
            if needed:
                return f"({' | '.join(options)})"
        return f"({' | '.join(options)})?"

    def _string(self, schema: dict[str, Any], place: str) -> str:
        for name, smaller in pairwise(BLOCKS):
            self.rules[name] = " ".join([smaller] * 8)
        self.rules["c1"] = LETTER
        low, high = self._bounds(schema, "Length", MAX_CHARS, place)
        high = max(low, self.longest) if high is None and self.longest is not None else high
        high = None if high is not None and high > MAX_CHARS else high  # the validator still holds the bound
        if self.loose:
            low, high = 0, None
        return f'"\\"" {self._counted(low, high) or _letters(low, high)} "\\""'

    def _counted(self, low: int, high: int | None) -> str:
        """The rule of `low` to `high` letters, one by one; '' where there are too many, with those of other rules."""
        name = f"s{low}_{high}"
        others = sum(int(rule.split("_")[1]) for rule in self.rules if rule[0] == "s" and rule != name)
        if not high or others + high > SHORT:
            return ""
        self.rules[name] = " ".join(["c1"] * low + ["(c1"] * (high - low)) + ")?" * (high - low)
        return name

    def _integer(self, *_: Any) -> str:
        return '"-"? ("0" | [1-9] [0-9]{0,17})'

    def _number(self, *_: Any) -> str:
        return '"-"? ("0" | [1-9] [0-9]{0,17}) ("." [0-9]{1,17})?'

    def _boolean(self, *_: Any) -> str:
        return '"true" | "false"'

    def _null(self, *_: Any) -> str:
        return '"null"'

    def _array(self, schema: dict[str, Any], place: str) -> str:
        item = self.add(schema.get("items") or {"type": "string"}, f"{place}/items")
        low, high = self._bounds(schema, "Items", MAX_ITEMS, place)
        high = min(high if high is not None else max(low, 64), MAX_ITEMS)
        if high == 0:
            return '"[]"'
        body = f'{item} (", " {item}){{{max(low - 1, 0)},{high - 1}}}'
        return f'"[" {body} "]"' if low else f'"[" ({body})? "]"'

    def _bounds(self, schema: dict[str, Any], what: str, most: int, place: str) -> tuple[int, int | None]:
        """min<what> and max<what>; ValueError when nothing lies between, or the lower one is out of reach."""
        low, high = int(schema.get(f"min{what}", 0)), schema.get(f"max{what}")
        if low > most or (high is not None and high < low):
            raise self._wrong(place, f"min{what} {low} is above {most if high is None else f'max{what} {high}'}")
        return low, None if high is None else int(high)

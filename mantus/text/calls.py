"""Tool calls as text: the canonical bytes, a parser that never raises, a streaming parser, schema checks.

It knows the call syntax, not templates, models or how tools run.
"""

import ast
import json
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
MAX_NESTING, MAX_BITS = 32, 4096
JSON = json.JSONDecoder(strict=False)
"""Line ends inside strings are read: small models write them."""
SIGN = re.compile(rf"""\\[\\'"]|['"]|{OPEN}|{CLOSE}""")
OBJECT = re.compile(r"\s*[{\[]")
HALF_PAIR = re.compile(r"[\ud800-\udfff]")
"""What JSON can spell and no text can hold."""
BRACKET = re.compile(r"""\\[\\'"]|['"{}\[\]]""")
BETWEEN = re.compile(r"[\s,;\[\]}]*")
"""What may stand between calls: a list's marks, and the one brace too many that small models write."""
warnings.filterwarnings("ignore", module="<unknown>")  # what Python thinks of the literals that models write


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call."""

    name: str
    arguments: dict[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Malformed:
    """Text that set out to be a call and is none."""

    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A reply taken apart."""

    content: str
    calls: list[Call | Malformed]
    thinking: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Some more of a reply's plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class ThoughtDelta(TextDelta):
    """Some more of the thoughts at a reply's start, their marks included."""


Event = TextDelta | Call | Malformed


def format_call(call: Call) -> str:
    """The canonical bytes of a call: what is trained, what the grammar allows, what the parser reads."""
    name, arguments = json.dumps(call.name, ensure_ascii=False), json.dumps(call.arguments, ensure_ascii=False)
    return f'{OPEN}\n{{"name": {name}, "arguments": {arguments}}}\n{CLOSE}'


def parse(text: str) -> Parsed:
    """Take a reply apart. Never raises: what is broken becomes Malformed with a reason for the model to read."""
    parser = StreamParser()
    events = [*parser.push(text), *parser.finish()]
    thought = "".join(event.text for event in events if isinstance(event, ThoughtDelta)).lstrip()
    thinking = thought.removeprefix(THINK_OPEN).removesuffix(THINK_CLOSE).strip()
    said = "".join(event.text for event in events if type(event) is TextDelta)
    calls = [event for event in events if isinstance(event, Call | Malformed)]
    return Parsed(said.strip() if calls or thought else said, calls, thinking)


class StreamParser:
    """Reads a reply that arrives in pieces: text as soon as it is surely text, calls when whole.

    Where the pieces are cut changes nothing but when an event comes. A mark inside a string of a call belongs to the
    string, unless the call turns out to be broken: then it ends at the first mark, and what follows is read afresh.
    The two kinds of quotes make every text a permutation of three states, so at most two broken calls can reach over
    the same text, and reading afresh costs no more than reading thrice.
    """

    def __init__(self) -> None:
        self._buffer = ""
        self._step = self._start
        self._over = False
        self._scanned, self._first_mark, self._quote = 0, -1, ""

    @property
    def holds(self) -> bool:
        """Whether some of the reply is held back: a call that is not whole, or what may be the start of one."""
        return self._step == self._call or self._buffer != ""

    def push(self, text: str) -> list[Event]:
        """Take more of the reply; what it settles."""
        self._buffer += text
        events: list[Event] = []
        while (found := self._step()) is not None:
            events += found
        return events

    def finish(self) -> list[Event]:
        """The reply is over: what was held back."""
        self._over = True
        return self.push("")

    def _start(self) -> list[Event] | None:
        """A reply may begin with thoughts, and no call counts in them."""
        begin = self._buffer.lstrip()
        if not self._over and len(begin) < len(THINK_OPEN) and THINK_OPEN.startswith(begin):
            return None
        self._step = self._thought if begin.startswith(THINK_OPEN) else self._text
        return []

    def _thought(self) -> list[Event] | None:
        close = self._buffer.find(THINK_CLOSE)
        if close >= 0:
            self._step = self._text
            return [ThoughtDelta(self._take(close + len(THINK_CLOSE)))]
        text = self._take(len(self._buffer) - (0 if self._over else overlap(self._buffer, THINK_CLOSE)))
        return [ThoughtDelta(text)] if text else None

    def _text(self) -> list[Event] | None:
        start = self._buffer.find(OPEN)
        if start >= 0:
            text = self._take(start)
            self._enter(OPEN)
            return [TextDelta(text)] if text else []
        text = self._take(len(self._buffer) - (0 if self._over else overlap(self._buffer, OPEN)))
        return [TextDelta(text)] if text else None

    def _call(self) -> list[Event] | None:
        """Look for the mark that ends the call, each character once."""
        while match := SIGN.search(self._buffer, self._scanned):
            mark, self._scanned = match[0], match.end()
            if mark in (OPEN, CLOSE):
                if not self._quote:
                    return self._settle(match.start())
                self._first_mark = match.start() if self._first_mark < 0 else self._first_mark
            elif mark in ("'", '"') and self._is_object(match.start()):
                self._quote = "" if mark == self._quote else self._quote or mark
        held = max(overlap(self._buffer, OPEN), overlap(self._buffer, CLOSE), self._buffer.endswith("\\"))
        self._scanned = max(self._scanned, len(self._buffer) - held)
        return self._settle(len(self._buffer)) if self._over else None

    def _is_object(self, end: int) -> bool:
        """Whether what comes before `end` sets out to be JSON; quotes in prose open no string."""
        return OBJECT.match(self._buffer, 0, end) is not None

    def _settle(self, end: int) -> list[Event]:
        """The call ends at `end`, at a mark or at the end of the reply; or at the first mark, when it is broken."""
        read = _read(self._buffer[: end - overlap(self._buffer[:end], CLOSE)])
        if any(isinstance(item, Malformed) and start <= self._first_mark < stop for start, stop, item in read):
            end = self._first_mark
            read = _read(self._buffer[:end])
        self._take(end)
        mark = OPEN if self._buffer.startswith(OPEN) else CLOSE if self._buffer else ""
        self._enter(mark)
        if not read and mark != OPEN:
            return [Malformed("", "the call is empty")]
        return [item for _, _, item in read]

    def _enter(self, mark: str) -> None:
        """Pass over a mark: a call begins behind OPEN, text elsewhere."""
        self._take(len(mark))
        self._step = self._call if mark == OPEN else self._text
        self._scanned, self._first_mark, self._quote = 0, -1, ""

    def _take(self, size: int) -> str:
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        return text


def _read(block: str) -> list[tuple[int, int, Call | Malformed]]:
    """The calls of one block, each with where it starts and ends; lists are the same as calls one after another."""
    found: list[tuple[int, int, Call | Malformed]] = []
    position = _skip(block, 0)
    while position < len(block):
        value, end = _decode(block, position)
        text = block[position:end]
        item = Malformed(text.strip(), "the call is not valid JSON") if value is None else _to_call(value, text)
        found.append((position, end, item))
        position = _skip(block, end)
    return found


def _skip(text: str, position: int) -> int:
    match = BETWEEN.match(text, position)
    assert match is not None
    return match.end()


def _decode(text: str, position: int) -> tuple[Any, int]:
    """The object at a place, in JSON or Python, and its end; None and where to go on when it is neither."""
    if text[position] != "{":
        return None, len(text)
    try:
        return JSON.raw_decode(text, position)
    except (ValueError, RecursionError):
        end = _balanced(text, position)
    try:
        return ast.literal_eval(text[position:end]), end
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None, end


def _balanced(text: str, position: int) -> int:
    """Where the object at a place ends by its brackets outside strings; the end of the text when they never close."""
    depth, quote = 0, ""
    for match in BRACKET.finditer(text, position):
        sign = match[0]
        if sign in ("'", '"'):
            quote = "" if sign == quote else quote or sign
        elif not quote and len(sign) == 1:
            depth += 1 if sign in "{[" else -1
            if depth == 0:
                return match.end()
    return len(text)


def _to_call(value: Any, text: str) -> Call | Malformed:
    if not isinstance(value, dict):
        return Malformed(text, "a call is an object with name and arguments")
    value = value.get("function") if isinstance(value.get("function"), dict) else value
    return make_call(value.get("name"), value.get("arguments", value.get("parameters")), text)


def make_call(name: Any, arguments: Any, text: str) -> Call | Malformed:
    """A call of this name with arguments as an object, or as JSON in a string; Malformed(text) with the reason."""
    if isinstance(arguments, str):
        try:
            arguments = JSON.decode(arguments) if arguments.strip() else {}
        except (ValueError, RecursionError):
            return Malformed(text, "the arguments are not valid JSON")
    arguments = {} if arguments is None else arguments
    if not isinstance(name, str) or not name or not _is_plain(name, 0):
        return Malformed(text, "the call has no name")
    if not isinstance(arguments, dict):
        return Malformed(text, "the arguments are not an object")
    if not _is_plain(arguments, MAX_NESTING):
        return Malformed(text, "the arguments are not plain JSON")
    return Call(name, arguments)


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value is JSON of bounded depth: a Python literal may hold more, and numbers may have no end."""
    if isinstance(value, dict):
        return depth > 0 and all(
            isinstance(key, str) and _is_plain(key, 0) and _is_plain(item, depth - 1) for key, item in value.items()
        )
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    if type(value) is int:
        return value.bit_length() <= MAX_BITS
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is str:
        return not HALF_PAIR.search(value)
    return value is None or type(value) is bool


def overlap(text: str, mark: str) -> int:
    """How many of the last characters of `text` may be the start of `mark`."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-size:])), 0)


def check_call(call: Call, tools: Sequence[dict[str, Any]]) -> str:
    """'' when the call names an offered tool and fits its schema, else one line for the model to read."""
    schemas = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
    if call.name not in schemas:
        return f"unknown tool {call.name!r}; known: {', '.join(schemas)}"
    from jsonschema.exceptions import UnknownType
    from referencing.exceptions import Unresolvable

    unusable = (LookupError, TypeError, AttributeError, ValueError, RecursionError, re.error, UnknownType, Unresolvable)
    try:
        errors = _validator(json.dumps(schemas[call.name])).iter_errors(call.arguments)
        error = min(errors, key=lambda item: item.json_path, default=None)
    except unusable as wrong:
        return f"the schema of {call.name} cannot be used ({type(wrong).__name__})"
    return f"{error.json_path}: {error.message}" if error else ""


@lru_cache(maxsize=512)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # Without a registry of its own the validator fetches what a schema refers to, from wherever that lies.
    return Draft202012Validator(json.loads(schema), registry=Registry())

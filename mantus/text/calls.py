"""Tool calls as text: the canonical bytes, a parser that never raises, a streaming parser, schema checks.

It knows the call syntax, not templates, models or how tools run.
"""

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


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


Event = TextDelta | Call | Malformed


def format_call(call: Call) -> str:
    """The canonical bytes of a call: what is trained, what the grammar allows, what the parser reads."""
    name, arguments = json.dumps(call.name, ensure_ascii=False), json.dumps(call.arguments, ensure_ascii=False)
    return f'{OPEN}\n{{"name": {name}, "arguments": {arguments}}}\n{CLOSE}'


def parse(text: str) -> Parsed:
    """Take a reply apart. Never raises: what is broken becomes Malformed with a reason for the model to read."""
    thinking = ""
    if text.lstrip().startswith(THINK_OPEN):
        inside, _, rest = text.lstrip()[len(THINK_OPEN) :].partition(THINK_CLOSE)
        thinking, text = inside.strip(), rest
    content, calls, position = [], [], 0
    while (start := text.find(OPEN, position)) >= 0:
        content.append(text[position:start])
        found, position = _read_calls(text, start + len(OPEN))
        calls += found
    content.append(text[position:])
    joined = "".join(content)
    return Parsed(joined.strip() if calls or thinking else joined, calls, thinking)


def _read_calls(text: str, start: int) -> tuple[list[Call | Malformed], int]:
    """The calls of one block that opened before `start`, and where the block ends."""
    calls: list[Call | Malformed] = []
    position = _skip_space(text, start)
    while position < len(text) and text[position] in "{[":
        value, end = _decode(text, position)
        if end < 0:
            break
        calls += [_to_call(item, text[position:end]) for item in (value if isinstance(value, list) else [value])]
        position = _skip_space(text, end)
    if text.startswith(CLOSE, position):
        return calls or [Malformed("", "the call is empty")], position + len(CLOSE)
    if position >= len(text) and calls:
        return calls, position  # the close mark was cut off, the call was not
    close = text.find(CLOSE, position)
    end = close if close >= 0 else len(text)
    broken = Malformed(text[position:end].strip(), "the call is not valid JSON")
    return [*calls, broken], min(len(text), end + len(CLOSE)) if close >= 0 else end


def _decode(text: str, position: int) -> tuple[Any, int]:
    """A JSON value, or a Python literal up to the close mark; (value, end), end -1 when it is neither."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, position)
    except (ValueError, RecursionError):
        close = text.find(CLOSE, position)
        end = close if close >= 0 else len(text)
        try:
            return ast.literal_eval(text[position:end].strip()), end
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None, -1
    return value, end


def _to_call(value: Any, text: str) -> Call | Malformed:
    if not isinstance(value, dict):
        return Malformed(text, "a call is an object with name and arguments")
    value = value.get("function") if isinstance(value.get("function"), dict) else value
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return Malformed(text, "arguments are not valid JSON")
    if not isinstance(name, str) or not name:
        return Malformed(text, "the call has no name")
    if not isinstance(arguments, dict):
        return Malformed(text, "arguments are not an object")
    return Call(name, arguments)


def _skip_space(text: str, position: int) -> int:
    match = re.compile(r"\s*").match(text, position)
    assert match is not None
    return match.end()


class StreamParser:
    """The same reading of a reply that arrives in pieces: text as soon as it is surely text, calls when whole."""

    def __init__(self) -> None:
        self._buffer = ""
        self._inside = False
        self._scanned = 0
        self._in_string = self._escaped = False

    def push(self, text: str) -> list[Event]:
        """Take more of the reply; what it settles."""
        self._buffer += text
        events: list[Event] = []
        while True:
            found = self._inner() if self._inside else self._outer()
            if found is None:
                return events
            events += found

    def finish(self) -> list[Event]:
        """The reply is over: what was held back."""
        text, self._buffer = self._buffer, ""
        if self._inside:
            return list(parse(OPEN + text).calls)
        return [TextDelta(text)] if text else []

    def _outer(self) -> list[Event] | None:
        start = self._buffer.find(OPEN)
        if start >= 0:
            text, self._buffer = self._buffer[:start], self._buffer[start + len(OPEN) :]
            self._inside, self._scanned, self._in_string, self._escaped = True, 0, False, False
            return [TextDelta(text)] if text else []
        keep = overlap(self._buffer, OPEN)
        text, self._buffer = self._buffer[: len(self._buffer) - keep], self._buffer[len(self._buffer) - keep :]
        return [TextDelta(text)] if text else None

    def _inner(self) -> list[Event] | None:
        """Scan each character once; the close mark counts only outside a JSON string."""
        while self._scanned < len(self._buffer):
            letter = self._buffer[self._scanned]
            if not self._in_string and letter == "<":
                rest = self._buffer[self._scanned : self._scanned + len(CLOSE)]
                if rest == CLOSE:
                    end = self._scanned + len(CLOSE)
                    block, self._buffer, self._inside = self._buffer[:end], self._buffer[end:], False
                    return list(parse(OPEN + block).calls)
                if CLOSE.startswith(rest):
                    return None
            if self._escaped:
                self._escaped = False
            elif letter == "\\":
                self._escaped = self._in_string
            elif letter == '"':
                self._in_string = not self._in_string
            self._scanned += 1
        return None


def overlap(text: str, mark: str) -> int:
    """How many of the last characters of `text` may be the start of `mark`."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-size:])), 0)


def check_call(call: Call, tools: Sequence[dict[str, Any]]) -> str:
    """'' when the call names an offered tool and fits its schema, else one line for the model to read."""
    schemas = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
    if call.name not in schemas:
        return f"unknown tool {call.name!r}; known: {', '.join(schemas)}"
    errors = _validator(json.dumps(schemas[call.name])).iter_errors(call.arguments)
    error = min(errors, key=lambda item: item.json_path, default=None)
    return f"{error.json_path}: {error.message}" if error else ""


@lru_cache(maxsize=512)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(schema))

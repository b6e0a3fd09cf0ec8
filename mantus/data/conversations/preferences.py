"""Pairs of a better and a worse reply: given as they are, or made from tool conversations by spoiling the right call.

It knows messages, not tokens nor models. Rows: `{"messages", "tools", "chosen", "rejected"}` with a message each;
published preference sets, `{"prompt", "chosen", "rejected"}` of texts or of whole conversations; or conversations of
tooldata, whose every reply with a call, and every refusal to call, gives a pair.
"""

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mantus.text.calls import Call, check_call
from mantus.text.chat import Message, calling, calls_of

Tools = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to the same messages."""

    messages: list[Message]
    tools: Tools
    chosen: Message
    rejected: Message
    kind: str
    """How the worse one is worse: given, other tool, wrong argument, no call, needless call."""


def pairs_of(row: dict[str, Any], seed: str) -> Iterator[Pair]:
    """The pairs of one row; what `seed` is decides which mistake is made."""
    tools = row.get("tools") or []
    if "rejected" in row:
        yield _given(row, tools)
        return
    chance = random.Random(seed)
    for index, message in enumerate(row["messages"]):
        if message.get("role") != "assistant" or not tools or index == 0:
            continue
        before = row["messages"][:index]
        for kind in chance.sample(KINDS, len(KINDS)):
            worse = _spoilt(kind, before, message, tools, chance)
            if worse is not None:
                yield Pair(before, tools, message, worse, kind)
                break


def _given(row: dict[str, Any], tools: Tools) -> Pair:
    """A pair as it stands in a file. A whole conversation on each side must differ in its last message only."""
    before = row.get("messages")
    sides: list[Message] = []
    if before is None and isinstance(row.get("prompt"), str):
        before = [{"role": "user", "content": row["prompt"]}]
    for name in ("chosen", "rejected"):
        side = row[name]
        if isinstance(side, list):
            before, side = (before if before and len(side) == 1 else side[:-1]), side[-1]
        sides.append({"role": "assistant", "content": side} if isinstance(side, str) else side)
    if not before or any(side.get("role", "assistant") != "assistant" for side in sides):
        raise ValueError("a pair needs messages (or a prompt) and two replies of the assistant")
    return Pair(before, tools, sides[0], sides[1], "given")


KINDS = ("other tool", "wrong argument", "no call", "needless call")


def _spoilt(kind: str, before: list[Message], right: Message, tools: Tools, chance: random.Random) -> Message | None:
    """A worse reply of a kind; None where the right one does not lend itself to it."""
    calls = calls_of(right)
    if kind == "needless call":
        asked = before[-1].get("role") == "user" and not calls
        return calling(_made_up(chance.choice(tools), before)) if asked else None
    if not calls:
        return None
    if kind == "no call":
        return {"role": "assistant", "content": chance.choice(EXCUSES)}
    call = calls[0]
    if kind == "other tool":
        others = [tool for tool in tools if tool["function"]["name"] != call.name]
        return calling(_made_up(chance.choice(others), before)) if others else None
    changed = _with_a_wrong_argument(call, before, chance)
    return calling(changed) if changed is not None and not check_call(changed, tools) else None


EXCUSES = ("I cannot do that.", "Done.", "I have no tool for that.", "Sure, it is done.")


def _made_up(tool: dict[str, Any], before: list[Message]) -> Call:
    """A call of a tool nobody asked for, its arguments words of the request."""
    words = str(before[-1].get("content") or "").split() or ["it"]
    shape = tool["function"].get("parameters") or {}
    names = shape.get("required") or list(shape.get("properties") or {})
    kinds = {name: (shape.get("properties") or {}).get(name, {}).get("type") for name in names}
    made = {name: len(words) if kinds[name] in ("integer", "number") else words[-1] for name in names}
    return Call(tool["function"]["name"], made)


def _with_a_wrong_argument(call: Call, before: list[Message], chance: random.Random) -> Call | None:
    """The call with one argument changed to what was not asked for."""
    arguments = copy.deepcopy(call.arguments)
    if not arguments:
        return None
    name = chance.choice(sorted(arguments))
    value = arguments[name]
    if isinstance(value, bool):
        arguments[name] = not value
    elif isinstance(value, int | float):
        arguments[name] = value + chance.choice((-3, -1, 1, 2, 10))
    elif isinstance(value, str):
        words = [word for word in str(before[-1].get("content") or "").split() if word not in value]
        arguments[name] = chance.choice(words) if words else value[::-1] + "x"
    else:
        return None
    return Call(call.name, arguments)
